"""Sums of products by weight: many weights of one x, each alone, and NumPy's covariance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from arsenal.numerics.weighted import weighted_gram, weighted_scatter

RANDOM = np.random.default_rng(0)
X = (RANDOM.normal(size=(40, 3)) * [1, 5, 0.1] + [1000, 0, -30]).astype(np.float32)
WEIGHT = RANDOM.integers(0, 4, (6, 40)).astype(np.float32)


def test_scatter_is_numpys_covariance_times_the_weight():
    mean, scatter = jax.vmap(weighted_scatter, (None, 0))(X, WEIGHT)
    for i, weight in enumerate(WEIGHT):
        np.testing.assert_allclose(mean[i], np.average(X.astype(float), 0, weight), rtol=1e-6, atol=1e-6)
        wanted = np.cov(X.astype(float), rowvar=False, fweights=weight.astype(int), ddof=0) * weight.sum()
        np.testing.assert_allclose(scatter[i], wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("f", [weighted_gram, weighted_scatter])
@pytest.mark.parametrize("axes", [(None, 0), (0, None), (0, 0)])
def test_lanes_are_what_each_is_alone(f, axes):
    many = {0: np.stack([X, X + 1, X * 2]), 1: WEIGHT[:3]}
    one = {0: X, 1: WEIGHT[0]}
    given = [many[i] if axis == 0 else one[i] for i, axis in enumerate(axes)]
    found = jax.vmap(f, axes)(*given)
    for i in range(3):
        alone = f(*(value[i] if axis == 0 else value for value, axis in zip(given, axes, strict=True)))
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=2e-4, atol=2e-3), found, alone)


@pytest.mark.slow
def test_derivatives_go_both_ways():
    def loss(x, weight):
        return jnp.sin(weighted_scatter(x, weight)[1]).sum() + jnp.cos(weighted_gram(x, weight)).sum()

    x, weight = jnp.asarray(RANDOM.normal(size=(8, 2)) * 0.3), jnp.asarray(WEIGHT[:2, :8])
    check_grads(jax.vmap(loss, (None, 0)), (x, weight), 1, rtol=2e-2, eps=1e-2)
