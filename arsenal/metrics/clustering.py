"""Metrics of clusters beside known classes; a cluster's number means nothing."""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Ge

from arsenal.metrics.average import answer
from arsenal.metrics.histogram import histogram
from arsenal.records import Metric


def adjusted_rand_index(classes: Annotated[int, Ge(1)], clusters: Annotated[int, Ge(1)]) -> Metric:
    """How far pairs of rows agree on being together, beyond chance: 1 is the same partition, 0 what chance gives.

    `cluster` [n] in 0..clusters-1 and y [n] in 0..classes-1; other rows do not count. Hubert & Arabie, Journal of
    Classification 2 (1985), eq. 5.

    >>> from arsenal.records import batch
    >>> metric, rows = adjusted_rand_index(2, 2), batch(y=[0, 0, 1, 1])
    >>> float(metric.compute(metric.update(metric.empty(), {"cluster": jnp.array([1, 1, 0, 0])}, rows))["adjusted_rand_index"])
    1.0
    """

    def value(together):
        def pairs(counts):
            return jnp.sum(counts * (counts - 1)) / 2

        both, true, said, every = (pairs(v) for v in (together, together.sum(1), together.sum(0), together.sum()))
        chance = true * said / jnp.where(every > 0, every, 1)
        room = (true + said) / 2 - chance
        return jnp.where(room != 0, (both - chance) / jnp.where(room != 0, room, 1), 1)

    return contingency("adjusted_rand_index", classes, clusters, value)


def normalized_mutual_information(classes: Annotated[int, Ge(1)], clusters: Annotated[int, Ge(1)]) -> Metric:
    """The information that cluster and class share over the mean of what either has, 0..1.

    `cluster` [n] in 0..clusters-1 and y [n] in 0..classes-1, other rows do not count; 1 where both are a single group.
    Strehl & Ghosh, JMLR 3 (2002), divided by the arithmetic mean as in scikit-learn.

    >>> from arsenal.records import batch
    >>> metric, rows = normalized_mutual_information(2, 2), batch(y=[0, 0, 1, 1])
    >>> acc = metric.update(metric.empty(), {"cluster": jnp.array([0, 1, 0, 1])}, rows)
    >>> float(metric.compute(acc)["normalized_mutual_information"])
    0.0
    """

    def value(together):
        p = together / jnp.where(together.sum() > 0, together.sum(), 1)

        def entropy(p):
            return -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0))

        alone = entropy(p.sum(1)) + entropy(p.sum(0))
        shared = jnp.maximum(alone - entropy(p), 0)
        return jnp.where(alone > 0, 2 * shared / jnp.where(alone > 0, alone, 1), 1)

    return contingency("normalized_mutual_information", classes, clusters, value)


def contingency(name: str, classes: int, clusters: int, value: Callable[[jax.Array], jax.Array]):
    """The metric `value` of the weight of rows by class and cluster, [classes, clusters]; NaN where no row was counted."""

    def update(together, outputs, batch):
        cluster = answer(outputs, "cluster", name)
        if batch.y.ndim != 1 or cluster.shape != batch.y.shape:
            raise ValueError(f"`{name}` takes answers and labels [n]; got {cluster.shape} and {batch.y.shape}.")
        y, cluster = batch.y.astype(jnp.int32), cluster.astype(jnp.int32)
        known = (y >= 0) & (y < classes) & (cluster >= 0) & (cluster < clusters)
        at = jnp.where(known, y * clusters + cluster, classes * clusters)
        return together + histogram(at, batch.weight.astype(together.dtype), classes * clusters).reshape(classes, clusters)

    def compute(together):
        return {name: jnp.where(together.sum() > 0, value(together), jnp.nan)}

    return Metric(lambda: jnp.zeros((classes, clusters)), update, jnp.add, compute, "max")
