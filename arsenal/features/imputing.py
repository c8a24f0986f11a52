"""Values in place of those that are missing (NaN), learned from the training rows."""

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt

from arsenal.features.arrays import as_table, divide, join, keep_names, rename
from arsenal.features.scaling import zeros_for_gaps
from arsenal.numerics.weighted import known_mean, weighted_quantile
from arsenal.records import Transform

Strategy = Literal["mean", "median", "most_frequent", "constant"]


class Fillings(NamedTuple):
    """What stands for a missing value of each feature, and whether the training rows had any."""

    value: Any
    gaps: Any


class Donors(NamedTuple):
    """The training rows, their weights, and the means of their features."""

    x: Any
    weight: Any
    mean: Any


def impute(strategy: Strategy = "mean", value: float = 0.0, indicator: bool = False) -> Transform:
    """The mean, median, most frequent or a constant value in place of NaN, by weight; x [n, d] to [n, d].

    With `indicator` [n, 2d]: behind the values a column for each that is 1 where it was missing, and always 0 where the
    training rows miss none, since nothing could be learned of it. A median between two values is their mean; of equally
    frequent values it is the least. `value` is that of `constant`, and traced. A feature of which nothing is known becomes 0.

    >>> from arsenal.records import batch
    >>> impute(indicator=True).fit(None, batch(x=[[1.0], [float("nan")], [3.0]]), {})[1].x.tolist()
    [[1.0, 0.0], [2.0, 1.0], [3.0, 0.0]]
    """
    kinds = ("mean", "median", "most_frequent", "constant")
    if strategy not in kinds:
        raise ValueError(f"`strategy` of `impute` must be one of {', '.join(kinds)}; got {strategy!r}.")

    def fit(key, rows, hp):
        x = as_table("impute", rows.x)
        if strategy == "constant":
            filling = jnp.full(x.shape[1], hp["value"], x.dtype)
        elif strategy == "mean":
            filling = known_mean(x, rows.weight)
        elif strategy == "median":
            filling = zeros_for_gaps(weighted_quantile(x, rows.weight, jnp.full(1, 0.5))[0])
        else:
            filling = jax.vmap(most_frequent, (1, None))(x, rows.weight)
        state = Fillings(filling, (jnp.isnan(x) & (rows.weight > 0)[:, None]).any(0))
        return state, rows._replace(x=apply(state, rows.x))

    def apply(state, x):
        x = as_table("impute", x)
        missing = jnp.isnan(x)
        filled = jnp.where(missing, state.value, x)
        return join([filled, (missing & state.gaps).astype(x.dtype)]) if indicator else filled

    names = rename("", ".missing", first=False) if indicator else keep_names
    return Transform(fit, apply, hp={"value": value} if strategy == "constant" else {}, names=names)


def most_frequent(column: jax.Array, weight: jax.Array) -> jax.Array:
    """The value of a column [n] with the greatest sum of weights [n], of equals the least; 0 where nothing is known."""
    known = (weight > 0) & ~jnp.isnan(column)
    order = jnp.argsort(jnp.where(known, column, jnp.inf))
    value, weight = column[order], jnp.where(known, weight, 0)[order]
    number = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum((value[1:] != value[:-1]).astype(jnp.int32))])
    total = jax.ops.segment_sum(weight, number, len(column))
    return jnp.where(known.any(), value[jnp.argmax(total[number])], 0)


def impute_neighbors(k: Annotated[int, Gt(0)] = 5) -> Transform:
    """The mean of the `k` nearest training rows that know a feature in place of NaN; x [n, d]. Troyanskaya et al. (2001).

    Nearest by the Euclidean distance over the features that both rows know, scaled up for those that one does not. A row of
    weight 2 is two of the k, and rows that are equally far share the last places. Where no row is near, the mean of the feature.
    The training rows are the state, so this is for some ten thousand of them; features should be of one scale (`standardize`).

    >>> from arsenal.records import batch
    >>> rows = batch(x=[[0.0, 1.0], [0.1, 3.0], [9.0, 8.0], [0.0, float("nan")]])
    >>> float(impute_neighbors(2).fit(None, rows, {})[1].x[3, 1])
    2.0
    """

    def fit(key, rows, hp):
        x = as_table("impute_neighbors", rows.x)
        state = Donors(x, rows.weight.astype(x.dtype), known_mean(x, rows.weight))
        return state, rows._replace(x=apply(state, x))

    def fill(state, row):
        """Row [d] with its gaps filled."""
        known = ~jnp.isnan(state.x)
        both = known & ~jnp.isnan(row)
        squares = jnp.where(both, jnp.square(state.x - row), 0).sum(1)
        shared = both.sum(1)
        distance = jnp.where(shared > 0, squares / jnp.maximum(shared, 1).astype(row.dtype), jnp.inf)
        lends = known & (jnp.isfinite(distance) & (state.weight > 0))[:, None]
        weight = jnp.where(lends, state.weight[:, None], 0)

        def go_further(reached):
            border, mass = reached
            after = jnp.where(lends & (distance[:, None] > border), distance[:, None], jnp.inf).min(0)
            border = jnp.where(mass < k, after, border)
            return border, jnp.where(mass < k, jnp.where(distance[:, None] <= border, weight, 0).sum(0), mass)

        # The distance of the k-th neighbour that knows a feature, which some k steps find sooner than a sort of all rows; who
        # are as far share the last place.
        start = jnp.full_like(row, -1), jnp.where(jnp.isnan(row), jnp.zeros_like(row), k)
        border, _ = jax.lax.while_loop(lambda reached: ((reached[1] < k) & (reached[0] < jnp.inf)).any(), go_further, start)
        nearer, as_far = (jnp.where(side, weight, 0) for side in (distance[:, None] < border, distance[:, None] == border))
        taken = nearer + as_far * jnp.clip(divide(k - nearer.sum(0), as_far.sum(0)), 0, 1)
        total = taken.sum(0)
        mean = divide((taken * jnp.where(lends, state.x, 0)).sum(0), total)
        return jnp.where(jnp.isnan(row), jnp.where(total > 0, mean, state.mean), row)

    def apply(state, x):
        x = as_table("impute_neighbors", x)
        # Not all pairs of rows at once: [n, n, d] would be the memory's end. In an artifact the number of rows is a symbol.
        together = 16 if isinstance(x.shape[0], int) else None
        return jax.lax.map(lambda row: fill(state, row), x, batch_size=together)

    return Transform(fit, apply, names=keep_names)
