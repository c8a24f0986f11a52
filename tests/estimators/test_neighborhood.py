"""Clusters of any number, and centres learned by batches, against scikit-learn's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import DBSCAN, MeanShift, MiniBatchKMeans
from sklearn.datasets import load_iris, load_wine, make_blobs, make_moons

from arsenal.estimators import dbscan, mean_shift, mini_batch_kmeans
from arsenal.estimators.cluster import Centres
from arsenal.records import batch, hyperparameters

IRIS = load_iris().data
WINE = load_wine().data
WINE = (WINE - WINE.mean(0)) / WINE.std(0)
MOONS = make_moons(400, noise=0.08, random_state=0)[0]
BLOBS = make_blobs(300, 3, centers=5, random_state=3)[0]


def fit(estimator, x, weight):
    """What was learned, how, and the clusters of the rows."""
    rows = batch(x=jnp.asarray(x), weight=jnp.asarray(weight, float))
    estimator.check(rows)
    params, info = jax.jit(estimator.fit)(jax.random.key(0), rows, hyperparameters(estimator.hp))
    return params, info, np.asarray(jax.jit(estimator.apply["cluster"])(params, rows.x))


@pytest.mark.parametrize(("x", "radius", "least"), [(MOONS, 0.15, 5), (IRIS, 0.5, 5), (WINE, 2.4, 4), (BLOBS, 1.0, 8)], ids=["moons", "iris", "wine", "blobs"])
def test_joined_cores_are_scikit_learns(x, radius, least):
    weight = np.random.default_rng(0).integers(0, 3, len(x))
    there = weight > 0
    theirs = DBSCAN(eps=radius, min_samples=least).fit(x[there], sample_weight=weight[there])
    with jax.enable_x64(True):
        cores, info, label = fit(dbscan(radius, least), x, weight)
    assert int(info.clusters) == theirs.labels_.max() + 1 > 0
    np.testing.assert_array_equal(np.flatnonzero(np.asarray(cores.label)[there] >= 0), theirs.core_sample_indices_)
    core = np.isin(np.arange(there.sum()), theirs.core_sample_indices_)
    np.testing.assert_array_equal(label[there][core], theirs.labels_[core])
    np.testing.assert_array_equal(label[there] < 0, theirs.labels_ < 0)
    assert (label[there] != theirs.labels_).mean() < 0.03  # those between two clusters
    assert float(info.none) == pytest.approx(weight[there] @ (theirs.labels_ < 0) / weight.sum())


@pytest.mark.parametrize(("x", "bandwidth"), [(BLOBS, 3.0), (IRIS, 1.0), (WINE, 4.0)], ids=["blobs", "iris", "wine"])
def test_places_of_most_rows_are_scikit_learns(x, bandwidth):
    weight = np.random.default_rng(0).integers(0, 3, len(x))
    theirs = MeanShift(bandwidth=bandwidth).fit(x.repeat(weight, 0))
    with jax.enable_x64(True):
        peaks, info, label = fit(mean_shift(bandwidth), x, weight)
    count = int(info.clusters)
    assert bool(info.converged) and count == len(theirs.cluster_centers_) > 1
    np.testing.assert_allclose(peaks.centres[:count], theirs.cluster_centers_, atol=1e-8)
    np.testing.assert_array_equal(label, theirs.predict(x))
    assert np.isinf(peaks.centres[count:]).all()


def test_a_step_of_centres_is_scikit_learns():
    learner, begin = mini_batch_kmeans(5), BLOBS[[0, 50, 100, 150, 200]]
    weight = np.random.default_rng(0).integers(0, 3, len(BLOBS)).astype(float)
    theirs = MiniBatchKMeans(5, init=begin, n_init=1, reassignment_ratio=0)
    with jax.enable_x64(True):
        state = Centres(jnp.asarray(begin), jnp.zeros(5))
        for start in range(0, 300, 60):
            part = slice(start, start + 60)
            theirs.partial_fit(BLOBS[part], sample_weight=weight[part])
            rows = batch(x=jnp.asarray(BLOBS[part]), weight=weight[part])
            state, means = jax.jit(learner.step)(jax.random.key(0), state, rows, {})
        np.testing.assert_allclose(state.centres, theirs.cluster_centers_, atol=1e-10)
        assert float(means["inertia"].total) > 0


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match="`dbscan` takes numbers only; got nan"):
        dbscan().check(batch(x=[[float("nan")]]))
    with pytest.raises(ValueError, match="`mean_shift` needs at least 1 rows; got 0"):
        mean_shift(1.0).check(batch(x=[[1.0]], weight=[0]))
    _, info, label = fit(dbscan(0.1, 3.0), np.eye(3, dtype=np.float32), np.ones(3))
    assert label.tolist() == [-1] * 3 and float(info.none) == 1
