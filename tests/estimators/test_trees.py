"""Trees as arrays answer as the libraries that grew them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arsenal_serving.export import Tensor
from sklearn import ensemble
from sklearn import tree as single
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from arsenal import estimators
from arsenal.data import Schema
from arsenal.estimators import boosting
from arsenal.estimators.forests import PEERS, forest_tree
from arsenal.estimators.trees import Sizes, Tree, cut_trees, pack, round_down, score_trees
from arsenal.records import batch

KEY = np.array([0, 7], np.uint32)


def table(n=400, categories=5, classes=3):
    """Numbers with gaps, a category, and labels or a number that depend on both."""
    draw = np.random.default_rng(0)
    x, code = draw.normal(size=(n, 4)).astype(np.float32), draw.integers(0, categories, (n, 1)).astype(np.int32)
    x[draw.random(x.shape) < 0.1] = np.nan
    score = np.nan_to_num(x[:, 0]) * 2 + np.nan_to_num(x[:, 1]) ** 2 + (code[:, 0] % 2)
    return x, code, score, np.digitize(score, np.quantile(score, np.arange(1, classes) / classes)).astype(np.int32)


def grow(estimator, rows):
    """The parameters of a fit on the host."""
    return estimator.fit(KEY, jax.tree.map(np.asarray, rows), {"learning_rate": np.float32(0.1), "l2": np.float32(0)})[0]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("categorical", [False, True])
def test_boosted_classes_are_scikit_learns(classes, categorical):
    x, code, _, y = table(classes=classes)
    whole = np.concatenate([x, code], 1) if categorical else x
    made = boosting(classes, rounds=10, leaves=8)
    given = {"numeric": jnp.asarray(x), "categorical": jnp.asarray(code)} if categorical else jnp.asarray(x)
    params = grow(made, batch(x=given, y=y))
    peer = HistGradientBoostingClassifier(
        max_iter=10, max_leaf_nodes=8, random_state=7, categorical_features=np.arange(whole.shape[1]) >= 4
    ).fit(whole, y)
    got = jax.jit(made.apply["predict_proba"])(params, given)
    np.testing.assert_allclose(got, peer.predict_proba(whole), atol=1e-6)
    # A category that was never seen goes where a missing value goes, as there.
    strange = whole.copy()
    strange[:, -1] = 77 if categorical else np.nan
    asked = {"numeric": given["numeric"], "categorical": jnp.full_like(given["categorical"], 77)} if categorical else jnp.asarray(strange)
    np.testing.assert_allclose(made.apply["predict_proba"](params, asked), peer.predict_proba(strange), atol=1e-6)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "poisson", "gamma"])
@pytest.mark.parametrize("leaves", [8, 40])
def test_boosted_numbers_are_scikit_learns(loss, leaves):
    """Of 40 leaves too, which are found by walking, and with weights."""
    x, _, score, _ = table()
    y, weight = score - score.min() + 0.1, np.random.default_rng(1).integers(0, 3, len(x)).astype(np.float32)
    made = boosting(loss=loss, rounds=5, leaves=leaves, min_leaf=3)
    params = grow(made, batch(x=jnp.asarray(x), y=y, weight=weight))
    there = weight > 0
    peer = HistGradientBoostingRegressor(loss=loss, max_iter=5, max_leaf_nodes=leaves, min_samples_leaf=3, random_state=7)
    peer.fit(x[there], y[there].astype(np.float32), weight[there])
    np.testing.assert_allclose(made.apply["predict"](params, jnp.asarray(x)), peer.predict(x), rtol=2e-6)


@pytest.mark.parametrize("name", ["tree", "random_forest", "extra_trees"])
@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("leaves", [8, 60])
def test_forests_are_scikit_learns(name, classes, leaves):
    x, _, score, y = table()
    y = score.astype(np.float32) if classes is None else y
    more = {} if name == "tree" else {"trees": 5}
    made = getattr(estimators, name)(classes, leaves=leaves, **more)
    params = made.fit(KEY, jax.tree.map(np.asarray, batch(x=jnp.asarray(x), y=y)), {"pruning": np.float32(0)})[0]
    peer = getattr(single if name == "tree" else ensemble, PEERS[name][classes is None])
    peer = peer(max_leaf_nodes=leaves, random_state=7, **({} if name == "tree" else {"n_estimators": 5}))
    peer.fit(x, y, np.ones(len(x)))  # a forest draws other rows where there are weights
    got = made.apply["predict" if classes is None else "predict_proba"](params, jnp.asarray(x))
    np.testing.assert_allclose(got, peer.predict(x) if classes is None else peer.predict_proba(x), atol=1e-6)


def test_a_tree_of_one_leaf_and_rounds_that_are_not_there_add_nothing():
    leaf = Tree(*np.zeros((2, 1)), np.zeros(1, bool), np.full(1, -1), np.full(1, -1), np.array([[3.0]]))
    trees = pack([[leaf]], 1.5, Sizes(rounds=4, outputs=1, leaves=4))
    assert score_trees(trees, jnp.ones((2, 1))).ravel().tolist() == [4.5, 4.5]
    with pytest.raises(ValueError, match="There is room for 4 rounds of trees; got 5"):
        pack([[leaf]] * 5, 0, Sizes(4, 1, 4))


def test_thresholds_in_float32_send_every_float32_where_float64_does():
    draw = np.random.default_rng(0)
    thresholds = draw.normal(size=1000) * 10.0 ** draw.integers(-20, 20, 1000)
    x = thresholds.astype(np.float32)
    near = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])
    np.testing.assert_array_equal(near <= np.tile(round_down(thresholds, np.float32), 3), near.astype(np.float64) <= np.tile(thresholds, 3))


def test_boosting_refuses_what_it_cannot_learn():
    rows = batch(x=jnp.ones((3, 2)), y=jnp.array([0, 1, 5]))
    with pytest.raises(ValueError, match="takes at least two of the labels 0 to 1; got"):
        boosting(classes=2).check(rows)
    with pytest.raises(ValueError, match="a tree for each class in each round, at most 100,000; got 100 rounds of 10,000 classes"):
        boosting(classes=10_000).check(rows)
    with pytest.raises(ValueError, match="`loss` of `boosting` is for numbers"):
        boosting(classes=2, loss="poisson")
    with pytest.raises(ValueError, match="loss gamma takes y above 0; got 0"):
        boosting(loss="gamma").check(rows)
    many = batch(x={"categorical": jnp.arange(300)[:, None]}, y=jnp.arange(300.0))
    with pytest.raises(ValueError, match="categories of at most 254 levels; `town` has 300. `.feature=tabular"):
        boosting(schema=counts_by(town=300)).check(many._replace(x=jax.eval_shape(lambda: many.x)))  # as behind a transform
    with pytest.raises(ValueError, match="`column 1` has 300"):
        boosting().check(many)
    boosting().check(many._replace(x={"categorical": many.x["categorical"] % 254}))


def counts_by(**levels):
    """The schema of a table of a count beside categories of so many levels."""
    names = list(levels)
    codecs = {name: {"kind": "category", "values": list(map(str, range(count)))} for name, count in levels.items()}
    return Schema({"categorical": Tensor(columns=names, codec=names)}, codecs=codecs | {"no input": {"kind": "category", "values": ["x"] * 999}}, table={"task": "count"})


def test_what_a_table_says_of_its_target_and_columns_is_read():
    made, rows = boosting(rounds=2, schema=counts_by(sex=2)), batch(x={"categorical": jnp.arange(60)[:, None] % 2}, y=jnp.arange(60.0))
    params = grow(made, rows)
    assert params.members.shape[-1] == 1
    peer = HistGradientBoostingRegressor(loss="poisson", max_iter=2, categorical_features=[0], random_state=7)
    x = np.asarray(rows.x["categorical"])
    np.testing.assert_allclose(made.apply["predict"](params, rows.x), peer.fit(x, rows.y).predict(x), rtol=2e-6)


def test_a_large_tree_is_the_sum_of_its_parts():
    """Forty leaves, gaps on both sides: the same bits as by walking. A chain of forty is walked."""
    x = np.nan_to_num(table()[0], nan=0.3)
    peer = single.DecisionTreeRegressor(max_leaf_nodes=40, random_state=0).fit(x, np.sin(9 * x).sum(1))
    tree = forest_tree(peer.tree_)
    tree = tree._replace(missing_left=np.arange(len(tree.left)) % 2 == 0)
    parts = cut_trees([[tree]])
    assert len(parts) > 1 and max((part.left < 0).sum() for (part,) in parts) <= 32
    scores = [score_trees(pack(rounds, 0, Sizes(len(rounds), 1, leaves)), jnp.asarray(table()[0])) for rounds, leaves in ((parts, 32), ([[tree]], 40))]
    np.testing.assert_array_equal(*scores)
    at = np.arange(81)
    down = np.where(at % 2 == 0, at + 2, -1)
    down[-1] = -1
    chain = Tree(0 * at, -1.0 * at, at < 0, np.where(down < 0, -1, at + 1), down, np.zeros((81, 1)))
    assert cut_trees([[chain]]) == [[chain]]
