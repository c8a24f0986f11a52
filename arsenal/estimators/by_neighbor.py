"""Clusters and maps that are found of all rows at once, and what new rows get: what the training rows near them have.

None of these methods says anything of a row that was not there. A new row takes the cluster of the nearest training row, or lies
where the nearest rows lie; a training row that is asked again gets its own. y is not read, and a weight says how many times a row
is there. The training rows are the parameters, so this is for some ten thousand of them.
"""

import math
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Interval
from jax import lax

from arsenal.estimators.anomaly import check_whole_weights, repeat_rows
from arsenal.estimators.cluster import flatten_rows
from arsenal.estimators.mixture import check_rows
from arsenal.estimators.neighborhood import RegionFit, distances_to
from arsenal.records import Estimator

HOST = {"host": "scikit-learn fits all rows at once"}


class Members(NamedTuple):
    """The training rows [n, d], the cluster [n] of each, and how near a row must be to be in it too [n]; -1 of who lends none."""

    x: Any
    label: Any
    reach: Any


class Places(NamedTuple):
    """The training rows [n, d], which of them are there [n], and where they lie [n, components]."""

    x: Any
    there: Any
    place: Any


class Paths(NamedTuple):
    """The training rows [n, d], which of them are there [n], the squared paths between them [n, n], the axes [n, components]."""

    x: Any
    there: Any
    squares: Any
    axes: Any


class MapFit(NamedTuple):
    """How the fit went: `error` [] is what it makes small, as its own docstring says."""

    converged: Any
    iterations: Any
    error: Any


def hdbscan(
    least: Annotated[int, Gt(1)] = 5, neighbors: Annotated[int, Gt(0)] | None = None, radius: Annotated[float, Ge(0)] = 0.0,
    selection: Literal["eom", "leaf"] = "eom",
) -> Estimator:  # fmt: skip
    """Clusters of `least` rows or more that stay together longest as the distance within which cores are joined falls.

    Campello, Moulavi & Sander, PAKDD 2013; McInnes & Healy, ICDM Workshops 2017. x [n, ...]. `neighbors`, `least` unless given,
    within a distance make a row a core; clusters nearer than `radius` are one; `selection` is by excess of mass or takes the
    leaves. Answer: `cluster` [n] int32, that of the nearest training row if it is no farther than the cluster's loosest core
    from its neighbours, else -1. Equal to scikit-learn's HDBSCAN on the training rows.
    """
    count = neighbors or least

    def find(x, seed, hp):
        from sklearn.cluster import HDBSCAN
        from sklearn.neighbors import NearestNeighbors

        label = HDBSCAN(
            least, count, cluster_selection_epsilon=hp["radius"], cluster_selection_method=selection, copy=True
        ).fit_predict(x)  # fmt: skip
        core = NearestNeighbors(n_neighbors=count).fit(x).kneighbors(x)[0][:, -1]
        loosest = np.zeros(label.max() + 2)
        np.maximum.at(loosest, label, core)
        return label, np.where(label < 0, np.inf, loosest[label]), True

    return by_nearest("hdbscan", find, max(least, count), {"radius": radius})


def agglomerative(
    clusters: Annotated[int, Gt(0)] | None = None, distance: Annotated[float, Gt(0)] | None = None,
    linkage: Literal["ward", "complete", "average", "single"] = "ward",
) -> Estimator:  # fmt: skip
    """Clusters joined two by two, the nearest first, until there are so many `clusters` or the next are `distance` apart.

    Ward, JASA 58 (1963); Lance & Williams, Computer Journal 9 (1967). x [n, ...]. `linkage`: how far two clusters are, by the
    growth of the inertia, the farthest, the mean or the nearest two rows. Answer: `cluster` [n] int32, that of the nearest
    training row. Equal to scikit-learn's AgglomerativeClustering on the training rows.
    """
    if (clusters is None) == (distance is None):
        raise ValueError(f"`agglomerative` takes either `clusters` or `distance`; got {clusters} and {distance}.")

    def find(x, seed, hp):
        from sklearn.cluster import AgglomerativeClustering

        label = AgglomerativeClustering(clusters, linkage=linkage, distance_threshold=hp.get("distance")).fit_predict(x)
        return label, np.full(len(x), np.inf), True

    return by_nearest("agglomerative", find, max(2, clusters or 0), {} if distance is None else {"distance": distance})


