"""Weights of classes are scikit-learn's, and new rows lie between a row and a near one of its class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import CLASSES, classifier
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from arsenal import combine, estimators
from arsenal.combine.imbalance import synthesize
from arsenal.data import wine
from arsenal.records import batch, hyperparameters

X, Y = load_wine(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
KEPT = np.flatnonzero((Y > 0) | (np.arange(len(Y)) < 12))[::2]
ROWS = batch(x=X[KEPT], y=Y[KEPT], weight=np.random.default_rng(0).integers(1, 3, len(KEPT)))


@pytest.mark.parametrize("weights", ["balanced", [3.0, 1.0, 0.5]], ids=["balanced", "numbers"])
def test_weights_of_classes_are_scikit_learns(weights):
    theirs = LogisticRegression(
        C=0.5, tol=1e-10, solver="newton-cg", class_weight=weights if isinstance(weights, str) else dict(enumerate(weights))
    )
    many = X[KEPT].repeat(ROWS.weight.astype(int), 0), Y[KEPT].repeat(ROWS.weight.astype(int))
    theirs.fit(*many)
    with jax.enable_x64(True):
        made = combine.class_weight(estimators.logistic(2.0, 3, 1e-10), weights, classes=3)
        rows = jax.tree.map(lambda v: jnp.asarray(np.asarray(v, float) if np.asarray(v).dtype.kind == "f" else v), ROWS)
        rows = rows._replace(x=jnp.asarray(X[KEPT]))
        made.check(rows)
        fitted, _ = jax.jit(made.fit)(jax.random.key(0), rows, hyperparameters(made.hp))
        np.testing.assert_allclose(made.apply["predict_proba"](fitted, X), theirs.predict_proba(X), atol=1e-5)


def test_larger_and_smaller_differ_by_a_factor_and_labels_name_numbers():
    seen = {}
    keep = estimators.nearest_centroid(classes=3)._replace(fit=lambda key, rows, hp: (rows.weight, None), hp={}, apply={})
    for weights in ("balanced", "largest", "smallest"):
        seen[weights], _ = combine.class_weight(keep, weights, 3).fit(None, ROWS, {})
    counts = {name: np.bincount(ROWS.y, weight) for name, weight in seen.items()}
    before = np.bincount(ROWS.y, ROWS.weight)
    for name, goal in {"balanced": before.mean(), "largest": before.max(), "smallest": before.min()}.items():
        np.testing.assert_allclose(counts[name], goal, rtol=1e-6)
    schema = wine().schema
    named = combine.class_weight(keep, {"class_1": 2.0, "class_0": 1.0, "class_2": 5.0}, schema=schema)
    assert named.hp["weights"] == [1.0, 2.0, 5.0]
    with pytest.raises(ValueError, match="has no class 'clas_1'. Did you mean `class_1`?"):
        combine.class_weight(keep, {"clas_1": 2.0}, schema=schema)
    with pytest.raises(ValueError, match="must have every class; 'class_0' is missing"):
        combine.class_weight(keep, {"class_1": 2.0}, schema=schema)
    with pytest.raises(ValueError, match="must be balanced, largest, smallest or a number for each class; got 'even'"):
        combine.class_weight(keep, "even")
    with pytest.raises(ValueError, match="must be numbers for a learner of batches; got 'balanced'"):
        combine.class_weight(classifier())


def test_new_rows_lie_between_near_rows_of_a_class():
    """As of SMOTE: on the way to one of the five nearest others, and all classes count alike."""
    once = ROWS._replace(weight=jnp.ones(len(KEPT)))
    made = jax.jit(synthesize, static_argnums=(2, 3, 4))(jax.random.key(1), once, 5, 2, 3)
    n = len(KEPT)
    assert made.x.shape == (3 * n, 13)
    np.testing.assert_allclose(np.bincount(made.y, made.weight), np.bincount(ROWS.y).max(), rtol=1e-5)
    np.testing.assert_array_equal(made.row, np.tile(ROWS.row, 3))
    for label in range(3):
        mine = np.flatnonzero(np.asarray(ROWS.y) == label)
        x = np.asarray(once.x)[mine]
        near = NearestNeighbors(n_neighbors=6).fit(x).kneighbors(x)[1][:, 1:]
        for copy in range(1, 3):
            new = np.asarray(made.x)[copy * n + mine]
            way = x[near] - x[:, None]
            share = ((new - x)[:, None] * way).sum(-1) / np.maximum((way**2).sum(-1), 1e-12)
            off = np.abs(x[:, None] + share[..., None] * way - new[:, None]).max(-1)
            assert (off.min(1) < 1e-4).all() and ((share >= -1e-5) & (share <= 1 + 1e-5))[off < 1e-4].all()
    with pytest.raises(ValueError, match=r"`smote` takes x of floats \[n, d\], since rows are averaged.*; got int32"):
        combine.smote(estimators.logistic()).check(CLASSES._replace(x=CLASSES.y[:, None]))
