"""Voting, bagging, stacking, reductions and boosting beside scikit-learn's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.random import fold_in
from sklearn import datasets, ensemble, multiclass, multioutput
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import PredefinedSplit
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from arsenal import combine, estimators
from arsenal.combine.folds import assign_folds
from arsenal.records import batch, hyperparameters

KEY = jax.random.key(3)


def load(name, weighed=True):
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(x)) if weighed else np.ones(len(x))
    return batch(x=StandardScaler().fit_transform(x), y=y, weight=weight)


def fit(estimator, rows, exact=True):
    estimator.check(rows)
    params, info = jax.jit(estimator.fit)(KEY, rows, hyperparameters(estimator.hp))
    assert bool(info.converged) or not exact
    return {name: np.asarray(f(params, rows.x)) for name, f in estimator.apply.items()}


def logistic(classes=2):
    return estimators.logistic(0.5, classes, 1e-9)


def peer_logistic():
    return LogisticRegression(C=2.0, tol=1e-9, solver="newton-cholesky")


def numpy(rows):
    return np.asarray(rows.x), np.asarray(rows.y), np.asarray(rows.weight)


@pytest.mark.parametrize("weights", [None, [1.0, 2.5]])
@pytest.mark.parametrize("method", ["soft", "hard"])
def test_votes_are_scikit_learns(method, weights):
    with jax.enable_x64(True):
        rows = load("wine", weighed=False)
        got = fit(combine.voting({"a": logistic(3), "b": estimators.gaussian_bayes(1e-9, 3)}, method, weights), rows)
    x, y, _ = numpy(rows)
    peer = ensemble.VotingClassifier([("a", peer_logistic()), ("b", GaussianNB())], voting=method, weights=weights).fit(x, y)
    np.testing.assert_array_equal(got["predict"], peer.predict(x))
    assert ("predict_proba" in got) == (method == "soft")
    if method == "soft":
        np.testing.assert_allclose(got["predict_proba"], peer.predict_proba(x), atol=1e-6)


def test_means_are_scikit_learns():
    with jax.enable_x64(True):
        rows = load("diabetes")
        got = fit(combine.voting([estimators.ridge(1.0), estimators.ridge(300.0)], weights=[1, 3]), rows)
    x, y, weight = numpy(rows)
    peer = ensemble.VotingRegressor([("a", Ridge(1.0)), ("b", Ridge(300.0))], weights=[1, 3]).fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(got["predict"], peer.predict(x), rtol=1e-8)


@pytest.mark.parametrize("passthrough", [False, True])
@pytest.mark.parametrize("name", ["breast_cancer", "wine"])
def test_stacks_are_scikit_learns(name, passthrough):
    k = 2 if name == "breast_cancer" else 3
    with jax.enable_x64(True):
        rows = load(name, weighed=False)
        made = combine.stacking({"z": logistic(k), "a": estimators.gaussian_bayes(1e-9, k)}, logistic(k), 4, passthrough)
        got, fold = fit(made, rows), np.asarray(assign_folds(fold_in(KEY, 0), rows, 4))
    x, y, _ = numpy(rows)
    peer = ensemble.StackingClassifier(
        [("z", peer_logistic()), ("a", GaussianNB())], peer_logistic(), cv=PredefinedSplit(fold), passthrough=passthrough
    ).fit(x, y)
    np.testing.assert_allclose(got["predict_proba"], peer.predict_proba(x), atol=1e-5)


def test_stacked_numbers_are_scikit_learns():
    with jax.enable_x64(True):
        rows = load("diabetes", weighed=False)
        got = fit(combine.stacking([estimators.ridge(1.0), estimators.ridge(900.0)], estimators.ridge(0.1), 4), rows)
        fold = np.asarray(assign_folds(fold_in(KEY, 0), rows, 4))
    x, y, _ = numpy(rows)
    peer = ensemble.StackingRegressor([("a", Ridge(1.0)), ("b", Ridge(900.0))], Ridge(0.1), cv=PredefinedSplit(fold)).fit(x, y)
    np.testing.assert_allclose(got["predict"], peer.predict(x), rtol=1e-5)


@pytest.mark.slow
def test_trees_on_the_host_and_arrays_stack():
    rows = load("breast_cancer", weighed=False)  # with weights scikit-learn's bins alone take seconds
    made = combine.stacking({"trees": estimators.boosting(2, rounds=10), "line": estimators.logistic()}, estimators.logistic(), 3, True)
    assert (fit(made, rows, exact=False)["predict"] == np.asarray(rows.y)).mean() > 0.97
    table = rows._replace(x={"numeric": rows.x, "categorical": (rows.x[:, :1] > 0).astype(jnp.int32)})
    made = combine.stacking({"trees": estimators.boosting(2, rounds=5, leaves=4)}, estimators.boosting(2, rounds=5, leaves=4), 3, True)
    assert (fit(made, table)["predict"] == np.asarray(rows.y)).mean() > 0.95


def test_one_against_the_rest_is_scikit_learns():
    with jax.enable_x64(True):
        rows = load("wine", weighed=False)
        got = fit(combine.one_vs_rest(logistic(), 3), rows)
    x, y, _ = numpy(rows)
    peer = multiclass.OneVsRestClassifier(peer_logistic()).fit(x, y)
    np.testing.assert_allclose(got["predict_proba"], peer.predict_proba(x), atol=1e-6)
    np.testing.assert_allclose(got["decision_function"], peer.decision_function(x), atol=1e-5)
    np.testing.assert_array_equal(got["predict"], peer.predict(x))


def test_one_against_one_is_scikit_learns():
    with jax.enable_x64(True):
        rows = load("digits", weighed=False)
        rows = rows._replace(**{name: getattr(rows, name)[:400] for name in ("x", "y", "weight", "row")})
        got = fit(combine.one_vs_one(estimators.logistic(0.5, tolerance=1e-9), 10), rows)
    x, y, _ = numpy(rows)
    peer = multiclass.OneVsOneClassifier(peer_logistic()).fit(x, y)
    np.testing.assert_allclose(got["decision_function"], peer.decision_function(x), atol=1e-5)
    np.testing.assert_array_equal(got["predict"], peer.predict(x))


def test_many_targets_are_scikit_learns():
    x, y = datasets.load_linnerud(return_X_y=True)
    with jax.enable_x64(True):
        got = fit(combine.multi_output(estimators.ridge(2.0)), batch(x=x, y=y))
    np.testing.assert_allclose(got["predict"], multioutput.MultiOutputRegressor(Ridge(2.0)).fit(x, y).predict(x), rtol=1e-8)


@pytest.mark.parametrize("name", ["breast_cancer", "iris"])
def test_ada_boost_of_stumps_is_scikit_learns(name):
    k = 2 if name == "breast_cancer" else 3
    rows = load(name)
    got = fit(combine.ada_boost(estimators.tree(k, leaves=2), 20, 0.7, k), rows)
    x, y, weight = numpy(rows)
    # In float32, as ours are: stumps that cut alike differ in the last digits of float64.
    stump = DecisionTreeClassifier(max_leaf_nodes=2, random_state=0)
    peer = ensemble.AdaBoostClassifier(stump, n_estimators=20, learning_rate=0.7, random_state=0).fit(x, y, weight)
    np.testing.assert_allclose(got["predict_proba"], peer.predict_proba(x), atol=1e-3)
    assert (got["predict"] == peer.predict(x)).mean() > 0.99


def test_a_perfect_member_ends_boosting():
    rows = batch(x=[[0.0], [1.0], [2.0], [3.0]], y=[0, 0, 1, 1])
    made = combine.ada_boost(estimators.tree(2, leaves=2), 5, classes=2)
    params, info = made.fit(KEY, rows, hyperparameters(made.hp))
    assert params.weight.tolist() == [1, 0, 0, 0, 0] and int(info.iterations) == 1
    noise = rows._replace(x=jnp.zeros((4, 1)))
    params, info = made.fit(KEY, noise, hyperparameters(made.hp))
    assert params.weight.tolist() == [0] * 5 and not bool(info.converged)


def test_chains_are_scikit_learns():
    with jax.enable_x64(True):
        rows = load("wine", False)
        y = np.stack([rows.y == 1, np.asarray(rows.x)[:, 0] > 0, rows.y > 0], 1).astype(int)
        theirs = multioutput.ClassifierChain(peer_logistic(), order=[2, 0, 1]).fit(rows.x, y)
        rows = rows._replace(y=jnp.asarray(y))
        got = fit(combine.classifier_chain(logistic(), [2, 0, 1]), rows)
    np.testing.assert_array_equal(got["predict"], theirs.predict(rows.x))
    np.testing.assert_allclose(got["predict_proba"][..., 1], theirs.predict_proba(rows.x), atol=1e-6)
    with pytest.raises(ValueError, match=r"`order` of `classifier_chain` must be 0 to 2, each once; got \[0, 0, 1\]"):
        combine.classifier_chain(logistic(), [0, 0, 1]).check(rows)


def test_a_blend_learns_from_one_fold_what_members_say_that_did_not_see_it():
    with jax.enable_x64(True):
        rows = load("breast_cancer")
        rows = rows._replace(x=rows.x[:, :3])
        got = fit(combine.stacking([logistic()], logistic(), 4, blend=True), rows)
        out = np.asarray(assign_folds(fold_in(KEY, 0), rows, 4)) == 0
    x, y, weight = numpy(rows)
    said = peer_logistic().fit(x[~out], y[~out], weight[~out]).predict_proba(x)[:, 1:]
    wanted = peer_logistic().fit(said[out], y[out], weight[out]).predict_proba(said)
    np.testing.assert_allclose(got["predict_proba"], wanted, atol=1e-6)


def test_gradient_boosting_of_trees_is_scikit_learns():
    rows = load("diabetes")
    got = fit(combine.gradient_boosting(estimators.tree(leaves=4), 30, 0.2), rows)
    x, y, weight = numpy(rows)
    peer = ensemble.GradientBoostingRegressor(
        n_estimators=30, learning_rate=0.2, max_leaf_nodes=4, max_depth=None, random_state=0
    ).fit(x, y, weight)
    np.testing.assert_allclose(got["predict"], peer.predict(x), rtol=0.02)
    assert np.corrcoef(got["predict"], peer.predict(x))[0, 1] > 0.9999


@pytest.mark.parametrize(("name", "k"), [("breast_cancer", 2), ("wine", 3)])
def test_newton_steps_of_lines_find_the_logistic_regression(name, k):
    """LogitBoost of a linear model is Newton's method for logistic regression without a penalty, or nearly none."""
    rows = load(name, weighed=False)
    rows = rows._replace(x=rows.x[:, :2])
    with jax.enable_x64(True):
        rows = jax.tree.map(lambda v: jnp.asarray(v, float) if v.dtype == jnp.float32 else v, rows)
        got = fit(combine.gradient_boosting(estimators.ridge(1e-6), 100, 0.7, k), rows)
        wanted = fit(estimators.logistic(1e-6, k, 1e-9), rows)
    np.testing.assert_allclose(got["predict_proba"], wanted["predict_proba"], atol=2e-2)


