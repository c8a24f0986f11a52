"""Crossfitting, calibration and thresholds beside scikit-learn's with the same folds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.random import fold_in
from sklearn import calibration, datasets
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from arsenal import combine, estimators
from arsenal.combine.calibration import CURVES
from arsenal.combine.folds import assign_folds
from arsenal.numerics.isotonic import fit_steps, read_steps
from arsenal.records import batch, hyperparameters

KEY = jax.random.key(3)
SETS = {"breast_cancer": 2, "wine": 3}


def load(name, weight=None):
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(x)) if weight is None else weight
    return batch(x=x, y=y, weight=weight)


def fit(estimator, rows):
    estimator.check(rows)
    return jax.jit(estimator.fit)(KEY, rows, hyperparameters(estimator.hp))


def folds_of(rows, folds):
    return np.asarray(assign_folds(fold_in(KEY, 0), rows, folds))


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_folds_hold_each_class_in_equal_shares_and_an_id_once(folds):
    rng = np.random.default_rng(folds)
    row = rng.integers(0, 150, 200)
    label = (row % 5 == 0).astype(int) + (row % 15 == 0)
    weight = rng.integers(0, 3, 200)
    rows = batch(y=label, weight=weight, row=row)
    fold = np.asarray(assign_folds(KEY, rows, folds))
    assert all(len(set(fold[row == one])) <= 1 for one in set(row))
    for one in (0, 1, 2):
        there = (label == one) & (weight > 0)
        share = np.bincount(fold[there], weight[there], folds) / weight[there].sum()
        most = max(weight[there & (row == i)].sum() for i in set(row)) / weight[there].sum()
        assert (np.abs(share - 1 / folds) <= most).all()
        assert len(set(fold[there])) > 1
    assert not np.array_equal(fold, np.asarray(assign_folds(jax.random.key(4), rows, folds)))


def test_a_class_of_two_rows_is_in_two_folds_whatever_their_weights():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        rows = batch(y=np.repeat([0, 1, 2], [2, 3, 9]), weight=10 ** rng.uniform(-3, 3, 14), row=rng.permutation(14))
        for folds in (2, 3, 5):
            fold = np.asarray(assign_folds(jax.random.key(seed), rows, folds))
            assert all(len(set(fold[np.asarray(rows.y) == one])) > 1 for one in range(3))


@pytest.mark.slow
def test_out_of_fold_answers_are_cross_val_predicts():
    with jax.enable_x64(True):
        rows = load("breast_cancer", np.ones(569))
        estimator = combine.crossfit(estimators.logistic(0.5, tolerance=1e-8), 4)
        members, info = fit(estimator, rows)
        fold = folds_of(rows, 4)
        peer = LogisticRegression(C=2.0, tol=1e-8, solver="newton-cholesky")
        theirs = cross_val_predict(peer, rows.x, rows.y, cv=PredefinedSplit(fold), method="predict_proba")
        np.testing.assert_allclose(info.answers["predict_proba"], theirs, atol=1e-6)
        assert members.slope.shape == (4, 30)
        mean = np.mean([peer.fit(rows.x[fold != i], rows.y[fold != i]).predict_proba(rows.x) for i in range(4)], 0)
        np.testing.assert_allclose(estimator.apply["predict_proba"](members, rows.x), mean, atol=1e-6)


@pytest.mark.slow
def test_members_on_the_host_see_all_folds_but_their_own():
    x, y = datasets.load_diabetes(return_X_y=True)
    rows = batch(x=x, y=y, weight=np.random.default_rng(0).integers(0, 3, len(x)))
    made = combine.crossfit(estimators.tree(leaves=5), 3)
    _, info = fit(made, rows)
    fold, weight = folds_of(rows, 3), np.asarray(rows.weight)
    for i in range(3):
        mine, seed = (fold != i) & (weight > 0), int(jax.random.key_data(fold_in(fold_in(KEY, 1), i))[-1])
        peer = DecisionTreeRegressor(max_leaf_nodes=5, random_state=seed).fit(rows.x[mine], y[mine], weight[mine])
        np.testing.assert_allclose(info.answers["predict"][fold == i], peer.predict(np.asarray(rows.x)[fold == i]), rtol=1e-5)
    both = combine.whole(made)
    state, metrics = both.step(KEY, both.init(KEY, rows, {"pruning": 0.0}), rows, {"pruning": jnp.array(0.0)})
    assert sorted(metrics) == ["converged", "iterations"] and state.info.answers["predict"].shape == (442,)


@pytest.mark.parametrize("method", ["platt", "isotonic", "temperature"])
@pytest.mark.parametrize("name", SETS)
def test_calibration_is_scikit_learns(name, method):
    with jax.enable_x64(True):
        rows = load(name)
        estimator = combine.calibrated(estimators.logistic(0.5, SETS[name], 1e-9), method, 4)
        params, info = fit(estimator, rows)
        got = estimator.apply["predict_proba"](params, rows.x)
        fold = folds_of(rows, 4)
    assert bool(info.converged)
    peer = calibration.CalibratedClassifierCV(
        LogisticRegression(C=2.0, tol=1e-9, solver="newton-cholesky"), method="sigmoid" if method == "platt" else method,
        cv=PredefinedSplit(fold), ensemble=False,
    ).fit(rows.x, rows.y, sample_weight=np.asarray(rows.weight))  # fmt: skip
    np.testing.assert_allclose(got, peer.predict_proba(np.asarray(rows.x)), atol=2e-5)


def test_a_model_on_the_host_is_calibrated_too():
    rows = load("breast_cancer", np.ones(569))
    estimator = combine.calibrated(estimators.boosting(classes=2, rounds=10, leaves=4), "isotonic", 3)
    assert not estimator.exempt
    params, _ = fit(estimator, rows)
    proba = np.asarray(estimator.apply["predict_proba"](params, rows.x))
    assert (np.asarray(estimator.apply["predict"](params, rows.x)) == rows.y).mean() > 0.95
    np.testing.assert_allclose(proba.sum(1), 1, atol=1e-6)
    raw = combine.whole(estimators.boosting(classes=2, rounds=10, leaves=4))
    assert "decision_function" in estimator.apply and set(raw.apply) == set(estimator.apply)


@pytest.mark.parametrize("method", ["platt", "temperature"])
@pytest.mark.parametrize("name", SETS)
def test_curves_converge_in_single_precision_too(name, method):
    _, info = fit(combine.calibrated(estimators.gaussian_bayes(1e-6, SETS[name]), method, 3), load(name))
    assert bool(info.converged)


@pytest.mark.slow
def test_overconfidence_is_mended():
    """Naive Bayes of columns that say the same thrice: its probabilities are far too sure, calibrated ones are not."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 1)) + np.repeat([0, 1], 2000)[:, None]
    rows = batch(x=np.repeat(x, 4, 1), y=np.repeat([0, 1], 2000))
    new = rng.normal(size=(4000, 1)) + np.repeat([0, 1], 2000)[:, None]

    def loss(estimator):
        params, _ = fit(estimator, rows)
        p = np.asarray(estimator.apply["predict_proba"](params, jnp.asarray(np.repeat(new, 4, 1))))
        return -np.log(np.maximum(p[np.arange(4000), np.asarray(rows.y)], 1e-3)).mean()

    best = loss(estimators.logistic())
    assert loss(estimators.gaussian_bayes()) > best + 0.2
    for method in ("platt", "isotonic", "temperature"):
        assert loss(combine.calibrated(estimators.gaussian_bayes(), method)) < best + 0.02


