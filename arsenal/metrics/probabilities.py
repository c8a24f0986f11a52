"""Metrics of the probabilities of labels."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Ge

from arsenal.metrics.average import add, answer, as_float, average, zero_dead_rows
from arsenal.metrics.histogram import histogram
from arsenal.metrics.positions import Over, mean_name, of_labelled, over_positions, surprise
from arsenal.records import Metric


def log_loss(over: Over = "rows") -> Metric:
    """`-log p(y)` of `predict_proba` [n, classes] and labels [n]; p is at least the type's epsilon, as in scikit-learn.

    Of tokens, [n, t, classes] and [n, t], a row's value is the mean over its positions; a label of -1 is one that does
    not count, and a row without any that does is not there. With `over` "tokens" every position counts alike, and the name is
    `token_log_loss`.

    >>> from arsenal.records import batch
    >>> acc = log_loss().update(log_loss().empty(), {"predict_proba": jnp.array([[0.5, 0.5]])}, batch(y=[1]))
    >>> round(float(log_loss().compute(acc)["log_loss"]), 4)
    0.6931
    """

    def value(outputs, batch):
        return over_positions(surprise(outputs, batch, "log_loss"), batch.y)

    return of_labelled(average(mean_name("log_loss", over), value, "min"), over)


def top_k_accuracy(k: Annotated[int, Ge(1)]) -> Metric:
    """The share of rows whose label is among the `k` largest of `predict_proba` [n, classes], as `top_{k}_accuracy`.

    Of equal probabilities the lower class comes first, so that k = 1 is the accuracy of the argmax; 1 from k = classes.

    >>> from arsenal.records import batch
    >>> metric, p = top_k_accuracy(2), jnp.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3]])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict_proba": p}, batch(y=[1, 0])))["top_2_accuracy"])
    0.5
    """
    name = f"top_{k}_accuracy"

    def value(outputs, batch):
        p = probabilities(outputs, batch, name)
        y = batch.y[:, None].astype(jnp.int32)
        of_label = jnp.take_along_axis(p, y, axis=1)
        place = jnp.arange(p.shape[1], dtype=jnp.int32)[None]
        # What is no number is ahead of the label too: it must not make an answer right.
        ahead = jnp.where(place < y, ~(p < of_label), ~(p <= of_label)) & (place != y)
        return as_float(ahead.sum(1) < k)

    return average(name, value, "max")


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
        square = squared_distance(p, batch.y)
        return square / 2 if p.shape[1] == 2 else square

    return average("brier_score", value, "min")


class Explained(NamedTuple):
    """Sums over rows: what was lost [], and the weight of each class [classes]."""

    lost: jax.Array
    true: jax.Array


def d2_log_loss(classes: Annotated[int, Ge(2)]) -> Metric:
    """The share of the log loss of the classes' own frequencies that is gone, at most 1: `1 - log_loss / entropy(y)`.

    `predict_proba` [n, classes] and labels [n], as scikit-learn's `d2_log_loss_score`; NaN where y is of one class or no row was
    counted.

    >>> from arsenal.records import batch
    >>> metric, rows = d2_log_loss(classes=2), batch(y=[0, 1])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.full((2, 2), 0.5)}, rows)
    >>> float(metric.compute(acc)["d2_log_loss"])
    0.0
    """

    def null(shares):
        return -jnp.sum(jnp.where(shares > 0, shares * jnp.log(jnp.where(shares > 0, shares, 1)), 0))

    def lost(outputs, batch):
        probabilities(outputs, batch, "d2_log_loss")
        return surprise(outputs, batch, "d2_log_loss")

    return explained_share("d2_log_loss", classes, lost, null)


def d2_brier(classes: Annotated[int, Ge(2)]) -> Metric:
    """The Brier skill score: the share of the Brier score of the classes' own frequencies that is gone, at most 1.

    `predict_proba` [n, classes] and labels [n], as scikit-learn's `d2_brier_score`; NaN where y is of one class or no row was
    counted. Brier, Mon. Weather Rev. 78 (1950).

    >>> from arsenal.records import batch
    >>> metric, rows = d2_brier(classes=2), batch(y=[0, 1])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.array([[1.0, 0.0], [0.5, 0.5]])}, rows)
    >>> float(metric.compute(acc)["d2_brier"])
    0.5
    """

    def lost(outputs, batch):
        return squared_distance(probabilities(outputs, batch, "d2_brier"), batch.y)

    return explained_share("d2_brier", classes, lost, lambda shares: jnp.sum(shares * (1 - shares)))


def explained_share(name: str, classes: int, lost: Callable, null: Callable):
    """The metric `1 - lost / null`: of the mean of `lost(outputs, batch) -> [n]` and of what the classes' shares lose."""

    def update(acc, outputs, batch):
        weight = batch.weight.astype(acc.lost.dtype)
        each = zero_dead_rows(lost(outputs, batch).astype(weight.dtype), weight)
        return add(acc, Explained(jnp.sum(each * weight), histogram(batch.y.astype(jnp.int32), weight, classes)))

    def compute(acc):
        total = acc.true.sum()
        reference = null(acc.true / jnp.where(total > 0, total, 1))
        mean = acc.lost / jnp.where(total > 0, total, 1)
        return {name: jnp.where(reference > 0, 1 - mean / jnp.where(reference > 0, reference, 1), jnp.nan)}

    return Metric(lambda: Explained(jnp.zeros(()), jnp.zeros(classes)), update, add, compute, "max")


def squared_distance(p: jax.Array, y: jax.Array) -> jax.Array:
    """`Σ_k (p_k - [y = k])²` of p [n, classes] and labels y [n]."""
    return jnp.square(p - jax.nn.one_hot(y, p.shape[1], dtype=p.dtype)).sum(1)


def probabilities(outputs: dict, batch, metric: str) -> jax.Array:
    """`predict_proba` [n, classes] in 32 bits or more; ValueError where it or the labels have another shape."""
    check_proba(metric, outputs, batch)
    return as_float(outputs["predict_proba"])


def check_proba(metric: str, outputs: dict, batch) -> None:
    """Raise ValueError unless `predict_proba` is [n, classes] and y [n]."""
    p = answer(outputs, "predict_proba", metric)
    if p.ndim != 2 or batch.y.shape != p.shape[:1]:
        raise ValueError(f"`{metric}` takes `predict_proba` [n, classes] and labels [n]; got {p.shape} and {batch.y.shape}.")


def two_probabilities(outputs: dict, batch, metric: str) -> jax.Array:
    """The probability [n] of class 1 of two, of `predict_proba` [n, 2]; ValueError where it is of more classes."""
    p = probabilities(outputs, batch, metric)
    if p.shape[1] != 2:
        raise ValueError(f"`{metric}` takes `predict_proba` [n, 2]; got {p.shape}.")
    return p[:, 1]
