"""LightGBM's `Booster.dump_model()`: splits by `<=` in float64, zeros that are missing values, sets of categories."""

from typing import Any

import numpy as np

from arsenal.estimators.boosters.ensemble import Ensemble, grow, refuse_objective

LINKS = {
    "regression": "identity", "regression_l1": "identity", "huber": "identity", "fair": "identity", "quantile": "identity",
    "mape": "identity", "poisson": "exp", "gamma": "exp", "tweedie": "exp", "cross_entropy": "logistic",
    "binary": "logistic", "multiclass": "softmax", "multiclassova": "one against all",
}  # fmt: skip
"""By objective."""
CLASSES = ("binary", "multiclass", "multiclassova")


def read_lightgbm(dump: dict) -> Ensemble:
    """The ensemble of a dump. Raises ValueError for linear trees and for an objective that is not known here."""
    name, *settings = str(dump.get("objective", "none")).split()
    if name not in LINKS:
        raise refuse_objective("LightGBM", name, list(LINKS))
    said = dict(one.split(":", 1) for one in settings if ":" in one)
    link = "signed square" if name == "regression" and "sqrt" in settings else LINKS[name]
    outputs = dump["num_tree_per_iteration"]
    found = dump["tree_info"]
    zeros = missing_zeros(found)
    factor = float(said.get("sigmoid", 1)) / (max(1, len(found) // outputs) if dump.get("average_output") else 1)
    trees = [grow(one["tree_structure"], lambda node: read_node(node, factor)) for one in found]
    labels = np.arange(max(2, outputs)) if name in CLASSES else None
    rounds = [trees[i : i + outputs] for i in range(0, len(trees), outputs)]
    width = dump["max_feature_idx"] + 1
    names = dump["feature_names"]
    given = None if names == [f"Column_{i}" for i in range(width)] else names
    return Ensemble(rounds, np.zeros(outputs), link, width, given, labels, False, zeros, words_of(dump))


def words_of(dump: dict) -> dict[int, list]:
    """The categories of a data frame's columns, by feature. Raises ValueError where it is not known which columns they are."""
    words, infos = dump.get("pandas_categorical") or [], dump.get("feature_infos", {})
    features = [i for i, name in enumerate(dump["feature_names"]) if infos.get(name, {}).get("values")] if words else []
    if len(features) != len(words):
        raise ValueError(
            f"its data frame had {len(words)} columns of categories and its trees know {len(features)} of them: fit it without "
            "those that have one value only"
        )
    return dict(zip(features, words, strict=True))


def read_node(node: dict, factor: float) -> Any:
    """A node of the dump; its leaves by a factor."""
    if "leaf_coeff" in node:
        raise ValueError("its trees must have numbers in their leaves; got linear ones (`linear_tree`)")
    if "split_feature" not in node:
        return float(node["leaf_value"]) * factor
    below = node["split_feature"], node["left_child"], node["right_child"]
    if node["decision_type"] == "==":
        return below[0], 0.0, False, [int(code) for code in str(node["threshold"]).split("||")], *below[1:]
    threshold = float(node["threshold"])
    missing = threshold >= 0 if node["missing_type"] == "None" else bool(node["default_left"])  # of None, NaN is read as 0
    return below[0], threshold, missing, None, *below[1:]


def missing_zeros(trees: list[dict]) -> list[int]:
    """The features of which zeros are missing values; ValueError where a feature's trees do not agree."""
    kinds: dict[int, set] = {}
    walk = [one["tree_structure"] for one in trees]
    while walk:
        node = walk.pop()
        if "split_feature" in node:
            walk += [node["left_child"], node["right_child"]]
            if node["decision_type"] != "==":
                kinds.setdefault(node["split_feature"], set()).add(node["missing_type"] == "Zero")
    if mixed := [feature for feature, found in kinds.items() if len(found) > 1]:
        raise ValueError(f"its trees must agree on whether 0 is a missing value; those of feature {mixed[0]} do not")
    return [feature for feature, found in kinds.items() if True in found]
