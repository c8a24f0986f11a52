"""Estimators whose answers another estimator learns from. Wolpert, Neural Networks 5 (1992)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt
from jax.random import fold_in

from arsenal.combine.folds import assign_folds, check_folds, fit_folds
from arsenal.combine.voting import by_name, merge_exempt, merge_info
from arsenal.combine.whole import trace_host
from arsenal.records import Estimator, hyperparameters, mask_dead_rows


class Stacked(NamedTuple):
    """Parameters of every member by name, fitted on all rows, and of the one that learned from their answers."""

    members: dict[str, Any]
    final: Any


def stacking(
    estimators: Mapping[str, Estimator] | Sequence[Estimator], final: Estimator, folds: Annotated[int, Gt(1)] = 5,
    passthrough: bool = False, blend: bool = False,
) -> Estimator:  # fmt: skip
    """The final estimator on what the others answer: in training out of fold, then by members fitted again on all rows.

    Of each member its `predict_proba`, without the first of two classes, else its `decision_function`, else `predict`, in their
    order; with `passthrough` x behind them, of an x by name before its `numeric`. Folds are lanes of one program, or on the host
    fits one after another. With `blend` members learn from all folds but the first, once, and the final estimator from that one
    alone. Answers: the final estimator's. hp: {"estimators": {name: ...}, "final": ...}. Equal to scikit-learn's
    StackingClassifier and StackingRegressor with the same folds.
    """
    made = by_name("stacking", estimators)
    called, last = {name: trace_host(one) for name, one in made.items()}, trace_host(final)

    def join(columns, x):
        both = jnp.concatenate(columns, 1)
        if not passthrough:
            return both
        if isinstance(x, dict):
            numeric = [both, *([x["numeric"].astype(both.dtype)] if "numeric" in x else [])]
            return x | {"numeric": jnp.concatenate(numeric, 1)}
        return jnp.concatenate([both, x.astype(both.dtype)], 1)

    def fit(key, rows, hp):
        fold, members, columns, infos = assign_folds(fold_in(key, 0), rows, folds), {}, [], []
        for i, (name, one) in enumerate(made.items()):
            own = hp["estimators"][name]
            fitted = fit_folds(one, fold_in(key, 2 + i), rows, own, fold, 1 if blend else folds, refit=not blend)
            members[name] = jax.tree.map(lambda leaf: leaf[0], fitted.members) if blend else fitted.refitted
            columns.append(as_features(fitted.answers))
            infos.append(fitted.info)
        seen = rows._replace(x=join(columns, rows.x))
        if blend:
            seen = mask_dead_rows(seen._replace(weight=jnp.where(fold == 0, rows.weight, 0)))
        params, info = last.fit(fold_in(key, 1), seen, hp["final"])
        return Stacked(members, params), merge_info([*infos, info])

    def features(params, x):
        given = [as_features({answer: f(params.members[name], x) for answer, f in one.apply.items() if answer not in one.inputs})
                 for name, one in made.items()]  # fmt: skip
        return join(given, x)

    def read(name, f):
        if name in final.inputs:
            return lambda params, inputs: f(params.final, inputs)
        return lambda params, x: f(params.final, features(params, x))

    def check(rows):
        check_folds("stacking", rows, folds)
        for one in made.values():
            one.check(rows)
        floats = hyperparameters({name: one.hp for name, one in made.items()})

        def seen(rows):
            members = {name: one.fit(jax.random.key(0), rows, floats[name])[0] for name, one in called.items()}
            return features(Stacked(members, None), rows.x)

        final.check(rows._replace(x=jax.eval_shape(seen, rows)))

    return last._replace(
        fit=fit, apply={name: read(name, f) for name, f in final.apply.items()}, check=check,
        hp={"estimators": {name: one.hp for name, one in made.items()}, "final": final.hp},
        exempt=merge_exempt(last, *called.values()),
    )  # fmt: skip


def as_features(answers: dict[str, Any]) -> jax.Array:
    """A member's answers as features [n, m]: the first of probabilities, scores and predictions that there is."""
    name = next(name for name in ("predict_proba", "decision_function", "predict") if name in answers)
    value = answers[name]
    value = value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(float)
    value = value.reshape(value.shape[0], -1)
    return value[:, 1:] if name == "predict_proba" and value.shape[1] == 2 else value
