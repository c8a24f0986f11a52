"""Mean and scatter of rows that come in pieces. Chan, Golub & LeVeque, Am. Stat. 37 (1983).

Sums of squares would lose all digits where the mean is large beside the spread; joined scatters do not.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from arsenal.metrics.average import zero_dead_rows


class Moments(NamedTuple):
    """Rows so far: their weight [], mean [d] and scatter `Σ w (x - mean)(x - mean)ᵀ` [d, d]."""

    weight: jax.Array
    mean: jax.Array
    scatter: jax.Array


def no_rows(d: int) -> Moments:
    """The moments of no rows of `d` numbers."""
    return Moments(jnp.zeros(()), jnp.zeros(d), jnp.zeros((d, d)))


def moments(x: jax.Array, weight: jax.Array) -> Moments:
    """The moments of x [n, d] by weight [n], both of one float type."""
    x = zero_dead_rows(x, weight)
    total = weight.sum()
    mean = jnp.matmul(weight, x, precision="highest") / jnp.where(total > 0, total, 1)
    centred = x - mean
    return Moments(total, mean, jnp.matmul((centred * weight[:, None]).T, centred, precision="highest"))


def add_moments(a: Moments, b: Moments) -> Moments:
    """The moments of the rows of both."""
    weight = a.weight + b.weight
    share = b.weight / jnp.where(weight > 0, weight, 1)
    apart = b.mean - a.mean
    scatter = a.scatter + b.scatter + a.weight * share * jnp.outer(apart, apart)
    return Moments(weight, a.mean + share * apart, scatter)
