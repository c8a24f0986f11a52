"""The metrics for what a table's target is."""

from typing import Any

from arsenal.metrics.labels import accuracy, balanced_accuracy, f1_macro
from arsenal.metrics.probabilities import brier_score, log_loss
from arsenal.metrics.regression import mean_absolute_error, r2_score, root_mean_squared_error
from arsenal.metrics.scores import roc_auc
from arsenal.records import Metric


def by_target(schema: Any = None) -> dict[str, Metric]:
    """Metrics by name for the target of the data's `schema`: of labels, of two labels, or of numbers.

    >>> from arsenal.data import Schema
    >>> list(by_target(Schema()))
    ['mean_absolute_error', 'root_mean_squared_error', 'r2_score']
    """
    if schema is None:
        return {}
    classes = len(schema.target.columns or ())
    if not classes:
        found = (mean_absolute_error, root_mean_squared_error, r2_score)
        return {one.__name__: one() for one in found}
    balanced = {"balanced_accuracy": balanced_accuracy(classes), "f1_macro": f1_macro(classes)}
    two = {"roc_auc": roc_auc()} if classes == 2 else {}
    return {"accuracy": accuracy(), "log_loss": log_loss(), "brier_score": brier_score(), **balanced, **two}