def spectral_clustering(
    clusters: Annotated[int, Gt(1)], affinity: Literal["rbf", "nearest_neighbors"] = "rbf", gamma: Annotated[float, Gt(0)] = 1.0,
    neighbors: Annotated[int, Gt(0)] = 10,
) -> Estimator:  # fmt: skip
    """Clusters that a graph of the rows falls into: k-means on the first eigenvectors of its Laplacian.

    Shi & Malik, IEEE TPAMI 22 (2000); Ng, Jordan & Weiss, NIPS 14 (2001). x [n, ...]. The graph joins all rows by
    `exp(-gamma |x - z|²)` or each with its `neighbors`. Answer: `cluster` [n] int32, that of the nearest training row. Equal to
    scikit-learn's SpectralClustering on the training rows.
    """
    joined = affinity == "nearest_neighbors"

    def find(x, seed, hp):
        from sklearn.cluster import SpectralClustering

        floats = {"n_neighbors": neighbors} if joined else {"gamma": hp["gamma"]}
        label = SpectralClustering(clusters, random_state=seed, affinity=affinity, **floats).fit_predict(x)
        return label, np.full(len(x), np.inf), True

    least = max(clusters, neighbors if joined else 0) + 1
    return by_nearest("spectral_clustering", find, least, {} if joined else {"gamma": gamma})


def affinity_propagation(
    damping: Annotated[float, Interval(ge=0.5, lt=1)] = 0.5, preference: float | None = None,
    max_iterations: Annotated[int, Gt(0)] = 200,
) -> Estimator:  # fmt: skip
    """Clusters around exemplars, rows that rows choose by sending each other how well they would be served.

    Frey & Dueck, Science 315 (2007). x [n, ...], similar by the negative squared distance. The greater `preference`, the
    similarity of a row with itself, the more exemplars; the median of all similarities unless given. Answer: `cluster` [n]
    int32, that of the nearest exemplar, or -1 where there is none; the info says whether the messages settled. Equal to
    scikit-learn's AffinityPropagation.
    """

    def find(x, seed, hp):
        from sklearn.cluster import AffinityPropagation
        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the info says it
            peer = AffinityPropagation(
                damping=hp["damping"], max_iter=max_iterations, preference=hp.get("preference"), random_state=seed
            ).fit(x)  # fmt: skip
        reach = np.full(len(x), -1.0)
        reach[peer.cluster_centers_indices_] = np.inf
        return peer.labels_, reach, peer.n_iter_ < max_iterations and bool(len(peer.cluster_centers_indices_))

    hp = {"damping": damping} | ({} if preference is None else {"preference": preference})
    return by_nearest("affinity_propagation", find, 2, hp)


def tsne(
    components: Annotated[int, Interval(ge=1, le=3)] = 2, perplexity: Annotated[float, Gt(0)] = 30.0,
    exaggeration: Annotated[float, Ge(1)] = 12.0, max_iterations: Annotated[int, Gt(250)] = 1000,
    neighbors: Annotated[int, Gt(0)] = 5,
) -> Estimator:  # fmt: skip
    """A map on which rows that are near stay near: the places whose chances of being neighbours are most alike.

    van der Maaten & Hinton, JMLR 9 (2008); by Barnes & Hut's tree, from the first principal components. x [n, ...].
    `perplexity`: of how many neighbours each row is told. Answer: `transform` [n, components], of a new row the mean place of
    its `neighbors` in training by 1 / distance, as `mds`. The info's `error` is the divergence. Equal to scikit-learn's TSNE on
    the training rows.
    """

    def find(x, seed, hp):
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits

        peer = TSNE(
            components, perplexity=hp["perplexity"], early_exaggeration=hp["exaggeration"], max_iter=max_iterations,
            random_state=seed,
        )  # fmt: skip
        # Its threads wait for each other at every step: with others on the machine that takes 30 times as long as one alone.
        with threadpool_limits(1):
            place = peer.fit_transform(x)
        return place, MapFit(True, peer.n_iter_, peer.kl_divergence_)

    made = by_places("tsne", find, components, neighbors, {"perplexity": perplexity, "exaggeration": exaggeration})

    def check(rows):
        made.check(rows)
        if (total := np.asarray(rows.weight).sum()) <= perplexity:
            raise ValueError(f"`perplexity` of `tsne` must be less than the number of rows, {total:g}; got {perplexity:g}.")

    return made._replace(check=check)