@pytest.mark.parametrize("n", [1, 2, 13, 400])
def test_steps_are_scikit_learns(n):
    rng = np.random.default_rng(n)
    x, weight = rng.integers(0, max(1, n // 3), n).astype(float), rng.integers(0, 3, n).astype(float)
    weight[0] = 1
    asked = np.linspace(-1, n / 3 + 1, 77)
    for y in (x * 0.1 + rng.normal(size=n), -x, np.sin(x), np.zeros(n)):
        with jax.enable_x64(True):
            got = read_steps(jax.jit(fit_steps)(x, y, weight), asked)
        there = weight > 0
        theirs = IsotonicRegression(out_of_bounds="clip").fit(x[there], y[there], weight[there])
        np.testing.assert_allclose(got, theirs.predict(asked), atol=1e-12)


@pytest.mark.parametrize("increasing", [True, False])
def test_isotonic_regression_is_scikit_learns(increasing):
    x, y = datasets.load_diabetes(return_X_y=True)
    x = x[:, 2:3]
    with jax.enable_x64(True):
        estimator = estimators.isotonic(increasing)
        params, _ = fit(estimator, batch(x=x, y=y))
        got = estimator.apply["predict"](params, x)
    np.testing.assert_allclose(got, IsotonicRegression(increasing=increasing, out_of_bounds="clip").fit(x, y).predict(x), atol=1e-9)
    with pytest.raises(ValueError, match=r"takes one feature, x \[n, 1\]; got shape \(442, 2\)"):
        estimators.isotonic().check(batch(x=np.ones((442, 2)), y=y))


@pytest.mark.parametrize("cost", [[[0, 1], [1, 0]], [[0, 1], [20, 0]], [[-1, 6], [0, -3]]])
def test_no_other_threshold_costs_less_out_of_fold(cost):
    rows = load("breast_cancer")
    estimator = combine.threshold(estimators.lda(), cost, 3)
    params, _ = fit(estimator, rows)
    _, info = fit(combine.crossfit(estimators.lda(), 3), rows)
    score, y, weight = np.asarray(info.answers["predict_proba"])[:, 1], np.asarray(rows.y), np.asarray(rows.weight)

    def price(at):
        return (weight * np.asarray(cost, float)[y, (score > at).astype(int)]).sum()

    least = min(price(at) for at in [-1, *score])
    np.testing.assert_allclose(price(float(params.threshold)), least, rtol=1e-5)
    proba = estimator.apply["predict_proba"](params, rows.x)
    assert np.array_equal(estimator.apply["predict"](params, rows.x), np.asarray(proba)[:, 1] > float(params.threshold))


def test_what_cannot_be_calibrated_is_refused():
    with pytest.raises(ValueError, match="must answer decision_function or predict_proba; it answers predict"):
        fit(combine.calibrated(estimators.ridge()), load("wine"))
    with pytest.raises(ValueError, match="`cost` of `threshold` must be"):
        combine.threshold(estimators.lda(), [[0, 1, 2]])
    with pytest.raises(ValueError, match="takes an estimator of two classes; got one of 3"):
        fit(combine.threshold(estimators.lda(classes=3)), load("wine"))
    rows = batch(x=np.ones((6, 1)), y=[0, 0, 0, 1, 1, 2], weight=[1, 1, 1, 1, 1, 1])
    with pytest.raises(ValueError, match="at least 2 rows of every class, so that none is in one fold only; label 2 has 1"):
        combine.calibrated(estimators.lda(classes=3), folds=2).check(rows)
    with pytest.raises(ValueError, match="`folds` of `crossfit` must be at most the number of rows, here 6; got 7"):
        combine.crossfit(estimators.ridge(), 7).check(rows)


def test_one_more_row_of_either_class_is_an_isotonic_fit():
    """Venn and Abers's probabilities by their definition: scikit-learn's fit with the row itself, once of each class."""
    rng = np.random.default_rng(0)
    score, weight = rng.random(30).round(1), rng.integers(0, 3, 30).astype(float)
    y, asked = (rng.random(30) < score).astype(int), np.array([-1.0, 0.0, 0.25, 0.3, 0.55, 0.9, 1.0, 2.0])
    curve = CURVES["venn_abers"]
    with jax.enable_x64(True):
        found, _ = curve.fit(jnp.asarray(score)[:, None], jnp.asarray(y), jnp.asarray(weight))
        got = curve.read(found, jnp.asarray(asked)[:, None])[:, 1]

    def fit_more(at, label):
        peer = IsotonicRegression().fit(np.append(score, at), np.append(y, label), np.append(weight, 1))
        return peer.predict([at])[0]

    both = np.array([[fit_more(at, label) for label in (0, 1)] for at in asked])
    np.testing.assert_allclose(got, both[:, 1] / (1 - both[:, 0] + both[:, 1]), atol=1e-8)
