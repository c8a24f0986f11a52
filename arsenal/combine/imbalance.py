"""Classes of unequal sizes: rows that count by their class, and rows between those of a small one.

Nothing is drawn to make classes equal: a row that is there three times is a row of weight 3, and one in three rows is each of
them by a third. How often an answer must be right to be given is `threshold`'s affair.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, overload

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt
from jax import lax

from arsenal.combine.reduction import check_whole_labels, classes_of
from arsenal.combine.whole import trace_host
from arsenal.nearest import nearest
from arsenal.records import Batch, Estimator, Learner, mask_dead_rows, row_keys

Weights = Literal["balanced", "largest", "smallest"] | Mapping[str, Annotated[float, Ge(0)]] | Sequence[Annotated[float, Ge(0)]]
ALIKE = ("balanced", "largest", "smallest")


@overload
def class_weight(
    estimator: Estimator, weights: Weights = "balanced", classes: Annotated[int, Gt(1)] | None = None, schema: Any = None
) -> Estimator: ...


@overload
def class_weight(
    estimator: Learner, weights: Weights = "balanced", classes: Annotated[int, Gt(1)] | None = None, schema: Any = None
) -> Learner: ...


def class_weight(
    estimator: Estimator | Learner, weights: Weights = "balanced", classes: Annotated[int, Gt(1)] | None = None,
    schema: Any = None,
) -> Estimator | Learner:  # fmt: skip
    """The estimator that learns from rows whose weight is times that of their class; y [n] in 0..classes-1.

    `balanced`: all classes count alike and all rows as much as before; `largest`: every class counts as the largest, which
    oversampling comes to on average, `smallest` as the smallest, undersampling. Or a number for each class, traced, in their
    order or by label. Answers: the estimator's; metrics count rows as they are. A learner of batches, which does not see how
    often a class is there, takes numbers. hp: the estimator's, with numbers {"estimator": ..., "weights": [...]}. Equal to
    `class_weight` in scikit-learn.
    """
    k = classes_of(classes, schema)
    given = weights if isinstance(weights, str) else name_weights(weights, schema, k)
    if isinstance(given, str) and given not in ALIKE:
        raise ValueError(f"`weights` of `class_weight` must be {', '.join(ALIKE)} or a number for each class; got {given!r}.")
    if isinstance(given, str) and isinstance(estimator, Learner):
        raise ValueError(f"`weights` of `class_weight` must be numbers for a learner of batches; got {given!r}.")
    hp = estimator.hp if isinstance(given, str) else {"estimator": estimator.hp, "weights": given}

    def weigh(rows, hp):
        factor = factors(rows, given, k) if isinstance(given, str) else jnp.stack([jnp.asarray(one) for one in hp["weights"]])
        return rows._replace(weight=rows.weight * factor.astype(rows.weight.dtype)[rows.y])

    def own(hp):
        return hp if isinstance(given, str) else hp["estimator"]

    def check(rows):
        check_whole_labels("class_weight", rows, k)
        estimator.check(rows)

    if isinstance(estimator, Learner):
        learner = estimator

        def adopt(state, params, hp):
            return learner.adopt(state, params, own(hp))

        return learner._replace(
            init=lambda key, rows, hp: learner.init(key, weigh(rows, hp), own(hp)),
            step=lambda key, state, rows, hp: learner.step(key, state, mask_dead_rows(weigh(rows, hp)), own(hp)),
            evaluate=lambda key, params, rows, hp: learner.evaluate(key, params, rows, own(hp)),
            adopt=adopt if learner.adopt else None, check=check, hp=hp,
        )  # fmt: skip
    called = trace_host(estimator)

    def fit(key, rows, hp):
        return called.fit(key, mask_dead_rows(weigh(rows, hp)), own(hp))

    return called._replace(fit=fit, check=check, hp=hp)


def name_weights(weights: Mapping[str, float] | Sequence[float], schema: Any, classes: int) -> list[float]:
    """A number for each class in their order; ValueError where one is missing or nobody's."""
    labels = list(schema.target.columns or ()) if schema is not None else []
    if isinstance(weights, Mapping):
        labels = labels or list(weights)  # the config is read once before the data is
        for name in weights:
            if name not in labels:
                raise ValueError(f"`weights` of `class_weight` has no class {name!r}.{nearest(name, labels)}")
        if missing := [name for name in labels if name not in weights]:
            raise ValueError(f"`weights` of `class_weight` must have every class; {missing[0]!r} is missing.")
        return [float(weights[name]) for name in labels]
    if labels and len(weights) != classes:
        raise ValueError(f"`weights` of `class_weight` must be {classes} numbers, one for each class; got {len(weights)}.")
    return [float(one) for one in weights]


