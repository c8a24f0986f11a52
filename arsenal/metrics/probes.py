"""What a linear model can tell by a learner's embeddings: metrics of features that were learned without labels."""

from typing import Annotated

import numpy as np
from annotated_types import Gt

from arsenal.metrics.whole import whole_rows
from arsenal.records import Metric


def probe_accuracy(folds: Annotated[int, Gt(1)] = 5, alpha: Annotated[float, Gt(0)] = 1.0) -> Metric:
    """The share of rows whose label a logistic regression tells by their `embedding`, fitted on the rows of the other `folds`.

    `embedding` [n, ...], each number of which is standardised by the rows that fit, and labels y [n]. Folds are drawn by the
    rows' ids. `alpha` is the L2 penalty of scikit-learn's LogisticRegression, whose C is its inverse. NaN where a fold leaves
    one label or none. The linear evaluation of Chen et al., ICML 2020 (2002.05709), section 2.1, within the rows judged.
    """

    def check(outputs, batch):
        if np.ndim(batch.y) != 1 or not np.issubdtype(np.asarray(batch.y).dtype, np.integer):
            raise ValueError(f"`probe_accuracy` takes labels [n]; got {np.asarray(batch.y).dtype} of shape {np.shape(batch.y)}.")

    def value(outputs, batch):
        x = outputs["embedding"].reshape(len(batch.y), -1).astype(np.float64)
        fold = draw_folds(batch.row, folds)
        right = np.zeros(len(x), bool)
        for number in range(folds):
            out = fold == number
            if not out.any():
                continue
            if len(np.unique(batch.y[~out])) < 2:
                return np.nan
            right[out] = tell(x, batch.y, batch.weight, ~out, alpha)[out] == batch.y[out]
        return np.average(right, weights=batch.weight)

    return whole_rows("probe_accuracy", value, ["embedding"], "max", check=check)


def draw_folds(row: np.ndarray, folds: int) -> np.ndarray:
    """A fold 0..folds-1 for each id, the same for the same id. [n].

    >>> draw_folds(np.array([5, 6, 5]), 5).tolist()
    [4, 3, 4]
    """
    mixed = row.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: Knuth, volume 3, 6.4
    return (mixed >> np.uint64(32)) % np.uint64(folds)


def tell(x: np.ndarray, y: np.ndarray, weight: np.ndarray, fit: np.ndarray, alpha: float) -> np.ndarray:
    """The labels [n] that a logistic regression of the rows `fit` says of x [n, d]."""
    from sklearn.linear_model import LogisticRegression

    mean = np.average(x[fit], axis=0, weights=weight[fit])
    spread = np.sqrt(np.average(np.square(x[fit] - mean), axis=0, weights=weight[fit]))
    x = (x - mean) / np.where(spread > 0, spread, 1)
    model = LogisticRegression(C=1 / alpha, max_iter=1000)
    model.fit(x[fit], y[fit], sample_weight=weight[fit])
    return model.predict(x)
