"""Gaussian processes and support vector machines beside scikit-learn's, with weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets, svm
from sklearn.gaussian_process import GaussianProcessRegressor, kernels
from sklearn.preprocessing import StandardScaler

from arsenal import estimators as ours
from arsenal.records import batch, hyperparameters

KEY = np.array([0, 7], np.uint32)


def load(name, every=1):
    """x, standardised, y, and weights 0 to 2, of every so manieth row."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    x, y = StandardScaler().fit_transform(x)[::every], y[::every]
    return x, y, np.random.default_rng(0).integers(0, 3, len(x))


def fit(estimator, x, y, weight):
    """Parameters in float64, of one that fits on the host there; dead rows are NaN for whoever reads them."""
    x = np.where(weight[:, None] > 0, x, 0)
    rows = batch(x=jnp.asarray(x), y=jnp.asarray(y), weight=jnp.asarray(weight, float))
    estimator.check(rows)
    if estimator.exempt:
        return estimator.fit(KEY, jax.tree.map(np.asarray, rows), estimator.hp)
    return jax.jit(estimator.fit)(jax.random.key(0), rows, hyperparameters(estimator.hp))


PROCESSES = {
    "rbf": (lambda **more: ours.gaussian_process(3.0, 1.0, 0.5, **more), kernels.RBF(3.0)),
    "matern": (lambda **more: ours.gaussian_process(3.0, 1.0, 0.5, "matern", 2.5, **more), kernels.Matern(3.0, nu=2.5)),
    "rough": (lambda **more: ours.gaussian_process(3.0, 1.0, 0.5, "matern", 0.5, **more), kernels.Matern(3.0, nu=0.5)),
}  # fmt: skip


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("name", PROCESSES)
def test_gaussian_processes_are_scikit_learns(name, optimize):
    """Of rows that are there once; a likelihood found is no worse."""
    make, kernel = PROCESSES[name]
    x, y, _ = load("diabetes", 5)
    y = y.astype(float)
    with jax.enable_x64(True):
        estimator = make(optimize=optimize)
        params, info = fit(estimator, x, y, np.ones(len(x), int))
        got = [np.asarray(estimator.apply[word](params, jnp.asarray(x + 0.1))) for word in ("predict", "predict_deviation")]
    kernel = kernels.ConstantKernel(1.0) * kernel + kernels.WhiteKernel(0.5)
    peer = GaussianProcessRegressor(kernel, optimizer="fmin_l_bfgs_b" if optimize else None, normalize_y=True).fit(x, y)
    # Theirs is that of y over its deviation, ours of y.
    likelihood = float(info.likelihood) + len(y) * np.log(y.std())
    assert bool(info.converged)
    assert likelihood >= peer.log_marginal_likelihood_value_ - 1e-4
    for mine, other in zip(got, peer.predict(x + 0.1, return_std=True), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-2 if optimize else 1e-6)


def test_a_search_that_begins_far_away_does_not_leap_to_the_bounds():
    """Numbers of a variance of 6,000 where the start says 1."""
    x, y, _ = load("diabetes", 8)
    with jax.enable_x64(True):
        best, poor = (fit(ours.gaussian_process(*at, normalize_y=False), x, y.astype(float), np.ones(len(x), int))[1] for at in ((3.0, 3e4, 3e3), ()))
    assert bool(poor.converged) and float(poor.likelihood) > float(best.likelihood) - 1


@pytest.mark.slow
def test_a_process_sees_a_row_as_often_as_it_weighs():
    """Likelihood included: the very density of the rows repeated."""
    x, y, weight = load("diabetes", 5)
    with jax.enable_x64(True):
        estimator = ours.gaussian_process(3.0, 1.0, 0.5, tolerance=1e-8)
        params, info = fit(estimator, x, y.astype(float), weight)
        apart, other = fit(estimator, x.repeat(weight, 0), y.repeat(weight).astype(float), np.ones(weight.sum(), int))
        got, wanted = ([f(p, jnp.asarray(x)) for f in estimator.apply.values()] for p in (params, apart))
    np.testing.assert_allclose(info.likelihood, other.likelihood, rtol=1e-9)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