def umap(
    components: Annotated[int, Gt(0)] = 2, neighbors: Annotated[int, Gt(1)] = 15,
    min_distance: Annotated[float, Interval(ge=0, le=1)] = 0.1, epochs: Annotated[int, Gt(0)] | None = None,
    nearest: Annotated[int, Gt(0)] = 5,
) -> Estimator:  # fmt: skip
    """A map whose graph of fuzzy neighbours is most like that of the rows, by umap-learn: `pip install "ml-arsenal[umap]"`.

    McInnes, Healy & Melville, 1802.03426. x [n, ...]. `neighbors` of each row are in its graph; `min_distance` is how close rows
    may lie; `epochs` are 500 for up to 10,000 rows and 200 for more unless given. Answer: `transform` [n, components], of a new
    row the mean place of the `nearest` in training by 1 / distance, as `mds`, where umap-learn goes on by an optimisation that
    depends on which rows are asked together. The info's `error` is the mean cross entropy of the two graphs over all pairs of
    rows, in nats. Equal to umap-learn's UMAP on the training rows; on digits a new row lies 0.02 of the map's spread (median)
    from where umap-learn puts it. Raises ImportError without the library.
    """

    def find(x, seed, hp):
        load_umap()
        from umap import UMAP

        peer = UMAP(
            n_components=components, n_neighbors=neighbors, min_dist=hp["min_distance"], n_epochs=epochs, random_state=seed,
            n_jobs=1,
        )  # fmt: skip
        place = peer.fit_transform(x)
        steps = epochs or (500 if len(x) <= 10_000 else 200)
        return place, MapFit(True, steps, cross_entropy(peer.graph_, place, peer._a, peer._b))

    made = by_places("umap", find, components, nearest, {"min_distance": min_distance})

    def check(rows):
        load_umap()
        made.check(rows)
        if (total := np.asarray(rows.weight).sum()) <= (least := max(neighbors, components + 1)):
            raise ValueError(f"`umap` of {neighbors} `neighbors` needs more than {least} rows; got {total:g}.")

    return made._replace(check=check)


def load_umap() -> None:
    """Raise ImportError, with what installs it, where umap-learn is not there."""
    if find_spec("umap") is None:
        raise ImportError('`umap` needs umap-learn: pip install "ml-arsenal[umap]".')


def cross_entropy(graph: Any, place: np.ndarray, a: float, b: float) -> float:
    """The mean, over all pairs of m rows, of the cross entropy of a sparse graph [m, m] and that of the places [m, components].

    Places at a distance t are joined by 1 / (1 + a t^(2b)), kept off 0 and 1 by 1e-4.
    """
    total, m = 0.0, len(place)
    for begin in range(0, m, 512):
        squares = np.square(place[begin : begin + 512, None] - place).sum(-1, dtype=float)
        near = np.clip(1 / (1 + a * squares**b), 1e-4, 1 - 1e-4)
        mine = graph[begin : begin + 512].toarray()
        losses = mine * np.log(near) + (1 - mine) * np.log1p(-near)
        total -= losses.sum() - losses[np.arange(len(mine)), np.arange(begin, begin + len(mine))].sum()
    return total / (m * (m - 1))


def mds(
    components: Annotated[int, Gt(0)] = 2, tolerance: Annotated[float, Gt(0)] = 1e-6, max_iterations: Annotated[int, Gt(0)] = 300,
    neighbors: Annotated[int, Gt(0)] = 5,
) -> Estimator:  # fmt: skip
    """A map that keeps distances: the places of least stress, half the sum of squared differences of distances over all pairs.

    Kruskal, Psychometrika 29 (1964); by SMACOF (de Leeuw, 1977) from the principal components, until the stress falls by less
    than the share `tolerance`. x [n, ...]. Answer: `transform` [n, components]: a training row's own place, of a new one the
    mean place of its `neighbors` in training by 1 / distance, since a new row would move the others on a map of all. The info's
    `error` is the stress. Equal to scikit-learn's MDS(init="classical_mds") but for signs.
    """

    def find(x, seed, hp):
        from sklearn.manifold import smacof
        from sklearn.metrics import euclidean_distances

        off = x - x.mean(0)
        left, size, _ = np.linalg.svd(off, full_matrices=False)
        start = (left * size)[:, :components]
        start = np.pad(start, ((0, 0), (0, components - start.shape[1])))
        made, stress, steps = smacof(
            euclidean_distances(x), n_components=components, init=start, n_init=1, max_iter=max_iterations, eps=hp["tolerance"],
            random_state=seed, return_n_iter=True, normalized_stress=False,
        )  # fmt: skip
        return made, MapFit(steps < max_iterations, steps, stress)

    return by_places("mds", find, components, neighbors, {"tolerance": tolerance})


