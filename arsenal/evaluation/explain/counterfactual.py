"""What would have to be otherwise for another answer: few columns changed, to values that other rows have, or by gradients.

Wachter, Mittelstadt & Russell, Harvard Journal of Law & Technology 31 (2018, 1711.00399); Brughmans, Leyman & Martens, "NICE",
Data Mining and Knowledge Discovery 38 (2024, 2104.07411), which the search follows.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt
from jax import lax

from arsenal.evaluation.explain.coalitions import check_background, check_scores
from arsenal.evaluation.explain.players import Players, columns_of, mix
from arsenal.records import Batch, mask_dead_rows


class Counterfactuals(NamedTuple):
    """Of every row the nearest found that has the wanted answer."""

    x: Any
    """As the rows' x."""
    changed: Any
    """[n, players] bool"""
    found: Any
    """[n] bool: whether it has the wanted answer; where not, it is as near as it came."""


def to_class(label: int) -> Callable:
    """`scores [n, k] -> [n]`, above 0 where class `label` is the largest; of scores [n] classes 0 and 1 lie about 0.

    >>> to_class(1)(jnp.array([[0.25, 0.75], [0.5, 0.5]])).tolist()
    [0.5, 0.0]
    """

    def margin(scores):
        if scores.ndim == 1:
            return scores if label else -scores
        if not 0 <= label < scores.shape[1]:
            raise ValueError(f"`label` of `to_class` must be in 0..{scores.shape[1] - 1}; got {label}.")
        return scores[:, label] - jnp.where(jnp.arange(scores.shape[1]) == label, -jnp.inf, scores).max(1)

    return margin


def to_range(low: float = -np.inf, high: float = np.inf) -> Callable:
    """`scores [n] -> [n]`, above 0 where a number lies between `low` and `high`."""
    if not low < high:
        raise ValueError(f"`low` of `to_range` must be < `high`; got {low} and {high}.")
    return lambda scores: jnp.minimum(scores - low, high - scores)


def actionable(players: Players, fixed: Sequence[str]) -> np.ndarray:
    """[players] bool: who may change; ValueError for a name that is none, or where nobody may."""
    for name in fixed:
        if name not in players.names:
            raise ValueError(f"`fixed` must be among {', '.join(players.names)}; got {name!r}.")
    free = ~np.isin(players.names, list(fixed))
    if not free.any():
        raise ValueError("`fixed` must leave a player that may change; it holds all.")
    return free


def nearest_counterfactuals(
    answer: Callable, params: Any, rows: Batch, background: Batch, wanted: Callable, players: Players | None = None,
    fixed: Sequence[str] = (), donors: Annotated[int, Ge(1)] = 20,
) -> Counterfactuals:  # fmt: skip
    """Counterfactuals with as few players changed as a greedy search finds, each to the value of a background's row.

    Of the background's rows with the wanted answer, `wanted(scores) > 0` as of `to_class` or `to_range`, the `donors` that differ
    in the fewest players give values, one player after another, the one that helps most first; the donor that needs the
    fewest is taken. All values are such as rows have; players `fixed` stay as they are.

    >>> from arsenal.records import batch
    >>> none, others = batch(x=[[0.0, 0.0]]), batch(x=[[1.0, 0.0], [1.0, 1.0]])
    >>> nearest_counterfactuals(lambda _, x: x[:, 0] - 0.5, None, none, others, to_class(1)).x.tolist()
    [[1.0, 0.0]]
    """
    players = columns_of(rows.x) if players is None else players
    check_scores("nearest_counterfactuals", answer, params, rows.x)
    free = jnp.asarray(actionable(players, fixed))
    background = check_background("nearest_counterfactuals", background)
    rows, count = mask_dead_rows(rows._replace(y=None, aux=())), len(players.names)
    most = min(donors, len(background.weight))
    reach = lambda x: wanted(answer(params, x))  # noqa: E731
    fits = (reach(background.x) > 0) & (background.weight > 0)

    def one(row):
        differs = jax.vmap(lambda other: find_differences(players, row, other))(background.x) & free
        far = jnp.where(fits, differs.sum(1), count + 1)
        near = jnp.argsort(far, stable=True)[:most]

        def walk(at):
            other = jax.tree.map(lambda leaf: leaf[at], background.x)

            def step(_, state):
                moved, margin = state
                tried = moved[None] | jnp.eye(count, dtype=bool)
                use = (tried != moved[None]).any(1) & differs[at] & free
                gains = reach(jax.vmap(lambda here: mix(players, row, other, ~here))(tried))
                gains = jnp.where(use, gains, -jnp.inf)
                best = gains.argmax()
                more = (margin <= 0) & use.any()
                return jnp.where(more, tried[best], moved), jnp.where(more, gains[best], margin)

            begin = jnp.zeros(count, bool), reach(jax.tree.map(lambda leaf: leaf[None], row))[0]
            return lax.fori_loop(0, count, step, begin)

        moved, margin = lax.map(walk, near)
        sound = (margin > 0) & (fits[near] | (moved.sum(1) == 0))
        best = jnp.where(sound, moved.sum(1), count + 1).argmin()
        other = jax.tree.map(lambda leaf: leaf[near[best]], background.x)
        return mix(players, row, other, ~moved[best]), moved[best], sound[best]

    return Counterfactuals(*lax.map(one, rows.x))


