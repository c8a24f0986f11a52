"""Shifts and scales of numeric inputs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arsenal.numerics.weighted import weighted_mean
from arsenal.records import Transform


class Scaling(NamedTuple):
    """Mean and standard deviation of each feature."""

    mean: Any
    deviation: Any


def scale(factor: float, offset: float = 0.0) -> Transform:
    """`x * factor + offset`, nothing learned: bytes and pixels to floats in the range a network likes. `factor` is not 0."""
    if factor == 0:
        raise ValueError("`factor` of `scale` must not be 0, or every input would be the same.")

    def apply(state, x):
        x = as_floats(x)
        return x * jnp.asarray(factor, x.dtype) + jnp.asarray(offset, x.dtype)

    def inverse(state, x):
        return (x - jnp.asarray(offset, x.dtype)) / jnp.asarray(factor, x.dtype)

    return Transform(lambda key, rows, hp: ((), rows._replace(x=apply((), rows.x))), apply, inverse)


def standardize() -> Transform:
    """Zero mean and unit variance of every feature of x [n, ...], by weight; a constant feature becomes 0."""

    def fit(key, rows, hp):
        x = as_floats(rows.x)
        mean = weighted_mean(x, rows.weight)
        variance = weighted_mean(jnp.square(x - mean), rows.weight)
        state = Scaling(mean, jnp.where(variance > 0, jnp.sqrt(variance), jnp.ones_like(variance)))
        return state, rows._replace(x=apply(state, rows.x))

    def apply(state, x):
        return (as_floats(x) - state.mean) / state.deviation

    def inverse(state, x):
        return x * state.deviation + state.mean

    return Transform(fit, apply, inverse)


def as_floats(x: Any) -> jax.Array:
    """x as floats: bytes and whole numbers become float32."""
    if isinstance(x, dict):
        raise ValueError(f"One array of numbers can be scaled; this data has {', '.join(x)}. `one_hot` makes one of them.")
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)
