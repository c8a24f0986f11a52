"""Clusters of rows around their means. Lloyd, IEEE TIT 28 (1982); first means by Arthur & Vassilvitskii, SODA 2007."""

import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt
from jax import lax

from arsenal.numerics.weighted import draw, over_rows, weighted_mean
from arsenal.records import Estimator, Learner, Mean


class Centres(NamedTuple):
    """Means [clusters, d] and the weight [clusters] of the rows that they are means of."""

    centres: Any
    counts: Any


class ClusterFit(NamedTuple):
    """How the fit went: `inertia` [] is the weighted sum of squared distances to the nearest centre."""

    converged: Any
    iterations: Any
    inertia: Any


MOST_TOGETHER = 5
"""So many restarts run as lanes of one loop."""


def kmeans(
    clusters: Annotated[int, Gt(0)],
    restarts: Annotated[int, Gt(0)] = 10,
    tolerance: Annotated[float, Ge(0)] = 1e-4,
    max_iterations: Annotated[int, Gt(0)] = 300,
) -> Estimator:
    """Centres [clusters, d] of rows x [n, d] (further axes are flattened) with the least inertia of `restarts` fits.

    A fit begins at rows drawn by weight and distance (greedy k-means++) and ends when no row changes its cluster, or
    when the centres moved by less than `tolerance`, traced, times the mean variance of a column, as in scikit-learn.
    A cluster that lost all rows takes the row farthest from its centre. y is not read. Answers: `cluster` [n] int32,
    the nearest centre (no `predict`: it says nothing of y), and `transform` [n, clusters], the distances.
    """

    def fit(key, rows, hp):
        x, weight = flatten_rows(rows.x), rows.weight.astype(flatten_rows(rows.x).dtype)
        mean = weighted_mean(x, weight)
        x = x - mean  # distances are differences of squares: the shorter the vectors, the more digits are left

        def one(key):
            return lloyd(x, weight, first_centres(key, x, weight, clusters), hp["tolerance"], max_iterations)

        centres, info = best_of(one, key, restarts, lambda info: -info.inertia)
        return centres + mean, info

    def check(rows):
        check_centres("kmeans", rows, clusters)

    return Estimator(fit, CENTRE_ANSWERS, check=check, hp={"tolerance": tolerance})


def k_medoids(clusters: Annotated[int, Gt(0)], max_iterations: Annotated[int, Gt(0)] = 100) -> Estimator:
    """The `clusters` rows that lie nearest to all others: the medoids of least summed distance that no single swap makes less.

    Kaufman & Rousseeuw (1987); first medoids one by one, each the best beside those before it, then the best of all swaps, as
    long as it helps, by the sums of Schubert & Rousseeuw, Information Systems 101 (2021). x [n, ...] -> medoids [clusters, d].
    All pairs of rows are held in memory at once: this is for some ten thousand. y is not read. Answers as of `kmeans`; the
    info's `inertia` is the weighted sum of distances. Equal to PAM.
    """

    def fit(key, rows, hp):
        x = flatten_rows(rows.x)
        weight = rows.weight.astype(x.dtype)
        far = lax.map(lambda row: jnp.sqrt(jnp.square(x - row).sum(1)), x, batch_size=16)
        chosen, info = partition_around_medoids(far, weight, clusters, max_iterations)
        return x[chosen], info

    def check(rows):
        check_centres("k_medoids", rows, clusters)

    return Estimator(fit, CENTRE_ANSWERS, check=check)


