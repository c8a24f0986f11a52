"""Permutation importance: how much worse a model is measured when a column's values are dealt out among the rows anew.

Breiman, Machine Learning 45 (2001); Fisher, Rudin & Dominici, JMLR 20 (2019, 1801.01489).
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt
from jax import lax

from arsenal.evaluation.explain.players import Players, columns_of
from arsenal.records import Batch, Loss, Metric, hyperparameters, mask_dead_rows, row_keys


class Importances(NamedTuple):
    """How much worse the measure becomes, by player; it is 0 where a player is of no use."""

    mean: Any
    """[players]"""
    deviation: Any
    """[players]: the standard deviation over repeats."""
    repeats: Any
    """[players, repeats]"""
    baseline: Any
    """[]: the measure with all columns as they are."""


AT_ONCE = 16_384
"""Rows that are answered together."""


def permutation_importance(
    key: jax.Array, answer: Callable, params: Any, rows: Batch, measure: Any, players: Players | None = None,
    repeats: Annotated[int, Ge(1)] = 5, strata: Any = None,
) -> Importances:  # fmt: skip
    """The importance of every player for what `measure` says of `answer(params, x)` on rows with targets.

    `measure` is a `Metric` of one value, whose `mode` says which way is worse, a `Loss`, or a function `(answer, rows) -> []`
    that is small where answers are good. A metric reads answers by name: `answer` then gives a dict of them. Rows of weight 0
    take no part; a permutation moves rows, not weights, so weight 2 is the row twice in expectation. With `strata` [players, n]
    values are dealt out within a stratum only: conditional importance, see `conditional_strata`.

    >>> from arsenal.records import batch
    >>> error = lambda answer, rows: jnp.square(answer - rows.y).mean()
    >>> rows = batch(x=[[0.0, 5.0], [1.0, 5.0], [2.0, 6.0]], y=[0.0, 1.0, 2.0])
    >>> permutation_importance(jax.random.key(0), lambda _, x: x[:, 0], None, rows, error).mean[1].tolist()
    0.0
    """
    if repeats < 1:
        raise ValueError(f"`repeats` of `permutation_importance` must be >= 1; got {repeats}.")
    if not isinstance(rows.weight, jax.core.Tracer) and not (np.asarray(rows.weight) > 0).any():
        raise ValueError("`permutation_importance` needs a row that is there; got none.")
    players = columns_of(rows.x) if players is None else players
    rows, count, n = mask_dead_rows(rows), len(players.names), len(rows.weight)
    worth = lower_better(measure)
    baseline = worth(answer(params, rows.x), rows)

    def order(repeat, stratum):
        return deal(jax.random.fold_in(key, repeat), rows, stratum)

    each = jnp.arange(repeats, dtype=jnp.int32)
    # Without strata the players share the orders of a repeat, as they do in scikit-learn.
    shared = jax.vmap(lambda repeat: order(repeat, jnp.zeros(n, jnp.int32)))(each) if strata is None else None

    def one(lane):
        player, repeat = lane[0], lane[1]
        source = order(repeat, jnp.asarray(strata)[player]) if shared is None else shared[repeat]
        moved = jax.tree.map(lambda owner, leaf: move_columns(owner == player, leaf, source), players.owner, rows.x)
        return worth(answer(params, moved), rows)

    lanes = jnp.stack([jnp.repeat(jnp.arange(count, dtype=jnp.int32), repeats), jnp.tile(each, count)], 1)
    found = lax.map(one, lanes, batch_size=max(1, min(len(lanes), AT_ONCE // n))).reshape(count, repeats) - baseline
    return Importances(found.mean(1), found.std(1), found, baseline)


def move_columns(mine: jax.Array, leaf: jax.Array, source: jax.Array) -> jax.Array:
    """The array [n, ...] with the columns that are `mine` from the rows `source` [n]."""
    return jnp.where(mine.reshape(1, *mine.shape, *(1,) * (leaf.ndim - 1 - mine.ndim)), leaf[source], leaf)


def deal(key: jax.Array, rows: Batch, stratum: jax.Array) -> jax.Array:
    """[n]: from which row each has its values, a permutation of the living rows of every stratum, by key and row ids alone."""
    chance = jax.vmap(jax.random.uniform)(row_keys(key, rows.row))
    dead = rows.weight <= 0
    into, out = jnp.lexsort((rows.row, stratum, dead)), jnp.lexsort((chance, stratum, dead))
    return jnp.zeros(len(dead), into.dtype).at[into].set(out)


def lower_better(measure: Any) -> Callable:
    """`(answer, rows) -> []`, small where answers are good, of a metric, a loss or such a function."""
    if isinstance(measure, Metric):
        if measure.mode is None:
            raise ValueError(
                "`measure` of `permutation_importance` must be a metric that says which values are good; its mode is None."
            )
        sign = -1 if measure.mode == "max" else 1

        def read(outputs, rows):
            values = measure.compute(measure.update(measure.empty(), outputs, rows))
            if len(values) != 1:
                raise ValueError(f"`measure` of `permutation_importance` must be one value; got {', '.join(values)}.")
            return sign * next(iter(values.values()))

        return read
    if isinstance(measure, Loss):
        hp = hyperparameters(measure.hp)
        return lambda outputs, rows: mean_by_weight(measure.value(outputs, rows, hp), rows.weight)
    return measure


def mean_by_weight(values: jax.Array, weight: jax.Array) -> jax.Array:
    """The mean of values [n] over rows that are there."""
    weight = weight.astype(values.dtype)
    return jnp.vdot(jnp.where(weight > 0, values, 0), weight) / weight.sum()


def conditional_strata(rows: Batch, players: Players | None = None, leaves: Annotated[int, Gt(1)] = 8) -> np.ndarray:
    """[players, n] int32: rows alike in what other columns say of a player's: the leaves of a tree that predicts it from them.

    Molnar et al., 2020 (2006.04628), conditional subgroups, after Strobl et al., BMC Bioinformatics 9 (2008). On the host, by
    scikit-learn's DecisionTreeRegressor; codes count as numbers.
    """
    from sklearn.tree import DecisionTreeRegressor

    players = columns_of(rows.x) if players is None else players
    parts, there = player_matrices(rows.x, players), np.asarray(rows.weight) > 0
    if len(parts) < 2:
        return np.zeros((len(parts), len(there)), np.int32)
    found = []
    for i, own in enumerate(parts):
        rest = np.concatenate(parts[:i] + parts[i + 1 :], 1)
        own = np.where(np.isnan(own), np.nanmean(np.where(np.isnan(own).all(0), 0, own)[there], 0), own)
        own = (own - own[there].mean(0)) / np.maximum(own[there].std(0), 1e-12)
        tree = DecisionTreeRegressor(max_leaf_nodes=leaves, random_state=0)
        found.append(tree.fit(rest[there], own[there], np.asarray(rows.weight)[there]).apply(rest))
    return np.array(found, np.int32)


def player_matrices(x: Any, players: Players) -> list[np.ndarray]:
    """The columns of every player as float64 [n, d], what lies behind a column flattened; on the host."""
    found: list[list[np.ndarray]] = [[] for _ in players.names]
    for owner, leaf in zip(jax.tree.leaves(players.owner), jax.tree.leaves(x), strict=True):
        leaf = np.asarray(leaf, float)
        flat = leaf.reshape(len(leaf), np.size(owner), -1)
        for at, number in enumerate(np.ravel(owner)):
            found[number].append(flat[:, at])
    return [np.concatenate(parts, 1) for parts in found]
