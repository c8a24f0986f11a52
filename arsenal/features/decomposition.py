"""Fewer columns in place of many, as projections: on principal axes, on singular vectors, on directions drawn at random."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt

from arsenal.features.arrays import Names, as_floats, divide
from arsenal.numerics.weighted import weighted_mean
from arsenal.records import Transform

OVERSAMPLE, ITERATIONS = 10, 8


class Axes(NamedTuple):
    """The mean [...] of a row, directions of length one [k, ...], and the variance along each [k]."""

    mean: Any
    components: Any
    variance: Any


class Directions(NamedTuple):
    """Directions [k, ...] that rows are multiplied with."""

    components: Any


def pca(components: Annotated[int, Gt(0)] | None = None, whiten: bool = False) -> Transform:
    """The `components` directions of most variance, all without a number; with `whiten` the variance along each becomes 1.

    Hotelling, Journal of Educational Psychology 24 (1933). x [n, ...] to [n, components], by the eigenvectors of the weighted
    covariance, which suits some thousand columns. The largest part of a direction is positive. Whitened, a direction along which
    nothing varies becomes 0. `inverse` gives the nearest rows in the span of the directions. Equal to scikit-learn's PCA.

    >>> from arsenal.records import batch
    >>> state, rows = pca(1).fit(None, batch(x=[[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]), {})
    >>> [round(value, 3) for value in rows.x[:, 0].tolist()]
    [-5.0, 0.0, 5.0]
    """

    def fit(key, rows, hp):
        x, weight = flatten("pca", rows.x, components), rows.weight
        mean = weighted_mean(x, weight)
        total = weight.sum().astype(x.dtype)
        # As in an unbiased variance; weights that sum to 1 or less are shares, of which nothing can be taken away.
        covariance = gram(x - mean, weight) / jnp.where(total > 1, total - 1, total)
        variance, axes = top_axes(covariance, components)
        state = Axes(mean.reshape(rows.x.shape[1:]), axes.reshape(-1, *rows.x.shape[1:]), variance)
        return state, rows._replace(x=apply(state, rows.x))

    def apply(state, x):
        made = (flat(x) - state.mean.ravel()) @ flat(state.components).T
        return divide(made, deviation(state)) if whiten else made

    def inverse(state, x):
        made = (x * deviation(state) if whiten else x) @ flat(state.components)
        return made.reshape(-1, *state.mean.shape) + state.mean

    def deviation(state):
        noise = len(state.variance) * jnp.finfo(state.variance.dtype).eps * state.variance.max()
        return jnp.where(state.variance > noise, jnp.sqrt(state.variance), 0)

    check = lambda rows: check_numbers("pca", rows, components)  # noqa: E731
    return Transform(fit, apply, inverse, check, names=number("pca", components))


def truncated_svd(components: Annotated[int, Gt(0)] = 2) -> Transform:
    """The products with the `components` right singular vectors of the largest singular values; nothing is centred.

    Eckart & Young, Psychometrika 1 (1936); of counts of words, latent semantic analysis. x [n, ...] to [n, components], by the
    eigenvectors of the weighted products of columns. Signs and `inverse` as in `pca`. Equal to scikit-learn's TruncatedSVD.
    """

    def fit(key, rows, hp):
        x = flatten("truncated_svd", rows.x, components)
        state = Directions(top_axes(gram(x, rows.weight), components)[1].reshape(-1, *rows.x.shape[1:]))
        return state, rows._replace(x=apply(state, rows.x))

    def apply(state, x):
        return flat(x) @ flat(state.components).T

    def inverse(state, x):
        return (x @ flat(state.components)).reshape(-1, *state.components.shape[1:])

    check = lambda rows: check_numbers("truncated_svd", rows, components)  # noqa: E731
    return Transform(fit, apply, inverse, check, names=number("svd", components))


def random_projection(components: Annotated[int, Gt(0)], kind: Literal["gaussian", "sparse"] = "gaussian") -> Transform:
    """Products with `components` directions drawn from the key, which keep the distances of rows on average.

    Johnson & Lindenstrauss (1984); `sparse` by Li, Hastie & Church, KDD 2006: one in √d of the d columns counts, with
    either sign. x [n, ...] to [n, components]; only the shape of the rows is read. Distributed as scikit-learn's
    GaussianRandomProjection and SparseRandomProjection.
    """
    if kind not in ("gaussian", "sparse"):
        raise ValueError(f"`kind` of `random_projection` must be gaussian or sparse; got {kind!r}.")

    def fit(key, rows, hp):
        x = flat(as_floats(rows.x))
        shape = components, x.shape[1]
        if kind == "gaussian":
            drawn = jax.random.normal(key, shape, x.dtype) / math.sqrt(components)
        else:
            density = 1 / math.sqrt(x.shape[1])
            counts = jax.random.uniform(jax.random.fold_in(key, 0), shape) < density
            sign = jax.random.rademacher(jax.random.fold_in(key, 1), shape, x.dtype)
            drawn = jnp.where(counts, sign, 0) / math.sqrt(density * components)
        state = Directions(drawn.astype(x.dtype).reshape(components, *rows.x.shape[1:]))
        return state, rows._replace(x=apply(state, rows.x))

    def apply(state, x):
        return flat(as_floats(x)) @ flat(state.components).T

    check = lambda rows: check_numbers("random_projection", rows, None)  # noqa: E731
    return Transform(fit, apply, check=check, names=number("random", components))


def gram(x: jax.Array, weight: jax.Array) -> jax.Array:
    """The weighted sum [d, d] of the products of the columns of x [n, d]."""
    # A statistic is no place for the short floats that matrix units of GPUs use by default.
    return jnp.matmul((x * weight.astype(x.dtype)[:, None]).T, x, precision="highest")


def top_axes(products: jax.Array, components: int | None) -> tuple[jax.Array, jax.Array]:
    """The largest eigenvalues [k] of a matrix [d, d], at least 0 and falling, and their vectors [k, d] with fixed signs."""
    value, vector = jnp.linalg.eigh(products)
    axes = vector.T[::-1][:components]
    return jnp.maximum(value[::-1][:components], 0), axes * sign_of(axes)[:, None]


def leading_axes(key: jax.Array, x: jax.Array, weight: jax.Array, components: int) -> jax.Array:
    """The right singular vectors [k, d] of the largest singular values of weighted rows x [n, d], with fixed signs.

    A range finder that is drawn from the key and iterated on, Halko, Martinsson & Tropp, SIAM Review 53 (2011), algorithm 4.4:
    the products [d, d] of the columns are never there. Exact where there are no more columns than `components` and OVERSAMPLE;
    else as far as the values behind those that are wanted are smaller.
    """
    counts = weight.astype(x.dtype)[:, None]
    start = jax.random.normal(key, (x.shape[1], min(components + OVERSAMPLE, x.shape[1])), x.dtype)

    def step(_, basis):
        return jnp.linalg.qr(x.T @ (counts * (x @ basis)))[0]

    basis = jax.lax.fori_loop(0, ITERATIONS, step, jnp.linalg.qr(start)[0])
    # A statistic is no place for the short floats that matrix units of GPUs use by default.
    axes = top_axes(gram(jnp.matmul(x, basis, precision="highest"), weight), components)[1] @ basis.T
    return axes * sign_of(axes)[:, None]


def sign_of(rows: jax.Array) -> jax.Array:
    """The sign [k] of the largest part of each row [k, d], 1 of a row of zeros."""
    size = jnp.abs(rows)
    # Two standardised columns have parts of one size: the first of those that are equal but for rounding decides.
    first = jnp.argmax(size >= (1 - jnp.sqrt(jnp.finfo(rows.dtype).eps)) * size.max(1, keepdims=True), 1)
    part = jnp.take_along_axis(rows, first[:, None], 1)[:, 0]
    return jnp.where(part < 0, -1, 1).astype(rows.dtype)


def flat(x: Any) -> jax.Array:
    """x [n, ...] as floats [n, d]."""
    x = as_floats(x)
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def flatten(name: str, x: Any, components: int | None) -> jax.Array:
    """x as floats [n, d]; ValueError where there are fewer columns than components."""
    x = flat(x)
    if components and components > x.shape[1]:
        got = f"{components} of {x.shape[1]} feature(s)"
        raise ValueError(f"`components` of `{name}` must be at most the number of columns; got {got}.")
    return x


def check_numbers(name: str, rows: Any, components: int | None, low: float = -math.inf) -> None:
    """Raise ValueError for rows with a value that is no number or below `low`, or with fewer columns than components."""
    x = rows.x
    if isinstance(x, jax.ShapeDtypeStruct | dict):
        return
    flatten(name, x[:1], components)
    living = np.asarray(x)[np.asarray(rows.weight) > 0]
    if not np.isfinite(living).all():
        raise ValueError(f"`{name}` takes numbers only; got {living[~np.isfinite(living)][0]}. `impute` fills gaps.")
    if (living < low).any():
        raise ValueError(f"`{name}` takes x of at least {low:g}; got {living.min():g}.")


def number(stem: str, components: int | None) -> Callable[[Names], Names]:
    """Names by number: of as many columns as there are components, or of all."""
    return lambda given: {"x": [f"{stem}{i}" for i in range(components or len(given["x"]))]}
