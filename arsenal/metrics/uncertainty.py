"""Metrics of answers that say how sure they are: intervals, draws and laws of a number."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Interval

from arsenal.metrics.average import answer, as_float, average
from arsenal.records import Metric


def interval_coverage() -> Metric:
    """The share of rows whose y [n] lies in `interval` [n, 2], its ends included: of intervals of level 0.9, 0.9 is right.

    >>> from arsenal.records import batch
    >>> metric, rows = interval_coverage(), batch(y=[1.0, 5.0])
    >>> acc = metric.update(metric.empty(), {"interval": jnp.array([[0.0, 2.0], [0.0, 2.0]])}, rows)
    >>> float(metric.compute(acc)["interval_coverage"])
    0.5
    """

    def value(outputs, batch):
        low, high, y = interval_ends("interval_coverage", outputs, batch)
        return as_float((low <= y) & (y <= high))

    return average("interval_coverage", value, None)


def interval_width() -> Metric:
    """The mean width of `interval` [n, 2], in y's units.

    >>> from arsenal.records import batch
    >>> metric, rows = interval_width(), batch(y=[1.0])
    >>> float(metric.compute(metric.update(metric.empty(), {"interval": jnp.array([[0.0, 2.0]])}, rows))["interval_width"])
    2.0
    """

    def value(outputs, batch):
        low, high, _ = interval_ends("interval_width", outputs, batch)
        return high - low

    return average("interval_width", value, "min")


def interval_score(level: Annotated[float, Interval(gt=0, lt=1)] = 0.9) -> Metric:
    """The mean of an interval's width and, times `2 / (1 - level)`, of how far y lies outside, in y's units.

    Least for the true quantiles of intervals that hold y with probability `level`. `interval` [n, 2], y [n]. Gneiting &
    Raftery, JASA 102 (2007), eq. 43.

    >>> from arsenal.records import batch
    >>> metric, rows = interval_score(0.5), batch(y=[3.0])
    >>> float(metric.compute(metric.update(metric.empty(), {"interval": jnp.array([[0.0, 2.0]])}, rows))["interval_score"])
    6.0
    """

    def value(outputs, batch):
        low, high, y = interval_ends("interval_score", outputs, batch)
        outside = jnp.maximum(low - y, 0) + jnp.maximum(y - high, 0)
        return high - low + 2 / (1 - level) * outside

    return average("interval_score", value, "min")


def interval_ends(metric: str, outputs: dict, batch) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The ends of `interval` and y, each [n]; ValueError where the shapes differ."""
    interval = answer(outputs, "interval", metric)
    if batch.y.ndim != 1 or interval.shape != (*batch.y.shape, 2):
        raise ValueError(f"`{metric}` takes `interval` [n, 2] and targets [n]; got {interval.shape} and {batch.y.shape}.")
    interval = as_float(interval)
    return interval[:, 0], interval[:, 1], batch.y.astype(interval.dtype)


def crps() -> Metric:
    """The continuous ranked probability score of draws, `mean |X - y| - ½ mean |X - X'|`, in y's units; 0 is exact.

    `draws` [n, m] from the law that is said of y [n]: the score is that of their own distribution, the integral of its squared
    distance from y's step. Matheson & Winkler, Manag. Sci. 22 (1976); Gneiting & Raftery, JASA 102 (2007), eq. 21.

    >>> from arsenal.records import batch
    >>> metric, rows = crps(), batch(y=[1.0])
    >>> float(metric.compute(metric.update(metric.empty(), {"draws": jnp.array([[0.0, 2.0]])}, rows))["crps"])
    0.5
    """

    def value(outputs, batch):
        draws = answer(outputs, "draws", "crps")
        if batch.y.ndim != 1 or draws.ndim != 2 or len(draws) != len(batch.y):
            raise ValueError(f"`crps` takes `draws` [n, m] and targets [n]; got {draws.shape} and {batch.y.shape}.")
        draws = jnp.sort(as_float(draws), 1)
        m = draws.shape[1]
        # Σ_ij |x_i - x_j| of sorted x is 2 Σ_i (2 i - m - 1) x_i, i from 1.
        rank = 2 * jnp.arange(1, m + 1, dtype=draws.dtype) - m - 1
        apart = jnp.abs(draws - batch.y.astype(draws.dtype)[:, None]).mean(1)
        return apart - jnp.sum(rank * draws, 1) / m**2

    return average("crps", value, "min")


def normal_crps() -> Metric:
    """The continuous ranked probability score of a normal law, `predict` [n] its mean and `predict_deviation` [n], in y's units.

    `s (z (2 Φ(z) - 1) + 2 φ(z) - 1 / √π)`, z = (y - predict) / s. Gneiting et al., Mon. Weather Rev. 133 (2005), eq. 5.

    >>> from arsenal.records import batch
    >>> metric, rows = normal_crps(), batch(y=[0.0])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.zeros(1), "predict_deviation": jnp.ones(1)}, rows)
    >>> round(float(metric.compute(acc)["normal_crps"]), 4)
    0.2337
    """

    def value(outputs, batch):
        mean, deviation = (as_float(answer(outputs, one, "normal_crps")) for one in ("predict", "predict_deviation"))
        if batch.y.ndim != 1 or not mean.shape == deviation.shape == batch.y.shape:
            raise ValueError(
                "`normal_crps` takes `predict`, `predict_deviation` and targets [n]; "
                f"got {mean.shape}, {deviation.shape} and {batch.y.shape}."
            )
        z = (batch.y.astype(mean.dtype) - mean) / deviation
        density = jnp.exp(-jnp.square(z) / 2) / math.sqrt(2 * math.pi)
        return deviation * (z * jax.lax.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))

    return average("normal_crps", value, "min")
