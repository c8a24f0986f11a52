"""A global surrogate: one small tree fitted to a model's answers, how faithful it is, and its rules in words.

Craven & Shavlik, "Extracting tree-structured representations of trained networks", NeurIPS 1995.
"""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Gt


class Surrogate(NamedTuple):
    """A tree that stands for a model."""

    rules: str
    """One line for each node, as scikit-learn's `export_text` writes them."""
    fidelity: float
    """On the held-out rows: the share of the model's classes that the tree gives, or of numbers its R² to the model."""
    tree: Any
    """scikit-learn's tree."""


def surrogate_tree(
    table: np.ndarray, names: Sequence[str], answers: np.ndarray, weight: np.ndarray | None = None,
    leaves: Annotated[int, Gt(1)] = 8, labels: Sequence[str] | None = None,
) -> Surrogate:  # fmt: skip
    """The tree of at most `leaves` fitted to answers [n], numbers or whole labels, from a table [n, d] of named columns.

    It learns from two rows of three and its fidelity is that of the third ones. NaN may be in the table. On the host, by
    scikit-learn's DecisionTree.

    >>> table = np.arange(30.0)[:, None]
    >>> found = surrogate_tree(table, ["age"], (table[:, 0] > 14).astype(int), leaves=2, labels=["young", "old"])
    >>> print(found.rules, found.fidelity)
    |--- age <= 14.00
    |   |--- class: young
    |--- age >  14.00
    |   |--- class: old
     1.0
    """
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, export_text

    if leaves < 2:
        raise ValueError(f"`leaves` of `surrogate_tree` must be > 1; got {leaves}.")
    weight = np.ones(len(table)) if weight is None else np.asarray(weight)
    there = np.flatnonzero(weight > 0)
    table, answers, weight = np.asarray(table)[there], np.asarray(answers)[there], weight[there]
    if len(there) < 3 or answers.ndim != 1:
        raise ValueError(f"`surrogate_tree` takes answers [n] of at least 3 rows that are there; got shape {answers.shape}.")
    classes = answers.dtype.kind in "iub"
    held = np.arange(len(there)) % 3 == 2
    tree = (DecisionTreeClassifier if classes else DecisionTreeRegressor)(max_leaf_nodes=leaves, random_state=0)
    tree.fit(table[~held], answers[~held], weight[~held])
    named = [labels[c] if labels is not None else str(c) for c in tree.classes_] if classes else None
    rules = export_text(tree, feature_names=list(names), class_names=named, max_depth=leaves)
    return Surrogate(rules, float(tree.score(table[held], answers[held], weight[held])), tree)
