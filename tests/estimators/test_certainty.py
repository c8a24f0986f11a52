"""Standard errors and intervals are those that are certified, and hold what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import datasets, linear_model

from arsenal import estimators as ours
from arsenal.estimators.least_squares import student_quantile
from arsenal.records import batch, hyperparameters

# Longley, JASA 62 (1967), and what NIST's Statistical Reference Datasets certify of it: slopes, then the intercept.
LONGLEY = np.array([
    [60323, 83, 234289, 2356, 1590, 107608, 1947], [61122, 88.5, 259426, 2325, 1456, 108632, 1948],
    [60171, 88.2, 258054, 3682, 1616, 109773, 1949], [61187, 89.5, 284599, 3351, 1650, 110929, 1950],
    [63221, 96.2, 328975, 2099, 3099, 112075, 1951], [63639, 98.1, 346999, 1932, 3594, 113270, 1952],
    [64989, 99, 365385, 1870, 3547, 115094, 1953], [63761, 100, 363112, 3578, 3350, 116219, 1954],
    [66019, 101.2, 397469, 2904, 3048, 117388, 1955], [67857, 104.6, 419180, 2822, 2857, 118734, 1956],
    [68169, 108.4, 442769, 2936, 2798, 120445, 1957], [66513, 110.8, 444546, 4681, 2637, 121950, 1958],
    [68655, 112.6, 482704, 3813, 2552, 123366, 1959], [69564, 114.2, 502601, 3931, 2514, 125368, 1960],
    [69331, 115.7, 518173, 4806, 2572, 127852, 1961], [70551, 116.9, 554894, 4007, 2827, 130081, 1962],
])  # fmt: skip
SLOPES = [15.0618722713733, -0.0358191792925910, -2.02022980381683, -1.03322686717359, -0.0511041056535807, 1829.15146461355]
ERRORS = [84.9149257747669, 0.0334910077722432, 0.488399681651699, 0.214274163161675, 0.226073200069370, 455.478499142212]
INTERCEPT = -3482258.63459582, 890420.383607373
DEVIATION = 304.854073561965


def fit(estimator, x, y, weight=None):
    """Parameters in float64."""
    rows = batch(x=jnp.asarray(x), y=jnp.asarray(y, float), weight=weight)
    estimator.check(rows)
    return jax.jit(estimator.fit)(jax.random.key(0), rows, hyperparameters(estimator.hp))[0]


def test_longley_is_as_certified():
    with jax.enable_x64(True):
        found = fit(ours.least_squares(), LONGLEY[:, 1:], LONGLEY[:, 0])
    np.testing.assert_allclose(found.slope, SLOPES, rtol=1e-7)
    np.testing.assert_allclose(found.slope_error, ERRORS, rtol=1e-7)
    np.testing.assert_allclose((found.intercept, found.intercept_error), INTERCEPT, rtol=1e-7)
    np.testing.assert_allclose(found.deviation, DEVIATION, rtol=1e-7)


def test_intervals_hold_new_numbers_as_often_as_they_say():
    """Of 4,000 sets of 8 rows, a new y each; and a weight counts rows."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(4000, 9, 2)), draw.normal(size=(4000, 9))
    made = ours.least_squares(0.8)

    def one(x, y):
        fitted, _ = made.fit(None, batch(x=x[:8], y=y[:8]), hyperparameters(made.hp))
        low, high = made.apply["interval"](fitted, x[8:])[0]
        return (low < y[8]) & (y[8] < high)

    with jax.enable_x64(True):
        share = jax.jit(jax.vmap(one))(x, y).mean()
        assert abs(share - 0.8) < 0.02
        weight = np.array([2.0, 1, 0, 3, 1, 1, 1, 1, 1])
        heavy = fit(made, x[0], y[0], weight)
        repeated = fit(made, x[0].repeat(weight.astype(int), 0), y[0].repeat(weight.astype(int)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), heavy._replace(whiten=0), repeated._replace(whiten=0))


@pytest.mark.parametrize("level", [0.05, 0.5, 0.95, 0.9999])
@pytest.mark.parametrize("freedom", [1.0, 2.0, 9.5, 1e4])
def test_quantiles_of_students_t(level, freedom):
    with jax.enable_x64(True):
        got = student_quantile(jnp.float64(level), jnp.float64(freedom))
    np.testing.assert_allclose(got, stats.t.ppf((1 + level) / 2, freedom), rtol=1e-9)
    short = student_quantile(jnp.float32(level), jnp.float32(freedom))
    np.testing.assert_allclose(short, got, rtol=2e-3)


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match=r"`least_squares` needs more rows than slopes and intercept, 3, to tell errors; got 3\."):
        ours.least_squares().check(batch(x=np.eye(3, 2), y=np.ones(3)))


@pytest.mark.parametrize("peer", ["BayesianRidge", "ARDRegression"])
def test_deviations_are_scikit_learns(peer):
    x, y = datasets.load_diabetes(return_X_y=True)
    with jax.enable_x64(True):
        made = ours.bayesian_ridge() if peer == "BayesianRidge" else ours.ard()
        fitted = fit(made, x, y)
        got = [made.apply[word](fitted, jnp.asarray(x)) for word in ("predict", "predict_deviation")]
    other = getattr(linear_model, peer)().fit(x, y)
    for mine, wanted in zip(got, other.predict(x, return_std=True), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-8)


@pytest.mark.parametrize("quantile", [0.1, 0.5])
def test_quantiles_of_a_target_are_scikit_learns(quantile):
    x, y = datasets.load_diabetes(return_X_y=True)
    weight = np.random.default_rng(0).integers(0, 3, len(x))
    made = ours.quantile_regression(quantile, 0.01)
    rows = batch(x=x * 20, y=y.astype(float), weight=weight)
    fitted, _ = made.fit(np.array([0, 7], np.uint32), jax.tree.map(np.asarray, rows), made.hp)
    other = linear_model.QuantileRegressor(quantile=quantile, alpha=0.01).fit((x * 20).repeat(weight, 0), y.repeat(weight))
    np.testing.assert_allclose(made.apply["predict"](fitted, x * 20), other.predict(x * 20), rtol=1e-3)
    below = (y < np.asarray(made.apply["predict"](fitted, x * 20))) @ weight / weight.sum()
    assert abs(below - quantile) < 0.03
