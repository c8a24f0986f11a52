"""Metrics of models of language: how well the next token was known."""

import math
from typing import Annotated

import jax.numpy as jnp
from annotated_types import Gt

from arsenal.metrics.average import add, zero_dead_rows
from arsenal.metrics.positions import surprise, zero_unlabelled
from arsenal.records import Mean, Metric


def perplexity() -> Metric:
    """The exponential of the mean `-log p(y)` of a token, 1 or more: among how many equal ones it would be as open.

    `predict_proba` [n, t, classes] and labels [n, t], or [n, classes] and [n]; a label of -1 is a position that does not
    count. Every token of a row counts by the row's weight, so long rows count more than in `log_loss`; p is at least the
    type's epsilon. NaN where no token was counted.

    >>> from arsenal.records import batch
    >>> metric, rows = perplexity(), batch(y=[[0, 1, -1]])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.full((1, 3, 4), 0.25)}, rows)
    >>> float(metric.compute(acc)["perplexity"])
    4.0
    """
    return Metric(
        empty=lambda: Mean(jnp.zeros(()), jnp.zeros(())),
        update=lambda acc, outputs, batch: count_tokens(acc, outputs, batch, "perplexity"),
        merge=add,
        compute=lambda acc: {"perplexity": jnp.exp(acc.total / acc.weight)},
        mode="min",
    )


def bits_per_byte(bytes_per_token: Annotated[float, Gt(0)] = 1.0) -> Metric:
    """The mean `-log2 p(y)` of a token by the text's `bytes_per_token`: the size of the text, coded by the model.

    Independent of how the text is cut into tokens; 1.0 is for models of single bytes. Outputs and labels as in
    `perplexity`; NaN where no token was counted.

    >>> from arsenal.records import batch
    >>> metric, rows = bits_per_byte(bytes_per_token=4.0), batch(y=[[0, 1, -1]])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.full((1, 3, 4), 0.25)}, rows)
    >>> float(metric.compute(acc)["bits_per_byte"])
    0.5
    """
    return Metric(
        empty=lambda: Mean(jnp.zeros(()), jnp.zeros(())),
        update=lambda acc, outputs, batch: count_tokens(acc, outputs, batch, "bits_per_byte"),
        merge=add,
        compute=lambda acc: {"bits_per_byte": acc.total / acc.weight / (math.log(2) * bytes_per_token)},
        mode="min",
    )


def count_tokens(acc: Mean, outputs: dict, batch, metric: str) -> Mean:
    """The nats of all tokens so far, and their number, both by the rows' weight."""
    weight = batch.weight.astype(acc.weight.dtype)
    nats = zero_unlabelled(surprise(outputs, batch, metric), batch.y).astype(weight.dtype)
    counts = (batch.y >= 0).astype(weight.dtype)
    axes = tuple(range(1, nats.ndim))
    total, number = (jnp.sum(zero_dead_rows(each.sum(axes), weight) * weight) for each in (nats, counts))
    return Mean(acc.total + total, acc.weight + number)