def factors(rows: Batch, to: str, classes: int) -> jax.Array:
    """What makes all classes that are there count alike [classes], 0 of those that are not."""
    weight = rows.weight
    count = jax.ops.segment_sum(weight, rows.y.astype(jnp.int32), classes)
    there = count > 0
    goal = {
        "balanced": count.sum() / jnp.maximum(there.sum(), 1).astype(weight.dtype), "largest": count.max(),
        "smallest": jnp.where(there, count, jnp.inf).min(),
    }[to]  # fmt: skip
    return jnp.where(there, goal / jnp.where(there, count, 1), 0)


def smote(
    estimator: Estimator, neighbors: Annotated[int, Gt(0)] = 5, copies: Annotated[int, Gt(0)] = 5,
    classes: Annotated[int, Gt(1)] | None = None, schema: Any = None,
) -> Estimator:  # fmt: skip
    """The estimator that also learns from rows between those of a class, of so much weight that all classes count alike.

    Chawla et al., JAIR 16 (2002). Each row x [n, d] of floats has `copies` others on the ways to some of the `neighbors` nearest
    rows of its class, drawn by its id; together they have the weight that its class lacks, so those of the largest have none. A
    row of weight 2 is two neighbours. A copy has its row's id: whoever makes folds keeps both in one. Answers and hp: the
    estimator's. The rows are those of imbalanced-learn's SMOTE, but that every row has as many and their weight differs.
    """
    k = classes_of(classes, schema)
    called = trace_host(estimator)

    def fit(key, rows, hp):
        made = synthesize(jax.random.fold_in(key, 0), rows, neighbors, copies, k)
        return called.fit(jax.random.fold_in(key, 1), mask_dead_rows(made), hp)

    def check(rows):
        if isinstance(rows.x, dict) or not jnp.issubdtype(rows.x.dtype, jnp.floating):
            got = f"inputs {', '.join(rows.x)}" if isinstance(rows.x, dict) else rows.x.dtype
            raise ValueError(f"`smote` takes x of floats [n, d], since rows are averaged: `one_hot` makes them; got {got}.")
        check_whole_labels("smote", rows, k)
        estimator.check(rows)

    return called._replace(fit=fit, check=check)


def synthesize(key: jax.Array, rows: Batch, neighbors: int, copies: int, classes: int) -> Batch:
    """The rows and behind them `copies` times as many, each between one of them and a near one of its class."""
    n, flat = len(rows.weight), rows.x.reshape(len(rows.weight), -1)
    weight = rows.weight.astype(flat.dtype)
    lacks = (factors(rows, "largest", classes)[rows.y] - 1) * rows.weight / copies

    def one(at_and_key):
        at, key = at_and_key
        # Of a row's own weight all but one are others.
        mine = jnp.where(rows.y == rows.y[at], weight, 0).at[at].add(-1)
        mine = jnp.maximum(mine, 0)
        order = jnp.argsort(jnp.where(mine > 0, jnp.square(flat - flat[at]).sum(1), jnp.inf))
        upto = jnp.cumsum(mine[order])
        most = jnp.minimum(upto[-1], neighbors)
        drawn = jax.random.uniform(key, (2, copies), flat.dtype)
        found = order[jnp.clip(jnp.searchsorted(upto, drawn[0] * most, side="right"), 0, n - 1)]
        other = jnp.where(most > 0, flat[found], flat[at])
        return flat[at] + drawn[1][:, None] * (other - flat[at])

    between = lax.map(one, (jnp.arange(n), row_keys(key, rows.row)), batch_size=16)
    made = between.transpose(1, 0, 2).reshape(n * copies, *rows.x.shape[1:])

    def beside(leaf):
        return jnp.concatenate([leaf] * (1 + copies))

    twice = jax.tree.map(beside, rows)
    return twice._replace(x=jnp.concatenate([rows.x, made]), weight=jnp.concatenate([rows.weight] + [lacks] * copies))
