"""Weights summed by bin, as a product of matrices: one order of summation on every device, unlike a scatter."""

import math

import jax
import jax.numpy as jnp


def histogram(at: jax.Array, weight: jax.Array, bins: int) -> jax.Array:
    """The sum of weight [n] over the rows of each bin; `at` [n] is in 0..bins-1, other rows are dropped. [bins].

    The bin is split into two digits of base `side`, so memory is `2 n √bins` in place of `n bins`.

    >>> histogram(jnp.array([0, 2, 2]), jnp.array([1.0, 1.0, 0.5]), 3).tolist()
    [1.0, 0.0, 1.5]
    """
    side = math.isqrt(bins - 1) + 1
    high, low = (jax.nn.one_hot(digit, side, dtype=weight.dtype) for digit in (at // side, at % side))
    return jnp.matmul((high * weight[:, None]).T, low, precision="highest").reshape(-1)[:bins]
