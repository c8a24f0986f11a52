"""How answers depend on a column: partial dependence, individual conditional expectation, accumulated effects, interactions.

Friedman, Annals of Statistics 29 (2001); Goldstein et al., JCGS 24 (2015, 1309.6392); Apley & Zhu, JRSS B 82 (2020, 1612.08468).
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt
from jax import lax

from arsenal.evaluation.explain.coalitions import as_columns, check_background, check_scores, coalition_values
from arsenal.evaluation.explain.players import Players, columns_of, mix
from arsenal.records import Batch, mask_dead_rows


class Dependence(NamedTuple):
    """Answers where one player has each value of a grid."""

    mean: Any
    """[grid] or [grid, k]: over the rows, by weight: partial dependence."""
    each: Any
    """[grid, n] or [grid, n, k]: of every row: individual conditional expectation."""


def grid_of(x: Any, players: Players, player: str, points: Annotated[int, Gt(1)] = 20) -> Any:
    """Rows as x that differ in one player: its values, or quantiles of more values than `points`, of numbers from 5 % to 95 %.

    On the host. Of a player of several columns it is rows of x, evenly spaced. NaN is no value of the grid.
    """
    number = player_number(players, player)
    parts = [
        np.asarray(leaf)[:, np.asarray(owner) == number] if np.ndim(owner) else np.asarray(leaf)[:, None]
        for owner, leaf in zip(jax.tree.leaves(players.owner), jax.tree.leaves(x), strict=True)
        if (np.asarray(owner) == number).any()
    ]
    first = jax.tree.leaves(x)[0]
    if len(parts) > 1 or parts[0].ndim != 2 or parts[0].shape[1] > 1:
        at = even(len(first), points)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[at], x)
    values = parts[0][:, 0]
    values = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    known = np.unique(values)
    if not len(known):
        raise ValueError(f"`{player}` has no value that is there.")
    if len(known) > points:
        floats = values.dtype.kind == "f"
        low, high = np.quantile(values, 0.05), np.quantile(values, 0.95)
        known = np.linspace(low, high, points) if floats else known[even(len(known), points)]
    known = known.astype(values.dtype)

    def one(owner, leaf):
        made = np.repeat(np.asarray(leaf)[:1], len(known), 0)
        mine = np.asarray(owner) == number
        if np.ndim(owner) and mine.any():
            made[:, mine] = known[:, None]
        return known.copy() if mine.ndim == 0 and mine else made

    return jax.tree.map(one, players.owner, x)


def even(n: int, most: int) -> np.ndarray:
    """At most so many of the numbers 0 to n - 1, evenly spaced, the ends included."""
    return np.unique(np.linspace(0, n - 1, most).astype(int))


def player_number(players: Players, player: str) -> int:
    """Which player has this name; ValueError where none has."""
    if player not in players.names:
        raise ValueError(f"`player` must be one of {', '.join(players.names)}; got {player!r}.")
    return players.names.index(player)


def grid_values(grid: Any, players: Players, player: str) -> np.ndarray:
    """[grid]: the values of a player of one column on the rows of a grid; of another the numbers of the rows."""
    number, found = player_number(players, player), []
    for owner, leaf in zip(jax.tree.leaves(players.owner), jax.tree.leaves(grid), strict=True):
        leaf = np.asarray(leaf)
        found += [leaf] if np.ndim(owner) == 0 and owner == number else []
        found += [leaf[:, at] for at in np.flatnonzero(np.ravel(owner) == number)] if np.ndim(owner) == 1 else []
    return found[0] if len(found) == 1 and found[0].ndim == 1 else np.arange(len(jax.tree.leaves(grid)[0]))


def partial_dependence(
    answer: Callable, params: Any, rows: Batch, grid: Any, player: str, players: Players | None = None
) -> Dependence:
    """Answers of the rows where a player's columns are those of each row of `grid` (as x; see `grid_of`): their mean, and each.

    `answer(params, x)` gives scores [n] or [n, k].

    >>> from arsenal.records import batch
    >>> rows = batch(x=[[0.0, 1.0], [0.0, 3.0]])
    >>> partial_dependence(lambda _, x: x[:, 0] * x[:, 1], None, rows, jnp.array([[1.0, 0.0], [2.0, 0.0]]), "x 1").mean.tolist()
    [2.0, 4.0]
    """
    players = columns_of(rows.x) if players is None else players
    scores = check_scores("partial_dependence", answer, params, rows.x)
    rows = check_background("partial_dependence", rows)
    others = np.arange(len(players.names)) != player_number(players, player)
    found = answer_grid(answer, params, rows, grid, others, players)
    return found if scores is not None else Dependence(found.mean[:, 0], found.each[..., 0])


def answer_grid(answer: Callable, params: Any, rows: Batch, grid: Any, others: Any, players: Players) -> Dependence:
    """The same of k scores, where the players `others` [players] bool keep their columns: one program for every player."""

    def one(value):
        moved = jax.vmap(lambda row: mix(players, row, value, jnp.asarray(others)))(rows.x)
        return as_columns(answer(params, moved))

    each = lax.map(one, jax.tree.map(jnp.asarray, grid))
    weight = rows.weight.astype(each.dtype)
    mean = jnp.einsum("gnk,n->gk", jnp.where(weight[:, None] > 0, each, 0), weight / weight.sum(), precision="highest")
    return Dependence(mean, each)


class AccumulatedEffects(NamedTuple):
    """Local effects of a column of numbers, added up from its least value, less their mean over the rows."""

    edges: Any
    """[bins + 1]: ends of the bins; equal ones are bins without rows."""
    effect: Any
    """[bins + 1] or [bins + 1, k], at the edges."""


def accumulated_effects(
    answer: Callable, params: Any, rows: Batch, player: str, players: Players | None = None, bins: Annotated[int, Ge(1)] = 20
) -> AccumulatedEffects:
    """Accumulated local effects of a column of floats, over bins of about as many rows. Apley & Zhu, section 2.

    Unlike partial dependence it asks for no rows in which columns that go together are torn apart. Rows without a value there
    (NaN) take no part. Raises ValueError for a player that is no single column of floats.
    """
    players = columns_of(rows.x) if players is None else players
    scores = check_scores("accumulated_effects", answer, params, rows.x)
    others = np.arange(len(players.names)) != player_number(players, player)
    found = follow_column(answer, params, rows, number_column(rows.x, players, player), others, players, bins)
    return found if scores is not None else AccumulatedEffects(found.edges, found.effect[:, 0])


def follow_column(
    answer: Callable, params: Any, rows: Batch, value: jax.Array, others: Any, players: Players, bins: int
) -> AccumulatedEffects:
    """The same of k scores, where the column has the values [n] and the players `others` keep theirs: one program for all."""
    weight = jnp.where(jnp.isnan(value), 0, rows.weight).astype(value.dtype)
    rows = mask_dead_rows(Batch(rows.x, None, weight, rows.row))
    edges = weighted_quantiles(value, weight, bins)
    # Bins are open on the left, the first is not.
    place = jnp.clip(jnp.searchsorted(edges, value, side="left").astype(jnp.int32) - 1, 0, bins - 1)

    def at(ends):
        moved = jax.vmap(lambda row, end: set_column(players, row, end, jnp.asarray(others)))(rows.x, ends)
        return as_columns(answer(params, moved))

    steps = at(edges[place + 1]) - at(edges[place])
    inside = jax.nn.one_hot(place, bins, dtype=steps.dtype) * weight.astype(steps.dtype)[:, None]
    count = inside.sum(0)
    total = jnp.matmul(inside.T, jnp.where(weight[:, None] > 0, steps, 0), precision="highest")
    local = total / jnp.where(count > 0, count, 1)[:, None]
    effect = jnp.concatenate([jnp.zeros_like(local[:1]), jnp.cumsum(local, 0)])
    middle = (effect[1:] + effect[:-1]) / 2
    effect = effect - (count @ middle) / count.sum()
    return AccumulatedEffects(edges, effect)


class SecondOrderEffects(NamedTuple):
    """What two columns of numbers do together beyond what each does, accumulated, less its mean over the rows."""

    edges: Any
    """[bins + 1], of the first column."""
    across: Any
    """[bins + 1], of the second."""
    effect: Any
    """[bins + 1, bins + 1] or [bins + 1, bins + 1, k], where the edges meet."""


def second_order_effects(
    answer: Callable, params: Any, rows: Batch, pair: tuple[str, str], players: Players | None = None,
    bins: Annotated[int, Ge(1)] = 10,
) -> SecondOrderEffects:  # fmt: skip
    """Second-order accumulated local effects of two columns of floats, their main effects taken out; Apley & Zhu, section 3.

    In each cell of the bins the mean of how the change along one column changes along the other; cells without rows have that of
    the nearest cell with some, as in the authors' `ALEPlot`. Rows without a value in one of the two (NaN) take no part. It is 0
    where the answer is a sum over the two. Raises ValueError for players that are not two different columns of floats.
    """
    players = columns_of(rows.x) if players is None else players
    scores = check_scores("second_order_effects", answer, params, rows.x)
    if len(pair) != 2 or pair[0] == pair[1]:
        raise ValueError(f"`pair` of `second_order_effects` must be two different columns; got {', '.join(pair)}.")
    values = [number_column(rows.x, players, player, "second_order_effects") for player in pair]
    others = [jnp.arange(len(players.names)) != player_number(players, player) for player in pair]
    weight = jnp.where(jnp.isnan(values[0]) | jnp.isnan(values[1]), 0, rows.weight).astype(values[0].dtype)
    rows = mask_dead_rows(Batch(rows.x, None, weight, rows.row))
    edges = [weighted_quantiles(value, weight, bins) for value in values]
    place = [
        jnp.clip(jnp.searchsorted(edge, value, side="left").astype(jnp.int32) - 1, 0, bins - 1)
        for edge, value in zip(edges, values, strict=True)
    ]

    def at(up, right):
        def move(row, first, second):
            return set_column(players, set_column(players, row, first, others[0]), second, others[1])

        ends = edges[0][place[0] + up], edges[1][place[1] + right]
        return as_columns(answer(params, jax.vmap(move)(rows.x, *ends)))

    bends = at(1, 1) - at(0, 1) - at(1, 0) + at(0, 0)
    cell = place[0] * bins + place[1]
    mass = jnp.where(weight > 0, weight, 0).astype(bends.dtype)
    count = jnp.zeros(bins * bins, bends.dtype).at[cell].add(mass)
    bends = jnp.where(mass[:, None] > 0, bends, 0) * mass[:, None]
    total = jnp.zeros((bins * bins, bends.shape[1]), bends.dtype).at[cell].add(bends)
    local = (total / jnp.where(count > 0, count, 1)[:, None])[nearest_cells(edges, count)]
    flat = (jnp.diff(edges[0]) <= 0)[:, None] | (jnp.diff(edges[1]) <= 0)[None]
    local = jnp.where(flat[..., None], 0, local.reshape(bins, bins, -1))
    whole = jnp.pad(local.cumsum(0).cumsum(1), ((1, 0), (1, 0), (0, 0)))
    count = count.reshape(bins, bins)
    effect = whole - main_effect(whole, count)[:, None] - main_effect(whole.swapaxes(0, 1), count.T)[None]
    middle = (effect[1:, 1:] + effect[:-1, 1:] + effect[1:, :-1] + effect[:-1, :-1]) / 4
    effect = effect - jnp.einsum("ij,ijk->k", count, middle, precision="highest") / count.sum()
    return SecondOrderEffects(edges[0], edges[1], effect if scores is not None else effect[..., 0])


def nearest_cells(edges: Sequence[jax.Array], count: jax.Array) -> jax.Array:
    """[bins²]: of every cell the nearest that has rows, by the middles of the bins in shares of the columns' ranges."""
    middle = [(edge[1:] + edge[:-1]) / 2 / jnp.where(edge[-1] > edge[0], edge[-1] - edge[0], 1) for edge in edges]
    point = jnp.stack([part.ravel() for part in jnp.meshgrid(*middle, indexing="ij")], 1)
    far = jnp.square(point[:, None] - point[None]).sum(-1)
    return jnp.where(count > 0, far, jnp.inf).argmin(1)


