"""Clusters of any number, grown from how many rows lie about a row."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt
from jax import lax

from arsenal.estimators.cluster import flatten_rows
from arsenal.estimators.mixture import check_rows
from arsenal.records import Estimator


class Cores(NamedTuple):
    """The training rows [n, d], the cluster [n] of those that are cores, -1 of others, and the radius []."""

    x: Any
    label: Any
    radius: Any


class Peaks(NamedTuple):
    """Where rows are densest, [n, d], as many as clusters and infinite behind them."""

    centres: Any


class RegionFit(NamedTuple):
    """How the fit went: how many `clusters` [] there are, and the share [] of the weight that lies in `none`."""

    converged: Any
    iterations: Any
    clusters: Any
    none: Any


def dbscan(radius: Annotated[float, Gt(0)] = 0.5, least: Annotated[float, Gt(0)] = 5.0) -> Estimator:
    """Clusters of rows x [n, ...] that are joined by cores: rows with a weight of `least`, their own with it, within `radius`.

    Ester et al., KDD 1996. Both floats, scikit-learn's `eps` and `min_samples`, are traced; y is not read. Answer: `cluster` [n]
    int32, that of the nearest core within the radius, else -1; numbers are in the order of rows. Equal to scikit-learn's DBSCAN,
    but that a row in reach of two clusters goes to the nearer. The training rows are the parameters, and all pairs of them are
    held in memory at once: this is for some ten thousand.
    """

    def fit(key, rows, hp):
        x = flatten_rows(rows.x)
        weight, n = rows.weight.astype(x.dtype), len(x)
        near = lax.map(lambda row: distances_to(x, row) <= hp["radius"].astype(x.dtype), x, batch_size=16) & (weight > 0)
        core = (jnp.where(near, weight, 0).sum(1) >= hp["least"].astype(x.dtype)) & (weight > 0)
        joined = near & core & core[:, None]

        def spread(carry):
            label, _, iteration = carry
            new = jnp.minimum(label, jnp.where(joined, label, n).min(1))
            new = jnp.where(core, new[jnp.minimum(new, n - 1)], n)  # who is joined to the first is joined to its first
            return new, (new != label).any(), iteration + 1

        begin = jnp.where(core, jnp.arange(n, dtype=jnp.int32), n), jnp.array(True), jnp.zeros((), jnp.int32)
        first, _, iterations = lax.while_loop(lambda carry: carry[1], spread, begin)
        heads = core & (first == jnp.arange(n, dtype=jnp.int32))
        number = jnp.cumsum(heads, dtype=jnp.int32) - 1
        label = jnp.where(core, number[jnp.minimum(first, n - 1)], -1)
        reached = (near & core).any(1)
        none = jnp.where(reached, 0, weight).sum() / weight.sum()
        return Cores(x, label, hp["radius"].astype(x.dtype)), RegionFit(True, iterations, heads.sum(dtype=jnp.int32), none)

    def cluster(cores, x):
        def one(row):
            far = jnp.where(cores.label >= 0, distances_to(cores.x, row), jnp.inf)
            at = jnp.argmin(far)
            return jnp.where(far[at] <= cores.radius, cores.label[at], -1)

        return lax.map(one, flatten_rows(x)).astype(jnp.int32)  # row by row: it is exported for any number of them

    check = lambda rows: check_rows("dbscan", rows, 1)  # noqa: E731
    return Estimator(fit, {"cluster": cluster}, check=check, hp={"radius": radius, "least": least})


def mean_shift(bandwidth: Annotated[float, Gt(0)], max_iterations: Annotated[int, Gt(0)] = 300) -> Estimator:
    """Clusters about the places where most rows x [n, ...] lie within `bandwidth`, which is traced.

    Comaniciu & Meer, IEEE TPAMI 24 (2002), with a flat kernel, from every row; of places within a bandwidth of each other the one
    with more weight stays. y is not read. Answer: `cluster` [n] int32, the nearest place, the one with most weight 0. Equal to
    scikit-learn's MeanShift. All pairs of rows are compared at every step: this is for some thousand.
    """

    def fit(key, rows, hp):
        x = flatten_rows(rows.x)
        weight, width = rows.weight.astype(x.dtype), hp["bandwidth"].astype(x.dtype)

        def about(place):
            """The mean of the rows about a place, and their weight."""
            near = jnp.where(distances_to(x, place) <= width, weight, 0)
            return near @ x / jnp.where(near.sum() > 0, near.sum(), 1), near.sum()

        def climb(start):
            def step(carry):
                place, _, iteration = carry
                new, _ = about(place)
                return new, jnp.linalg.norm(new - place), iteration + 1

            def unfinished(carry):
                return (carry[1] > 1e-3 * width) & (carry[2] < max_iterations)

            place, moved, iterations = lax.while_loop(unfinished, step, (start, width, jnp.zeros((), jnp.int32)))
            return place, about(place)[1], moved <= 1e-3 * width, iterations

        places, mass, still, iterations = lax.map(climb, x, batch_size=16)
        there = weight > 0
        # Of equal weights the greatest place by its columns comes first, as in scikit-learn.
        order = jnp.lexsort((*places.T[::-1], jnp.where(there, mass, -1)))[::-1]
        places, alive = places[order], there[order]

        def keep(alive, i):
            later = jnp.arange(len(x)) > i
            return alive & ~(alive[i] & later & (distances_to(places, places[i]) <= width)), None

        alive, _ = lax.scan(keep, alive, jnp.arange(len(x)))
        front = jnp.argsort(~alive, stable=True)
        centres = jnp.where(alive[front][:, None], places[front], jnp.inf)
        info = RegionFit(
            (still | ~there).all(), jnp.where(there, iterations, 0).max(), alive.sum(dtype=jnp.int32), jnp.zeros((), x.dtype)
        )
        return Peaks(centres), info

    def cluster(peaks, x):
        return lax.map(lambda row: jnp.argmin(distances_to(peaks.centres, row)), flatten_rows(x)).astype(jnp.int32)

    check = lambda rows: check_rows("mean_shift", rows, 1)  # noqa: E731
    return Estimator(fit, {"cluster": cluster}, check=check, hp={"bandwidth": bandwidth})


def distances_to(x: jax.Array, row: jax.Array) -> jax.Array:
    """The distances [n] of rows x [n, d] from a row [d]."""
    return jnp.sqrt(jnp.square(x - row).sum(1))
