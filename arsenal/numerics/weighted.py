"""Statistics and draws that count rows by weight."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

ROWS = "rows"
"""The axis over devices along which the rows of a batch lie, where a step is mapped over them."""


def over_rows(sums: Any) -> Any:
    """Sums over rows as sums over the rows of all devices: `psum` where the axis `rows` is mapped, else as they are."""
    return lax.psum(sums, ROWS) if is_mapped() else sums


def is_mapped() -> bool:
    """Whether a step is mapped over the axis `rows`."""
    try:
        lax.axis_index(ROWS)
    except NameError:  # JAX's word for an axis that is not mapped
        return False
    return True


def weighted_mean(x: jax.Array, weight: jax.Array) -> jax.Array:
    """The mean over the first axis of x [n, ...] by weight [n]; 0 where no row is there.

    >>> float(weighted_mean(jnp.array([1.0, 4.0]), jnp.array([2.0, 1.0])))
    2.0
    """
    total = jnp.maximum(weight.sum(), jnp.finfo(weight.dtype).tiny)
    return jnp.tensordot(weight.astype(x.dtype), x, 1) / total.astype(x.dtype)


def draw(key: jax.Array, weight: jax.Array, k: int) -> jax.Array:
    """Positions [k] of rows drawn with probability proportional to weight [n], through the inverse of its sum.

    A dead row is never drawn, and neither dead rows nor weight 2 in place of a row twice change what is drawn.
    """
    total = jnp.cumsum(weight)
    at = jnp.searchsorted(total, jax.random.uniform(key, (k,), total.dtype) * total[-1], side="right")
    return jnp.clip(at, 0, weight.shape[0] - 1)
