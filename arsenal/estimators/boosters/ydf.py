"""YDF's models by its tree inspection: splits by `>=` in float32, sets of categories by their words, votes.

Guillame-Bert et al., KDD 2023; ydf.readthedocs.io, "Inspecting trees".
"""

from typing import Any

import numpy as np

from arsenal.estimators.boosters.ensemble import Ensemble, grow

LINKS = {"IDENTITY": "identity", "EXP": "exp", "SIGMOID": "logistic", "SOFTMAX": "softmax"}
"""By activation, of boosted trees."""
KINDS = ("NUMERICAL", "BOOLEAN", "CATEGORICAL")


def dump_ydf(model: Any) -> dict:
    """What YDF says of a model, as plain JSON."""
    spec = model.data_spec().columns
    features = []
    for one in model.input_features():
        words = sorted(spec[one.column_idx].categorical.items.items(), key=lambda item: item[1].index)
        features.append({
            "name": one.name, "column": one.column_idx, "kind": one.semantic.name, "words": [word for word, _ in words[1:]],
        })  # fmt: skip
    said = {"ydf": type(model).__name__, "task": model.task().name, "features": features}
    if model.task().name == "CLASSIFICATION":
        said["labels"] = list(model.label_classes())
    if hasattr(model, "initial_predictions"):
        said |= {"base": model.initial_predictions().tolist(), "activation": model.activation().name}
    else:
        said["votes"] = bool(getattr(model, "winner_takes_all", lambda: False)())
    return said | {"trees": [dump_node(tree.root) for tree in model.get_all_trees()]}


def dump_node(node: Any) -> dict:
    """A node, and those below it."""
    if not hasattr(node, "condition"):
        value = node.value
        return {"value": list(value.probability) if hasattr(value, "probability") else getattr(value, "value", None)}
    asked = node.condition
    said = {"kind": type(asked).__name__.removesuffix("Condition"), "missing": bool(asked.missing)}
    said |= {"column": asked.attribute} if hasattr(asked, "attribute") else {}
    said |= {"threshold": float(asked.threshold)} if hasattr(asked, "threshold") else {}
    said |= {"mask": list(asked.mask)} if hasattr(asked, "mask") else {}
    return said | {"yes": dump_node(node.pos_child), "no": dump_node(node.neg_child)}


def read_ydf(dump: dict) -> Ensemble:
    """The ensemble of such a dump. Raises ValueError for a task, a column or a split that is not known here."""
    if dump["task"] not in ("CLASSIFICATION", "REGRESSION"):
        raise ValueError(f"its task must be classification or regression; got {dump['task'].lower()}")
    place = {one["column"]: i for i, one in enumerate(dump["features"])}
    if strange := [one for one in dump["features"] if one["kind"] not in KINDS]:
        name, kind = strange[0]["name"], strange[0]["kind"].lower()
        raise ValueError(f"its columns must be numerical, boolean or categorical; got {name}, {kind}")
    labels = np.array(dump["labels"]) if "labels" in dump else None
    many = len(dump["trees"])
    if "base" in dump:
        outputs, base, link = len(dump["base"]), dump["base"], LINKS[dump["activation"]]
        share = lambda value: value  # noqa: E731
    else:
        outputs, base, link = 1, [0.0], "identity" if labels is None else "shares"
        share = lambda value: leaf_share(value, dump["votes"]) / many  # noqa: E731
    words = [len(one["words"]) for one in dump["features"]]
    trees = [grow(one, lambda node: read_node(node, place, words, share)) for one in dump["trees"]]
    levels = {i: one["words"] for i, one in enumerate(dump["features"]) if one["kind"] == "CATEGORICAL"}
    names = [one["name"] for one in dump["features"]]
    rounds = [trees[i : i + outputs] for i in range(0, many, outputs)]
    return Ensemble(rounds, np.array(base, float), link, len(names), names, labels, levels=levels)


def leaf_share(value: Any, votes: bool) -> Any:
    """What a tree of a forest says: its probabilities, or one vote for the likeliest."""
    if votes and isinstance(value, list):
        return np.eye(len(value))[int(np.argmax(value))]
    return np.asarray(value, float) if isinstance(value, list) else float(value)


def read_node(node: dict, place: dict[int, int], words: list[int], share: Any) -> Any:
    """A node of the dump; what the condition holds for goes right, of a set of categories left."""
    if "value" in node:
        return share(node["value"])
    kind, yes, no = node["kind"], node["yes"], node["no"]
    feature, missing = place.get(node.get("column", -1), -1), node["missing"]
    if kind == "NumericalHigherThan":
        return feature, just_below(node["threshold"]), not missing, None, no, yes
    if kind == "IsTrue":
        return feature, just_below(0.5), not missing, None, no, yes
    if kind == "IsMissingIn":
        return feature, np.inf, False, None, no, yes
    if kind == "CategoricalIsIn":  # 0 stands for all that are not in the dictionary, which go right in ours
        if 0 not in node["mask"]:
            return feature, 0.0, missing, np.array(node["mask"]) - 1, yes, no
        return feature, 0.0, not missing, np.setdiff1d(np.arange(words[feature]), np.array(node["mask"]) - 1), no, yes
    raise ValueError(f"its splits must ask for numbers, truth values or sets of categories; got {kind}")


def just_below(threshold: float) -> float:
    """The float32 before a threshold: at most that is less than the threshold."""
    return float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))