def main_effect(whole: jax.Array, count: jax.Array) -> jax.Array:
    """[bins + 1, k]: of a surface [bins + 1, bins + 1, k] the accumulated mean slope along its first axis; rows [bins, bins]."""
    slope = jnp.diff(whole, axis=0)
    middle = (slope[:, 1:] + slope[:, :-1]) / 2
    mass = count.sum(1)
    each = jnp.einsum("ij,ijk->ik", count, middle, precision="highest") / jnp.where(mass > 0, mass, 1)[:, None]
    return jnp.pad(each.cumsum(0), ((1, 0), (0, 0)))


def number_column(x: Any, players: Players, player: str, method: str = "accumulated_effects") -> jax.Array:
    """[n]: the only column of a player, floats; ValueError where it is another."""
    number, found = player_number(players, player), []
    for owner, leaf in zip(jax.tree.leaves(players.owner), jax.tree.leaves(x), strict=True):
        mine = np.flatnonzero(np.ravel(owner) == number)
        found += [leaf[:, i] if np.ndim(owner) else leaf for i in mine]
    if len(found) != 1 or found[0].ndim != 1 or not jnp.issubdtype(found[0].dtype, jnp.floating):
        raise ValueError(f"`player` of `{method}` must be one column of numbers; `{player}` is not.")
    return jnp.asarray(found[0])


