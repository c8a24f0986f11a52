"""Errors worth looking at: the rows on which a model is most sure of what is wrong, or furthest off, with their columns."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

MOST, WIDE = 10, 12
"""Rows that are shown, and columns of each."""


class Mistake(NamedTuple):
    """A row that was answered wrongly."""

    row: int
    """Its id."""
    truth: str | float
    said: str | float
    size: float
    """The probability of what was said, or the absolute error."""
    columns: dict[str, Any]
    """Its raw values by name."""


def worst_mistakes(
    y: Any, row: Any, weight: Any, outputs: Mapping[str, Any], columns: Mapping[str, np.ndarray],
    labels: Sequence[str] | None = None, matter: Sequence[str] = (), most: int = MOST,
) -> list[Mistake]:  # fmt: skip
    """The most confident wrong labels, or the largest absolute errors, of rows with y [n], ids [n] and columns [n], worst first.

    Labels need `predict` and `predict_proba`, numbers `predict`; of other answers there are none. Of many columns the first
    of `matter`, then the others as they come, are kept.
    """
    y, weight = np.asarray(y), np.asarray(weight)
    predict = np.asarray(outputs["predict"]) if "predict" in outputs else None
    if y.ndim != 1 or predict is None or predict.shape != y.shape:
        return []
    if labels:
        proba = np.asarray(outputs["predict_proba"]) if "predict_proba" in outputs else np.zeros(0)
        if proba.ndim != 2 or not np.issubdtype(predict.dtype, np.integer):
            return []
        size = np.where(predict == y, -np.inf, proba[np.arange(len(y)), predict])
    else:
        size = np.abs(predict.astype(float) - y)
        size = np.where(size > 0, size, -np.inf)
    size = np.where((weight > 0) & np.isfinite(size), size, -np.inf)
    order = np.lexsort((np.asarray(row), -size))[:most]
    names = [*(name for name in matter if name in columns), *(name for name in columns if name not in matter)][:WIDE]

    def name_of(value):
        return labels[int(value)] if labels else float(value)

    def mistake(i):
        values = {name: plain(columns[name][i]) for name in names}
        return Mistake(int(row[i]), name_of(y[i]), name_of(predict[i]), float(size[i]), values)

    return [mistake(i) for i in order if np.isfinite(size[i])]


def plain(value: Any) -> Any:
    """A value as Python has it."""
    return value.item() if hasattr(value, "item") else value
