"""Metrics of clusters, beside known classes or by the rows themselves; a cluster's number means nothing."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt

from arsenal.metrics.contingency import contingency
from arsenal.metrics.whole import call_sklearn, repeat_rows, whole_rows
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
        both, true, said, every = pair_counts(together)
        chance = true * said / jnp.where(every > 0, every, 1)
        room = (true + said) / 2 - chance
        return jnp.where(room != 0, (both - chance) / jnp.where(room != 0, room, 1), 1)

    return contingency("adjusted_rand_index", "cluster", classes, clusters, value)


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
        shared, *each = information(together)
        alone = each[0] + each[1]
        return jnp.where(alone > 0, 2 * shared / jnp.where(alone > 0, alone, 1), 1)

    return contingency("normalized_mutual_information", "cluster", classes, clusters, value)


def rand_index(classes: Annotated[int, Ge(1)], clusters: Annotated[int, Ge(1)]) -> Metric:
    """The share of pairs of rows that cluster and class agree on, whether they are together, 0..1; 1 of a single row.

    `cluster` [n] in 0..clusters-1 and y [n] in 0..classes-1; other rows do not count. Rand, JASA 66 (1971).

    >>> from arsenal.records import batch
    >>> metric, rows = rand_index(2, 2), batch(y=[0, 0, 1, 1])
    >>> round(float(metric.compute(metric.update(metric.empty(), {"cluster": jnp.array([0, 0, 1, 0])}, rows))["rand_index"]), 4)
    0.5
    """

    def value(together):
        both, true, said, every = pair_counts(together)
        return jnp.where(every > 0, (every + 2 * both - true - said) / jnp.where(every > 0, every, 1), 1)

    return contingency("rand_index", "cluster", classes, clusters, value)


def fowlkes_mallows(classes: Annotated[int, Ge(1)], clusters: Annotated[int, Ge(1)]) -> Metric:
    """The geometric mean of precision and recall of "these two rows are together", 0..1; 0 where no two rows are.

    `cluster` [n] in 0..clusters-1 and y [n] in 0..classes-1; other rows do not count. Fowlkes & Mallows, JASA 78 (1983).

    >>> from arsenal.records import batch
    >>> metric, rows = fowlkes_mallows(2, 2), batch(y=[0, 0, 1, 1])
    >>> float(metric.compute(metric.update(metric.empty(), {"cluster": jnp.array([1, 1, 0, 0])}, rows))["fowlkes_mallows"])
    1.0
    """

    def value(together):
        both, true, said, _ = pair_counts(together)
        precision, recall = (both / jnp.where(pairs > 0, pairs, 1) for pairs in (said, true))
        return jnp.sqrt(precision) * jnp.sqrt(recall)

    return contingency("fowlkes_mallows", "cluster", classes, clusters, value)


def pair_counts(together: jax.Array) -> tuple[jax.Array, ...]:
    """How many pairs of rows are in one class and cluster, in one class, in one cluster, and how many there are."""

    def pairs(counts):
        return jnp.sum(counts * (counts - 1)) / 2

    return tuple(pairs(v) for v in (together, together.sum(1), together.sum(0), together.sum()))


def homogeneity(classes: Annotated[int, Ge(1)], clusters: Annotated[int, Ge(1)]) -> Metric:
    """The share of the classes' entropy that is gone within clusters, 0..1: 1 where every cluster is of one class.

    `cluster` [n] in 0..clusters-1 and y [n] in 0..classes-1; other rows do not count. Rosenberg & Hirschberg, EMNLP 2007.

    >>> from arsenal.records import batch
    >>> metric, rows = homogeneity(2, 3), batch(y=[0, 0, 1, 1])
    >>> float(metric.compute(metric.update(metric.empty(), {"cluster": jnp.array([0, 1, 2, 2])}, rows))["homogeneity"])
    1.0
    """
    return contingency("homogeneity", "cluster", classes, clusters, lambda together: shares_of_entropy(together)[0])


def completeness(classes: Annotated[int, Ge(1)], clusters: Annotated[int, Ge(1)]) -> Metric:
    """The share of the clusters' entropy that is gone within classes, 0..1: 1 where every class is in one cluster.

    `cluster` [n] in 0..clusters-1 and y [n] in 0..classes-1; other rows do not count. Rosenberg & Hirschberg, EMNLP 2007.

    >>> from arsenal.records import batch
    >>> metric, rows = completeness(2, 2), batch(y=[0, 0, 1, 1])
    >>> float(metric.compute(metric.update(metric.empty(), {"cluster": jnp.array([0, 0, 0, 0])}, rows))["completeness"])
    1.0
    """
    return contingency("completeness", "cluster", classes, clusters, lambda together: shares_of_entropy(together)[1])


def v_measure(classes: Annotated[int, Ge(1)], clusters: Annotated[int, Ge(1)], beta: Annotated[float, Gt(0)] = 1.0) -> Metric:
    """`(1 + beta) h c / (beta h + c)` of `homogeneity` h and `completeness` c, 0..1; beta above 1 counts c more.

    `cluster` [n] in 0..clusters-1 and y [n] in 0..classes-1; other rows do not count. Rosenberg & Hirschberg, EMNLP 2007.

    >>> from arsenal.records import batch
    >>> metric, rows = v_measure(2, 2), batch(y=[0, 0, 1, 1])
    >>> float(metric.compute(metric.update(metric.empty(), {"cluster": jnp.array([1, 1, 0, 0])}, rows))["v_measure"])
    1.0
    """

    def value(together):
        h, c = shares_of_entropy(together)
        whole = beta * h + c
        return jnp.where(whole > 0, (1 + beta) * h * c / jnp.where(whole > 0, whole, 1), 0)

    return contingency("v_measure", "cluster", classes, clusters, value)


def mutual_information(classes: Annotated[int, Ge(1)], clusters: Annotated[int, Ge(1)]) -> Metric:
    """The information in nats that cluster and class share, >= 0.

    `cluster` [n] in 0..clusters-1 and y [n] in 0..classes-1; other rows do not count.

    >>> from arsenal.records import batch
    >>> metric, rows = mutual_information(2, 2), batch(y=[0, 0, 1, 1])
    >>> acc = metric.update(metric.empty(), {"cluster": jnp.array([1, 1, 0, 0])}, rows)
    >>> round(float(metric.compute(acc)["mutual_information"]), 4)
    0.6931
    """
    return contingency("mutual_information", "cluster", classes, clusters, lambda together: information(together)[0])


def adjusted_mutual_information() -> Metric:
    """The information that cluster and class share beyond chance, over the most that they could: 1 is the same partition.

    `cluster` [n] and y [n], any whole numbers; weights are whole. Exact, on the host, as scikit-learn's. Vinh, Epps & Bailey,
    JMLR 11 (2010).

    >>> from arsenal.records import batch
    >>> metric, rows = adjusted_mutual_information(), batch(y=[0, 0, 1, 1])
    >>> acc = metric.update(metric.empty(), {"cluster": jnp.array([1, 1, 0, 0])}, rows)
    >>> round(metric.compute(acc)["adjusted_mutual_information"], 4)
    1.0
    """
    name = "adjusted_mutual_information"

    def value(outputs, batch):
        return call_sklearn("adjusted_mutual_info_score", *repeat_rows(name, batch, batch.y, outputs["cluster"]))

    return whole_rows(name, value, ("cluster",), "max", check=lambda outputs, batch: check_clusters(name, outputs, batch.y))


def silhouette() -> Metric:
    """How much nearer rows are to their own cluster than to the next, -1..1: the mean of `(b - a) / max(a, b)`.

    x [n, ...], further axes flattened, `cluster` [n]; Euclidean distances, weights are whole. NaN with less than two clusters
    or with as many as rows. Exact, on the host, in time that grows with the square of the rows. Rousseeuw, J. Comput. Appl.
    Math. 20 (1987).

    >>> from arsenal.records import batch
    >>> metric, rows = silhouette(), batch(x=[[0.0], [0.0], [5.0], [5.0]])
    >>> metric.compute(metric.update(metric.empty(), {"cluster": jnp.array([0, 0, 1, 1])}, rows))["silhouette"]
    1.0
    """
    return of_inputs("silhouette", "silhouette_score", "max")


def calinski_harabasz() -> Metric:
    """The variance between clusters over that within, each by its degrees of freedom, >= 0: large is good.

    x, `cluster` and weights as of `silhouette`; exact, on the host. Caliński & Harabasz, Commun. Stat. 3 (1974).

    >>> from arsenal.records import batch
    >>> metric, rows = calinski_harabasz(), batch(x=[[0.0], [2.0], [4.0], [6.0]])
    >>> metric.compute(metric.update(metric.empty(), {"cluster": jnp.array([0, 0, 1, 1])}, rows))["calinski_harabasz"]
    8.0
    """
    return of_inputs("calinski_harabasz", "calinski_harabasz_score", "max")


def davies_bouldin() -> Metric:
    """The mean over clusters of the largest ratio of two clusters' spreads to the distance of their centres, >= 0: small is good.

    x, `cluster` and weights as of `silhouette`; exact, on the host. Davies & Bouldin, IEEE PAMI 1 (1979).

    >>> from arsenal.records import batch
    >>> metric, rows = davies_bouldin(), batch(x=[[0.0], [2.0], [4.0], [6.0]])
    >>> metric.compute(metric.update(metric.empty(), {"cluster": jnp.array([0, 0, 1, 1])}, rows))["davies_bouldin"]
    0.5
    """
    return of_inputs("davies_bouldin", "davies_bouldin_score", "min")


def of_inputs(name: str, function: str, mode: str):
    """scikit-learn's metric of x and `cluster`; NaN where the number of clusters leaves nothing to compare."""

    def value(outputs, batch):
        x, cluster = repeat_rows(name, batch, batch.x.reshape(len(batch.x), -1), outputs["cluster"])
        return call_sklearn(function, x, cluster) if 2 <= len(np.unique(cluster)) < len(cluster) else np.nan

    def check(outputs, batch):
        check_clusters(name, outputs, batch.weight)
        if not hasattr(batch.x, "shape"):
            raise ValueError(f"`{name}` takes x as one array; got {type(batch.x).__name__}.")

    return whole_rows(name, value, ("cluster",), mode, inputs=True, check=check)


def check_clusters(metric: str, outputs: dict, like) -> None:
    """Raise ValueError unless `cluster` is [n]."""
    if outputs["cluster"].ndim != 1 or outputs["cluster"].shape != like.shape:
        raise ValueError(f"`{metric}` takes answers and labels [n]; got {outputs['cluster'].shape} and {like.shape}.")


def information(together: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """In nats, what class and cluster share, and the entropy of either, of their table of weights."""
    p = together / jnp.where(together.sum() > 0, together.sum(), 1)

    def entropy(p):
        return -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0))

    true, said = entropy(p.sum(1)), entropy(p.sum(0))
    return jnp.maximum(true + said - entropy(p), 0), true, said


def shares_of_entropy(together: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What class and cluster share by the entropy of the class, and of the cluster; 1 where that is 0."""
    shared, *alone = information(together)
    homogeneous, complete = (jnp.where(one > 0, shared / jnp.where(one > 0, one, 1), 1) for one in alone)
    return homogeneous, complete