def partition_around_medoids(
    far: jax.Array, weight: jax.Array, clusters: int, max_iterations: int
) -> tuple[jax.Array, ClusterFit]:
    """The positions [clusters] of the medoids of rows with distances `far` [n, n] and weights [n], and how the search went."""
    n, there, slack = len(weight), weight > 0, 8 * jnp.finfo(far.dtype).eps

    def begin(nearest, _):
        after = jnp.where(there, jnp.minimum(far, nearest[:, None]).T @ weight, jnp.inf)
        best = jnp.argmin(after)
        return jnp.minimum(nearest, far[:, best]), best

    def swap(carry):
        chosen, total, iteration, _ = carry
        to, mine = far[:, chosen], jnp.arange(n)
        own = jnp.argmin(to, 1)
        first, second = to[mine, own], jnp.where(own[:, None] == jnp.arange(clusters), jnp.inf, to).min(1)
        # What changes when row j becomes a medoid, and more, of the rows of medoid i, when i is none any longer.
        joins = weight @ jnp.minimum(far - first[:, None], 0)
        leaves = jnp.minimum(far, second[:, None]) - jnp.minimum(far, first[:, None])
        change = joins + (jax.nn.one_hot(own, clusters, dtype=far.dtype) * weight[:, None]).T @ leaves
        change = jnp.where(there, change, jnp.inf)
        at, row = jnp.unravel_index(jnp.argmin(change), change.shape)
        better = change[at, row] < -slack * total
        moved = jnp.where(better, chosen.at[at].set(row.astype(chosen.dtype)), chosen)
        return moved, weight @ far[:, moved].min(1), iteration + 1, ~better

    nearest, chosen = lax.scan(begin, jnp.full_like(weight, far.max()), None, clusters)
    start = chosen, weight @ nearest, jnp.zeros((), jnp.int32), jnp.array(False)
    chosen, total, iterations, done = lax.while_loop(lambda carry: ~carry[3] & (carry[2] < max_iterations), swap, start)
    return chosen, ClusterFit(done, iterations, total)


def mini_batch_kmeans(clusters: Annotated[int, Gt(0)]) -> Learner:
    """Centres [clusters, d] that move, a batch at a time, to the mean of all rows that were nearest to them: for many rows.

    Sculley, WWW 2010; each step is that of scikit-learn's MiniBatchKMeans.partial_fit without reassignment. Centres begin at rows
    of the first batch, drawn as in `kmeans`, so it needs as many rows. y is not read. Answers as of `kmeans`; measures `inertia`,
    the mean squared distance to the nearest centre.
    """

    def init(key, batch, hp):
        x = flatten_rows(batch.x)
        weight = batch.weight.astype(x.dtype)
        middle = weighted_mean(x, weight)
        return Centres(first_centres(key, x - middle, weight, clusters) + middle, jnp.zeros(clusters, x.dtype))

    def step(key, state, batch, hp):
        x = flatten_rows(batch.x)
        weight = batch.weight.astype(x.dtype)
        label = nearest_centre(x, state.centres)
        mine = jax.nn.one_hot(label, clusters, dtype=x.dtype) * weight[:, None]
        off = jnp.square(x - state.centres[label]).sum(1)
        count, total, inertia, rows = over_rows((mine.sum(0), mine.T @ x, weight @ off, weight.sum()))
        counts = state.counts + count
        centres = (state.centres * state.counts[:, None] + total) / jnp.where(counts > 0, counts, 1)[:, None]
        moved = Centres(jnp.where(count[:, None] > 0, centres, state.centres), counts)
        return moved, {"inertia": Mean(inertia, rows)}

    def evaluate(key, centres, rows, hp):
        x = flatten_rows(rows.x)
        off = jnp.square(x - centres[nearest_centre(x, centres)]).sum(1)
        return {"inertia": Mean(rows.weight.astype(x.dtype) @ off, rows.weight.sum().astype(x.dtype))}

    return Learner(
        init, step, lambda state: state.centres, CENTRE_ANSWERS, evaluate, modes={"inertia": "min"},
        adopt=lambda state, centres, hp: state._replace(centres=centres), sums=True,
    )  # fmt: skip


def best_of(one: Callable[[jax.Array], tuple], key: jax.Array, restarts: int, score: Callable[[Any], jax.Array]) -> tuple:
    """What `one(key) -> (params, info)` finds in the restart with the highest `score(info)`; NaN is lowest.

    A few restarts are lanes of one loop: it lasts as long as the slowest of them, which all at once would wait for.
    """
    together = max(size for size in range(1, MOST_TOGETHER + 1) if restarts % size == 0)
    found = lax.map(one, jax.random.split(key, restarts), batch_size=together)
    scores = score(found[1])
    best = jnp.argmax(jnp.where(jnp.isnan(scores), -jnp.inf, scores))
    return jax.tree.map(lambda leaf: leaf[best], found)