def isomap(components: Annotated[int, Gt(0)] = 2, neighbors: Annotated[int, Gt(0)] = 5) -> Estimator:
    """A map that keeps the lengths of the shortest paths from neighbour to neighbour, as of a sheet that is rolled up.

    Tenenbaum, de Silva & Langford, Science 290 (2000). x [n, ...]. Answer: `transform` [n, components], of a new row by its
    paths through its nearest `neighbors` in training, projected on the same axes. The info's `error` is the share of the paths'
    variance that the map leaves out. Paths of all pairs are kept: this is for some thousand rows. Equal to scikit-learn's Isomap.
    """

    def fit(key, rows, hp):
        from sklearn.manifold import Isomap

        copies, first = copies_of(rows)
        n = len(copies)
        peer = Isomap(n_neighbors=neighbors, n_components=components, eigen_solver="dense").fit(repeat_rows(rows).astype(float))
        squares, axes = np.zeros((n, n)), np.zeros((n, components))
        there = np.flatnonzero(copies)
        squares[np.ix_(there, there)] = peer.dist_matrix_[np.ix_(first, first)] ** 2
        pca = peer.kernel_pca_
        each = pca.eigenvectors_ / np.sqrt(np.where(pca.eigenvalues_ > 0, pca.eigenvalues_, np.inf))
        axes[there] = each[first]
        left_out = 1 - pca.eigenvalues_.sum() / max(np.trace(centre_twice(-peer.dist_matrix_**2 / 2)), np.finfo(float).tiny)
        return Paths(living_rows(rows), copies.astype(float), squares, axes), MapFit(True, 1, left_out)

    def shapes(rows, hp):
        n, one = rows.weight.shape[0], shape_maker(rows)
        return Paths(flat_shape(rows), one(n), one(n, n), one(n, components)), MAP_SHAPES

    def transform(paths, x):
        weight = paths.there / paths.there.sum()
        inner = -paths.squares / 2
        mean = inner @ weight

        def one(row):
            far = jnp.where(paths.there > 0, distances_to(paths.x, row), jnp.inf)
            # A row of weight 2 is two neighbours.
            order = jnp.argsort(far)
            near = jnp.cumsum(paths.there[order]) - paths.there[order] < neighbors
            at = order[: min(neighbors, order.shape[0])]
            by = far[at, None] + jnp.sqrt(paths.squares[at])
            found = -jnp.square(jnp.where(near[: len(at), None], by, jnp.inf).min(0)) / 2
            found = jnp.where(paths.there > 0, found, 0)
            return ((found - found @ weight - mean + mean @ weight) * paths.there) @ paths.axes

        return lax.map(one, flatten_rows(x))  # row by row: it is exported for any number of them

    return Estimator(
        fit, {"transform": transform}, check=host_check("isomap", max(neighbors, components) + 1), shapes=shapes, exempt=HOST
    )  # fmt: skip


# What they share.


def by_nearest(name: str, find: Callable[..., Any], least: int, hp: dict[str, float]):
    """The estimator of clusters: `find(x, seed, hp)` gives labels [m], reaches [m] and whether it settled, of rows x [m, d]."""

    def fit(key, rows, hp):
        copies, first = copies_of(rows)
        label, reach, settled = find(repeat_rows(rows).astype(float), int(key[-1]), as_numbers(hp))
        label = number_clusters(np.asarray(label))
        n, there = len(copies), np.flatnonzero(copies)
        labels, reaches = np.full(n, -1), np.full(n, -1.0)
        # An exemplar may be a later copy of its row.
        labels[there], reaches[there] = label[first], np.maximum.reduceat(reach, first)
        none = np.mean(label < 0)
        return Members(living_rows(rows), labels, reaches), RegionFit(settled, 1, label.max(initial=-1) + 1, none)

    def shapes(rows, hp):
        n, one = rows.weight.shape[0], shape_maker(rows)
        whole = jax.ShapeDtypeStruct((), np.int32)
        found = Members(flat_shape(rows), jax.ShapeDtypeStruct((n,), np.int32), one(n))
        return found, RegionFit(jax.ShapeDtypeStruct((), np.bool_), whole, whole, one())

    def cluster(members, x):
        def one(row):
            far = jnp.where(members.reach >= 0, distances_to(members.x, row), jnp.inf)
            at = jnp.argmin(far)
            return jnp.where(far[at] <= members.reach[at], members.label[at], -1)

        return lax.map(one, flatten_rows(x)).astype(jnp.int32)  # row by row: it is exported for any number of them

    return Estimator(fit, {"cluster": cluster}, check=host_check(name, least), shapes=shapes, hp=hp, exempt=HOST)


