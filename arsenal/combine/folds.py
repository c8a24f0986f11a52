"""Folds: every row answered by a member that did not see it. Stone, Journal of the Royal Statistical Society B 36 (1974)."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from jax.random import fold_in

from arsenal.combine.pool import pool_answers
from arsenal.combine.whole import trace_host
from arsenal.records import Batch, Converged, Estimator, mask_dead_rows, row_keys


class CrossFit(NamedTuple):
    """What crossfitting reports: how the fits went, and the answers of training rows by members that did not see them."""

    converged: Any
    iterations: Any
    answers: dict[str, Any]
    """By name, [n, ...]."""


class Folds(NamedTuple):
    """Members that each saw all folds but one, and what they say of it."""

    members: Any
    """Parameters with a leading axis of folds."""
    answers: dict[str, Any]
    """By name, [n, ...]: of every row what the member says that did not see it."""
    refitted: Any
    """Parameters of all rows; None unless asked for."""
    info: Converged


def assign_folds(key: jax.Array, rows: Batch, folds: int) -> jax.Array:
    """The fold [n] int32 of every row: each class, of labels y [n], in equal shares of the weight, drawn by row id.

    Rows of one id are in one fold. A class of two ids or more is in two folds or more: the middles of the first and of the last
    in its order are half of its weight apart or more, which is a fold or more.
    """
    n = rows.weight.shape[0]
    label = rows.y if getattr(rows.y, "ndim", 0) == 1 and jnp.issubdtype(rows.y.dtype, jnp.integer) else jnp.zeros(n, jnp.int32)
    drawn = jax.vmap(lambda one: jax.random.bits(one, (), jnp.uint32))(row_keys(key, rows.row))
    order = jnp.lexsort((drawn, label))
    label, drawn, weight = label[order], drawn[order], jnp.maximum(rows.weight[order], 0)
    upto = jnp.cumsum(weight)

    def around(fresh):
        """The weight before each run of places and at its end."""
        run = jnp.cumsum(fresh.at[0].set(True)) - 1
        return jax.ops.segment_min(upto - weight, run, n)[run], jax.ops.segment_max(upto, run, n)[run]

    new_class = label != jnp.roll(label, 1)
    class_begin, class_end = around(new_class)
    begin, end = around(new_class | (drawn != jnp.roll(drawn, 1)))
    place = ((begin + end) / 2 - class_begin) / jnp.maximum(class_end - class_begin, jnp.finfo(upto.dtype).tiny)
    fold = jnp.clip((place * folds).astype(jnp.int32), 0, folds - 1)
    return jnp.zeros(n, jnp.int32).at[order].set(fold)


def fit_folds(
    estimator: Estimator, key: jax.Array, rows: Batch, hp: Any, fold: jax.Array, folds: int, refit: bool = False
) -> Folds:
    """Fit on all folds but each of the first so many, and with `refit` on all rows: lanes of one program, on the host in turn."""
    called = trace_host(estimator)
    asked = {name: f for name, f in estimator.apply.items() if name not in estimator.inputs}

    def one(number):
        mine = mask_dead_rows(rows._replace(weight=jnp.where(fold == number, 0, rows.weight)))
        params, info = called.fit(fold_in(key, number), mine, hp)
        return params, {name: f(params, rows.x) for name, f in asked.items()}, summarize(info)

    # No row is in the fold behind the last: who does not see that one sees all.
    fitted, answers, info = jax.vmap(one)(jnp.arange(folds + refit, dtype=jnp.int32))
    members = jax.tree.map(lambda leaf: leaf[:folds], fitted)
    refitted = jax.tree.map(lambda leaf: leaf[folds], fitted) if refit else None
    own, at = jnp.minimum(fold, folds - 1), jnp.arange(fold.shape[0], dtype=fold.dtype)
    return Folds(members, jax.tree.map(lambda leaf: leaf[own, at], answers), refitted, summarize(info))


def summarize(info: Any) -> Converged:
    """Whether all fits of an info converged, and the most iterations of any, as far as it says."""
    converged, iterations = getattr(info, "converged", True), getattr(info, "iterations", 1)
    return Converged(jnp.asarray(converged).all(), jnp.asarray(iterations, jnp.int32).max())


def check_folds(name: str, rows: Batch, folds: int) -> None:
    """Raise ValueError where a fold would have no row, or a class be in one fold only."""
    if isinstance(rows.row, jax.ShapeDtypeStruct) or isinstance(rows.y, jax.ShapeDtypeStruct):
        return
    there = np.asarray(rows.weight) > 0
    ids = np.asarray(rows.row)[there]
    if len(np.unique(ids)) < folds:
        raise ValueError(f"`folds` of `{name}` must be at most the number of rows, here {len(np.unique(ids))}; got {folds}.")
    labels = np.asarray(rows.y) if rows.y is not None else None
    if labels is None or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        return
    for label in np.unique(labels[there]):
        if len(np.unique(ids[labels[there] == label])) < 2:
            why = "so that none is in one fold only"
            raise ValueError(f"`{name}` takes at least 2 rows of every class, {why}; label {label} has 1.")


def crossfit(estimator: Estimator, folds: Annotated[int, Gt(1)] = 5) -> Estimator:
    """Members that each saw all folds but one and answer as one; their info holds every training row's answers out of fold.

    Folds hold each class in equal shares, drawn by row id; a fold is a lane of one program, or on the host one after another.
    params: the estimator's, [folds, ...]. Answers: the estimator's, pooled as `bagging` pools them. hp: the estimator's.
    """
    called = trace_host(estimator)

    def fit(key, rows, hp):
        fold = assign_folds(fold_in(key, 0), rows, folds)
        made = fit_folds(estimator, fold_in(key, 1), rows, hp, fold, folds)
        return made.members, CrossFit(*made.info, made.answers)

    def check(rows):
        check_folds("crossfit", rows, folds)
        estimator.check(rows)

    return called._replace(fit=fit, apply=pool_answers(estimator), check=check, inputs={})
