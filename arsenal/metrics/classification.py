"""Metrics of labels and of probabilities of labels."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Ge

from arsenal.metrics.average import add, alive, answer, average, real
from arsenal.metrics.histogram import histogram
from arsenal.records import Metric


def accuracy() -> Metric:
    """The share of right labels: `predict` is y. Both [n], or [n, ...] with the mean over a row's labels first.

    >>> from arsenal.records import batch
    >>> acc = accuracy().update(accuracy().empty(), {"predict": jnp.array([0, 1])}, batch(y=[0, 0], weight=[3, 1]))
    >>> float(accuracy().compute(acc)["accuracy"])
    0.75
    """

    def value(outputs, batch):
        predict = answer(outputs, "predict", "accuracy")
        if predict.shape != batch.y.shape:
            raise ValueError(f"`accuracy` takes answers of the targets' shape {batch.y.shape}; got {predict.shape}.")
        right = real(predict == batch.y.astype(predict.dtype))
        return right.mean(axis=tuple(range(1, right.ndim)))

    return average("accuracy", value)


def log_loss() -> Metric:
    """`-log p(y)` of `predict_proba` [n, classes] and labels [n]; p is at least the type's epsilon, as in scikit-learn.

    >>> from arsenal.records import batch
    >>> acc = log_loss().update(log_loss().empty(), {"predict_proba": jnp.array([[0.5, 0.5]])}, batch(y=[1]))
    >>> round(float(log_loss().compute(acc)["log_loss"]), 4)
    0.6931
    """

    def value(outputs, batch):
        p = probabilities(outputs, batch, "log_loss")
        of_label = jnp.take_along_axis(p, batch.y[:, None].astype(jnp.int32), axis=1)[:, 0]
        return -jnp.log(jnp.maximum(of_label, jnp.finfo(p.dtype).eps))

    return average("log_loss", value)


def brier_score() -> Metric:
    """`Σ_k (p_k - [y = k])²` of `predict_proba` [n, classes], 0..2; with two classes half of it, 0..1.

    Brier, Mon. Weather Rev. 78 (1950); the half is scikit-learn's, so that two classes give `(p_1 - y)²`.

    >>> from arsenal.records import batch
    >>> acc = brier_score().update(brier_score().empty(), {"predict_proba": jnp.array([[0.5, 0.5]])}, batch(y=[1]))
    >>> float(brier_score().compute(acc)["brier_score"])
    0.25
    """

    def value(outputs, batch):
        p = probabilities(outputs, batch, "brier_score")
        square = jnp.square(p - jax.nn.one_hot(batch.y, p.shape[1], dtype=p.dtype)).sum(1)
        return square / 2 if p.shape[1] == 2 else square

    return average("brier_score", value)


class Calibration(NamedTuple):
    """Sums by bin of confidence, each [bins]."""

    weight: jax.Array
    confidence: jax.Array
    right: jax.Array


def calibration_error(bins: Annotated[int, Ge(1)] = 15) -> Metric:
    """The expected calibration error, 0..1: mean gap between confidence and accuracy over `bins` of equal width.

    Confidence is the largest of `predict_proba` [n, classes]; bin b is (b / bins, (b + 1) / bins]. Guo et al. 2017
    (1706.04599).

    >>> from arsenal.records import batch
    >>> metric, rows = calibration_error(), batch(y=[0, 1])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.array([[0.75, 0.25], [0.75, 0.25]])}, rows)
    >>> float(metric.compute(acc)["calibration_error"])
    0.25
    """

    def update(acc, outputs, batch):
        p = probabilities(outputs, batch, "calibration_error")
        weight = batch.weight.astype(acc.weight.dtype)
        confidence = alive(p.max(1).astype(weight.dtype), weight)
        right = (p.argmax(1).astype(jnp.int32) == batch.y.astype(jnp.int32)).astype(weight.dtype)
        at = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
        return add(acc, Calibration(*(histogram(at, weight * v, bins) for v in (jnp.ones_like(weight), confidence, right))))

    return Metric(
        empty=lambda: Calibration(jnp.zeros(bins), jnp.zeros(bins), jnp.zeros(bins)),
        update=update,
        merge=add,
        compute=lambda acc: {"calibration_error": jnp.abs(acc.confidence - acc.right).sum() / acc.weight.sum()},
    )


class Counts(NamedTuple):
    """Weights by class, each [classes]: rightly predicted, predicted, and truly so."""

    right: jax.Array
    predicted: jax.Array
    true: jax.Array


def f1_macro(classes: Annotated[int, Ge(2)]) -> Metric:
    """The mean over classes of `2 right / (predicted + true)`, of `predict` [n] and y [n] in 0..classes-1.

    A class that is neither predicted nor true does not count; NaN where no row was counted.

    >>> from arsenal.records import batch
    >>> metric, rows = f1_macro(classes=3), batch(y=[0, 0, 1, 1])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([0, 0, 1, 0])}, rows)
    >>> round(float(metric.compute(acc)["f1_macro"]), 4)
    0.7333
    """

    def update(acc, outputs, batch):
        predict = answer(outputs, "predict", "f1_macro").astype(jnp.int32)
        y, weight = batch.y.astype(jnp.int32), batch.weight.astype(acc.true.dtype)
        right = histogram(y, weight * (predict == y).astype(weight.dtype), classes)
        return add(acc, Counts(right, histogram(predict, weight, classes), histogram(y, weight, classes)))

    def compute(acc):
        either = acc.predicted + acc.true
        each = 2 * acc.right / jnp.where(either > 0, either, 1)
        return {"f1_macro": each.sum() / jnp.sum(either > 0).astype(each.dtype)}

    return Metric(lambda: Counts(jnp.zeros(classes), jnp.zeros(classes), jnp.zeros(classes)), update, add, compute)


class Scores(NamedTuple):
    """Weights by bin of score, each [bins], of the rows of either class."""

    negative: jax.Array
    positive: jax.Array


def roc_auc(bins: Annotated[int, Ge(2)] = 10_000) -> Metric:
    """The area under the ROC curve of two classes: how often a row of class 1 scores above one of class 0.

    The score is the log odds of `predict_proba` [n, 2]. To stay bounded it is counted in `bins` equal bins over
    -20..20, and two rows of one bin are a tie: the answer is off by at most half the share of pairs in one bin, for
    10,000 bins a difference of 0.4 % in odds. NaN where a class has no row. Hanley & McNeil, Radiology 143 (1982).

    >>> from arsenal.records import batch
    >>> metric, rows = roc_auc(), batch(y=[0, 1, 0, 1])
    >>> p = jnp.array([0.1, 0.4, 0.6, 0.8])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.stack([1 - p, p], 1)}, rows)
    >>> float(metric.compute(acc)["roc_auc"])
    0.75
    """

    def update(acc, outputs, batch):
        p = probabilities(outputs, batch, "roc_auc")
        if p.shape[1] != 2:
            raise ValueError(f"`roc_auc` takes `predict_proba` [n, 2]; got {p.shape}.")
        weight = batch.weight.astype(acc.positive.dtype)
        odds = alive(jnp.log(p[:, 1]) - jnp.log(p[:, 0]), weight)
        # A score that is no number must not hide in a bin: it makes the answer NaN.
        weight = jnp.where(jnp.isnan(odds), jnp.full_like(weight, jnp.nan), weight)
        at = jnp.clip(jnp.floor((jnp.clip(odds, -20, 20) + 20) * (bins / 40)).astype(jnp.int32), 0, bins - 1)
        positive = (batch.y > 0).astype(weight.dtype)
        return add(acc, Scores(histogram(at, weight * (1 - positive), bins), histogram(at, weight * positive, bins)))

    def compute(acc):
        negative, positive = acc.negative / acc.negative.sum(), acc.positive / acc.positive.sum()
        below = jnp.cumsum(negative) - negative / 2
        return {"roc_auc": jnp.sum(positive * below)}

    return Metric(lambda: Scores(jnp.zeros(bins), jnp.zeros(bins)), update, add, compute)


def probabilities(outputs: dict, batch, metric: str) -> jax.Array:
    """`predict_proba` [n, classes] in 32 bits or more; ValueError where it or the labels have another shape."""
    p = answer(outputs, "predict_proba", metric)
    if p.ndim != 2 or batch.y.shape != p.shape[:1]:
        raise ValueError(f"`{metric}` takes `predict_proba` [n, classes] and labels [n]; got {p.shape} and {batch.y.shape}.")
    return real(p)
