"""Metrics of segmentation: how far the pixels that are said to be of a class are those that are."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Ge

from arsenal.metrics.average import add, answer
from arsenal.metrics.histogram import histogram
from arsenal.metrics.labels import share
from arsenal.records import Metric


class Pixels(NamedTuple):
    """Weights of pixels by class, each [classes]: rightly predicted, predicted, and truly so."""

    right: jax.Array
    predicted: jax.Array
    true: jax.Array


def iou(classes: Annotated[int, Ge(2)]) -> Metric:
    """Intersection over union of every class over all pixels, `iou_0` and so on, and their mean, `iou`, 0..1.

    Masks `predict` and y [n, height, width] of classes 0..classes-1; where y is something else, such as 255 or -1, a pixel does
    not count. A class that is neither predicted nor true is NaN and not in the mean. Everingham et al., IJCV 88 (2010).

    >>> from arsenal.records import batch
    >>> metric, rows = iou(2), batch(y=[[[0, 0], [1, 1]]])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([[[0, 1], [1, 1]]])}, rows)
    >>> [round(float(value), 4) for value in metric.compute(acc).values()]
    [0.5833, 0.5, 0.6667]
    """
    return of_pixels("iou", classes, lambda right, predicted, true: share(right, predicted + true - right))


def dice(classes: Annotated[int, Ge(2)]) -> Metric:
    """`2 right / (predicted + true)` of every class over all pixels, `dice_0` and so on, and their mean, `dice`, 0..1.

    Masks and what does not count as of `iou`. Dice, Ecology 26 (1945).

    >>> from arsenal.records import batch
    >>> metric, rows = dice(2), batch(y=[[[0, 0], [1, 1]]])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([[[0, 1], [1, 1]]])}, rows)
    >>> [round(float(value), 4) for value in metric.compute(acc).values()]
    [0.7333, 0.6667, 0.8]
    """
    return of_pixels("dice", classes, lambda right, predicted, true: share(2 * right, predicted + true))


def of_pixels(name: str, classes: int, value: Callable):
    """The metric `value(right, predicted, true)` of every class and its mean; NaN where no row was counted."""

    def update(acc, outputs, batch):
        predict = answer(outputs, "predict", name)
        if predict.ndim < 2 or predict.shape != batch.y.shape:
            raise ValueError(f"`{name}` takes masks [n, height, width]; got {predict.shape} and {batch.y.shape}.")
        row = batch.weight.astype(acc.true.dtype).reshape(-1, *(1,) * (predict.ndim - 1))
        y, predict, weight = (v.reshape(-1) for v in (batch.y, predict, jnp.broadcast_to(row, predict.shape)))
        y, predict = y.astype(jnp.int32), predict.astype(jnp.int32)
        weight = jnp.where((y >= 0) & (y < classes), weight, 0)
        right = histogram(y, weight * (predict == y).astype(weight.dtype), classes)
        return add(acc, Pixels(right, histogram(predict, weight, classes), histogram(y, weight, classes)))

    def compute(acc):
        there = acc.predicted + acc.true > 0
        each = jnp.where(there, value(*acc), jnp.nan)
        return {name: jnp.nanmean(each), **{f"{name}_{k}": each[k] for k in range(classes)}}

    return Metric(lambda: Pixels(*(jnp.zeros(classes) for _ in range(3))), update, add, compute, "max")
