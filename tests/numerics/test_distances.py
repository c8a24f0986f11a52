"""Distances and kernels of pairs of rows are scikit-learn's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics.pairwise as sk

from arsenal.numerics import distances
from arsenal.numerics.kernels import KernelScale, kernel_matrix

RNG = np.random.default_rng(0)
X, Z = RNG.normal(size=(5, 3)), RNG.normal(size=(4, 3))
HOLES = np.where(RNG.random((5, 3)) < 0.4, np.nan, X), np.where(RNG.random((4, 3)) < 0.4, np.nan, Z)
HOLES[0][0] = np.nan
COUNTS = RNG.integers(0, 4, (5, 3)).astype(float), RNG.integers(0, 4, (4, 3)).astype(float)
ZERO = np.vstack([X, np.zeros(3)]), Z
SCALE = KernelScale(0.3, 0.7)
CASES = {
    "euclidean": (distances.euclidean_distances, sk.euclidean_distances, (X, Z)),
    "nan_euclidean": (distances.nan_euclidean_distances, sk.nan_euclidean_distances, HOLES),
    "cityblock": (distances.cityblock_distances, sk.manhattan_distances, (X, Z)),
    "cosine": (distances.cosine_distances, sk.cosine_distances, ZERO),
    "cosine_similarity": (distances.cosine_similarity, sk.cosine_similarity, ZERO),
    "haversine": (distances.haversine_distances, sk.haversine_distances, (X[:, :2], Z[:, :2])),
    "laplacian": (lambda x, z: distances.laplacian_kernel(x, z, 0.3), lambda x, z: sk.laplacian_kernel(x, z, 0.3), (X, Z)),
    "sigmoid": (lambda x, z: distances.sigmoid_kernel(x, z, 0.3, 0.7), lambda x, z: sk.sigmoid_kernel(x, z, 0.3, 0.7), (X, Z)),
    "additive_chi2": (distances.additive_chi2_kernel, sk.additive_chi2_kernel, COUNTS),
    "chi2": (lambda x, z: distances.chi2_kernel(x, z, 0.3), lambda x, z: sk.chi2_kernel(x, z, 0.3), COUNTS),
    "linear": (lambda x, z: kernel_matrix("linear", x, z, SCALE), sk.linear_kernel, (X, Z)),
    "polynomial": (lambda x, z: kernel_matrix("polynomial", x, z, SCALE, 2), lambda x, z: sk.polynomial_kernel(x, z, 2, 0.3, 0.7), (X, Z)),
    "rbf": (lambda x, z: kernel_matrix("rbf", x, z, SCALE), lambda x, z: sk.rbf_kernel(x, z, 0.3), (X, Z)),
}


@pytest.mark.parametrize("name", CASES)
def test_pairs_are_scikit_learns(name):
    ours, theirs, (x, z) = CASES[name]
    with jax.enable_x64(True):
        np.testing.assert_allclose(ours(jnp.asarray(x), jnp.asarray(z)), theirs(x, z), rtol=1e-10, atol=1e-12)


def test_haversine_takes_latitude_and_longitude():
    with pytest.raises(ValueError, match=r"`haversine_distances` takes latitude and longitude, .*; got \(5, 3\) and \(4, 3\)"):
        distances.haversine_distances(X, Z)
