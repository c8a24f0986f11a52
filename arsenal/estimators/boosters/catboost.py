"""CatBoost's models in JSON: symmetric trees and others, gaps by the feature, categories one by one.

CatBoost's documentation, "Model export", JSON.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from arsenal.estimators.boosters.ensemble import Ensemble, grow, refuse_objective
from arsenal.estimators.trees import Tree

LINKS = {
    "RMSE": "identity", "MAE": "identity", "Quantile": "identity", "MAPE": "identity", "Huber": "identity",
    "Expectile": "identity", "LogCosh": "identity", "Lq": "identity", "Poisson": "exp", "Tweedie": "exp", "Logloss": "logistic",
    "CrossEntropy": "logistic", "MultiClass": "softmax", "MultiClassOneVsAll": "one against all",
}  # fmt: skip
"""By loss function."""


class Features(NamedTuple):
    """What a dump says of its features, each kind numbered by itself."""

    numbers: dict[int, dict]
    categories: dict[int, dict]
    words: dict[int, str]
    """By hash, of 32 bits."""


def read_catboost(dump: dict) -> Ensemble:
    """The ensemble of a dump.

    Raises ValueError for a loss that is not known here, and for splits that ask for more than a number or one category.
    """
    said, info = dump["features_info"], dump["model_info"]
    name = info["params"]["loss_function"]["type"]
    if name not in LINKS:
        raise refuse_objective("CatBoost", name, list(LINKS))
    numbers, categories = (
        {one["feature_index"]: one for one in said.get(kind, [])} for kind in ("float_features", "categorical_features")
    )
    features = Features(numbers, categories, {one["hash"]: one["value"] for one in said.get("cat_features_hash", [])})
    levels = {one["flat_feature_index"]: known_words(features, one) for one in categories.values()}
    scale, bias = dump["scale_and_bias"]
    grow_one, trees = (grow_free, dump["trees"]) if "trees" in dump else (grow_symmetric, dump["oblivious_trees"])
    read = lambda split: read_split(features, split)  # noqa: E731
    rounds = [[grow_one(one, read, output, len(bias), scale) for output in range(len(bias))] for one in trees]
    labels = np.array(info["class_params"]["class_names"]) if "class_params" in info else None
    columns = {one["flat_feature_index"]: one.get("feature_name", "") for one in [*numbers.values(), *categories.values()]}
    names = [columns.get(i, "") for i in range(1 + max(columns))]
    given = names if all(names) and names != list(map(str, range(len(names)))) else None
    return Ensemble(rounds, np.array(bias, float), LINKS[name], len(names), given, labels, levels=levels)


def known_words(features: Features, category: dict) -> list[str]:
    """The words that splits by a category ask for; all others are unknown ones."""
    return sorted(word_of(features, value) for value in category.get("values", []))


def word_of(features: Features, value: int) -> str:
    """The word of a hash; ValueError where the dump does not say."""
    found = features.words.get(value % 2**32)
    if found is None:
        raise ValueError(
            "its categories must be known by their words, not by their hashes alone: save it with `pool`, or give an `example` "
            "in which all words are that its splits ask for"
        )
    return found


def read_split(features: Features, split: dict) -> tuple:
    """Feature, threshold, where NaN goes, members, and whether what is asked for goes left."""
    kind = split.get("split_type", "FloatFeature")
    if kind == "FloatFeature":
        one = features.numbers[split["float_feature_index"]]
        return one["flat_feature_index"], split["border"], one["nan_value_treatment"] != "AsTrue", None, False
    if kind == "OneHotFeature":
        one = features.categories[split["cat_feature_index"]]
        code = known_words(features, one).index(word_of(features, split["value"]))
        return one["flat_feature_index"], 0.0, False, [code], True
    raise ValueError(
        f"its splits must ask for numbers or for one category (`one_hot_max_size`); got {kind}, which is computed from the "
        "training rows' targets"
    )


def grow_symmetric(one: dict, read: Callable, output: int, outputs: int, scale: float) -> Tree:
    """A tree with one split for every level, the last at the root."""
    said = [read(split) for split in one["splits"]]
    values = np.array(one["leaf_values"], float).reshape(-1, outputs)[:, output] * scale

    def node(at: tuple[int, int]) -> Any:
        depth, leaf = at
        if depth == 0:
            return float(values[leaf])
        *split, left = said[depth - 1]
        below = (depth - 1, leaf), (depth - 1, leaf | 1 << depth - 1)
        return *split, below[left], below[not left]

    return grow((len(said), 0), node)


def grow_free(root: dict, read: Callable, output: int, outputs: int, scale: float) -> Tree:
    """A tree of nodes within nodes."""

    def node(one: dict) -> Any:
        if "split" not in one:
            return float(np.ravel(one["value"])[output]) * scale
        *split, left = read(one["split"])
        below = one["left"], one["right"]
        return *split, below[left], below[not left]

    return grow(root, node)
