"""Single trees and forests that scikit-learn grows on the host and that answer as arrays."""

from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt

from arsenal.estimators.discriminant import classes_of
from arsenal.estimators.trees import Sizes, Tree, Trees, check_trees, pack, score_trees, tree_columns, tree_shapes
from arsenal.records import Converged, Estimator

HOST = {"host": "scikit-learn grows the trees"}


def tree(
    classes: Annotated[int, Gt(1)] | None = None, leaves: Annotated[int, Gt(1)] = 32, min_leaf: Annotated[int, Gt(0)] = 1,
    pruning: Annotated[float, Ge(0)] = 0.0, schema: Any = None,
) -> Estimator:  # fmt: skip
    """One tree of at most `leaves`, pruned by its complexity where `pruning` is above 0. Breiman et al. (1984).

    x [n, d], NaN where a value is missing, or a dict of `numeric` and `categorical`, whose codes count as numbers; y [n], labels
    where there are `classes`, which the data's labels say by themselves. Grown by scikit-learn's DecisionTree on the host.
    Answers: `predict` [n], of classes also `predict_proba` [n, classes].
    """
    return make_forest("tree", 1, classes, leaves, min_leaf, pruning, schema)


def random_forest(
    classes: Annotated[int, Gt(1)] | None = None, trees: Annotated[int, Gt(0)] = 100, leaves: Annotated[int, Gt(1)] = 1024,
    min_leaf: Annotated[int, Gt(0)] = 1, pruning: Annotated[float, Ge(0)] = 0.0, schema: Any = None,
) -> Estimator:  # fmt: skip
    """The mean of trees of at most `leaves`, each of rows drawn with replacement and of features drawn at every split.

    Breiman, Machine Learning 45 (2001). Inputs and answers as in `tree`; grown by scikit-learn's RandomForest on the host.
    """
    return make_forest("random_forest", trees, classes, leaves, min_leaf, pruning, schema)


def extra_trees(
    classes: Annotated[int, Gt(1)] | None = None, trees: Annotated[int, Gt(0)] = 100, leaves: Annotated[int, Gt(1)] = 1024,
    min_leaf: Annotated[int, Gt(0)] = 1, pruning: Annotated[float, Ge(0)] = 0.0, schema: Any = None,
) -> Estimator:  # fmt: skip
    """The mean of trees of at most `leaves` whose thresholds are drawn too. Geurts et al., Machine Learning 63 (2006).

    Inputs and answers as in `tree`; grown by scikit-learn's ExtraTrees on the host.
    """
    return make_forest("extra_trees", trees, classes, leaves, min_leaf, pruning, schema)


PEERS: dict[str, tuple[str, str]] = {
    "tree": ("DecisionTreeClassifier", "DecisionTreeRegressor"),
    "random_forest": ("RandomForestClassifier", "RandomForestRegressor"),
    "extra_trees": ("ExtraTreesClassifier", "ExtraTreesRegressor"),
}


def make_forest(
    name: Literal["tree", "random_forest", "extra_trees"], trees: int, classes: int | None, leaves: int, min_leaf: int,
    pruning: float, schema: Any,
):  # fmt: skip
    """The estimator of trees that scikit-learn grows under one of its names."""
    classes = classes_of(classes, schema, 0) or None

    def sizes():
        return Sizes(trees, 1, leaves, classes or 1)

    def fit(key, rows, hp):
        from sklearn import ensemble
        from sklearn import tree as single

        there = rows.weight > 0
        x = tree_columns(rows.x, np.float32).T[there]
        more = {} if name == "tree" else {"n_estimators": trees}
        make = getattr(single if name == "tree" else ensemble, PEERS[name][classes is None])
        peer = make(
            max_leaf_nodes=leaves, min_samples_leaf=min_leaf, ccp_alpha=float(hp["pruning"]), random_state=int(key[-1]),
            **more,
        ).fit(x, rows.y[there], rows.weight[there])  # fmt: skip
        return pack_forest(peer, sizes(), classes), Converged(np.array(True), np.array(trees))

    def shapes(rows, hp):
        return tree_shapes(sizes()), Converged(jax.ShapeDtypeStruct((), np.bool_), jax.ShapeDtypeStruct((), np.int32))

    def mean(params, x):
        return score_trees(params, x)[:, 0] / trees

    if classes is None:
        answers = {"predict": lambda params, x: mean(params, x)[:, 0]}
    else:
        answers = {"predict": lambda params, x: jnp.argmax(mean(params, x), -1).astype(jnp.int32), "predict_proba": mean}
    check = lambda rows: check_trees(name, rows, classes)  # noqa: E731
    return Estimator(fit, answers, check=check, shapes=shapes, hp={"pruning": pruning}, exempt=HOST)


def pack_forest(peer: Any, sizes: Sizes, classes: int | None, dtype: Any = np.float32) -> Trees:
    """A fitted tree or forest of scikit-learn's as `Trees`, leaves with the shares of classes or the mean; equal to rounding."""
    found = []
    known = np.asarray(peer.classes_, int) if classes else None
    for one in getattr(peer, "estimators_", [peer]):
        part = forest_tree(one.tree_)
        if known is not None:
            shares = np.zeros((len(part.value), sizes.values))
            shares[:, known] = part.value / part.value.sum(1, keepdims=True)
            part = part._replace(value=shares)
        found.append([part])
    return pack(found, 0, sizes, dtype)


def forest_tree(one: Any, factor: float = 1.0) -> Tree:
    """A single tree of scikit-learn's, its values, of the only target, by a factor."""
    missing, feature = one.missing_go_to_left.astype(bool), np.maximum(one.feature, 0)
    return Tree(feature, one.threshold, missing, one.children_left, one.children_right, one.value[:, 0] * factor)