def test_bags_are_as_varied_as_the_bootstrap():
    """The spread of a bagged slope is its standard error; rows are seen once on average."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 1))
    rows = batch(x=x, y=2 * x[:, 0] + rng.normal(size=400))
    made = combine.bagging(estimators.ridge(0.0), 300)
    params, _ = jax.jit(made.fit)(KEY, rows, hyperparameters(made.hp))
    slopes = np.asarray(params.slope)[:, 0]
    np.testing.assert_allclose(slopes.std(), 1 / 20, rtol=0.25)
    np.testing.assert_allclose(slopes.mean(), 2, atol=0.15)
    trees = combine.bagging(estimators.tree(2, leaves=8), 15)
    cancer = load("breast_cancer")
    assert (fit(trees, cancer)["predict"] == np.asarray(cancer.y)).mean() > 0.97


def test_what_does_not_fit_together_is_refused():
    rows = load("wine")
    with pytest.raises(ValueError, match="soft of `voting` takes estimators that answer predict_proba; `1` does not"):
        fit(combine.voting([estimators.logistic(), estimators.ridge()], "soft"), rows)
    with pytest.raises(ValueError, match="`weights` of `voting` must be 1 numbers"):
        combine.voting([estimators.ridge()], weights=[1, 2])
    with pytest.raises(ValueError, match="must be at least one; got none"):
        combine.stacking({}, estimators.ridge())
    with pytest.raises(TypeError, match="must be estimators; `a` is int"):
        combine.voting({"a": 3})
    with pytest.raises(ValueError, match="hard for labels and mean for numbers; `predict` gives float32"):
        fit(combine.voting([estimators.ridge()], "hard"), load("diabetes"))
    with pytest.raises(ValueError, match="takes an estimator of two classes, `classes: 2`; got one of 3"):
        fit(combine.one_vs_rest(estimators.gaussian_bayes(classes=3), 3)._replace(check=lambda rows: None), rows)
    with pytest.raises(ValueError, match=r"`one_vs_one` takes labels 0 to 1, y \[n\]; got \[0, 1, 2\]"):
        combine.one_vs_one(estimators.logistic()).check(rows)
    with pytest.raises(ValueError, match=r"`multi_output` takes y \[n, targets\]; got shape \(178,\)"):
        combine.multi_output(estimators.ridge()).check(rows)
    with pytest.raises(ValueError, match="takes an estimator of numbers, in a config with `schema: null`"):
        fit(combine.gradient_boosting(estimators.tree(2), 2, classes=3), rows._replace(y=rows.y % 2))