def lloyd(
    x: jax.Array, weight: jax.Array, centres: jax.Array, tolerance: Any, max_iterations: int
) -> tuple[jax.Array, ClusterFit]:
    """Rows x [n, d] to the nearest centre [k, d] and centres to the mean of their rows, in turn; (centres, info)."""
    k, columns = centres.shape[0], jnp.arange(x.shape[0])
    still = tolerance * weighted_mean(jnp.square(x - weighted_mean(x, weight)), weight).mean()

    def fill(carry):  # the farthest row goes to a cluster that has none
        label, far, counts = carry
        row, empty = jnp.argmax(far), jnp.argmin(counts)
        return jnp.where(columns == row, empty.astype(label.dtype), label), far.at[row].set(-1), counts.at[empty].set(1)

    def move(centres, label, score):
        counts = jnp.zeros(k, x.dtype).at[label].add(weight)
        far = jnp.where(weight > 0, score + jnp.square(x).sum(1), -1)
        label, _, _ = lax.while_loop(lambda c: (c[2] == 0).any() & (c[1] >= 0).any(), fill, (label, far, counts))
        # Clusters by rows, so that restarts under `vmap` are one product with x.
        mine = (label == jnp.arange(k, dtype=label.dtype)[:, None]).astype(x.dtype) * weight
        counts = mine.sum(1)
        return jnp.where(counts[:, None] > 0, mine @ x / jnp.where(counts > 0, counts, 1)[:, None], centres)

    def step(carry):
        centres, label, score, iteration, _ = carry
        moved = move(centres, label, score)
        new, score = assign(x, moved)
        done = (new == label).all(where=weight > 0) | (jnp.square(moved - centres).sum() <= still)
        return moved, new, score, iteration + 1, done

    def unfinished(carry):
        return ~carry[4] & (carry[3] < max_iterations)

    begin = centres, *assign(x, centres), jnp.zeros((), jnp.int32), jnp.array(False)
    centres, label, _, iterations, done = lax.while_loop(unfinished, step, begin)
    inertia = weight @ jnp.square(x - centres[label]).sum(1)
    return centres, ClusterFit(done, iterations, inertia)


def assign(x: jax.Array, centres: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The nearest centre [n] int32 of rows x [n, d] among centres [k, d], and its squared distance less the row's square [n]."""
    scores = jnp.square(centres).sum(1)[:, None] - 2 * centres @ x.T  # clusters by rows: one product for all restarts
    return jnp.argmin(scores, 0).astype(jnp.int32), scores.min(0)


def first_centres(key: jax.Array, x: jax.Array, weight: jax.Array, k: int) -> jax.Array:
    """Rows [k, d] of x [n, d], each drawn by weight and squared distance to those before it, the best of some draws."""
    trials, length = 2 + int(math.log(k)), jnp.square(x).sum(1)

    def squares(at):
        return jnp.maximum(length[at][:, None] + length - 2 * x[at] @ x.T, 0)  # [trials, n]

    first = draw(jax.random.fold_in(key, 0), weight, 1)
    closest = squares(first)[0]

    def one(closest, i):
        # Where all rows are at centres already, any row is as good.
        mass = jnp.where(weight @ closest > 0, weight * closest, weight)
        tried = draw(jax.random.fold_in(key, i), mass, trials)
        after = jnp.minimum(closest, squares(tried))
        best = jnp.argmin(after @ weight)
        return after[best], tried[best]

    _, others = lax.scan(one, closest, jnp.arange(1, k))
    return x[jnp.concatenate([first, others])]


def nearest_centre(x: jax.Array, centres: jax.Array) -> jax.Array:
    """The number [n] int32 of the centre [k, d] that is nearest to each row of x [n, d]."""
    return assign(x, centres)[0]


def distances(x: jax.Array, centres: jax.Array) -> jax.Array:
    """The distances [n, k] of rows x [n, d] and centres [k, d]."""
    return jnp.sqrt(jnp.square(x[:, None] - centres).sum(-1))


def check_centres(name: str, rows: Any, clusters: int) -> None:
    """Raise ValueError for rows that are no floats, or fewer than clusters."""
    for leaf in jax.tree.leaves(rows.x):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"`{name}` takes x of floats [n, d]; got {leaf.dtype} of shape {leaf.shape}.")
    living = int((np.asarray(rows.weight) > 0).sum())
    if living < clusters:
        raise ValueError(f"`{name}` needs as many rows as `clusters`, {clusters}; got {living}.")


def flatten_rows(x: jax.Array) -> jax.Array:
    """x [n, ...] as [n, d]."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


CENTRE_ANSWERS = {
    "cluster": lambda centres, x: nearest_centre(flatten_rows(x), centres),
    "transform": lambda centres, x: distances(flatten_rows(x), centres),
}
