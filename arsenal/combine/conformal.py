"""Intervals and sets of classes that hold the truth as often as they say, whatever the model. Vovk et al. (2005)."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt, Interval
from jax import lax
from jax.random import fold_in

from arsenal.combine.calibration import read_inside
from arsenal.combine.folds import assign_folds, check_folds, fit_folds
from arsenal.combine.pool import pool_answers
from arsenal.combine.whole import trace_host
from arsenal.records import Estimator

PART = 4
"""Without folds one row in so many is kept from the fit."""


class Conformal(NamedTuple):
    """Members [folds, ...], and of rows that they did not see how far off they were."""

    members: Any
    score: Any
    """[n], in order."""
    mass: Any
    """[folds, groups, n + 1]: the weight of a member's rows before each place, of all or of each class."""
    level: Any


def conformal(
    estimator: Estimator, level: Annotated[float, Interval(gt=0, lt=1)] = 0.9, folds: Annotated[int, Gt(1)] | None = None,
    by_class: bool = False,
) -> Estimator:  # fmt: skip
    """The estimator with answers that hold the truth of new rows, exchangeable with the training rows, with probability `level`.

    Of numbers `interval` [n, 2], by absolute residuals; where there is `predict_proba`, `prediction_set` [n, classes] bool, of
    classes that are likely enough (LAC: Sadinle, Lei & Wasserman, JASA 114, 2019), with `by_class` at that level in each class
    (Mondrian). Without `folds` a quarter of the rows is kept from the fit and measures (split: Papadopoulos et al., ECML 2002);
    with them every row is measured by a member that did not see it (CV+: Barber et al., Annals of Statistics 49, 2021, who prove
    2 * level - 1 and see about `level`). Where rows are too few to say, the interval is infinite and the set whole. Answers also:
    the estimator's, of members pooled. `level` is traced. params hold some numbers for every training row.

    hp: {"estimator": ..., "level": ...}.
    """
    sets = "predict_proba" in estimator.apply
    called, many = trace_host(estimator), 1 if folds is None else folds
    pooled = pool_answers(estimator)

    def fit(key, rows, hp):
        fold = assign_folds(fold_in(key, 0), rows, folds or PART)
        made = fit_folds(estimator, fold_in(key, 1), rows, hp["estimator"], fold, many)
        weight = jnp.where(fold < many, rows.weight, 0)
        if sets:
            proba = made.answers["predict_proba"]
            score = 1 - jnp.take_along_axis(proba, rows.y[:, None], 1)[:, 0]
            group = jax.nn.one_hot(rows.y, proba.shape[1], axis=0) if by_class else jnp.ones((1, len(score)))
        else:
            given = made.answers["predict"]
            score, group = jnp.abs(rows.y.astype(given.dtype) - given), jnp.ones((1, len(given)))
        there = weight > 0
        score = jnp.where(there, score, jnp.where(there, score, -jnp.inf).max())  # no place of its own
        order = jnp.argsort(score)
        own = jax.nn.one_hot(fold, many, axis=0, dtype=weight.dtype)[:, None] * group.astype(weight.dtype) * weight
        mass = jnp.pad(jnp.cumsum(own[..., order], -1), ((0, 0), (0, 0), (1, 0)))
        return Conformal(made.members, score[order], mass, jnp.asarray(hp["level"], float)), made.info

    def needed(fitted):
        """The weight that must be less off than a new row is, [groups], and all that there is."""
        whole = fitted.mass[..., -1].sum(0)
        slack = 8 * jnp.finfo(whole.dtype).eps * (whole + 1)  # 0.9 * 100 is not 90 to the last bit
        return fitted.level.astype(whole.dtype) * (whole + 1) - slack, whole

    def prediction_set(fitted, x):
        off = 1 - jax.vmap(lambda one: estimator.apply["predict_proba"](one, x))(fitted.members)  # [folds, n, classes]
        place = jnp.searchsorted(fitted.score, off)
        mass = jnp.broadcast_to(fitted.mass, (many, off.shape[2], fitted.mass.shape[2]))
        read = jax.vmap(jax.vmap(lambda mass, at: mass[at], (0, 1), 1))  # of members, and in each of classes
        return read(mass, place).sum(0) < needed(fitted)[0]

    def upper(fitted, given):
        """The least number [n] that enough of the rows' answers, moved up by how far off they were, do not exceed."""
        need, whole = needed(fitted)

        def holds(at):
            place = jnp.searchsorted(fitted.score, at - given, side="right")
            return jax.vmap(lambda mass, at: mass[0][at])(fitted.mass, place).sum(0) >= need[0]

        def halve(_, ends):
            low, high = ends
            middle = low + (high - low) / 2
            enough = holds(middle)
            return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

        high = given.max(0) + fitted.score[-1]
        low = given.min(0)
        steps = jnp.finfo(given.dtype).nmant + 8
        return jnp.where(need[0] <= whole[0], lax.fori_loop(0, steps, halve, (low, high))[1], jnp.inf)

    def interval(fitted, x):
        given = jax.vmap(lambda one: estimator.apply["predict"](one, x))(fitted.members)
        return jnp.stack([-upper(fitted, -given), upper(fitted, given)], 1)

    def check(rows):
        if by_class and not sets:
            known = ", ".join(estimator.apply)
            raise ValueError(f"`by_class` of `conformal` takes an estimator that answers predict_proba; it answers {known}.")
        check_folds("conformal", rows, folds or PART)
        if not sets and np.ndim(rows.y) != 1:
            raise ValueError(f"`conformal` takes one number for each row, y [n]; got shape {np.shape(rows.y)}.")
        estimator.check(rows)

    own = {"prediction_set": prediction_set} if sets else {"interval": interval}
    answers = read_inside(called._replace(apply=pooled), lambda fitted: fitted.members) | own
    return called._replace(fit=fit, apply=answers, inputs={}, check=check, hp={"estimator": estimator.hp, "level": level})
