"""Losses of lists in order: a row is one list, its scores and relevances [n, k]; a relevance below 0 marks no item."""

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.records import Loss


def pairwise_logistic() -> Loss:
    """`log(1 + exp(s_j - s_i))`, the mean over the pairs of a row whose relevances are `y_i > y_j`: RankNet.

    Scores [n, k], y [n, k] >= 0 where there is an item and below 0 where there is none; a row without pairs has value 0.
    Memory is n k². Answers: `predict` [n, k], the scores. Also measures `pair_accuracy`, the share of pairs in order.
    Burges et al., ICML 2005.
    """

    def value(scores, rows, hp):
        return over_pairs(jax.nn.softplus(-pair_differences(scores)), rows.y)

    def pair_accuracy(scores, rows):
        return over_pairs((pair_differences(scores) > 0).astype(scores.dtype), rows.y)

    return Loss(
        value,
        measures={"pair_accuracy": pair_accuracy},
        modes={"pair_accuracy": "max"},
        check=lambda outputs, rows: check_lists("pairwise_logistic", outputs, rows),
    )


def listwise_softmax() -> Loss:
    """The cross entropy `-Σ_i softmax(y)_i log softmax(s)_i` of a row's items: ListNet's, for the first place.

    Scores [n, k], y [n, k] >= 0 where there is an item and below 0 where there is none; a row without items has value 0.
    Answers: `predict` [n, k], the scores. Also measures `pair_accuracy`. Cao et al., ICML 2007.
    """

    def value(scores, rows, hp):
        item = rows.y >= 0
        nothing = jnp.finfo(scores.dtype).min
        target = jax.nn.softmax(jnp.where(item, rows.y.astype(scores.dtype), nothing))
        log_p = jax.nn.log_softmax(jnp.where(item, scores, nothing))
        return -jnp.sum(jnp.where(item, target * log_p, 0), -1)

    def pair_accuracy(scores, rows):
        return over_pairs((pair_differences(scores) > 0).astype(scores.dtype), rows.y)

    return Loss(
        value,
        measures={"pair_accuracy": pair_accuracy},
        modes={"pair_accuracy": "max"},
        check=lambda outputs, rows: check_lists("listwise_softmax", outputs, rows),
    )


def pair_differences(scores: jax.Array) -> jax.Array:
    """`s_i - s_j` of scores [n, k]. [n, k, k]."""
    return scores[:, :, None] - scores[:, None, :]


def over_pairs(each: jax.Array, y: jax.Array) -> jax.Array:
    """The mean of each [n, k, k] over the pairs of items with `y_i > y_j`; 0 where there is none. [n]."""
    pair = (y[:, :, None] > y[:, None, :]) & (y >= 0)[:, None, :]
    return jnp.where(pair, each, 0).sum((1, 2)) / jnp.maximum(pair.sum((1, 2)), 1).astype(each.dtype)


def check_lists(name: str, outputs, rows) -> None:
    """Raise ValueError unless scores and relevances are [n, k] and the living rows' relevances are numbers."""
    shape = getattr(outputs, "shape", type(outputs).__name__)
    if len(shape) != 2 or np.shape(rows.y) != shape:
        raise ValueError(f"`{name}` takes scores and relevances of one shape [n, k]; got {shape} and {np.shape(rows.y)}.")
    if not np.isfinite(np.asarray(rows.y)[np.asarray(rows.weight) > 0]).all():
        raise ValueError(f"Relevances of `{name}` must be finite; below 0 where there is no item.")
