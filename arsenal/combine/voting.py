"""Many estimators that answer as one: different ones, by voting, or one of many draws of the rows, by bagging."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Interval
from jax.random import fold_in

from arsenal.combine.folds import summarize
from arsenal.combine.pool import pool_answers, vote
from arsenal.combine.whole import trace_host
from arsenal.records import Converged, Estimator, mask_dead_rows, row_keys

MOST_TIMES = 24
"""A row is in no bag more often: less than once in 10^10 by Poisson's law where `share` is at most 4."""


class Voting(NamedTuple):
    """Parameters of every member by name, and the members' weights in their order."""

    members: dict[str, Any]
    weights: Any


def by_name(combinator: str, estimators: Mapping[str, Estimator] | Sequence[Estimator]) -> dict[str, Estimator]:
    """Estimators by name; those of a list are called by their places."""
    found = dict(estimators) if isinstance(estimators, Mapping) else {str(i): one for i, one in enumerate(estimators)}
    if not found:
        raise ValueError(f"`estimators` of `{combinator}` must be at least one; got none.")
    for name, one in found.items():
        if not isinstance(one, Estimator):
            raise TypeError(f"`estimators` of `{combinator}` must be estimators; `{name}` is {type(one).__name__}.")
    return found


def merge_exempt(*estimators: Estimator) -> dict[str, str]:
    """What any of the estimators is exempt from."""
    return {word: why for one in estimators for word, why in one.exempt.items()}


def merge_info(infos: Sequence[Any]) -> Converged:
    """Whether all converged, and the most iterations of any."""
    found = [summarize(info) for info in infos]
    return Converged(jnp.stack([one.converged for one in found]).all(), jnp.stack([one.iterations for one in found]).max())


def voting(
    estimators: Mapping[str, Estimator] | Sequence[Estimator], method: Literal["soft", "hard", "mean"] | None = None,
    weights: Sequence[Annotated[float, Ge(0)]] | None = None,
) -> Estimator:  # fmt: skip
    """Estimators that answer as one: by their mean probabilities (`soft`), the vote of their labels (`hard`) or their mean.

    Unless `method` is given it is soft where all answer `predict_proba`; else labels vote and numbers are averaged. `weights`,
    in the estimators' order, are traced; where two labels have as many votes it is the smaller one. Answers: `predict`, and of a
    soft vote `predict_proba`. hp: {"estimators": {name: ...}, "weights": [...]}. Equal to scikit-learn's VotingClassifier and
    VotingRegressor.
    """
    made = by_name("voting", estimators)
    lacking = [name for name, one in made.items() if "predict_proba" not in one.apply]
    if weights is not None and (len(weights) != len(made) or not sum(weights) > 0):
        raise ValueError(f"`weights` of `voting` must be {len(made)} numbers, not all 0; got {list(weights)}.")
    soft = method == "soft" or (method is None and not lacking)
    called = {name: trace_host(one) for name, one in made.items()}

    def fit(key, rows, hp):
        fitted = {name: one.fit(fold_in(key, i), rows, hp["estimators"][name]) for i, (name, one) in enumerate(called.items())}
        given = hp["weights"] if weights is not None else [1.0] * len(made)
        members = {name: params for name, (params, _) in fitted.items()}
        weighed = jnp.stack([jnp.asarray(one, float) for one in given])
        return Voting(members, weighed), merge_info([info for _, info in fitted.values()])

    def every(answer, params, x):
        return jnp.stack([one.apply[answer](params.members[name], x) for name, one in made.items()])

    def mean(values, weights):
        return jnp.tensordot(weights.astype(values.dtype) / weights.sum().astype(values.dtype), values, 1)

    def proba(params, x):
        return mean(every("predict_proba", params, x), params.weights)

    def predict(params, x):
        if soft:
            return jnp.argmax(proba(params, x), -1).astype(jnp.int32)
        given = every("predict", params, x)
        labels = method == "hard" or (method is None and jnp.issubdtype(given.dtype, jnp.integer))
        if labels != jnp.issubdtype(given.dtype, jnp.integer):
            raise ValueError(f"`method` of `voting` is hard for labels and mean for numbers; `predict` gives {given.dtype}.")
        return vote(given, params.weights) if labels else mean(given, params.weights)

    def check(rows):
        if method == "soft" and lacking:
            raise ValueError(
                f"`method` soft of `voting` takes estimators that answer predict_proba; `{lacking[0]}` does not: "
                "hard takes labels, mean numbers."
            )
        for one in made.values():
            one.check(rows)

    hp: dict[str, Any] = {"estimators": {name: one.hp for name, one in made.items()}}
    hp |= {"weights": [float(one) for one in weights]} if weights is not None else {}
    answers = {"predict": predict} | ({"predict_proba": proba} if soft else {})
    return Estimator(fit, answers, check=check, hp=hp, exempt=merge_exempt(*called.values()))


def poisson_law(rate: jax.Array) -> jax.Array:
    """The probabilities [MOST_TIMES] of at most 0, 1, ... by Poisson's law.

    >>> round(float(poisson_law(jnp.array(1.0))[1]), 4)  # 2 / e
    0.7358
    """
    times = jnp.arange(MOST_TIMES, dtype=rate.dtype)
    return jnp.cumsum(jnp.exp(times * jnp.log(rate) - rate - jax.scipy.special.gammaln(times + 1)))


def bagging(
    estimator: Estimator, members: Annotated[int, Gt(0)] = 10, share: Annotated[float, Interval(gt=0, le=4)] = 1.0
) -> Estimator:
    """Members that each see every row as often as Poisson's law says, `share` times on average, traced, and answer as one.

    Breiman, Machine Learning 24 (1996); Oza & Russell, AISTATS 2001, for rows drawn by themselves, so that what is drawn follows
    the row's id and all members are lanes of one program, or on the host fits one after another. params: the estimator's,
    [members, ...]. Answers: the estimator's; floats are averaged, labels those of the mean probabilities or the vote.

    hp: {"estimator": ..., "share": ...}.
    """
    called = trace_host(estimator)

    def fit(key, rows, hp):
        def one(member):
            mine = fold_in(key, member)
            at = jax.vmap(lambda key: jax.random.uniform(key, dtype=rows.weight.dtype))(row_keys(fold_in(mine, 0), rows.row))
            times = (at[:, None] > poisson_law(jnp.asarray(hp["share"], at.dtype))).sum(1)
            drawn = rows._replace(weight=rows.weight * times.astype(rows.weight.dtype))
            return called.fit(fold_in(mine, 1), mask_dead_rows(drawn), hp["estimator"])

        params, info = jax.vmap(one)(jnp.arange(members, dtype=jnp.int32))
        return params, summarize(info)

    return called._replace(fit=fit, apply=pool_answers(estimator), inputs={}, hp={"estimator": estimator.hp, "share": share})
