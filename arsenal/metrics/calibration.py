"""Whether probabilities are as frequent as they say."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge

from arsenal.metrics.average import add, zero_dead_rows
from arsenal.metrics.histogram import histogram
from arsenal.metrics.labels import share
from arsenal.metrics.probabilities import check_proba, probabilities, two_probabilities
from arsenal.metrics.whole import whole_rows
from arsenal.records import Metric


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
        confidence = zero_dead_rows(p.max(1).astype(weight.dtype), weight)
        right = (p.argmax(1).astype(jnp.int32) == batch.y.astype(jnp.int32)).astype(weight.dtype)
        at = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
        return add(acc, Calibration(*(histogram(at, weight * v, bins) for v in (jnp.ones_like(weight), confidence, right))))

    return Metric(
        empty=lambda: Calibration(jnp.zeros(bins), jnp.zeros(bins), jnp.zeros(bins)),
        update=update,
        merge=add,
        compute=lambda acc: {"calibration_error": jnp.abs(acc.confidence - acc.right).sum() / acc.weight.sum()},
        mode="min",
    )


def adaptive_calibration_error(bins: Annotated[int, Ge(1)] = 15) -> Metric:
    """The mean gap between probability and frequency over all classes and `bins` ranges that hold equally many rows, 0..1.

    `predict_proba` [n, classes] and labels [n]. Exact, on the host: rows of one probability stand together, and those on the
    border of two ranges count in both by shares. Nixon et al. 2019 (1904.01685).

    >>> from arsenal.records import batch
    >>> metric, rows = adaptive_calibration_error(), batch(y=[0, 1])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.array([[0.75, 0.25], [0.75, 0.25]])}, rows)
    >>> metric.compute(acc)["adaptive_calibration_error"]
    0.25
    """
    name = "adaptive_calibration_error"

    def gap(p, true, weight):
        at = np.linspace(0, weight.sum(), bins + 1)
        said, is_so = (np.diff(np.interp(at, *running_sums(p, weight, weight * v))) for v in (p, true))
        return np.abs(said - is_so).sum() / weight.sum()

    def value(outputs, batch):
        p, weight = outputs["predict_proba"].astype(float), batch.weight.astype(float)
        return float(np.mean([gap(one, batch.y == k, weight) for k, one in enumerate(p.T)]))

    return whole_rows(name, value, ("predict_proba",), "min", check=lambda outputs, batch: check_proba(name, outputs, batch))


def running_sums(score: np.ndarray, weight: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weight and the value, each [n], summed up over the distinct scores from the least on, from 0: [scores + 1] each."""
    _, at = np.unique(score, return_inverse=True)
    weight, value = (np.concatenate([[0.0], np.cumsum(np.bincount(at, one))]) for one in (weight, value))
    return weight, value


class BinSums(NamedTuple):
    """Sums by bin of probability p and truth y, each [bins]: of 1, p, y, p² and p y."""

    weight: jax.Array
    said: jax.Array
    true: jax.Array
    square: jax.Array
    product: jax.Array


def brier_decomposition(bins: Annotated[int, Ge(1)] = 10) -> Metric:
    """What the Brier score of two classes is made of: `reliability - resolution + uncertainty`, exactly.

    `brier_reliability` is how far probabilities are from frequencies within `bins` of equal width (small is good),
    `brier_resolution` how far these frequencies are from the mean one (large is good), `brier_uncertainty` the variance of y.
    Where probabilities differ within a bin, the resolution takes up their variance and covariance there, so that the sum holds.
    `predict_proba` [n, 2], y [n] in {0, 1}. Murphy, J. Appl. Meteorol. 12 (1973); Stephenson et al., Weather Forecast. 23 (2008).

    >>> from arsenal.records import batch
    >>> metric, rows = brier_decomposition(), batch(y=[0, 1])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.array([[0.5, 0.5], [0.5, 0.5]])}, rows)
    >>> {name: float(value) for name, value in metric.compute(acc).items()}
    {'brier_reliability': 0.0, 'brier_resolution': 0.0, 'brier_uncertainty': 0.25}
    """

    def update(acc, outputs, batch):
        weight = batch.weight.astype(acc.weight.dtype)
        p = zero_dead_rows(two_probabilities(outputs, batch, "brier_decomposition").astype(weight.dtype), weight)
        y = (batch.y > 0).astype(weight.dtype)
        at = jnp.clip(jnp.floor(p * bins).astype(jnp.int32), 0, bins - 1)
        return add(acc, BinSums(*(histogram(at, weight * v, bins) for v in (jnp.ones_like(p), p, y, p * p, p * y))))

    def compute(acc):
        total = acc.weight.sum()
        said, true, mean = share(acc.said, acc.weight), share(acc.true, acc.weight), acc.true.sum() / total
        spread = jnp.sum(acc.square - acc.said * said) / total
        together = jnp.sum(acc.product - acc.said * true) / total
        return {
            "brier_reliability": jnp.sum(acc.weight * (said - true) ** 2) / total,
            "brier_resolution": jnp.sum(acc.weight * (true - mean) ** 2) / total - spread + 2 * together,
            "brier_uncertainty": mean * (1 - mean),
        }

    return Metric(lambda: BinSums(*(jnp.zeros(bins) for _ in range(5))), update, add, compute)
