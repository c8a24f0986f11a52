"""Every learner beside scikit-learn's, on its bundled sets, with weights where it takes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets, discriminant_analysis, kernel_ridge, linear_model, naive_bayes, neighbors
from sklearn.preprocessing import StandardScaler

from arsenal import estimators as ours
from arsenal.records import batch, hyperparameters


def load(name, target=None):
    """x, standardised, and y of a bundled set, and weights 0 to 2."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return StandardScaler().fit_transform(x), (y if target is None else target(y)), np.random.default_rng(0).integers(0, 3, len(x))


def counts(name):
    """Whole numbers of at least 0, and labels."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return np.round(x), y, np.random.default_rng(0).integers(0, 3, len(x))


CLASSES = {
    "logistic_2": (lambda: load("breast_cancer"), lambda: ours.logistic(0.5, tolerance=1e-7), lambda: linear_model.LogisticRegression(C=2.0, tol=1e-8, solver="newton-cholesky")),
    "logistic_3": (lambda: load("wine"), lambda: ours.logistic(0.5, 3, 1e-8), lambda: linear_model.LogisticRegression(C=2.0, tol=1e-8, solver="newton-cholesky")),
    "lda": (lambda: load("wine"), lambda: ours.lda(0.1, 3), lambda: discriminant_analysis.LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1)),
    "qda": (lambda: load("iris"), lambda: ours.qda(0.1, 3), lambda: discriminant_analysis.QuadraticDiscriminantAnalysis(reg_param=0.1)),
    "gaussian_bayes": (lambda: load("wine"), lambda: ours.gaussian_bayes(1e-3, 3), lambda: naive_bayes.GaussianNB(var_smoothing=1e-3)),
    "multinomial_bayes": (lambda: counts("digits"), lambda: ours.multinomial_bayes(0.5, 10), lambda: naive_bayes.MultinomialNB(alpha=0.5)),
    "complement_bayes": (lambda: counts("digits"), lambda: ours.complement_bayes(0.5, 10), lambda: naive_bayes.ComplementNB(alpha=0.5)),
    "bernoulli_bayes": (lambda: counts("digits"), lambda: ours.bernoulli_bayes(0.5, 7.5, 10), lambda: naive_bayes.BernoulliNB(alpha=0.5, binarize=7.5)),
    "categorical_bayes": (lambda: counts("digits"), lambda: ours.categorical_bayes(0.5, 17, 10), lambda: naive_bayes.CategoricalNB(alpha=0.5)),
    "k_neighbors": (lambda: load("wine"), lambda: ours.k_neighbors(5, classes=3), lambda: neighbors.KNeighborsClassifier(5)),
    "k_neighbors_by_distance": (lambda: load("digits"), lambda: ours.k_neighbors(7, "distance", 10), lambda: neighbors.KNeighborsClassifier(7, weights="distance")),
    "radius_neighbors": (lambda: load("wine"), lambda: ours.radius_neighbors(3.0, "distance", 3), lambda: neighbors.RadiusNeighborsClassifier(3.0, weights="distance")),
    "nearest_centroid": (lambda: load("wine"), lambda: ours.nearest_centroid(0.0, 3), neighbors.NearestCentroid),
    "nearest_centroid_shrunk": (lambda: load("wine"), lambda: ours.nearest_centroid(1.5, 3), lambda: neighbors.NearestCentroid(shrink_threshold=1.5)),
}  # fmt: skip
NUMBERS = {
    "ridge": (lambda: load("diabetes"), lambda: ours.ridge(3.0), lambda: linear_model.Ridge(3.0), 1e-6),
    "lasso": (lambda: load("diabetes"), lambda: ours.lasso(0.9, 1e-9), lambda: linear_model.Lasso(0.9, tol=1e-9), 1e-5),
    "elastic_net": (lambda: load("diabetes"), lambda: ours.elastic_net(0.3, 0.7, 1e-9), lambda: linear_model.ElasticNet(alpha=0.3, l1_ratio=0.7, tol=1e-9), 1e-5),
    "poisson": (lambda: load("diabetes"), lambda: ours.glm("poisson", 0.1, tolerance=1e-7), lambda: linear_model.PoissonRegressor(alpha=0.1, tol=1e-9, solver="newton-cholesky"), 1e-6),
    "gamma": (lambda: load("diabetes"), lambda: ours.glm("gamma", 0.1, tolerance=1e-7), lambda: linear_model.GammaRegressor(alpha=0.1, tol=1e-9, solver="newton-cholesky"), 1e-6),
    "tweedie": (lambda: load("diabetes", lambda y: np.where(y > 100, y, 0)), lambda: ours.glm("tweedie", 0.1, 1.3, tolerance=1e-7), lambda: linear_model.TweedieRegressor(power=1.3, alpha=0.1, tol=1e-9, solver="newton-cholesky"), 1e-6),
    "huber": (lambda: load("diabetes"), lambda: ours.huber(1.2, 0.01, 1e-9), lambda: linear_model.HuberRegressor(epsilon=1.2, alpha=0.01, tol=1e-9, max_iter=10_000), 1e-3),
    "least_squares": (lambda: load("diabetes"), ours.least_squares, linear_model.LinearRegression, 1e-8),
    "bayesian_ridge": (lambda: load("diabetes"), lambda: ours.bayesian_ridge(tolerance=1e-9), lambda: linear_model.BayesianRidge(tol=1e-9), 1e-6),
    "ard": (lambda: load("diabetes"), lambda: ours.ard(tolerance=1e-9, threshold_lambda=0.1), lambda: linear_model.ARDRegression(tol=1e-9, threshold_lambda=0.1), 1e-5),
    "radius_neighbors": (lambda: load("diabetes"), lambda: ours.radius_neighbors(4.0), lambda: neighbors.RadiusNeighborsRegressor(4.0), 1e-6),
    "kernel_ridge": (lambda: load("diabetes"), lambda: ours.kernel_ridge(0.5, gamma=0.02), lambda: kernel_ridge.KernelRidge(alpha=0.5, kernel="rbf", gamma=0.02), 1e-6),
    "kernel_ridge_polynomial": (lambda: load("diabetes"), lambda: ours.kernel_ridge(2.0, "polynomial", degree=2), lambda: kernel_ridge.KernelRidge(alpha=2.0, kernel="poly", degree=2), 1e-6),
    "k_neighbors": (lambda: load("diabetes"), lambda: ours.k_neighbors(4), lambda: neighbors.KNeighborsRegressor(4), 1e-6),
    "k_neighbors_by_distance": (lambda: load("diabetes"), lambda: ours.k_neighbors(4, "distance"), lambda: neighbors.KNeighborsRegressor(4, weights="distance"), 1e-6),
}  # fmt: skip


def fit(estimator, x, y, weight):
    """The parameters of a fit in float64."""
    rows = batch(x=jnp.asarray(x), y=jnp.asarray(y), weight=jnp.asarray(weight, float), row=np.arange(len(x)))
    estimator.check(rows)
    params, info = jax.jit(estimator.fit)(jax.random.key(0), rows, hyperparameters(estimator.hp))
    assert bool(info.converged)
    return params


@pytest.mark.parametrize("name", CLASSES)
def test_classes_are_scikit_learns(name):
    data, make, peer = CLASSES[name]
    x, y, weight = data()
    with jax.enable_x64(True):
        estimator = make()
        params = fit(estimator, x, y, weight)
        got = estimator.apply["predict_proba"](params, jnp.asarray(x))
        labels = estimator.apply["predict"](params, jnp.asarray(x))
    # A weight is so many rows: scikit-learn's own weights do not reach all that it computes.
    there = weight > 0
    other = peer().fit(x.repeat(weight, 0), y.repeat(weight))
    np.testing.assert_allclose(got[there], other.predict_proba(x[there]), atol=1e-6)
    np.testing.assert_array_equal(labels[there], other.predict(x[there]))


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_scikit_learns(name):
    data, make, peer, rtol = NUMBERS[name]
    x, y, weight = data()
    with jax.enable_x64(True):
        estimator = make()
        got = estimator.apply["predict"](fit(estimator, x, y, weight), jnp.asarray(x))
    np.testing.assert_allclose(got, peer().fit(x.repeat(weight, 0), y.repeat(weight)).predict(x), rtol=rtol)
