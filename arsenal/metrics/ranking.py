"""Metrics of rankings: of the labels that a row has among all, and of the items that are offered to it."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge

from arsenal.metrics.average import add, answer, as_float, average, zero_dead_rows
from arsenal.records import Metric


def coverage_error() -> Metric:
    """How far down the labels by `predict_proba` one has to go to have all true ones, on average; ties are gone through.

    `predict_proba` [n, labels] and y [n, labels] in {0, 1}; a row without a true label counts 0. scikit-learn's `coverage_error`.

    >>> from arsenal.records import batch
    >>> metric, rows = coverage_error(), batch(y=[[1, 0, 0], [0, 0, 1]])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.array([[0.7, 0.5, 1.0], [1.0, 0.2, 0.1]])}, rows)
    >>> float(metric.compute(acc)["coverage_error"])
    2.5
    """

    def value(outputs, batch):
        score, true = label_scores("coverage_error", outputs, batch)
        least = jnp.where(true, score, jnp.inf).min(1, keepdims=True)
        return as_float((score >= least).sum(1))

    return average("coverage_error", value, "min")


def label_ranking_average_precision() -> Metric:
    """The mean over a row's true labels of the share of true ones among those that `predict_proba` has at least as high.

    `predict_proba` [n, labels] and y [n, labels] in {0, 1}; 1 where all labels are true or none is, as in scikit-learn.

    >>> from arsenal.records import batch
    >>> metric, rows = label_ranking_average_precision(), batch(y=[[1, 0, 0], [0, 0, 1]])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.array([[0.75, 0.5, 1.0], [1.0, 0.2, 0.1]])}, rows)
    >>> round(float(metric.compute(acc)["label_ranking_average_precision"]), 4)
    0.4167
    """

    def value(outputs, batch):
        score, true = label_scores("label_ranking_average_precision", outputs, batch)
        above = score[:, None, :] >= score[:, :, None]  # [n, label, those at least as high]
        own = (above & true[:, None]).sum(2).astype(score.dtype) / above.sum(2).astype(score.dtype)
        count = true.sum(1)
        mean = jnp.where(true, own, 0).sum(1) / jnp.maximum(count.astype(score.dtype), 1)
        return jnp.where((count == 0) | (count == true.shape[1]), 1, mean)

    return average("label_ranking_average_precision", value, "max")


def label_ranking_loss() -> Metric:
    """The share of pairs of a true and a false label that `predict_proba` orders wrongly, a tie being wrong.

    `predict_proba` [n, labels] and y [n, labels] in {0, 1}; 0 where all labels are true or none is, as in scikit-learn.

    >>> from arsenal.records import batch
    >>> metric, rows = label_ranking_loss(), batch(y=[[1, 0, 0], [0, 0, 1]])
    >>> acc = metric.update(metric.empty(), {"predict_proba": jnp.array([[0.75, 0.5, 1.0], [1.0, 0.2, 0.1]])}, rows)
    >>> float(metric.compute(acc)["label_ranking_loss"])
    0.75
    """

    def value(outputs, batch):
        score, true = label_scores("label_ranking_loss", outputs, batch)
        wrong = (score[:, None, :] >= score[:, :, None]) & true[:, :, None] & ~true[:, None, :]
        pairs = true.sum(1) * (~true).sum(1)
        return wrong.sum((1, 2)).astype(score.dtype) / jnp.maximum(pairs.astype(score.dtype), 1)

    return average("label_ranking_loss", value, "min")


def label_scores(metric: str, outputs: dict, batch) -> tuple[jax.Array, jax.Array]:
    """`predict_proba` [n, labels] as floats, and which labels are true; ValueError where the shapes differ."""
    score = answer(outputs, "predict_proba", metric)
    if score.ndim != 2 or score.shape != batch.y.shape:
        raise ValueError(f"`{metric}` takes `predict_proba` and labels [n, labels]; got {score.shape} and {batch.y.shape}.")
    return as_float(score), batch.y > 0


def dcg(k: Annotated[int, Ge(1)]) -> Metric:
    """The discounted cumulative gain `Σ_r y_r / log2(r + 1)` of the `k` items of most `predict`, as `dcg_{k}`.

    `predict` and relevance y [n, items]; items of one score share their places' discounts alike. scikit-learn's `dcg_score`.
    Järvelin & Kekäläinen, ACM TOIS 20 (2002).

    >>> from arsenal.records import batch
    >>> metric, rows = dcg(2), batch(y=[[3.0, 1.0, 2.0]])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([[9.0, 1.0, 2.0]])}, rows))["dcg_2"]) > 4.26
    True
    """
    name = f"dcg_{k}"
    return average(name, lambda outputs, batch: discounted_gain(*item_scores(name, outputs, batch), k), "max")


def ndcg(k: Annotated[int, Ge(1)]) -> Metric:
    """`dcg` over that of the best order, 0..1, as `ndcg_{k}`; 0 for a row without a relevant item, as in scikit-learn.

    `predict` and relevance y [n, items], y >= 0.

    >>> from arsenal.records import batch
    >>> metric, rows = ndcg(2), batch(y=[[3.0, 1.0, 2.0]])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([[9.0, 1.0, 2.0]])}, rows))["ndcg_2"])
    1.0
    """
    name = f"ndcg_{k}"

    def value(outputs, batch):
        score, y = item_scores(name, outputs, batch)
        best = discounted_gain(y, y, k)
        return jnp.where(best > 0, discounted_gain(score, y, k) / jnp.where(best > 0, best, 1), 0)

    return average(name, value, "max")


def discounted_gain(score: jax.Array, y: jax.Array, k: int) -> jax.Array:
    """The discounted gain [n] of relevance y [n, items] in the order of the scores, of the first k places."""
    place = np.arange(score.shape[1])
    discount = np.where(place < k, 1 / np.log2(place + 2), 0)
    passed = jnp.asarray(np.concatenate([[0.0], np.cumsum(discount)]), score.dtype)

    def one(score, y):
        order = jnp.sort(-score)
        # An item shares the places of those with its score: from the first of them to the last.
        first, last = (jnp.searchsorted(order, -score, side=side).astype(jnp.int32) for side in ("left", "right"))
        return jnp.sum(y * (passed[last] - passed[first]) / jnp.maximum(last - first, 1).astype(y.dtype))

    return jax.vmap(one)(score, y)


def mean_average_precision_at(k: Annotated[int, Ge(1)]) -> Metric:
    """The mean over rows of the average precision of the `k` first items, `Σ_r precision_r relevant_r / min(k, relevant)`.

    `predict` [n, items] scores, of equal ones the first item first; y [n, items] is relevant where > 0. A row without a relevant
    item counts 0. The name is `map_{k}`.

    >>> from arsenal.records import batch
    >>> metric, rows = mean_average_precision_at(3), batch(y=[[1, 0, 1]])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.array([[3.0, 2.0, 1.0]])}, rows)
    >>> round(float(metric.compute(acc)["map_3"]), 4)
    0.8333
    """
    name = f"map_{k}"

    def value(outputs, batch):
        hit, relevant = hits(name, outputs, batch, k)
        precision = jnp.cumsum(hit, 1) / jnp.arange(1, hit.shape[1] + 1, dtype=hit.dtype)
        return jnp.sum(hit * precision, 1) / jnp.maximum(jnp.minimum(relevant, k), 1)

    return average(name, value, "max")


def mean_reciprocal_rank(k: Annotated[int, Ge(1)]) -> Metric:
    """The mean over rows of 1 / the place of the first relevant item among the `k` first, 0 where none is, as `mrr_{k}`.

    `predict` and y [n, items] as of `mean_average_precision_at`. Voorhees, TREC-8 (1999).

    >>> from arsenal.records import batch
    >>> metric, rows = mean_reciprocal_rank(3), batch(y=[[0, 1, 1]])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([[3.0, 2.0, 1.0]])}, rows))["mrr_3"])
    0.5
    """
    name = f"mrr_{k}"

    def value(outputs, batch):
        hit, _ = hits(name, outputs, batch, k)
        return jnp.max(hit / jnp.arange(1, hit.shape[1] + 1, dtype=hit.dtype), 1)

    return average(name, value, "max")


def hit_rate(k: Annotated[int, Ge(1)]) -> Metric:
    """The share of rows that have a relevant item among the `k` first, as `hit_rate_{k}`.

    `predict` and y [n, items] as of `mean_average_precision_at`.

    >>> from arsenal.records import batch
    >>> metric, rows = hit_rate(1), batch(y=[[0, 1, 1], [1, 0, 0]])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([[3.0, 2.0, 1.0]] * 2)}, rows))["hit_rate_1"])
    0.5
    """
    name = f"hit_rate_{k}"
    return average(name, lambda outputs, batch: hits(name, outputs, batch, k)[0].max(1), "max")


def hits(metric: str, outputs: dict, batch, k: int) -> tuple[jax.Array, jax.Array]:
    """Whether the items of the first k places are relevant, 0 or 1 [n, k], and how many relevant ones there are [n]."""
    score, y = item_scores(metric, outputs, batch)
    relevant = (y > 0).astype(score.dtype)
    return jnp.take_along_axis(relevant, first_items(score, k), 1), relevant.sum(1)


def first_items(score: jax.Array, k: int) -> jax.Array:
    """The numbers [n, k] of the items of most score [n, items], of equal ones the first first; at most as many as there are."""
    return jax.lax.top_k(score, min(k, score.shape[1]))[1]


def catalogue_coverage(k: Annotated[int, Ge(1)], items: Annotated[int, Ge(1)]) -> Metric:
    """The share of the `items` that are among the `k` first of any row, as `catalogue_coverage_{k}`.

    `predict` [n, items] scores, of equal ones the first item first. Ge et al., RecSys 2010.

    >>> from arsenal.records import batch
    >>> metric, rows = catalogue_coverage(1, items=4), batch(y=[0, 0])
    >>> acc = metric.update(metric.empty(), {"predict": jnp.eye(4)[:2]}, rows)
    >>> float(metric.compute(acc)["catalogue_coverage_1"])
    0.5
    """
    return of_offers(f"catalogue_coverage_{k}", k, items, lambda offers: jnp.mean((offers > 0).astype(offers.dtype)))


def diversity(k: Annotated[int, Ge(1)], items: Annotated[int, Ge(2)]) -> Metric:
    """The entropy of which items are among the `k` first of a row, over that of all `items` alike, 0..1, as `diversity_{k}`.

    `predict` [n, items] scores, of equal ones the first item first. Adomavicius & Kwon, IEEE TKDE 24 (2012).

    >>> from arsenal.records import batch
    >>> metric, rows = diversity(1, items=4), batch(y=[0, 0])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.eye(4)[:2]}, rows))["diversity_1"])
    0.5
    """

    def value(offers):
        p = offers / offers.sum()
        return -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0)) / np.log(items)

    return of_offers(f"diversity_{k}", k, items, value)


def of_offers(name: str, k: int, items: int, value):
    """The metric `value` of the weight of the rows that each item is offered to, [items]; NaN where no row was counted."""

    def update(offers, outputs, batch):
        score = answer(outputs, "predict", name)
        if score.shape != (len(batch.weight), items):
            raise ValueError(f"`{name}` takes `predict` [n, {items}]; got {score.shape}.")
        weight = batch.weight.astype(offers.dtype)
        first = jax.nn.one_hot(first_items(zero_dead_rows(as_float(score), weight), k), items, dtype=offers.dtype).sum(1)
        return offers + jnp.matmul(weight, first, precision="highest")

    return Metric(
        lambda: jnp.zeros(items), update, add, lambda offers: {name: jnp.where(offers.sum() > 0, value(offers), jnp.nan)}, "max"
    )


def item_scores(metric: str, outputs: dict, batch) -> tuple[jax.Array, jax.Array]:
    """`predict` and relevance y [n, items] as floats; ValueError where the shapes differ."""
    score = answer(outputs, "predict", metric)
    if score.ndim != 2 or score.shape != batch.y.shape:
        raise ValueError(f"`{metric}` takes `predict` and relevance [n, items]; got {score.shape} and {batch.y.shape}.")
    score = as_float(score)
    return score, batch.y.astype(score.dtype)
