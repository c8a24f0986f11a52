"""Mixtures against scikit-learn's, with weights by repetition, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from arsenal.estimators import bayesian_mixture, gaussian_mixture
from arsenal.estimators.dirichlet import believe, prior_of, settle
from arsenal.estimators.mixture import Densities, climb
from arsenal.records import batch, hyperparameters

IRIS = datasets.load_iris().data
WINE = datasets.load_wine().data
WINE = (WINE - WINE.mean(0)) / WINE.std(0)
KINDS = ("full", "tied", "diag", "spherical")


def weights(x):
    return np.random.default_rng(0).integers(0, 3, len(x))


def fit(estimator, x, weight):
    rows = batch(x=jnp.asarray(x), weight=jnp.asarray(weight, float))
    estimator.check(rows)
    return jax.jit(estimator.fit)(jax.random.key(0), rows, hyperparameters(estimator.hp))


@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("x", [IRIS, WINE], ids=["iris", "wine"])
def test_from_the_same_start_it_is_scikit_learns(x, kind):
    weight = weights(x)
    many = x.repeat(weight, 0)
    begin = GaussianMixture(3, covariance_type=kind, max_iter=1, random_state=0).fit(many)
    peer = GaussianMixture(3, covariance_type=kind, tol=1e-5, max_iter=500, weights_init=begin.weights_, means_init=begin.means_, precisions_init=begin.precisions_).fit(many)
    with jax.enable_x64(True):
        start = Densities(*map(jnp.asarray, (begin.weights_, begin.means_, begin.precisions_cholesky_)))
        mixture, info = jax.jit(lambda: climb(jnp.asarray(x), jnp.asarray(weight, float), start, kind, 1e-5, 1e-6, 500))()
        answers = {name: np.asarray(f(mixture, jnp.asarray(x))) for name, f in gaussian_mixture(3, kind).apply.items()}
    assert bool(info.converged) and int(info.iterations) == peer.n_iter_
    assert float(info.log_likelihood) == pytest.approx(peer.lower_bound_, abs=1e-8)
    np.testing.assert_allclose(answers["score_samples"], peer.score_samples(x), atol=1e-6)
    np.testing.assert_allclose(answers["cluster_proba"], peer.predict_proba(x), atol=1e-6)
    np.testing.assert_array_equal(answers["cluster"], peer.predict(x))
    np.testing.assert_allclose(mixture.roots, peer.precisions_cholesky_, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_from_its_own_start_it_is_as_good(kind):
    """The best of ten, by the log-likelihood; no step of scikit-learn's goes on from there."""
    weight = weights(IRIS)
    many = IRIS.repeat(weight, 0)
    theirs = GaussianMixture(3, covariance_type=kind, n_init=10, tol=1e-9, max_iter=2000, random_state=0).fit(many)
    with jax.enable_x64(True):
        estimator = gaussian_mixture(3, kind, 10, 1e-9, max_iterations=2000)
        mixture, info = fit(estimator, IRIS, weight)
        likely = np.asarray(estimator.apply["score_samples"](mixture, jnp.asarray(many)))
    assert bool(info.converged)
    assert likely.mean() >= theirs.score(many) - 1e-6
    roots = np.asarray(mixture.roots)
    precisions = roots @ roots.swapaxes(-1, -2) if kind in ("full", "tied") else roots**2
    on = GaussianMixture(3, covariance_type=kind, tol=1e-7, weights_init=mixture.weights, means_init=mixture.means, precisions_init=precisions).fit(many)
    assert on.score(many) == pytest.approx(likely.mean(), abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_beliefs_from_the_same_start_are_scikit_learns(kind):
    weight = weights(IRIS)
    many, label = IRIS.repeat(weight, 0), np.arange(len(IRIS)) % 5

    class Peer(BayesianGaussianMixture):
        def _initialize_parameters(self, X, random_state, xp=None):
            self._initialize(X, np.eye(5)[label.repeat(weight)])

    peer = Peer(n_components=5, covariance_type=kind, tol=1e-4, max_iter=1000, weight_concentration_prior=0.01).fit(many)
    with jax.enable_x64(True):
        estimator = bayesian_mixture(5, kind, concentration=0.01)
        hp, x, w = hyperparameters(estimator.hp), jnp.asarray(IRIS), jnp.asarray(weight, float)

        def fit_all():
            prior = prior_of(x, w, kind, hp)
            begin = believe(x, w, jax.nn.one_hot(label, 5, dtype=x.dtype), prior, kind, 1e-6)
            return settle(x, w, begin, prior, kind, 1e-4, 1e-6, 1000)

        posterior, info = jax.jit(fit_all)()
        answers = {name: np.asarray(f(posterior, x)) for name, f in estimator.apply.items()}
    assert bool(info.converged) and int(info.iterations) == peer.n_iter_
    assert float(info.log_likelihood) == pytest.approx(peer.lower_bound_, abs=1e-5)
    np.testing.assert_allclose(answers["score_samples"], peer.score_samples(IRIS), atol=1e-6)
    np.testing.assert_allclose(answers["cluster_proba"], peer.predict_proba(IRIS), atol=1e-6)
    np.testing.assert_array_equal(answers["cluster"], peer.predict(IRIS))


def test_densities_that_nobody_needs_are_left_alone():
    estimator = bayesian_mixture(6, restarts=5, concentration=1e-3, max_iterations=1000)
    posterior, info = fit(estimator, WINE[:, [0, 6, 9]].astype(np.float32), np.ones(len(WINE)))
    assert bool(info.converged) and (np.asarray(posterior.taken) > 2).sum() in (2, 3, 4)


def test_equal_rows_are_no_trouble_and_what_does_not_fit_is_told():
    mixture, _ = fit(gaussian_mixture(2), np.ones((6, 2), np.float32), np.ones(6))
    assert all(np.isfinite(leaf).all() for leaf in mixture)
    with pytest.raises(ValueError, match="`gaussian_mixture` needs at least 3 rows; got 1"):
        gaussian_mixture(3).check(batch(x=[[1.0], [2.0]], weight=[1, 0]))
    with pytest.raises(ValueError, match=r"`gaussian_mixture` takes x of floats \[n, d\]; got int32"):
        gaussian_mixture().check(batch(x=[[1], [2]]))
    with pytest.raises(ValueError, match="`gaussian_mixture` takes numbers only"):
        gaussian_mixture().check(batch(x=[[1.0], [float("nan")]]))
    with pytest.raises(ValueError, match="`covariance` of `gaussian_mixture` must be one of full, tied, diag, spherical; got 'round'"):
        gaussian_mixture(covariance="round")
