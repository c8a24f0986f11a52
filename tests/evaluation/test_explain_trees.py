"""Shapley values of trees: the library `shap`, LightGBM's own, and all coalitions asked one by one."""

import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier

from arsenal.estimators.boosters import answers_of, read_lightgbm, read_xgboost
from arsenal.estimators.forests import forest_tree
from arsenal.estimators.trees import Sizes, Tree, pack, score_trees
from arsenal.evaluation import explain
from arsenal.records import batch

KEPT = Path(__file__).resolve().parents[1] / "kept" / "explanations"
DRAW = np.random.default_rng(0)


def read(name):
    kept = json.loads((KEPT / f"trees_{name}.json").read_text())
    numbers = {key: np.array(value, float) for key, value in kept.items() if key != "dump"}
    return kept.get("dump"), numbers, np.float32(numbers["x"]), np.float32(numbers["training"])


def check(trees, x, training, numbers, factor=1.0, shift=0.0):
    """Both kinds against shap's, where it has them."""
    for method, base, background in (("path_dependent", "path_base", training), ("interventional", "base", training[:20])):
        if method not in numbers:
            continue
        found = explain.tree_shapley(trees, batch(x=x), batch(x=background), method)
        values = np.asarray(found.values) * factor
        np.testing.assert_allclose(values.reshape(numbers[method].shape), numbers[method], atol=2e-6)
        np.testing.assert_allclose(np.ravel(found.base) * factor + shift, np.ravel(numbers[base]), atol=2e-6)


@pytest.mark.parametrize(("name", "reader"), [("xgboost", read_xgboost), ("lightgbm", read_lightgbm)])
def test_boosted_trees_with_gaps_and_categories_are_shaps(name, reader):
    dump, numbers, x, training = read(name)
    check(answers_of(reader(dump))[1], x, training, numbers)


def test_forests_are_shaps():
    _, numbers, x, training = read("forest")
    model = RandomForestClassifier(3, max_leaf_nodes=12, bootstrap=False, max_features=2, random_state=0).fit(training, numbers["y"])
    trees = []
    for one in model.estimators_:
        part = forest_tree(one.tree_)
        trees.append([part._replace(value=part.value / part.value.sum(1, keepdims=True))] if part.value.shape[1] > 1 else [
            part._replace(value=one.tree_.value[:, 0] / one.tree_.value[:, 0].sum(1, keepdims=True))])  # fmt: skip
    check(pack(trees, 0, Sizes(3, 1, 12, 3)), x, training, numbers, 1 / 3)


def test_boosting_is_shaps():
    _, numbers, x, training = read("boosting")
    model = GradientBoostingRegressor(n_estimators=4, max_depth=3, random_state=0).fit(training, numbers["y"])
    trees = [[forest_tree(row[0].tree_, 0.1)] for row in model.estimators_]
    check(pack(trees, numbers["y"].mean(), Sizes(4, 1, 8)), x, training, numbers)


def random_tree(leaves, features, values=1):
    """A tree grown by splitting leaves at random, some by category."""
    feature, threshold, left, right, missing, value, members = [], [], [], [], [], [], {}

    def add():
        for part, new in ((feature, 0), (threshold, 0.0), (left, -1), (right, -1), (missing, False), (value, DRAW.normal(size=values))):
            part.append(new)
        return len(feature) - 1

    ends = [add()]
    while len(ends) < leaves:
        at = ends.pop(int(DRAW.integers(len(ends))))
        feature[at], threshold[at], missing[at] = int(DRAW.integers(features)), float(DRAW.normal()), bool(DRAW.random() < 0.5)
        if feature[at] == features - 1:
            members[at] = np.flatnonzero(DRAW.random(40) < 0.5)
        left[at], right[at] = add(), add()
        ends += [left[at], right[at]]
    return Tree(*(np.array(part) for part in (feature, threshold, missing, left, right, value)), members)


@pytest.mark.parametrize(("leaves", "outputs", "values"), [(9, 2, 1), (40, 1, 2), (1, 1, 1)])
def test_values_against_a_background_are_those_of_all_coalitions(leaves, outputs, values):
    trees = pack([[random_tree(leaves, 5, values) for _ in range(outputs)] for _ in range(3)], 0.5, Sizes(3, outputs, leaves, values, 40))
    x = DRAW.normal(size=(30, 5)).astype(np.float32)
    x[:, 4] = DRAW.integers(-1, 45, 30)
    x[DRAW.random(x.shape) < 0.1] = np.nan
    rows, background = batch(x=x[:8]), batch(x=x[8:], weight=np.arange(22.0))
    wanted = explain.exact_shapley(lambda trees, x: score_trees(trees, x).reshape(x.shape[0], -1), trees, rows, background)
    found = explain.tree_shapley(trees, rows, background)
    np.testing.assert_allclose(found.values, wanted.values, atol=1e-5)
    np.testing.assert_allclose(found.base, wanted.base, atol=1e-5)
    paths = explain.tree_shapley(trees, rows, background, "path_dependent")
    np.testing.assert_allclose(explain.gap(paths, score_trees(trees, x[:8]).reshape(8, -1)), 0, atol=1e-5)


def test_many_rows_are_answered_in_parts(monkeypatch):
    module = importlib.import_module("arsenal.evaluation.explain.tree_shapley")  # the package has the function of that name
    trees = pack([[random_tree(9, 5)] for _ in range(2)], 0, Sizes(2, 1, 9, 1, 40))
    rows = batch(x=DRAW.normal(size=(23, 5)).astype(np.float32))
    whole = [explain.tree_shapley(trees, rows, rows, method).values for method in module.METHODS]
    monkeypatch.setattr(module, "AT_ONCE", 4 * 23 * 30)
    for method, wanted in zip(module.METHODS, whole, strict=True):
        np.testing.assert_allclose(explain.tree_shapley(trees, rows, rows, method).values, wanted, atol=1e-6)


def test_what_cannot_be_explained_is_refused():
    trees = pack([[random_tree(3, 5)]], 0, Sizes(1, 1, 3, 1, 40))
    rows = batch(x=np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match="`method` of `tree_shapley` must be interventional or path_dependent; got 'paths'"):
        explain.tree_shapley(trees, rows, rows, "paths")
    with pytest.raises(ValueError, match="`background` of `tree_shapley` must have a row that is there"):
        explain.tree_shapley(trees, rows, rows._replace(weight=jnp.zeros(2)))
    assert jax.tree.leaves(trees)
