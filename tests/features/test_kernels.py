"""Products of features are the kernel: of all rows exactly, of some nearly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import StandardScaler

from arsenal import features
from arsenal.features.kernels import draw_apart
from arsenal.records import batch


@pytest.fixture(scope="module")
def x():
    return StandardScaler().fit_transform(load_wine().data)


def products(transform, x, **hp):
    """Of the features of rows with each other."""
    with jax.enable_x64(True):
        made = transform.fit(jax.random.key(0), batch(x=jnp.asarray(x)), hp)[1].x
        return np.asarray(made @ made.T)


def test_nystroem_of_all_rows_is_the_kernel(x):
    np.testing.assert_allclose(products(features.nystroem(len(x), gamma=0.05), x, gamma=0.05), rbf_kernel(x, gamma=0.05), atol=1e-8)


def test_nystroem_of_some_rows_is_as_near_as_scikit_learns(x):
    wanted = rbf_kernel(x, gamma=0.05)
    off = np.abs(products(features.nystroem(40, gamma=0.05), x, gamma=0.05) - wanted).mean()
    theirs = [Nystroem(gamma=0.05, n_components=40, random_state=seed).fit_transform(x) for seed in range(5)]
    assert off < 1.3 * np.mean([np.abs(one @ one.T - wanted).mean() for one in theirs])


def test_waves_come_nearer_as_they_become_more(x):
    wanted = rbf_kernel(x, gamma=0.05)
    few, many = (np.abs(products(features.random_fourier(n), x, gamma=0.05) - wanted).mean() for n in (100, 10_000))
    assert few < 0.1 and many < few / 7  # a tenth, up to the draw


def test_rows_are_drawn_by_weight_and_apart():
    weight = jnp.array([0.0, 1.0, 2.0, 0.0, 1.0, 4.0])
    drawn = jax.vmap(lambda key: draw_apart(key, weight, 2))(jax.random.split(jax.random.key(0), 4000))
    share = np.bincount(np.asarray(drawn).ravel(), minlength=6) / 8000
    np.testing.assert_allclose(share, np.asarray(weight) / 8, atol=0.02)
    assert (drawn[:, 0] != drawn[:, 1]).all()
