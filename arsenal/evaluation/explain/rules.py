"""Rules that hold an answer fast: the few columns whose values, kept in their range, make all others of little matter.

Ribeiro, Singh & Guestrin, "Anchors", AAAI 2018; found greedily here, where theirs is a search by a beam and bounds.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Interval
from jax import lax

from arsenal.evaluation.explain.coalitions import as_columns, check_background, check_scores
from arsenal.evaluation.explain.importance import player_matrices
from arsenal.evaluation.explain.players import Players, columns_of, mix, mix_sources
from arsenal.records import Batch, mask_dead_rows, row_keys


class Anchors(NamedTuple):
    """Of every row the columns that hold its answer."""

    held: Any
    """[n, players] bool"""
    precision: Any
    """[n]: of the samples in which they are held, how many have the row's answer."""
    coverage: Any
    """[n]: the share of the background's weight in which all held players are in the row's range."""


class Ranges(NamedTuple):
    """Which values of a player count as alike."""

    background: Any
    """[background, players] int32: the range that each value is in."""
    edges: tuple[Any, ...]
    """Of each player the quantiles between ranges; () where every value is its own."""


def ranges_of(background: Batch, players: Players, parts: Annotated[int, Gt(1)] = 4) -> Ranges:
    """Ranges of about as many background rows of a player of one column of floats, single values of codes; on the host.

    A missing number is a range of its own. Of a player of several columns every value is its own.
    """
    there = np.asarray(background.weight) > 0
    codes, edges = [], []
    for matrix, kind in zip(player_matrices(background.x, players), player_kinds(background.x, players), strict=True):
        numbers = matrix.shape[1] == 1 and kind == "f"
        known = matrix[there, 0]
        known = known[~np.isnan(known)]
        ends = np.unique(np.quantile(known, np.arange(1, parts) / parts)) if numbers and len(known) else np.zeros(0)
        edges.append(ends if numbers else ())
        codes.append(place(matrix, ends) if numbers else np.unique(matrix, axis=0, return_inverse=True)[1].ravel())
    return Ranges(np.stack(codes, 1).astype(np.int32), tuple(edges))


def place(matrix: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """[n]: how many ends lie below a value [n, 1]; -1 of NaN."""
    return np.where(np.isnan(matrix[:, 0]), -1, np.searchsorted(ends, matrix[:, 0], side="left"))


def player_kinds(x: Any, players: Players) -> list[str]:
    """Of every player `f` where its columns are floats, else `i`."""
    kinds = ["i"] * len(players.names)
    for owner, leaf in zip(jax.tree.leaves(players.owner), jax.tree.leaves(x), strict=True):
        for number in np.ravel(owner):
            kinds[number] = "f" if np.asarray(leaf).dtype.kind == "f" else kinds[number]
    return kinds


def row_ranges(x: Any, background: Batch, players: Players, ranges: Ranges) -> np.ndarray:
    """[n, players] int32: the range that each value of x is in; a value that the background does not have is in none, -2."""
    found = []
    for at, (mine, theirs) in enumerate(zip(player_matrices(x, players), player_matrices(background.x, players), strict=True)):
        if isinstance(ranges.edges[at], np.ndarray):
            found.append(place(mine, ranges.edges[at]))
            continue
        same = (mine[:, None] == theirs[None]) | (np.isnan(mine[:, None]) & np.isnan(theirs[None]))
        same = same.all(2)
        found.append(np.where(same.any(1), ranges.background[same.argmax(1), at], -2))
    return np.stack(found, 1).astype(np.int32)


def anchors(
    key: jax.Array, answer: Callable, params: Any, rows: Batch, background: Batch, players: Players | None = None,
    precision: Annotated[float, Interval(gt=0, le=1)] = 0.95, most: Annotated[int, Ge(1)] = 4,
    samples: Annotated[int, Ge(1)] = 500, parts: Annotated[int, Gt(1)] = 4,
) -> Anchors:  # fmt: skip
    """The players to hold, at most `most`, added one by one until a share `precision` of samples has the row's class.

    A sample draws every player's columns from a background's row of its own: of those held from rows in the same range of
    `ranges_of`, of a value that no such row has the row's own. `answer(params, x)` gives scores [n, k]; the class is the largest,
    of scores [n] it is whether they are above 0. A row's samples are drawn by the key and its id.
    """
    players = columns_of(rows.x) if players is None else players
    check_scores("anchors", answer, params, rows.x)
    ranges = ranges_of(background, players, parts)
    mine = jnp.asarray(row_ranges(rows.x, background, players, ranges))
    background = check_background("anchors", background)
    rows, count, theirs = mask_dead_rows(rows._replace(y=None, aux=())), len(players.names), jnp.asarray(ranges.background)

    def label(x):
        scores = as_columns(answer(params, x))
        return scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(jnp.int32)

    wanted = label(rows.x)

    def one(given):
        row, own, want, chance = given
        alike = (theirs == own) & (background.weight > 0)[:, None]
        likely = jnp.log(background.weight)[:, None]
        free = jax.random.categorical(jax.random.fold_in(chance, 0), likely, axis=0, shape=(samples, count))
        inside = jnp.where(alike, likely, -jnp.inf)
        held_at = jax.random.categorical(jax.random.fold_in(chance, 1), inside, axis=0, shape=(samples, count))

        def share(held):
            known = alike.any(0)
            source = jnp.where(held & known, held_at, free).astype(jnp.int32)
            x = jax.vmap(lambda at: mix_sources(players, background.x, at))(source)
            x = jax.vmap(lambda other: mix(players, row, other, held & ~known))(x)
            return (label(x) == want).mean(dtype=float)

        def grow(_, state):
            held, reached = state
            tried = lax.map(lambda at: jnp.where(held[at], -1.0, share(held.at[at].set(True))), jnp.arange(count))
            best = tried.argmax()
            more = reached < precision
            return jnp.where(more, held.at[best].set(True), held), jnp.where(more, tried[best], reached)

        none = jnp.zeros(count, bool)
        held, reached = lax.fori_loop(0, min(most, count), grow, (none, share(none)))
        covered = jnp.where((alike | ~held).all(1), background.weight, 0).sum() / background.weight.sum()
        return held, reached, covered

    return Anchors(*lax.map(one, (rows.x, mine, wanted, row_keys(key, rows.row))))


def rule_texts(
    found: Anchors, x: Any, background: Batch, players: Players, texts: Sequence[Sequence[str]], parts: int = 4
) -> list[str]:
    """Every row's rule in words, from the texts [n][players] of its values: `age in (20, 28.5] and sex = male`."""
    ranges = ranges_of(background, players, parts)
    mine = row_ranges(x, background, players, ranges)

    def condition(row, at):
        ends, name = ranges.edges[at], players.names[at]
        if not isinstance(ends, np.ndarray) or mine[row, at] < 0 or not len(ends):
            return f"{name} = {texts[row][at]}"
        low, high = mine[row, at] > 0, mine[row, at] < len(ends)
        if low and high:
            return f"{name} in ({ends[mine[row, at] - 1]:.4g}, {ends[mine[row, at]]:.4g}]"
        return f"{name} <= {ends[0]:.4g}" if high else f"{name} > {ends[-1]:.4g}"

    held = np.asarray(found.held)
    return [" and ".join(condition(row, at) for at in np.flatnonzero(held[row])) or "always" for row in range(len(held))]
