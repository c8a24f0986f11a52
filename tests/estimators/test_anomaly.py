"""Anomalies against scikit-learn's, with weights by repetition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import covariance, datasets, ensemble, neighbors

from arsenal import estimators as ours
from arsenal.records import batch, hyperparameters

WINE = datasets.load_wine().data
WINE = (WINE - WINE.mean(0)) / WINE.std(0)
NEW = np.random.default_rng(7).normal(size=(40, WINE.shape[1])) * 2


def fit(estimator, x, weight):
    """The answers for any rows of a fit; on the host of NumPy's arrays."""
    rows = batch(x=jnp.asarray(x), weight=jnp.asarray(weight, float))
    estimator.check(rows)
    if "host" in estimator.exempt:
        rows = jax.tree.map(np.asarray, rows)
        params, _ = estimator.fit(np.array([0, 5], np.uint32), rows, estimator.hp)
        shapes = estimator.shapes(rows, estimator.hp)[0]
        params = jax.tree.map(lambda s, leaf: jnp.asarray(leaf, s.dtype).reshape(s.shape), shapes, params)
    else:
        params, _ = jax.jit(estimator.fit)(jax.random.key(0), rows, hyperparameters(estimator.hp))
    return {name: lambda x, f=f: np.asarray(jax.jit(f)(params, jnp.asarray(x))) for name, f in estimator.apply.items()}


WEIGHT = np.random.default_rng(1).integers(0, 3, len(WINE))
MANY = WINE.repeat(WEIGHT, 0)
PEERS = {
    "robust_covariance": (lambda: ours.robust_covariance(0.15), lambda: covariance.EllipticEnvelope(contamination=0.15, random_state=5), 1e-8),
    "isolation_forest": (lambda: ours.isolation_forest(50, 64), lambda: ensemble.IsolationForest(n_estimators=50, max_samples=64, random_state=5), 1e-6),
    "isolation_forest contaminated": (lambda: ours.isolation_forest(30, contamination=0.1), lambda: ensemble.IsolationForest(n_estimators=30, contamination=0.1, random_state=5), 1e-6),
    "local_outlier": (lambda: ours.local_outlier(15), lambda: neighbors.LocalOutlierFactor(15, novelty=True), 1e-8),
    "local_outlier of all": (lambda: ours.local_outlier(len(MANY) - 1), lambda: neighbors.LocalOutlierFactor(len(MANY) - 1, novelty=True), 1e-8),
}  # fmt: skip


@pytest.mark.parametrize("name", PEERS)
def test_it_is_scikit_learns(name):
    make, peer, tolerance = PEERS[name]
    theirs = peer().fit(MANY)
    with jax.enable_x64(True):
        answers = fit(make(), WINE, WEIGHT)
        for x in (WINE, NEW):
            wanted = theirs.score_samples(x)
            np.testing.assert_allclose(answers["score_samples"](x), wanted, rtol=1e-8, atol=tolerance * np.abs(wanted).max())
            off = theirs.decision_function(x)
            np.testing.assert_allclose(answers["decision_function"](x), off, rtol=1e-8, atol=tolerance * np.abs(wanted).max())
            plain = np.abs(off) > 1e-6
            np.testing.assert_array_equal(answers["predict"](x)[plain], (theirs.predict(x) == -1)[plain])
        assert answers["predict"](NEW).any() or name == "local_outlier of all"


def test_distances_are_scikit_learns():
    theirs = covariance.EmpiricalCovariance().fit(MANY)
    with jax.enable_x64(True):
        answers = fit(ours.mahalanobis(0.1), WINE, WEIGHT)
        np.testing.assert_allclose(answers["score_samples"](NEW), -theirs.mahalanobis(NEW), rtol=1e-9)
        share = WEIGHT @ answers["predict"](WINE) / WEIGHT.sum()
        assert 0.1 - 2 / WEIGHT.sum() <= share <= 0.1
        flat = fit(ours.mahalanobis(), np.column_stack([WINE[:, 0], WINE[:, 0], np.ones(len(WINE))]), WEIGHT)
        assert np.isfinite(flat["score_samples"](NEW[:, :3])).all()


def test_a_training_border_is_scikit_learns():
    theirs = neighbors.LocalOutlierFactor(15, novelty=True, contamination=0.1).fit(MANY)
    with jax.enable_x64(True):
        answers = fit(ours.local_outlier(15, 0.1), WINE, WEIGHT)
        border = answers["score_samples"](NEW[:1]) - answers["decision_function"](NEW[:1])
    below, above = np.sort(theirs.negative_outlier_factor_)[[int(0.1 * len(MANY)) - 1, int(0.1 * len(MANY)) + 1]]
    assert below <= border[0] <= above


@pytest.mark.parametrize("bandwidth", [0.2, 1.5])
def test_densities_are_scikit_learns(bandwidth):
    # One leaf: between the nodes of its trees scikit-learn's sum loses what is far below their bounds.
    theirs = neighbors.KernelDensity(bandwidth=bandwidth, leaf_size=1000).fit(MANY)
    with jax.enable_x64(True):
        answers = fit(ours.kernel_density(bandwidth), WINE, WEIGHT)
        np.testing.assert_allclose(answers["score_samples"](NEW), theirs.score_samples(NEW), atol=1e-6)


def test_gaps_go_where_scikit_learn_sends_them():
    x = np.where(np.random.default_rng(2).random(WINE.shape) < 0.1, np.nan, WINE)
    theirs = ensemble.IsolationForest(n_estimators=20, random_state=5).fit(x)
    answers = fit(ours.isolation_forest(20), x.astype(np.float32), np.ones(len(x)))
    np.testing.assert_allclose(answers["score_samples"](x.astype(np.float32)), theirs.score_samples(x), atol=1e-6)


def test_what_does_not_fit_is_told():
    halves = batch(x=[[1.0], [2.0], [4.0]], weight=[1, 0.5, 1])
    for name in ("robust_covariance", "isolation_forest"):
        with pytest.raises(ValueError, match=f"`{name}` takes weights that are whole numbers; got 0.5"):
            getattr(ours, name)().check(halves)
    with pytest.raises(ValueError, match="`local_outlier` needs at least 2 rows; got 1"):
        ours.local_outlier().check(batch(x=[[1.0]]))
    with pytest.raises(ValueError, match="`kernel_density` takes numbers only; got inf"):
        ours.kernel_density().check(batch(x=[[float("inf")]]))
