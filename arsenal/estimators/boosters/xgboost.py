"""XGBoost's models in JSON: splits by `<` in float32, categories that go right, dropped trees by weight.

XGBoost's documentation, "Introduction to Model IO"; `doc/model.schema`.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from arsenal.estimators.boosters.ensemble import Ensemble, refuse_objective
from arsenal.estimators.trees import Tree

LINKS = {
    "reg:squarederror": "identity", "reg:linear": "identity", "reg:absoluteerror": "identity", "reg:pseudohubererror": "identity",
    "reg:squaredlogerror": "identity", "reg:quantileerror": "identity", "count:poisson": "exp", "reg:gamma": "exp",
    "reg:tweedie": "exp", "reg:logistic": "logistic", "binary:logistic": "logistic", "multi:softprob": "softmax",
    "multi:softmax": "softmax",
}  # fmt: skip
"""By objective."""
CLASSES = ("binary:logistic", "multi:softprob", "multi:softmax")
SCORES: dict[str, Callable] = {
    "identity": lambda p: p, "exp": np.log, "logistic": lambda p: np.log(p / (1 - p)), "softmax": lambda p: p,
}  # fmt: skip
"""From the `base_score`, which is an answer, to what the scores begin with."""


def read_xgboost(dump: dict, rounds: int | None = None) -> Ensemble:
    """The ensemble of a dump, of its first `rounds` where that is told.

    A file that a class of scikit-learn's kind saved answers to its best iteration, as the class does. Raises ValueError for an
    objective that is not known here, for leaves of several numbers and for `gblinear`.
    """
    learner = dump["learner"]
    name, booster, said = learner["objective"]["name"], learner["gradient_booster"], learner["learner_model_param"]
    if name not in LINKS:
        raise refuse_objective("XGBoost", name, list(LINKS))
    if booster["name"] == "gblinear":
        raise ValueError("its booster must be gbtree or dart; got gblinear")
    weights = booster.get("weight_drop")
    model = booster["gbtree"]["model"] if booster["name"] == "dart" else booster["model"]
    outputs = max(1, int(said.get("num_class", 0)), int(said.get("num_target", 1)))
    if outputs > 1 and name not in CLASSES:
        raise ValueError(f"it must have one target; got {outputs}")
    ends = model["iteration_indptr"]
    if rounds is None and "scikit_learn" in learner["attributes"] and "best_iteration" in learner["attributes"]:
        rounds = int(learner["attributes"]["best_iteration"]) + 1
    trees = [read_tree(one, 1.0 if weights is None else float(weights[i])) for i, one in enumerate(model["trees"])]
    scored = []
    for start, end in list(itertools.pairwise(ends))[:rounds]:
        mine = [[tree for at, tree in zip(model["tree_info"][start:end], trees[start:end], strict=True) if at == k]
                for k in range(outputs)]  # fmt: skip
        scored += [list(row) for row in zip(*mine, strict=True)]  # several parallel trees are as many rounds
    base = np.array(said["base_score"].strip("[]").split(","), np.float32).astype(float)
    labels = np.arange(max(2, outputs)) if name in CLASSES else None
    base = SCORES[LINKS[name]](np.broadcast_to(base, outputs))
    names, levels = learner["feature_names"] or None, words_of(model.get("cats", {}))
    return Ensemble(scored, base, LINKS[name], int(said["num_feature"]), names, labels, levels=levels)


def words_of(said: dict) -> dict[int, list]:
    """The categories of a data frame's columns, by feature: texts as their bytes one after another, numbers as they are."""
    found: dict[int, list] = {}
    for feature, one in enumerate(said.get("enc", [])):
        values, ends = one["values"], one.get("offsets")
        if ends is None:
            found[feature] = values
        elif len(ends) > 1:
            text = bytes(value % 256 for value in values)
            found[feature] = [text[a:b].decode() for a, b in itertools.pairwise(ends)]
    return found


def read_tree(one: dict, weight: float) -> Tree:
    """A tree of the dump, its leaves by a weight. Below a split by category left is right, since those in its set go right."""
    if int(one["tree_param"].get("size_leaf_vector", 1)) > 1:
        raise ValueError("its leaves must hold one number; got several (`multi_strategy=multi_output_tree`)")
    left, right = np.array(one["left_children"]), np.array(one["right_children"])
    missing = np.array(one["default_left"], bool)
    threshold = np.array(one["split_conditions"], np.float32)
    members = {}
    for at, start, size in zip(one["categories_nodes"], one["categories_segments"], one["categories_sizes"], strict=True):
        members[at] = np.array(one["categories"][start : start + size], int)
        left[at], right[at], missing[at] = right[at], left[at], not missing[at]
    below = np.nextafter(threshold, np.float32(-np.inf)).astype(float)  # less than it in float32 is at most the number before it
    value = threshold.astype(float)[:, None] * weight
    return Tree(np.array(one["split_indices"]), below, missing, left, right, value, members)


def best_rounds(model: Any) -> int | None:
    """How many rounds a class of scikit-learn's kind answers from: to the best iteration, where it stopped early."""
    found = model.get_booster().attr("best_iteration")
    return None if found is None else int(found) + 1