def by_places(name: str, find: Callable[..., Any], components: int, neighbors: int, hp: dict[str, float]):
    """The estimator of a map: `find(x, seed, hp)` gives the places [m, components] of rows x [m, d], and a `MapFit`."""

    def fit(key, rows, hp):
        copies, first = copies_of(rows)
        found, info = find(repeat_rows(rows).astype(float), int(key[-1]), as_numbers(hp))
        place = np.zeros((len(copies), components))
        place[copies > 0] = np.add.reduceat(found, first) / copies[copies > 0, None]  # copies may lie apart
        return Places(living_rows(rows), copies.astype(float), place), info

    def shapes(rows, hp):
        n, one = rows.weight.shape[0], shape_maker(rows)
        return Places(flat_shape(rows), one(n), one(n, components)), MAP_SHAPES

    def transform(places, x):
        def one(row):
            far = jnp.where(places.there > 0, distances_to(places.x, row), jnp.inf)
            far, at = lax.top_k(-far, min(neighbors, far.shape[0]))
            far, weight = -far, places.there[at]
            part = jnp.where(jnp.isfinite(far), jnp.clip(neighbors - (jnp.cumsum(weight) - weight), 0, weight), 0)
            met = (far == 0) & (part > 0)
            part = jnp.where(met.any(), jnp.where(met, part, 0), part / jnp.where((far > 0) & jnp.isfinite(far), far, 1))
            return part @ places.place[at] / part.sum()

        return lax.map(one, flatten_rows(x))  # row by row: it is exported for any number of them

    return Estimator(fit, {"transform": transform}, check=host_check(name, 2), shapes=shapes, hp=hp, exempt=HOST)


MAP_SHAPES = MapFit(
    jax.ShapeDtypeStruct((), np.bool_), jax.ShapeDtypeStruct((), np.int32), jax.ShapeDtypeStruct((), np.float32)
)  # fmt: skip


def copies_of(rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """How many times each row [n] is there, and where among the repeated rows the first copy of each that is there stands."""
    copies = np.asarray(rows.weight).round().astype(int)
    return copies, (np.cumsum(copies) - copies)[copies > 0]


def living_rows(rows: Any) -> np.ndarray:
    """x [n, d] with zeros where no row is there."""
    x = np.asarray(rows.x).reshape(len(rows.weight), -1)
    return np.where(np.asarray(rows.weight)[:, None] > 0, x, 0)


def number_clusters(label: np.ndarray) -> np.ndarray:
    """The labels [m] numbered in the order of rows, whatever numbers they had; -1 stays.

    >>> number_clusters(np.array([7, -1, 3, 7])).tolist()
    [0, -1, 1, 0]
    """
    known, first, place = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(len(known), int)
    order = np.argsort(first)
    order = order[known[order] >= 0]
    rank[known < 0] = -1
    rank[order] = np.arange(len(order))
    return rank[place]


def centre_twice(inner: np.ndarray) -> np.ndarray:
    """A matrix [m, m] less the means of its rows and columns."""
    return inner - inner.mean(0) - inner.mean(1)[:, None] + inner.mean()


def as_numbers(hp: Any) -> dict[str, float]:
    """The floats of a fit on the host."""
    return {name: float(value) for name, value in hp.items()}


def shape_maker(rows: Any) -> Callable[..., jax.ShapeDtypeStruct]:
    """`(*shape) -> ` shapes in the type of the rows."""
    return lambda *shape: jax.ShapeDtypeStruct(shape, rows.x.dtype)


def flat_shape(rows: Any) -> jax.ShapeDtypeStruct:
    """The shape of x as [n, d]."""
    return jax.ShapeDtypeStruct((rows.x.shape[0], math.prod(rows.x.shape[1:])), rows.x.dtype)


def host_check(name: str, least: int) -> Callable[[Any], None]:
    """Raises ValueError for rows that are no numbers or too few, or weights that are no number of times."""

    def check(rows):
        check_rows(name, rows, least)
        check_whole_weights(name, rows)

    return check
