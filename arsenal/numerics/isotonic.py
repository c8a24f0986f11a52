"""The best steps that never fall, by pooling neighbours that are out of order, in arrays of the rows' number."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Steps(NamedTuple):
    """A function that never falls: knots x [n], in order, and its values y [n]; straight between knots, level beyond."""

    x: Any
    y: Any


def pool_neighbors(y: jax.Array, weight: jax.Array, tied: jax.Array | None = None) -> jax.Array:
    """The values [n] that never fall and are nearest to y [n], squared by weight [n]; 0 where no row is there.

    Ayer et al., Annals of Mathematical Statistics 26 (1955). Where `tied` [n] says so, a place has the value of the one before.
    In each round all runs of falling means are pooled at once: of two neighbours out of order the best steps make one, whatever
    else is pooled.

    >>> pool_neighbors(jnp.array([1.0, 3.0, 2.0, 4.0]), jnp.array([1.0, 1.0, 3.0, 1.0])).tolist()
    [1.0, 2.25, 2.25, 4.0]
    """
    n = y.shape[0]
    starts = jnp.ones(n, bool) if tied is None else ~tied.at[0].set(False)
    none = jnp.cumsum(weight > 0) == 0  # what is not there before all others belongs to the first that is
    starts = starts & ~jnp.roll(none, 1).at[0].set(False)

    def means(starts):
        block = jnp.cumsum(starts) - 1
        total = jax.ops.segment_sum(weight, block, n)
        return (jax.ops.segment_sum(weight * y, block, n) / jnp.maximum(total, jnp.finfo(y.dtype).tiny))[block], total[block] > 0

    def merge(carry):
        starts, _ = carry
        value, there = means(starts)
        falls = starts & ((value < jnp.roll(value, 1)) | ~there)  # a block without weight joins the one before
        falls = falls.at[0].set(False)
        return starts & ~falls, falls.any()

    starts, _ = lax.while_loop(lambda carry: carry[1], merge, (starts, jnp.array(True)))
    return means(starts)[0]


class Sorted(NamedTuple):
    """Rows in the order of x [n], with y [n] and weights [n]; those that are not there stand at the last that is."""

    x: Any
    y: Any
    weight: Any


def fit_steps(x: jax.Array, y: jax.Array, weight: jax.Array) -> Steps:
    """The steps of x [n] that never fall and are nearest to y [n] by weight [n]; rows of one x are one."""
    rows = sort_steps(x, y, weight)
    return Steps(rows.x, pool_neighbors(rows.y, rows.weight, tied=rows.x == jnp.roll(rows.x, 1)))


def sort_steps(x: jax.Array, y: jax.Array, weight: jax.Array) -> Sorted:
    """Rows in the order in which steps are sought."""
    weight, y = weight.astype(x.dtype), y.astype(x.dtype)
    there = weight > 0
    # What is not there stands at the last that is, where it changes nothing.
    x = jnp.where(there, x, jnp.where(there, x, -jnp.inf).max())
    x = jnp.where(there.any(), x, 0)
    order = jnp.argsort(x)
    return Sorted(x[order], y[order], weight[order])


def read_steps(steps: Steps, x: jax.Array) -> jax.Array:
    """The values at x: straight lines between knots, the first and the last value beyond them."""
    return jnp.interp(x.astype(steps.x.dtype), steps.x, steps.y)
