"""A random forest that scikit-learn fits on the host, as arrays of a fixed size that JAX answers from."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.records import Estimator


class Forest(NamedTuple):
    """Nodes of every tree, each [trees, nodes], and the classes' shares in them [trees, nodes, classes]."""

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    shares: np.ndarray


class Grown(NamedTuple):
    """How many nodes there are in all."""

    nodes: np.ndarray


def forest(trees: int = 5, depth: int = 3, classes: int = 2, least: float = 0.0) -> Estimator:
    """Breiman, Machine Learning 45 (2001); `least` is scikit-learn's `min_impurity_decrease`."""
    nodes = 2 ** (depth + 1) - 1

    def fit(key, rows, hp):
        from sklearn.ensemble import RandomForestClassifier

        alive, seed = rows.weight > 0, int(key[-1])
        made = RandomForestClassifier(trees, max_depth=depth, random_state=seed, min_impurity_decrease=float(hp["least"]))
        made.fit(rows.x[alive], rows.y[alive], rows.weight[alive])
        found = Forest(*(np.zeros(s.shape, s.dtype) for s in shapes(rows, hp)[0]))
        for i, one in enumerate(tree.tree_ for tree in made.estimators_):
            n = one.node_count
            leaf = one.children_left < 0
            found.feature[i, :n] = np.where(leaf, 0, one.feature)
            near = one.threshold.astype(np.float32)  # the largest float32 that is not above, so that x falls as in float64
            found.threshold[i, :n] = np.where(near > one.threshold, np.nextafter(near, np.float32(-np.inf)), near)
            found.left[i, :n] = np.where(leaf, np.arange(n), one.children_left)
            found.right[i, :n] = np.where(leaf, np.arange(n), one.children_right)
            found.shares[i, :n] = one.value[:, 0] / one.value[:, 0].sum(-1, keepdims=True)
        return found, Grown(np.array(sum(tree.tree_.node_count for tree in made.estimators_)))

    def shapes(rows, hp):
        def one(kind, *more):
            return jax.ShapeDtypeStruct((trees, nodes, *more), kind)

        whole = one(jnp.int32)
        return Forest(whole, one(jnp.float32), whole, whole, one(jnp.float32, classes)), Grown(jax.ShapeDtypeStruct((), jnp.int32))

    def proba(params, x):
        def tree(one):
            at = jnp.zeros(x.shape[0], jnp.int32)
            for _ in range(depth):
                low = jnp.take_along_axis(x, one.feature[at][:, None], 1)[:, 0] <= one.threshold[at]
                at = jnp.where(low, one.left[at], one.right[at])
            return one.shares[at]

        return jax.vmap(tree)(params).mean(0)

    return Estimator(
        fit, {"predict_proba": proba, "predict": lambda params, x: jnp.argmax(proba(params, x), -1).astype(jnp.int32)},
        shapes=shapes, hp={"least": least}, exempt={"host": "scikit-learn fits it"},
    )  # fmt: skip
