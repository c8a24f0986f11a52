"""Metrics of numbers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from arsenal.metrics.average import answer, as_float, average, zero_dead_rows
from arsenal.metrics.moments import Moments, add_moments, moments, no_rows
from arsenal.records import Metric


def mean_squared_error() -> Metric:
    """The mean of `(predict - y)²`, in y's units squared; both [n, ...] of one shape, averaged over a row first.

    >>> from arsenal.records import batch
    >>> metric, rows = mean_squared_error(), batch(y=[1.0, 2.0])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([1.0, 4.0])}, rows))["mean_squared_error"])
    2.0
    """
    name = "mean_squared_error"
    return average(name, lambda outputs, batch: per_row(jnp.square, outputs, batch, name), "min")


def mean_absolute_error() -> Metric:
    """The mean of `|predict - y|`, in y's units; both [n, ...] of one shape, averaged over a row first.

    >>> from arsenal.records import batch
    >>> metric, rows = mean_absolute_error(), batch(y=[1.0, 2.0])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([1.0, 4.0])}, rows))["mean_absolute_error"])
    1.0
    """
    name = "mean_absolute_error"
    return average(name, lambda outputs, batch: per_row(jnp.abs, outputs, batch, name), "min")


def root_mean_squared_error() -> Metric:
    """The root of `mean_squared_error`, in y's units; `predict` and y [n, ...] of one shape.

    The root is taken once, at the end, over the rows and all numbers of a row; scikit-learn takes one for each column.

    >>> from arsenal.records import batch
    >>> metric, rows = root_mean_squared_error(), batch(y=[1.0, 2.0])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([2.0, 1.0])}, rows)
    >>> float(metric.compute(acc)["root_mean_squared_error"])
    1.0
    """
    name = "root_mean_squared_error"
    squared = average(name, lambda outputs, batch: per_row(jnp.square, outputs, batch, name), "min")
    return squared._replace(compute=lambda acc: {name: jnp.sqrt(squared.compute(acc)[name])})


def mean_absolute_percentage_error() -> Metric:
    """The mean of `|predict - y| / |y|`, a share, not times 100; both [n, ...], averaged over a row first.

    `|y|` is at least 2.2e-16, as in scikit-learn, so a target of 0 makes the answer huge.

    >>> from arsenal.records import batch
    >>> metric, rows = mean_absolute_percentage_error(), batch(y=[1.0, 2.0])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([1.0, 4.0])}, rows)
    >>> float(metric.compute(acc)["mean_absolute_percentage_error"])
    0.5
    """
    name = "mean_absolute_percentage_error"

    def share(outputs, batch):
        y = as_float(batch.y)
        return per_row(lambda apart: jnp.abs(apart) / jnp.maximum(jnp.abs(y.astype(apart.dtype)), 2.0**-52), outputs, batch, name)

    return average(name, share, "min")


class VarianceSums(NamedTuple):
    """The squared residuals so far, and the moments of y."""

    residual: jax.Array
    target: Moments


def r2_score() -> Metric:
    """The share of y's variance that `predict` explains, `1 - Σ w (y - predict)² / Σ w (y - mean y)²`, at most 1.

    y and `predict` are [n] or [n, 1]. Where y does not vary: 1 for exact answers, else 0, as in scikit-learn; NaN where
    no row was counted.

    >>> from arsenal.records import batch
    >>> metric, rows = r2_score(), batch(y=[0.0, 1.0, 2.0])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([0.0, 1.0, 1.0])}, rows))["r2_score"])
    0.5
    """

    def update(acc, outputs, batch):
        if batch.y.shape[1:] not in ((), (1,)):
            raise ValueError(f"`r2_score` takes one target per row, [n] or [n, 1]; got {batch.y.shape}.")
        weight = batch.weight.astype(acc.residual.dtype)
        square = zero_dead_rows(per_row(jnp.square, outputs, batch, "r2_score").astype(weight.dtype), weight)
        target = moments(batch.y.astype(weight.dtype).reshape(-1, 1), weight)
        return VarianceSums(acc.residual + jnp.sum(square * weight), add_moments(acc.target, target))

    def compute(acc):
        total = acc.target.scatter[0, 0]
        score = jnp.where(total > 0, 1 - acc.residual / jnp.where(total > 0, total, 1), (acc.residual == 0).astype(total.dtype))
        return {"r2_score": jnp.where(acc.target.weight > 0, score, jnp.nan)}

    return Metric(
        empty=lambda: VarianceSums(jnp.zeros(()), no_rows(1)),
        update=update,
        merge=lambda a, b: VarianceSums(a.residual + b.residual, add_moments(a.target, b.target)),
        compute=compute,
        mode="max",
    )


def explained_variance() -> Metric:
    """The share of y's variance that is gone from `y - predict`, `1 - var(y - predict) / var(y)`, at most 1.

    y and `predict` are [n] or [n, 1]. Unlike `r2_score` it overlooks a constant offset. Where y does not vary: 1 for
    residuals that do not either, else 0, as in scikit-learn; NaN where no row was counted.

    >>> from arsenal.records import batch
    >>> metric, rows = explained_variance(), batch(y=[0.0, 1.0, 2.0])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([3.0, 4.0, 5.0])}, rows)
    >>> float(metric.compute(acc)["explained_variance"])
    1.0
    """

    def update(acc, outputs, batch):
        predict = answer(outputs, "predict", "explained_variance")
        if batch.y.shape[1:] not in ((), (1,)) or predict.shape != batch.y.shape:
            raise ValueError(
                f"`explained_variance` takes answers and targets [n] or [n, 1]; got {predict.shape} and {batch.y.shape}."
            )
        weight = batch.weight.astype(acc.weight.dtype)
        y, predict = (v.astype(weight.dtype).reshape(-1) for v in (batch.y, predict))
        return add_moments(acc, moments(jnp.stack([y, y - predict], 1), weight))

    def compute(acc):
        total, left = acc.scatter[0, 0], acc.scatter[1, 1]
        score = jnp.where(total > 0, 1 - left / jnp.where(total > 0, total, 1), (left == 0).astype(total.dtype))
        return {"explained_variance": jnp.where(acc.weight > 0, score, jnp.nan)}

    return Metric(lambda: no_rows(2), update, add_moments, compute, "max")


def per_row(size, outputs: dict, batch, metric: str) -> jax.Array:
    """`size(predict - y)`, averaged over all but the first axis; ValueError where the shapes differ."""
    predict = answer(outputs, "predict", metric)
    if predict.shape != batch.y.shape:
        raise ValueError(f"`{metric}` takes answers of the targets' shape {batch.y.shape}; got {predict.shape}.")
    predict = as_float(predict)
    each = size(predict - batch.y.astype(predict.dtype))
    return each.mean(axis=tuple(range(1, each.ndim)))
