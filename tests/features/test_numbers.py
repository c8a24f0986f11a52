"""Transforms of numbers with gaps and weights against scikit-learn's and NumPy's, of rows as often as their weights say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaps import repeat
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, rankdata
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MinMaxScaler,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)

from arsenal import features
from arsenal.numerics.weighted import weighted_quantile
from arsenal.records import batch, hyperparameters

rng = np.random.default_rng(5)
N = 60
X = np.stack([rng.normal(3, 2, N), rng.exponential(20, N).round(), np.full(N, 7), rng.normal(size=N) ** 3], 1).astype(np.float32)
WHOLE = X.copy()
X[rng.uniform(size=X.shape) < 0.15] = np.nan
WEIGHT = rng.integers(0, 4, N)
ROWS = batch(x=X, weight=WEIGHT)
TWICE = repeat(X, WEIGHT)
NEW = np.concatenate([X[:20] * 1.1, X[20:40] - 5, np.full((1, 4), np.nan, np.float32)])
KNOWN = [0, 1, 3]
"""Columns that vary."""


quantiles = jax.jit(weighted_quantile)


def fit(transform, rows=ROWS):
    return jax.jit(transform.fit)(jax.random.key(0), rows, hyperparameters(transform.hp))


def check(transform, theirs, new=NEW, twice=TWICE, atol=1e-4, rows=ROWS):
    """The same from both, of rows that training saw and of new ones."""
    state, made = fit(transform, rows)
    theirs.fit(twice)
    for got, x in ((made.x, np.asarray(rows.x)), (transform.apply(state, jnp.asarray(new)), new)):
        np.testing.assert_allclose(got, theirs.transform(x), atol=atol, rtol=1e-4)


def test_quantiles_are_numpys():
    shares = np.array([0, 0.1, 0.25, 0.5, 0.6, 0.99, 1])
    got = jax.jit(weighted_quantile)(ROWS.x, ROWS.weight, shares)
    wanted = np.nanquantile(TWICE, shares, 0, method="averaged_inverted_cdf")
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    np.testing.assert_array_equal(weighted_quantile(ROWS.x, ROWS.weight * 0.125, shares), got)
    assert np.isnan(weighted_quantile(jnp.full((3, 1), jnp.nan), jnp.ones(3), shares)).all()
    assert np.isnan(weighted_quantile(ROWS.x, jnp.zeros(N), shares)).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.one_of(st.integers(-3, 3), st.none()), st.integers(0, 4)), min_size=9, max_size=9), st.integers(1, 40))
def test_quantiles_are_numpys_whatever_ties_gaps_and_weights(rows, parts):
    x = np.array([np.nan if value is None else value for value, _ in rows], np.float32)
    weight, shares = np.array([times for _, times in rows], np.float32), np.resize(np.arange(parts + 1) / parts, 41)
    twice = repeat(x, weight)
    got = quantiles(x, weight, shares)
    if np.isnan(twice).all():
        assert np.isnan(got).all()
        return
    wanted = np.nanquantile(twice, shares, method="averaged_inverted_cdf")
    near = np.stack([np.nanquantile(twice, np.clip(shares + e, 0, 1), method="averaged_inverted_cdf") for e in (-1e-9, 1e-9)])
    # NumPy takes 0.1 * 30 for more than 3, and so one of the two rows between which the share falls.
    assert ((np.abs(got - wanted) < 1e-6) | (np.abs(got - near.mean(0)) < 1e-6)).all()


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent"])
def test_imputing_is_scikit_learns(strategy):
    check(features.impute(strategy), SimpleImputer(strategy=strategy))


def test_a_constant_is_itself():
    check(features.impute("constant", -3.0), SimpleImputer(strategy="constant", fill_value=-3.0))


def test_indicators_stand_where_training_missed_something():
    x = X.copy()
    x[:, 1] = WHOLE[:, 1]
    rows, twice = batch(x=x, weight=WEIGHT), repeat(x, WEIGHT)
    theirs = SimpleImputer(add_indicator=True).fit(twice)
    state, made = fit(features.impute(indicator=True), rows)
    # Theirs has no column where training missed nothing; ours is 0 there, whatever comes.
    got = np.asarray(features.impute(indicator=True).apply(state, NEW))
    assert (got[:, 5] == 0).all() and np.isnan(NEW[:, 1]).any()
    np.testing.assert_allclose(np.delete(got, 5, 1), theirs.transform(NEW), atol=1e-4)
    np.testing.assert_allclose(np.delete(np.asarray(made.x), 5, 1), theirs.transform(x), atol=1e-4)


def test_a_feature_that_nobody_knows_becomes_0():
    rows = batch(x=[[np.nan, 1.0], [np.nan, 3.0], [5.0, np.nan]], weight=[1, 1, 0])
    for strategy in ("mean", "median", "most_frequent"):
        state, _ = fit(features.impute(strategy), rows)
        assert features.impute(strategy).apply(state, jnp.full((1, 2), jnp.nan))[0, 0] == 0
    for transform in (features.standardize(), features.robust_scale(), features.min_max(), features.clip(), features.power()):
        state, made = fit(transform, rows)
        assert np.isnan(made.x[:2, 0]).all() and np.isfinite(made.x[:2, 1]).all()


@pytest.mark.parametrize("k", [1, 4])
def test_neighbours_are_scikit_learns(k):
    x = rng.normal(size=(N, 3)).astype(np.float32)  # no two are equally far from a third
    x[:, :2][rng.uniform(size=(N, 2)) < 0.3] = np.nan
    new = np.concatenate([x[:20] + 0.1, x[20:40] * 2])
    check(features.impute_neighbors(k), KNNImputer(n_neighbors=k), new, repeat(x, WEIGHT), rows=batch(x=x, weight=WEIGHT))


def test_neighbours_that_are_equally_far_share_a_place():
    rows = batch(x=[[0, 1.0], [0, 3.0], [0, 8.0], [5, 0.0], [0, np.nan]], weight=[1, 1, 2, 1, 1])
    for k, wanted in ((1, 5), (3, 5), (4, 5), (5, 4)):
        assert fit(features.impute_neighbors(k), rows)[1].x[4, 1] == pytest.approx(wanted)


def test_without_neighbours_the_mean_stands():
    state, _ = fit(features.impute_neighbors(3))
    got = features.impute_neighbors(3).apply(state, NEW[-1:])
    np.testing.assert_allclose(got[0], np.nanmean(TWICE, 0), rtol=1e-5)


def test_standardizing_with_gaps_is_scikit_learns():
    check(features.standardize(), StandardScaler())


def test_equal_values_become_0():
    rows = batch(x=np.full((977, 1), 0.1, np.float32), weight=rng.uniform(0, 1, 977))
    assert (fit(features.standardize(), rows)[1].x == 0).all()


def test_ranges_are_scikit_learns():
    check(features.min_max(-1.0, 2.0), MinMaxScaler((-1, 2)))


def test_robust_scaling_is_scikit_learns():
    # Theirs draws lines between rows where ours takes one, so rows are many; NumPy says the same as ours exactly.
    x = rng.normal(size=(4001, 2)).astype(np.float32)
    check(features.robust_scale(0.1, 0.9), RobustScaler(quantile_range=(10, 90)), x, x, atol=1e-2, rows=batch(x=x))
    state, _ = fit(features.robust_scale())
    low, middle, high = np.nanquantile(TWICE, [0.25, 0.5, 0.75], 0, method="averaged_inverted_cdf")
    np.testing.assert_allclose(state.middle, middle, rtol=1e-6)
    np.testing.assert_allclose(state.factor[jnp.array(KNOWN)], (1 / (high - low)[KNOWN]), rtol=1e-5)
    assert state.factor[2] == 1


def test_clipping_is_numpys():
    state, made = fit(features.clip(0.1, 0.8))
    low, high = np.nanquantile(TWICE, [0.1, 0.8], 0, method="averaged_inverted_cdf")
    np.testing.assert_allclose(made.x, np.clip(X, low, high))
    np.testing.assert_allclose(features.clip().apply(state, NEW), np.clip(NEW, low, high))


def test_even_shares_are_mean_ranks():
    _, made = fit(features.quantile(knots=5001))
    for i in KNOWN:
        there = (WEIGHT > 0) & ~np.isnan(X[:, i])
        twice = TWICE[~np.isnan(TWICE[:, i]), i]
        wanted = dict(zip(twice.tolist(), (rankdata(twice) - 0.5) / len(twice), strict=True))
        np.testing.assert_allclose(made.x[there, i], [wanted[value] for value in X[there, i].tolist()], atol=3e-4)
    np.testing.assert_array_equal(np.isnan(made.x), np.isnan(X))


@pytest.mark.parametrize("output", ["uniform", "normal"])
def test_quantile_transforms_are_scikit_learns(output):
    x = rng.exponential(size=(3000, 1)).astype(np.float32)
    new = np.quantile(x, np.linspace(0.02, 0.98, 50))[:, None].astype(np.float32)
    theirs = QuantileTransformer(n_quantiles=1000, output_distribution=output).fit(x)
    ours = features.quantile(output)
    state, made = fit(ours, batch(x=x))
    got = ours.apply(state, new)
    np.testing.assert_allclose(got, theirs.transform(new), atol=5e-3)
    np.testing.assert_allclose(ours.inverse(state, got), new, rtol=2e-2)
    ends = ours.apply(state, np.array([[-1e9], [1e9]], np.float32))[:, 0]
    assert np.isfinite(ends).all() and ends[0] == made.x.min() and ends[1] == made.x.max()
    if output == "normal":
        assert abs(np.quantile(made.x, 0.9) - norm.ppf(0.9)) < 0.01


def test_powers_are_scikit_learns():
    theirs = PowerTransformer(standardize=False).fit(TWICE.astype(float))
    state, made = fit(features.power())
    np.testing.assert_allclose(state.exponent[np.array(KNOWN)], theirs.lambdas_[KNOWN], atol=2e-3)
    got, wanted = features.power().apply(state, NEW), theirs.transform(NEW.astype(float))
    np.testing.assert_allclose(got[:, np.array(KNOWN)], wanted[:, KNOWN], rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(got[:, 2], NEW[:, 2], rtol=1e-5)
    np.testing.assert_allclose(features.power().inverse(state, made.x), X, rtol=1e-3, atol=1e-3)


def test_powers_of_large_values_stay_finite():
    x = np.exp(rng.normal(20, 3, (50, 1))).astype(np.float32) * np.array([1, -1], np.float32)
    state, made = fit(features.power(), batch(x=x))
    assert np.isfinite(made.x).all() and np.isfinite(np.square(made.x)).all()
    assert abs(state.exponent[0]) < 0.2 and abs(state.exponent[1] - 2) < 0.2  # a logarithm, and its mirror


@pytest.mark.parametrize("by", ["quantile", "uniform"])
@pytest.mark.parametrize("to", ["one_hot", "ordinal"])
def test_bins_are_scikit_learns(by, to):
    x, new = WHOLE[:, KNOWN], np.delete(NEW, 2, 1)[~np.isnan(NEW).any(1)]
    more = {"quantile_method": "averaged_inverted_cdf"} if by == "quantile" else {}
    theirs = KBinsDiscretizer(4, encode="ordinal" if to == "ordinal" else "onehot-dense", strategy=by, **more)
    check(features.bins(4, by, to), theirs, new, repeat(x, WEIGHT), rows=batch(x=x, weight=WEIGHT))


def test_a_gap_is_in_no_bin():
    _, made = fit(features.bins(4))
    assert (np.asarray(made.x).reshape(N, 4, 4).sum(2) == ~np.isnan(X)).all()
    _, made = fit(features.bins(4, to="ordinal"))
    np.testing.assert_array_equal(np.isnan(made.x), np.isnan(X))


@pytest.mark.parametrize(("by", "knots", "degree"), [("uniform", 5, 3), ("uniform", 4, 1), ("quantile", 4, 3), ("quantile", 3, 2)])
def test_splines_are_scikit_learns(by, knots, degree):
    x, new = WHOLE[:, [0, 3]], NEW[~np.isnan(NEW).any(1)][:, [0, 3]]
    places = by if by == "uniform" else np.quantile(repeat(x, WEIGHT), np.linspace(0, 1, knots), 0, method="averaged_inverted_cdf")
    theirs = SplineTransformer(knots, degree, knots=places, extrapolation="constant")
    check(features.splines(knots, degree, by), theirs, new, repeat(x, WEIGHT).astype(float), rows=batch(x=x, weight=WEIGHT))


def test_splines_sum_to_1_where_quantiles_are_equal():
    x = np.array([[0.0]] * 5 + [[1.0]] * 9 + [[2.0]] + [[np.nan]], np.float32)
    _, made = fit(features.splines(5, 3, "quantile"), batch(x=x))
    np.testing.assert_allclose(made.x[:-1].sum(1), 1, atol=1e-5)
    assert (made.x[-1] == 0).all()


@pytest.mark.parametrize("interactions", [True, False])
def test_polynomials_are_scikit_learns(interactions):
    theirs = PolynomialFeatures(3, interaction_only=interactions, include_bias=False).fit(WHOLE[:, :3])
    ours = features.polynomial(3, interactions)
    np.testing.assert_allclose(ours.apply((), WHOLE[:, :3]), theirs.transform(WHOLE[:, :3]), rtol=1e-4)
    names = theirs.get_feature_names_out(["a", "b", "c"])
    assert ours.names({"x": ["a", "b", "c"]})["x"] == [name.replace(" ", "*") for name in names]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: features.impute("mode"), "`strategy` of `impute` must be one of mean.*'mode'"),
        (lambda: features.clip(0.9, 0.1), "`low` of `clip` must be less than `high`, both within 0..1; got 0.9 and 0.1"),
        (lambda: features.min_max(1.0, 1.0), "`low` of `min_max` must be less than `high`; got 1.0 and 1.0"),
        (lambda: features.quantile("gauss"), "`output` of `quantile` must be uniform or normal; got 'gauss'"),
        (lambda: features.bins(by="kmeans"), "`by` of `bins` must be one of quantile, uniform; got 'kmeans'"),
        (lambda: fit(features.power(), batch(x=np.zeros(3, np.float32))), "`power` takes x .n, d.; got shape"),
        (lambda: fit(features.clip(), batch(x={"a": np.zeros((3, 1))})), "One array of numbers.*has a"),
    ],
)
def test_refusals_say_what_came(make, message):
    with pytest.raises(ValueError, match=message):
        make()
