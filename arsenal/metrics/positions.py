"""Rows that hold many positions with a label each, of which those of label -1 do not count."""

from typing import Literal

import jax
import jax.numpy as jnp

from arsenal.metrics.average import answer, as_float
from arsenal.records import Metric

Over = Literal["rows", "tokens"]
"""What a mean is taken over: rows, each the mean over its own positions, or all positions alike."""


def surprise(outputs: dict, batch, metric: str) -> jax.Array:
    """`-log p(y)` of every position, [n, ...]; p is at least the type's epsilon. Where the label is -1 it means nothing."""
    p = answer(outputs, "predict_proba", metric)
    if p.ndim < 2 or batch.y.shape != p.shape[:-1]:
        raise ValueError(
            f"`{metric}` takes `predict_proba` [n, classes] and labels [n], or [n, t, classes] and [n, t]; "
            f"got {p.shape} and {batch.y.shape}."
        )
    p = as_float(p)
    of_label = jnp.take_along_axis(p, batch.y[..., None].astype(jnp.int32), axis=-1)[..., 0]
    return -jnp.log(jnp.maximum(of_label, jnp.finfo(p.dtype).eps))


def over_positions(each: jax.Array, y: jax.Array) -> jax.Array:
    """The mean [n] of each [n, ...] over the positions whose label is not -1; of [n] itself."""
    if each.ndim == 1:
        return each
    counts = (y >= 0).astype(each.dtype)
    axes = tuple(range(1, each.ndim))
    return zero_unlabelled(each, y).sum(axes) / jnp.maximum(counts.sum(axes), 1)


def zero_unlabelled(each: jax.Array, y: jax.Array) -> jax.Array:
    """Each [n, ...] with zeros where the label is -1."""
    return jnp.where(y >= 0, each, jnp.zeros_like(each))


def mean_name(name: str, over: Over) -> str:
    """The name of a mean: one that is over tokens says so, since it is another number."""
    return name if over == "rows" else f"token_{name}"


def of_labelled(metric: Metric, over: Over):
    """The metric without the rows [n, ...] that have no position with a label; over tokens, rows count by those they have."""

    def update(acc, outputs, batch):
        if batch.y.ndim > 1:
            labelled = (batch.y >= 0).sum(tuple(range(1, batch.y.ndim)), dtype=jnp.int32)
            labelled = labelled if over == "tokens" else labelled > 0
            batch = batch._replace(weight=batch.weight * labelled.astype(batch.weight.dtype))
        return metric.update(acc, outputs, batch)

    return metric._replace(update=update)
