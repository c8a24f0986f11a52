"""k-means against scikit-learn's: the same from the same start, and as good from its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_iris, make_blobs

from arsenal.estimators import k_medoids, kmeans
from arsenal.estimators.cluster import lloyd
from arsenal.records import batch, hyperparameters

DIGITS = load_digits().data / 16
BLOBS = make_blobs(600, 5, centers=7, random_state=3)[0]
TINY = np.array([[0.0, 0.0], [0.1, 0.0], [5.0, 5.0], [5.1, 5.0], [9.0, 0.0]])


def weights(n):
    return np.random.default_rng(0).integers(1, 4, n).astype(float)


@pytest.mark.parametrize(("x", "start"), [(DIGITS, DIGITS[:10]), (BLOBS, BLOBS[5:12]), (TINY, TINY[:1] + [[0, 0], [90, 90], [80, 0]])], ids=["digits", "blobs", "empty clusters"])
def test_from_the_same_start_it_is_scikit_learns(x, start):
    weight = weights(len(x))
    theirs = KMeans(len(start), init=start, n_init=1, algorithm="lloyd").fit(x, sample_weight=weight)
    with jax.enable_x64(True):
        centres, info = jax.jit(lambda *a: lloyd(*a, 1e-4, 300))(jnp.asarray(x), jnp.asarray(weight), jnp.asarray(start))
        assert info.converged and theirs.n_iter_ - int(info.iterations) in (0, 1)  # they count the pass that finds nothing to do
        np.testing.assert_allclose(centres, theirs.cluster_centers_, atol=1e-10)
        np.testing.assert_allclose(info.inertia, theirs.inertia_, rtol=1e-10)


@pytest.mark.parametrize(("x", "k"), [(DIGITS, 10), (BLOBS, 7)], ids=["digits", "blobs"])
def test_from_its_own_start_it_is_as_good(x, k):
    theirs = KMeans(k, n_init=10, random_state=0).fit(x)
    estimator, rows = kmeans(k), batch(x=x.astype(np.float32))
    centres, info = jax.jit(estimator.fit)(jax.random.key(0), rows, hyperparameters(estimator.hp))
    assert info.inertia <= 1.01 * theirs.inertia_
    far = estimator.apply["transform"](centres, rows.x)
    assert np.array_equal(far.argmin(1), estimator.apply["cluster"](centres, rows.x))
    assert float(jnp.square(far.min(1)).sum()) == pytest.approx(float(info.inertia), rel=1e-4)


@pytest.mark.slow
def test_equal_rows_and_dead_rows_are_no_trouble():
    estimator = kmeans(3, restarts=2)
    hp = hyperparameters(estimator.hp)
    centres, info = estimator.fit(jax.random.key(0), batch(x=np.ones((8, 2), np.float32)), hp)
    assert np.isfinite(centres).all() and float(info.inertia) == 0
    rows = batch(x=np.array([[0.0], [1.0], [2.0], [99.0]], np.float32), weight=[1, 1, 1, 0])
    centres, _ = estimator.fit(jax.random.key(0), rows, hp)
    assert sorted(np.ravel(centres).tolist()) == pytest.approx([0, 1, 2])


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match="needs as many rows as `clusters`, 3; got 1"):
        kmeans(3).check(batch(x=[[1.0], [2.0]], weight=[1, 0]))
    with pytest.raises(ValueError, match=r"`kmeans` takes x of floats \[n, d\]; got int32 of shape \(2, 1\)"):
        kmeans(1).check(batch(x=[[1], [2]]))


@pytest.mark.parametrize(("k", "medoids", "loss"), [(2, [0, 63], 64.29932887), (3, [0, 39, 52], 48.59848602), (5, [0, 27, 47, 52, 61], 38.76977868)])
def test_medoids_are_those_of_pam(k, medoids, loss):
    """What `kmedoids.pam` and `kmedoids.fasterpam` 0.5.5 give for every second iris, from their greedy start."""
    x, estimator = load_iris().data[::2], k_medoids(k)
    with jax.enable_x64(True):
        found, info = jax.jit(estimator.fit)(None, batch(x=x), {})
        np.testing.assert_array_equal(np.sort(found, 0), np.sort(x[medoids], 0))
        assert info.converged and float(info.inertia) == pytest.approx(loss)