def find_differences(players: Players, row: Any, other: Any) -> jax.Array:
    """[players] bool: in whose columns two rows differ; a missing number is as another."""
    found = jnp.zeros(len(players.names), jnp.int32)
    for owner, mine, theirs in zip(*map(jax.tree.leaves, (players.owner, row, other)), strict=True):
        unequal = (mine != theirs) & ~((mine != mine) & (theirs != theirs))
        whole = unequal.reshape(*np.shape(owner), -1).any(-1)
        found = found.at[owner.ravel()].add(whole.ravel().astype(jnp.int32))
    return found > 0


def gradient_counterfactuals(
    answer: Callable, params: Any, rows: Batch, background: Batch, wanted: Callable, players: Players | None = None,
    fixed: Sequence[str] = (), sparsity: Annotated[float, Ge(0)] = 0.8, rate: Annotated[float, Gt(0)] = 0.05,
    steps: Annotated[int, Ge(1)] = 500,
) -> Counterfactuals:  # fmt: skip
    """Counterfactuals of an array x [n, d] of floats, by proximal gradients on `-wanted + sparsity * |change|₁`, in range.

    A change is in ranges of the background's columns, which x never leaves; columns of `fixed` players stay. In a step columns
    move whose slope is more than `sparsity` of the steepest that can still move. The first point on the way that has the wanted
    answer is taken, and of it, the least change first, every player goes back that need not have moved, as Mothilal, Sharma &
    Tan do, FAT* 2020 (1905.07697).
    """
    players = columns_of(rows.x) if players is None else players
    if isinstance(rows.x, dict) or rows.x.ndim != 2 or not jnp.issubdtype(rows.x.dtype, jnp.floating):
        raise ValueError("`gradient_counterfactuals` takes x [n, d] of floats; `nearest_counterfactuals` takes any.")
    check_scores("gradient_counterfactuals", answer, params, rows.x)
    free = jnp.asarray(actionable(players, fixed))[players.owner]
    background = check_background("gradient_counterfactuals", background)
    start, there = mask_dead_rows(rows).x, (background.weight > 0)[:, None]
    low = jnp.minimum(jnp.where(there, background.x, jnp.inf).min(0), start)
    high = jnp.maximum(jnp.where(there, background.x, -jnp.inf).max(0), start)
    spread = jnp.where(there, background.x, -jnp.inf).max(0) - jnp.where(there, background.x, jnp.inf).min(0)
    spread = jnp.where(spread > 0, spread, 1)
    reach = lambda x: wanted(answer(params, x))  # noqa: E731

    def step(_, x):
        slope = jax.grad(lambda x: reach(x).sum())(x) * spread
        # What lies at its end, but for rounding, and would go on stays there.
        able = jnp.where(slope > 0, high - x, x - low) > 1e-4 * spread
        # The steepest column moves by `rate` of its range.
        slope = jnp.where(free & able, slope, 0)
        slope = slope / jnp.maximum(jnp.abs(slope).max(1, keepdims=True), 1e-12)
        change = (x - start) / spread + rate * slope
        change = jnp.sign(change) * jnp.maximum(jnp.abs(change) - jnp.where(able, rate * sparsity, 0), 0)
        moved = jnp.clip(start + change * spread, low, high)
        return jnp.where((reach(x) > 0)[:, None], x, moved)

    x = lax.fori_loop(0, steps, step, start)
    size = jax.ops.segment_max((jnp.abs(x - start) / spread).T, jnp.asarray(players.owner), len(players.names)).T
    order = jnp.argsort(size, 1)

    def restore(i, x):
        back = jnp.where(jnp.asarray(players.owner)[None] == order[:, i, None], start, x)
        return jnp.where(((reach(back) > 0) & (reach(x) > 0))[:, None], back, x)

    x = lax.fori_loop(0, len(players.names), restore, x)
    changed = jax.vmap(lambda row, other: find_differences(players, row, other))(start, x)
    return Counterfactuals(x, changed, reach(x) > 0)
