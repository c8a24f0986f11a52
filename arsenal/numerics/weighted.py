"""Statistics and draws that count rows by weight."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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


def known_mean(x: jax.Array, weight: jax.Array) -> jax.Array:
    """The mean over the first axis of x [n, ...] by weight [n] of what is not NaN; 0 where nothing is known.

    >>> float(known_mean(jnp.array([1.0, jnp.nan, 4.0]), jnp.array([2.0, 5.0, 1.0])))
    2.0
    """
    known = ~jnp.isnan(x)
    weight = weight.astype(x.dtype)
    # A statistic is no place for the short floats that matrix units of GPUs use by default.
    total = jnp.tensordot(weight, known.astype(x.dtype), 1, precision="highest")
    return jnp.tensordot(weight, jnp.where(known, x, 0), 1, precision="highest") / jnp.maximum(total, jnp.finfo(x.dtype).tiny)


def known_extremes(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The least and the greatest known value over the first axis of x [n, ...], of rows with weight; 0 where none is known."""
    known = (weight > 0).reshape(-1, *(1,) * (x.ndim - 1)) & ~jnp.isnan(x)
    some = known.any(0)
    low, high = jnp.where(known, x, jnp.inf).min(0), jnp.where(known, x, -jnp.inf).max(0)
    return jnp.where(some, low, 0), jnp.where(some, high, 0)


def weighted_quantile(x: jax.Array, weight: jax.Array, shares: Any) -> jax.Array:
    """The values [m, ...] of x [n, ...] below which shares [m] in 0..1 of the weight [n] lie; NaN in x is not there.

    Where a share falls between two rows it is their mean: definition 2 of Hyndman & Fan, The American Statistician 50 (1996),
    which does not change when all weights do by one factor. NaN where nothing is known.

    >>> weighted_quantile(jnp.array([1.0, 2.0, 9.0]), jnp.array([2.0, 1.0, 1.0]), jnp.array([0.5, 0.9])).tolist()
    [1.5, 9.0]
    """
    shares = jnp.asarray(shares, weight.dtype)

    def one(column):
        known = (weight > 0) & ~jnp.isnan(column)
        order = jnp.argsort(jnp.where(known, column, jnp.inf))
        value, total = column[order], jnp.cumsum(jnp.where(known, weight, 0)[order])
        at = shares * total[-1]
        slack = 4 * jnp.finfo(weight.dtype).eps * total[-1]  # 0.1 * 30 is not 3 to the last bit
        last = known.sum(dtype=jnp.int32) - 1
        below = jnp.clip(jnp.searchsorted(total, at - slack, side="left"), 0, last)
        above = jnp.clip(jnp.searchsorted(total, at + slack, side="right"), 0, last)
        return jnp.where(last >= 0, value[below] / 2 + value[above] / 2, jnp.nan)

    made = jax.vmap(one, 1, 1)(x.reshape(len(x), -1))
    return made.reshape(shares.shape[0], *x.shape[1:])


def for_weights(lanes: Callable) -> Callable:
    """A decorator of `f(x, weight)`: under `vmap`, many weights [b, n] of one x [n, d] are `lanes(x, weight)`."""

    def decorate(plain):
        @jax.custom_batching.custom_vmap
        def called(x, weight):
            return plain(x, weight)

        @called.def_vmap
        def _(size, batched, x, weight):
            made = jax.vmap(plain, (0, 0 if batched[1] else None))(x, weight) if batched[0] else lanes(x, weight)
            return made, jax.tree.map(lambda leaf: True, made)

        # `custom_vmap` has no reverse mode, so derivatives go round it.
        both = jax.custom_jvp(called)
        both.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
        return functools.wraps(plain)(both)

    return decorate


def gram_lanes(x: jax.Array, weight: jax.Array) -> jax.Array:
    """`weighted_gram` [b, d, d] as one product of the weights with the products of columns, without a copy of x for each."""
    first, second = np.triu_indices(x.shape[1])
    place = np.zeros((x.shape[1],) * 2, int)
    place[first, second] = place[second, first] = np.arange(len(first))
    return (weight @ (x[:, first] * x[:, second]))[:, place]


def scatter_lanes(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`weighted_scatter` about one point first, the mean by all weights, and moved to the means [b, d] after."""
    middle = weighted_mean(x, weight.sum(0))
    x = x - middle
    apart, total = jax.vmap(weighted_mean, (None, 0))(x, weight), weight.sum(1)
    return middle + apart, gram_lanes(x, weight) - jnp.einsum("b,bi,bj->bij", total, apart, apart)


@for_weights(gram_lanes)
def weighted_gram(x: jax.Array, weight: jax.Array) -> jax.Array:
    """`x.T @ diag(weight) @ x` [d, d] of x [n, d] and weight [n].

    Many weights of one x under `vmap` (resamples, penalties, steps of several fits) cost little more than one.

    >>> weighted_gram(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1.0, 0.5])).tolist()
    [[5.5, 8.0], [8.0, 12.0]]
    """
    return (x.T * weight) @ x


@for_weights(scatter_lanes)
def weighted_scatter(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean [d] of x [n, d] by weight [n], and the sums of products about it, [d, d].

    Many weights of one x under `vmap` cost little more than one.

    >>> [found.tolist() for found in weighted_scatter(jnp.array([[1.0], [3.0]]), jnp.array([1.0, 1.0]))]
    [[2.0], [[2.0]]]
    """
    mean = weighted_mean(x, weight)
    x = x - mean
    return mean, (x.T * weight) @ x


def draw(key: jax.Array, weight: jax.Array, k: int) -> jax.Array:
    """Positions [k] of rows drawn with probability proportional to weight [n], through the inverse of its sum.

    A dead row is never drawn, and neither dead rows nor weight 2 in place of a row twice change what is drawn.
    """
    total = jnp.cumsum(weight)
    at = jnp.searchsorted(total, jax.random.uniform(key, (k,), total.dtype) * total[-1], side="right")
    return jnp.clip(at, 0, weight.shape[0] - 1)