def set_column(players: Players, row: Any, value: jax.Array, others: jax.Array) -> Any:
    """One row in which the player that is not among `others` [players] has a value; it is a column of floats."""
    other = jax.tree.map(lambda leaf: jnp.broadcast_to(value, leaf.shape).astype(leaf.dtype), row)
    return mix(players, row, other, others)


def weighted_quantiles(value: jax.Array, weight: jax.Array, bins: int) -> jax.Array:
    """[bins + 1]: the least values that at least each tenth, say, of the weight is at most, and the least of all."""
    order = jnp.argsort(jnp.where(weight > 0, value, jnp.inf))
    value, total = value[order], jnp.cumsum(weight[order])
    share = jnp.arange(1, bins + 1, dtype=total.dtype) / bins * total[-1]
    at = jnp.minimum(jnp.searchsorted(total, share * (1 - 1e-6)), len(value) - 1)
    return jnp.concatenate([value[:1], value[at]])


def interactions(answer: Callable, params: Any, rows: Batch, players: Players | None = None) -> jax.Array:
    """Friedman's H² of every two players [players, players] or [players, players, k]: 0 where their effects add up, to about 1.

    The share of the variance of their joint partial dependence that is not the sum of the two. Friedman & Popescu, Annals of
    Applied Statistics 2 (2008), section 8.1. It asks n² answers for each of the pairs: few rows will do. The diagonal is 0.
    """
    players = columns_of(rows.x) if players is None else players
    scores, count = check_scores("interactions", answer, params, rows.x), len(players.names)
    rows = check_background("interactions", rows)
    pairs = np.array([(i, j) for i in range(count) for j in range(i)], int).reshape(-1, 2)
    alone = np.eye(count, dtype=bool)
    present = jnp.asarray(np.concatenate([alone, alone[pairs[:, 0]] | alone[pairs[:, 1]]]))
    value = lax.map(lambda row: coalition_values(answer, params, players, row, rows, present), rows.x)  # [n, coalitions, k]
    weight = rows.weight.astype(value.dtype) / rows.weight.sum().astype(value.dtype)
    value = value - jnp.einsum("nck,n->ck", value, weight, precision="highest")
    single, joint = value[:, :count], value[:, count:]
    rest = joint - single[:, pairs[:, 0]] - single[:, pairs[:, 1]]
    total = jnp.einsum("nck,n->ck", joint**2, weight)
    share = jnp.where(total > 0, jnp.einsum("nck,n->ck", rest**2, weight) / jnp.where(total > 0, total, 1), 0)
    found = jnp.zeros((count, count, value.shape[2]), value.dtype)
    found = found.at[pairs[:, 0], pairs[:, 1]].set(share).at[pairs[:, 1], pairs[:, 0]].set(share)
    return found if scores is not None else found[..., 0]
