"""Clusters of rows around their means. Lloyd, IEEE TIT 28 (1982); first means by Arthur & Vassilvitskii, SODA 2007."""

import math
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt
from jax import lax

from arsenal.numerics.weighted import draw, weighted_mean
from arsenal.records import Estimator


class ClusterFit(NamedTuple):
    """How the fit went: `inertia` [] is the weighted sum of squared distances to the nearest centre."""

    converged: Any
    iterations: Any
    inertia: Any


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

        centres, info = jax.vmap(one)(jax.random.split(key, restarts))
        best = jnp.argmin(info.inertia)
        return centres[best] + mean, jax.tree.map(lambda v: v[best], info)

    def check(rows):
        for leaf in jax.tree.leaves(rows.x):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise ValueError(f"`kmeans` takes x of floats [n, d]; got {leaf.dtype} of shape {leaf.shape}.")
        living = int((np.asarray(rows.weight) > 0).sum())
        if living < clusters:
            raise ValueError(f"`kmeans` needs as many rows as `clusters`, {clusters}; got {living}.")

    return Estimator(
        fit,
        {
            "cluster": lambda centres, x: nearest_centre(flatten_rows(x), centres),
            "transform": lambda centres, x: distances(flatten_rows(x), centres),
        },
        check=check,
        hp={"tolerance": tolerance},
    )


def lloyd(
    x: jax.Array, weight: jax.Array, centres: jax.Array, tolerance: Any, max_iterations: int
) -> tuple[jax.Array, ClusterFit]:
    """Rows x [n, d] to the nearest centre [k, d] and centres to the mean of their rows, in turn; (centres, info)."""
    k = centres.shape[0]
    still = tolerance * weighted_mean(jnp.square(x - weighted_mean(x, weight)), weight).mean()

    def move(centres, label):
        counts = jnp.zeros(k, x.dtype).at[label].add(weight)
        # The farthest rows go to the clusters that have none, one to each.
        far = jnp.square(x - centres[label]).sum(1)
        farthest = lax.top_k(jnp.where(weight > 0, far, -1), k)[1]
        order = jnp.argsort(counts > 0, stable=True)
        empty = jnp.arange(k) < (counts == 0).sum()
        label = label.at[jnp.where(empty, farthest, x.shape[0])].set(order.astype(label.dtype), mode="drop")
        counts = jnp.zeros(k, x.dtype).at[label].add(weight)
        sums = jnp.zeros_like(centres).at[label].add(x * weight[:, None])
        return jnp.where(counts[:, None] > 0, sums / jnp.where(counts > 0, counts, 1)[:, None], centres)

    def step(carry):
        centres, label, iteration, _ = carry
        moved = move(centres, label)
        new = nearest_centre(x, moved)
        done = (new == label).all(where=weight > 0) | (jnp.square(moved - centres).sum() <= still)
        return moved, new, iteration + 1, done

    def unfinished(carry):
        return ~carry[3] & (carry[2] < max_iterations)

    begin = centres, nearest_centre(x, centres), jnp.zeros((), jnp.int32), jnp.array(False)
    centres, label, iterations, done = lax.while_loop(unfinished, step, begin)
    inertia = weight @ jnp.square(x - centres[label]).sum(1)
    return centres, ClusterFit(done, iterations, inertia)


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
    return jnp.argmin(jnp.square(centres).sum(1) - 2 * x @ centres.T, 1).astype(jnp.int32)


def distances(x: jax.Array, centres: jax.Array) -> jax.Array:
    """The distances [n, k] of rows x [n, d] and centres [k, d]."""
    return jnp.sqrt(jnp.square(x[:, None] - centres).sum(-1))


def flatten_rows(x: jax.Array) -> jax.Array:
    """x [n, ...] as [n, d]."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))
