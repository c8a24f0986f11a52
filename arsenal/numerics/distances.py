"""Distances and similarities of pairs of rows x [n, d] and z [m, d], [n, m], as scikit-learn's `metrics.pairwise` has them.

Kernels of inner products and squared distances are in `kernels`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from arsenal.numerics.kernels import squared_distances


def euclidean_distances(x: jax.Array, z: jax.Array) -> jax.Array:
    """`|x - z|`, by one matrix product.

    >>> float(euclidean_distances(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]]))[0, 0])
    5.0
    """
    return jnp.sqrt(squared_distances(x, z))


def nan_euclidean_distances(x: jax.Array, z: jax.Array) -> jax.Array:
    """`|x - z|` of the features that both know, times the root of how many there are for each of those; NaN is not known.

    NaN where they know none together. Dixon, IEEE SMC 9 (1979).

    >>> round(float(nan_euclidean_distances(jnp.array([[3.0, jnp.nan]]), jnp.array([[0.0, 1.0]]))[0, 0]), 4)
    4.2426
    """

    def one(a, b):
        known = ~(jnp.isnan(a) | jnp.isnan(b))
        total = jnp.where(known, jnp.square(jnp.where(known, a - b, 0)), 0).sum()
        count = known.sum().astype(total.dtype)
        return jnp.where(count > 0, jnp.sqrt(total * a.shape[0] / jnp.maximum(count, 1)), jnp.nan)

    return of_pairs(one, x, z)


def cityblock_distances(x: jax.Array, z: jax.Array) -> jax.Array:
    """`Σ |x_k - z_k|`.

    >>> float(cityblock_distances(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, -4.0]]))[0, 0])
    7.0
    """
    return of_pairs(lambda a, b: jnp.abs(a - b).sum(), x, z)


def cosine_similarity(x: jax.Array, z: jax.Array) -> jax.Array:
    """`x·z / (|x| |z|)`; 0 where either is 0.

    >>> float(cosine_similarity(jnp.array([[2.0, 0.0]]), jnp.array([[3.0, 0.0]]))[0, 0])
    1.0
    """

    def unit(rows):
        length = jnp.sqrt(jnp.square(rows).sum(1, keepdims=True))
        return rows / jnp.where(length > 0, length, 1)

    return jnp.matmul(unit(x), unit(z).T, precision="highest")


def cosine_distances(x: jax.Array, z: jax.Array) -> jax.Array:
    """1 less the `cosine_similarity`, 0..2.

    >>> float(cosine_distances(jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 3.0]]))[0, 0])
    1.0
    """
    return jnp.clip(1 - cosine_similarity(x, z), 0, 2)


def haversine_distances(x: jax.Array, z: jax.Array) -> jax.Array:
    """The angle in radians between places on a sphere, x and z being latitude and longitude in radians, [n, 2] and [m, 2].

    >>> round(float(haversine_distances(jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 1.0]]))[0, 0]), 4)
    1.0
    """
    if x.shape[1] != 2 or z.shape[1] != 2:
        raise ValueError(f"`haversine_distances` takes latitude and longitude, [n, 2] and [m, 2]; got {x.shape} and {z.shape}.")

    def one(a, b):
        half = jnp.sin((a - b) / 2) ** 2
        return 2 * jnp.arcsin(jnp.sqrt(half[0] + jnp.cos(a[0]) * jnp.cos(b[0]) * half[1]))

    return of_pairs(one, x, z)


def laplacian_kernel(x: jax.Array, z: jax.Array, gamma: jax.Array) -> jax.Array:
    """`exp(-gamma Σ |x_k - z_k|)`.

    >>> round(float(laplacian_kernel(jnp.array([[0.0]]), jnp.array([[2.0]]), jnp.float32(0.5))[0, 0]), 4)
    0.3679
    """
    return jnp.exp(-gamma * cityblock_distances(x, z))


def sigmoid_kernel(x: jax.Array, z: jax.Array, gamma: jax.Array, coef0: jax.Array) -> jax.Array:
    """`tanh(gamma x·z + coef0)`.

    >>> round(float(sigmoid_kernel(jnp.array([[1.0]]), jnp.array([[1.0]]), jnp.float32(0.5), jnp.float32(0.5))[0, 0]), 4)
    0.7616
    """
    return jnp.tanh(gamma * jnp.matmul(x, z.T, precision="highest") + coef0)


def additive_chi2_kernel(x: jax.Array, z: jax.Array) -> jax.Array:
    """`-Σ (x_k - z_k)² / (x_k + z_k)` of histograms, x and z >= 0; where both are 0 they do not differ.

    Zhang et al., IJCV 73 (2007).

    >>> float(additive_chi2_kernel(jnp.array([[1.0, 0.0]]), jnp.array([[3.0, 0.0]]))[0, 0])
    -1.0
    """

    def one(a, b):
        total = a + b
        return -jnp.where(total != 0, jnp.square(a - b) / jnp.where(total != 0, total, 1), 0).sum()

    return of_pairs(one, x, z)


def chi2_kernel(x: jax.Array, z: jax.Array, gamma: jax.Array) -> jax.Array:
    """`exp(gamma k)` of the `additive_chi2_kernel` k.

    >>> round(float(chi2_kernel(jnp.array([[1.0]]), jnp.array([[3.0]]), jnp.float32(1.0))[0, 0]), 4)
    0.3679
    """
    return jnp.exp(gamma * additive_chi2_kernel(x, z))


def of_pairs(value: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, z: jax.Array) -> jax.Array:
    """`value(row, row) -> []` of every row of x with every row of z, [n, m]."""
    return jax.vmap(jax.vmap(value, (None, 0)), (0, None))(x, z)
