"""Clusters and maps of all rows are scikit-learn's, with weights by repetition; new rows get what those near them have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import cluster, manifold
from sklearn.datasets import load_iris, make_moons

from arsenal import estimators as ours
from arsenal.estimators.by_neighbor import number_clusters
from arsenal.records import batch

IRIS = load_iris().data[::2] + np.random.default_rng(0).normal(0, 1e-3, (75, 4))
MOONS = make_moons(80, noise=0.05, random_state=0)[0]
WEIGHT = np.random.default_rng(1).integers(0, 3, 80)


def fit(estimator, x, weight=None):
    """What was learned, how, and the answer to rows; a fit on the host takes NumPy's arrays."""
    rows = jax.tree.map(np.asarray, batch(x=x, weight=np.ones(len(x)) if weight is None else weight))
    estimator.check(rows)
    hp = jax.tree.map(np.asarray, estimator.hp)
    params, info = estimator.fit(np.array([0, 5], np.uint32), rows, hp)
    shapes = estimator.shapes(rows, hp)[0]
    params = jax.tree.map(lambda s, leaf: jnp.asarray(leaf, s.dtype).reshape(s.shape), shapes, params)
    (answer,) = estimator.apply.values()
    return params, info, lambda x: np.asarray(jax.jit(answer)(params, jnp.asarray(x)))


CLUSTERS = {
    "hdbscan": (ours.hdbscan(5), cluster.HDBSCAN(5, copy=True), MOONS),
    "hdbscan leaf": (ours.hdbscan(8, 3, 0.1, "leaf"), cluster.HDBSCAN(8, 3, 0.1, cluster_selection_method="leaf", copy=True), IRIS),
    "agglomerative": (ours.agglomerative(3), cluster.AgglomerativeClustering(3), IRIS),
    "agglomerative apart": (
        ours.agglomerative(distance=0.8, linkage="single"),
        cluster.AgglomerativeClustering(None, distance_threshold=0.8, linkage="single"), IRIS,
    ),
    "spectral_clustering": (
        ours.spectral_clustering(2, gamma=20.0), cluster.SpectralClustering(2, gamma=20.0, random_state=5), MOONS,
    ),
    "affinity_propagation": (
        ours.affinity_propagation(0.8, -20.0), cluster.AffinityPropagation(damping=0.8, preference=-20.0, random_state=5), IRIS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLUSTERS)
def test_clusters_are_scikit_learns(name):
    estimator, theirs, x = CLUSTERS[name]
    weight = WEIGHT[: len(x)]
    label = number_clusters(theirs.fit_predict(x.repeat(weight, 0)))
    with jax.enable_x64(True):
        members, info, answer = fit(estimator, x, weight)
        first = (np.cumsum(weight) - weight)[weight > 0]
        assert (answer(x[weight > 0]) == label[first]).mean() > (0.98 if name == "affinity_propagation" else 1 - 1e-9)
        assert int(info.clusters) == label.max() + 1 > 1 and bool(info.converged)
        far = answer(np.full((1, x.shape[1]), 1e3))
    assert (far[0] < 0) == name.startswith("hdbscan")
    np.testing.assert_array_equal(np.asarray(members.label)[weight > 0], label[first])


def test_a_new_row_is_in_a_clusters_reach_or_in_none():
    members, info, answer = fit(ours.hdbscan(5), MOONS.astype(np.float32))
    reach = float(members.reach[members.label == 0].max())
    out = MOONS[np.argmax(MOONS[:, 1])].astype(np.float32)
    near, beyond = (out + np.float32([0, share * reach]) for share in (0.9, 1.1))
    assert answer(np.stack([near, beyond])).tolist() == [int(members.label[np.argmax(MOONS[:, 1])]), -1]
    assert 0 <= info.none < 0.1


MAPS = {
    "tsne": (lambda: ours.tsne(perplexity=10.0, max_iterations=260), lambda: manifold.TSNE(perplexity=10, max_iter=260, random_state=5)),
    "mds": (lambda: ours.mds(tolerance=1e-9), lambda: manifold.MDS(init="classical_mds", n_init=1, eps=1e-9)),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", MAPS)
def test_maps_are_scikit_learns_and_new_rows_lie_among_their_neighbours(name):
    make, peer = MAPS[name]
    x, weight = IRIS[:40], WEIGHT[:40]
    theirs = peer()
    wanted = theirs.fit_transform(x.repeat(weight, 0))
    first = (np.cumsum(weight) - weight)[weight > 0]
    with jax.enable_x64(True):
        places, info, answer = fit(make(), x, weight)
        got, new = answer(x[weight > 0]), answer(x[:1] + 1e-9)
    sign = np.sign((got * wanted[first]).sum(0))
    np.testing.assert_allclose(got, wanted[first] * sign, atol=1e-4 * np.abs(wanted).max())
    assert float(info.error) == pytest.approx(theirs.kl_divergence_ if name == "tsne" else theirs.stress_, rel=1e-4)
    there = np.flatnonzero(weight)
    near = there[np.argsort(((x[there] - x[0] - 1e-9) ** 2).sum(1))]
    near, part = near[:5], np.clip(5 - np.cumsum(weight[near[:5]]) + weight[near[:5]], 0, weight[near[:5]])
    share = part / np.sqrt(((x[near] - x[0] - 1e-9) ** 2).sum(1))
    np.testing.assert_allclose(new[0], share @ np.asarray(places.place)[near] / share.sum(), rtol=1e-6)


def test_paths_are_scikit_learns():
    theirs = manifold.Isomap(n_neighbors=12, eigen_solver="dense").fit(IRIS[:40].repeat(WEIGHT[:40], 0))
    with jax.enable_x64(True):
        _, info, answer = fit(ours.isomap(neighbors=12), IRIS[:40], WEIGHT[:40])
        np.testing.assert_allclose(answer(IRIS), theirs.transform(IRIS), atol=1e-8)
    assert 0 < info.error < 0.2


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match="`agglomerative` takes either `clusters` or `distance`; got None and None"):
        ours.agglomerative()
    with pytest.raises(ValueError, match="`perplexity` of `tsne` must be less than the number of rows, 3; got 30"):
        ours.tsne().check(batch(x=np.eye(3)))
    with pytest.raises(ValueError, match="`hdbscan` takes weights that are whole numbers; got 0.5"):
        ours.hdbscan(2).check(batch(x=np.eye(3), weight=[1, 0.5, 1]))
    with pytest.raises(ValueError, match="`mds` takes numbers only; got nan"):
        ours.mds().check(batch(x=np.full((3, 1), np.nan)))