MACHINES = {
    "two": (lambda: load("breast_cancer"), lambda: ours.svc(0.7, tolerance=1e-6), lambda: svm.SVC(C=0.7, tol=1e-6)),
    "three": (lambda: load("wine"), lambda: ours.svc(2.0, "polynomial", coef0=1.0, classes=3, tolerance=1e-6), lambda: svm.SVC(C=2.0, kernel="poly", coef0=1.0, tol=1e-6)),
    "ten": (lambda: load("digits", 3), lambda: ours.svc(gamma=0.01, classes=10, tolerance=1e-6), lambda: svm.SVC(gamma=0.01, tol=1e-6)),
    "straight": (lambda: load("iris"), lambda: ours.svc(1.0, "linear", classes=3, tolerance=1e-6), lambda: svm.SVC(C=1.0, kernel="linear", tol=1e-6)),
    "numbers": (lambda: load("diabetes"), lambda: ours.svr(30.0, 5.0, tolerance=1e-6), lambda: svm.SVR(C=30.0, epsilon=5.0, tol=1e-6)),
    "share": (lambda: load("wine"), lambda: ours.nu_svc(0.3, classes=3, tolerance=1e-6), lambda: svm.NuSVC(nu=0.3, tol=1e-6)),
    "share_of_numbers": (lambda: load("diabetes"), lambda: ours.nu_svr(30.0, 0.4, tolerance=1e-6), lambda: svm.NuSVR(C=30.0, nu=0.4, tol=1e-6)),
    "one": (lambda: load("wine"), lambda: ours.one_class_svm(0.2, tolerance=1e-6), lambda: svm.OneClassSVM(nu=0.2, tol=1e-6)),
    "linear_2": (lambda: load("breast_cancer"), lambda: ours.linear_svc(0.7, tolerance=1e-8), lambda: svm.LinearSVC(C=0.7, tol=1e-9, max_iter=1_000_000)),
    "linear_numbers": (
        lambda: load("diabetes"), lambda: ours.linear_svr(0.3, 20.0, 2.0, 1e-8),
        lambda: svm.LinearSVR(C=0.3, epsilon=20.0, intercept_scaling=2.0, loss="squared_epsilon_insensitive", dual=False, tol=1e-9),
    ),
    "linear_3": (lambda: load("wine"), lambda: ours.linear_svc(0.3, 2.0, 1e-8, classes=3), lambda: svm.LinearSVC(C=0.3, intercept_scaling=2.0, tol=1e-9, max_iter=1_000_000)),
}  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
def test_machines_are_scikit_learns(name):
    data, make, peer = MACHINES[name]
    x, y, weight = data()
    other = peer().fit(x.repeat(weight, 0), y.repeat(weight))
    with jax.enable_x64(True):
        estimator = make()
        params, info = fit(estimator, x, y, weight)
        answers = {word: np.asarray(f(params, jnp.asarray(x))) for word, f in estimator.apply.items()}
    assert bool(info.converged)
    for word, got in answers.items():
        if word == "outlier":
            clear = np.abs(answers["decision_function"]) > 1e-4  # rows at the border lie on it up to rounding
            np.testing.assert_array_equal(got[clear], other.predict(x)[clear] < 0)
        elif word == "predict" and got.dtype == np.int32:
            np.testing.assert_array_equal(got, other.predict(x))
        else:
            wanted = getattr(other, word)(x)
            np.testing.assert_allclose(got, wanted, atol=2e-4 * np.abs(wanted).max())


def test_unknown_kernels_are_refused():
    with pytest.raises(ValueError, match="`kernel` of `svc` must be one of linear, polynomial, rbf; got 'cubic'"):
        ours.svc(kernel="cubic")


def test_a_share_that_no_margin_has_is_refused():
    with pytest.raises(ValueError, match=r"`nu` of `nu_svc` must be at most 0\.5 for classes of these sizes; got 0\.6\."):
        ours.nu_svc(0.6).check(batch(x=np.eye(4), y=np.array([0, 0, 0, 1])))
