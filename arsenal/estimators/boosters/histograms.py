"""scikit-learn's HistGradientBoosting: splits by `<=` in float64, categories by their place among the known."""

from typing import Any

import numpy as np

from arsenal.estimators.boosters.ensemble import Ensemble
from arsenal.estimators.trees import Tree


def read_histograms(grown: Any) -> Ensemble:
    """The ensemble of a fitted model. Raises ValueError for categories that are no numbers."""
    order, known = feature_order(grown)
    if any(one.dtype.kind not in "iuf" for one in known.values()):
        raise ValueError(f"its categories must be coded as numbers; got {next(iter(known.values()))[0]!r}")
    trees = [[boosted_tree(one, order, known) for one in row] for row in grown._predictors]
    labels = getattr(grown, "classes_", None)
    link = "exp" if labels is None and grown.loss in ("poisson", "gamma") else "identity"
    link = link if labels is None else "logistic" if len(trees[0]) == 1 else "softmax"
    return Ensemble(trees, np.ravel(grown._baseline_prediction), link, len(order), labels=labels, single=False)


def feature_order(grown: Any) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Which feature of x each of the model's is (it puts categories first), and the categories that it knows."""
    if grown._preprocessor is None:
        return np.arange(grown.n_features_in_), {}
    chosen = np.asarray(grown.is_categorical_)
    order = np.concatenate([np.flatnonzero(chosen), np.flatnonzero(~chosen)])
    found = grown._preprocessor.named_transformers_["encoder"].categories_
    return order, {i: as_codes(np.asarray(values)) for i, values in enumerate(found)}


def as_codes(values: np.ndarray) -> np.ndarray:
    """Categories without the missing one, numbers as whole numbers."""
    return values[~np.isnan(values)].astype(int) if values.dtype.kind in "iuf" else values


def boosted_tree(one: Any, order: np.ndarray, known: dict[int, np.ndarray]) -> Tree:
    """A `TreePredictor` of scikit-learn's. A category that it does not know goes where NaN goes.

    Where that is left, the children of the split change places, since what is unknown goes right in ours.
    """
    nodes = one.nodes
    leaf = nodes["is_leaf"].astype(bool)
    left, right = (np.where(leaf, -1, nodes[side].astype(int)) for side in ("left", "right"))
    missing = nodes["missing_go_to_left"].astype(bool)
    members = {}
    for node in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf):
        codes = known[int(nodes["feature_idx"][node])]
        bits = one.raw_left_cat_bitsets[nodes["bitset_idx"][node]]
        inside = np.array([bool(bits[i // 32] >> np.uint32(i % 32) & 1) for i in range(len(codes))])
        members[int(node)] = codes[inside != missing[node]]
        if missing[node]:
            left[node], right[node], missing[node] = right[node], left[node], False
    feature = np.where(leaf, 0, order[np.where(leaf, 0, nodes["feature_idx"])])
    return Tree(feature, nodes["num_threshold"], missing, left, right, nodes["value"][:, None], members)
