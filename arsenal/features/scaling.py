"""Shifts and scales of numeric inputs. A missing value (NaN) counts for nothing and stays one."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arsenal.features.arrays import as_floats, divide, formula, keep_names
from arsenal.numerics.weighted import known_extremes, known_mean, weighted_quantile
from arsenal.records import Transform


class Scaling(NamedTuple):
    """Mean and standard deviation of each feature."""

    mean: Any
    deviation: Any


class Affine(NamedTuple):
    """`(x - middle) * factor + offset` of each feature."""

    middle: Any
    factor: Any
    offset: Any


class Bounds(NamedTuple):
    """The least and the greatest value that a feature may have."""

    low: Any
    high: Any


def scale(factor: float, offset: float = 0.0) -> Transform:
    """`x * factor + offset`, nothing learned: bytes and pixels to floats in the range a network likes. `factor` is not 0."""
    if factor == 0:
        raise ValueError("`factor` of `scale` must not be 0, or every input would be the same.")

    def apply(state, x):
        x = as_floats(x)
        return x * jnp.asarray(factor, x.dtype) + jnp.asarray(offset, x.dtype)

    def inverse(state, x):
        return (x - jnp.asarray(offset, x.dtype)) / jnp.asarray(factor, x.dtype)

    return formula(apply, inverse=inverse)


def standardize() -> Transform:
    """Zero mean and unit variance of every feature of x [n, ...], by weight; a constant feature becomes 0.

    >>> from arsenal.records import batch
    >>> standardize().fit(None, batch(x=[[1.0], [3.0], [float("nan")]]), {})[1].x[:, 0].tolist()
    [-1.0, 1.0, nan]
    """

    def fit(key, rows, hp):
        x = as_floats(rows.x)
        mean = known_mean(x, rows.weight)
        variance = known_mean(jnp.square(x - mean), rows.weight)
        low, high = known_extremes(x, rows.weight)
        varies = (high > low) & (variance > 0)
        # The mean of equal values may differ from them by rounding, which a division by their deviation would blow up.
        state = Scaling(jnp.where(high > low, mean, low), jnp.where(varies, jnp.sqrt(variance), jnp.ones_like(variance)))
        return state, rows._replace(x=apply(state, rows.x))

    def apply(state, x):
        return (as_floats(x) - state.mean) / state.deviation

    def inverse(state, x):
        return x * state.deviation + state.mean

    return Transform(fit, apply, inverse, names=keep_names)


def robust_scale(low: float = 0.25, high: float = 0.75) -> Transform:
    """The median to 0 and the distance between two quantiles to 1, so that outliers move neither; x [n, ...], by weight.

    0 <= low < high <= 1 are traced. Where both quantiles are one value only the median is taken away.

    >>> from arsenal.records import batch
    >>> state, rows = robust_scale().fit(None, batch(x=[[0.0], [1.0], [2.0], [3.0], [1e6]]), {"low": 0.25, "high": 0.75})
    >>> rows.x[:4, 0].tolist()
    [-1.0, -0.5, 0.0, 0.5]
    """
    check_order("robust_scale", low, high, 0, 1)

    def fit(key, rows, hp):
        x = as_floats(rows.x)
        shares = jnp.stack([jnp.asarray(share, x.dtype) for share in (hp["low"], 0.5, hp["high"])])
        below, median, above = zeros_for_gaps(weighted_quantile(x, rows.weight, shares))
        factor = jnp.where(above > below, divide(jnp.ones_like(above), above - below), 1)
        state = Affine(median, factor, jnp.zeros_like(median))
        return state, rows._replace(x=move(state, rows.x))

    return Transform(fit, move, move_back, hp={"low": low, "high": high}, names=keep_names)


def min_max(low: float = 0.0, high: float = 1.0) -> Transform:
    """The least value of every feature to `low` and the greatest to `high`, both traced; a constant feature becomes `low`.

    x [n, ...]. What lies outside the training rows' range is mapped on, not cut: `clip` cuts.

    >>> from arsenal.records import batch
    >>> min_max().fit(None, batch(x=[[2.0], [4.0], [3.0]]), {"low": 0.0, "high": 1.0})[1].x[:, 0].tolist()
    [0.0, 1.0, 0.5]
    """
    check_order("min_max", low, high)

    def fit(key, rows, hp):
        x = as_floats(rows.x)
        least, most = known_extremes(x, rows.weight)
        low, high = (jnp.asarray(hp[name], x.dtype) for name in ("low", "high"))
        varies = most > least
        state = Affine(least, (high - low) / jnp.where(varies, most - least, 1), jnp.full_like(least, low))
        return state, rows._replace(x=move(state, rows.x))

    return Transform(fit, move, move_back, hp={"low": low, "high": high}, names=keep_names)


def clip(low: float = 0.01, high: float = 0.99) -> Transform:
    """Values below one quantile of the training rows and above another become these, by weight; 0 <= low < high <= 1 are traced.

    x [n, ...]. `low=0, high=1` are the least and the greatest value that training saw.

    >>> from arsenal.records import batch
    >>> rows = batch(x=[[0.0], [1.0], [2.0], [3.0], [1e6]])
    >>> clip().fit(None, rows, {"low": 0.25, "high": 0.75})[1].x[:, 0].tolist()
    [1.0, 1.0, 2.0, 3.0, 3.0]
    """
    check_order("clip", low, high, 0, 1)

    def fit(key, rows, hp):
        x = as_floats(rows.x)
        made = weighted_quantile(x, rows.weight, jnp.stack([jnp.asarray(hp[name], x.dtype) for name in ("low", "high")]))
        known = ~jnp.isnan(made)
        state = Bounds(jnp.where(known[0], made[0], -jnp.inf), jnp.where(known[1], made[1], jnp.inf))
        return state, rows._replace(x=apply(state, rows.x))

    def apply(state, x):
        return jnp.clip(as_floats(x), state.low, state.high)

    return Transform(fit, apply, hp={"low": low, "high": high}, names=keep_names)


def check_order(name: str, low: float, high: float, least: float = -math.inf, most: float = math.inf) -> None:
    """Raise ValueError where `low` does not lie below `high`, both within bounds."""
    if not least <= low < high <= most:
        bounds = "" if least == -math.inf else f", both within {least}..{most}"
        raise ValueError(f"`low` of `{name}` must be less than `high`{bounds}; got {low} and {high}.")


def move(state: Affine, x: Any) -> jax.Array:
    """x within its new span."""
    return (as_floats(x) - state.middle) * state.factor + state.offset


def move_back(state: Affine, x: jax.Array) -> jax.Array:
    """What `move` undid."""
    return (x - state.offset) / state.factor + state.middle


def zeros_for_gaps(x: jax.Array) -> jax.Array:
    """x with 0 where it is NaN: the statistic of a feature of which nothing is known."""
    return jnp.where(jnp.isnan(x), 0, x)
