"""Shapley values: what each column adds to an answer, on average over all orders in which columns become known.

Shapley (1953); Strumbelj & Kononenko, JMLR 11 (2010); Lundberg & Lee, NeurIPS 2017 (1705.07874).
"""

import itertools
import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge
from jax import lax

from arsenal.evaluation.explain.coalitions import (
    as_columns,
    check_background,
    check_scores,
    coalition_values,
    mean_answer,
)
from arsenal.evaluation.explain.players import Players, columns_of
from arsenal.records import Batch, mask_dead_rows, row_keys

MOST_PLAYERS = 12
"""All of whose coalitions are asked."""


class Attributions(NamedTuple):
    """What each player adds to a row's answer: `base` and a row's values sum to its answer."""

    values: Any
    """[n, players], or [n, players, k] of k scores."""
    base: Any
    """[], or [k]: the mean answer of the background."""


def exact_shapley(
    answer: Callable, params: Any, rows: Batch, background: Batch, players: Players | None = None
) -> Attributions:
    """Shapley values by all coalitions of at most 12 players; `answer(params, x)` gives scores [n] or [n, k].

    Raises ValueError for more players, an empty background, or an answer that is no score.

    >>> from arsenal.records import batch
    >>> both = exact_shapley(lambda _, x: x[:, 0] * x[:, 1], None, batch(x=[[1.0, 1.0]]), batch(x=[[0.0, 0.0]]))
    >>> both.values.tolist(), float(both.base)
    ([[0.5, 0.5]], 0.0)
    """
    players = columns_of(rows.x) if players is None else players
    count = len(players.names)
    if count > MOST_PLAYERS:
        raise ValueError(
            f"`exact_shapley` takes at most {MOST_PLAYERS} players; got {count}. `kernel_shapley` takes any number, and unions "
            "of columns make fewer."
        )
    present = np.arange(2**count)[:, None] >> np.arange(count) & 1 == 1
    size = present.sum(1)
    # With i the coalition S adds to i's value by (|S|-1)! (p-|S|)! / p!, without i it takes away |S|! (p-|S|-1)! / p!.
    order = np.array([math.factorial(s) * math.factorial(count - 1 - s) / math.factorial(count) for s in range(count)])
    share = np.where(present, order[np.maximum(size - 1, 0)][:, None], -order[np.minimum(size, count - 1)][:, None])
    return attribute("exact_shapley", answer, params, players, rows, background, lambda key: present, lambda _: weigh(share))


def weigh(share: np.ndarray) -> Callable:
    """`(values [m, k], base [k], whole [k]) -> [players, k]`: coalitions by fixed shares [m, players]."""
    return lambda values, base, whole: jnp.matmul(share.T.astype(values.dtype), values - base, precision="highest")


def attribute(
    method: str, answer: Callable, params: Any, players: Players, rows: Batch, background: Batch, coalitions: Callable,
    reader: Callable, key: Any = None,
) -> Attributions:  # fmt: skip
    """Values of every row by what its coalitions are worth: `coalitions(key of the row)` [m, players], read by `reader` of them.

    Without a key all rows have the same.
    """
    scores, background = check_scores(method, answer, params, rows.x), check_background(method, background)
    rows = mask_dead_rows(rows._replace(y=None, aux=()))
    base, whole = mean_answer(answer, params, background), as_columns(answer(params, rows.x))
    same = None if key is not None else jnp.asarray(coalitions(None))
    read = None if same is None else reader(same)

    def one(given):
        row, total, mine = given
        present = coalitions(mine) if same is None else same
        values = coalition_values(answer, params, players, row, background, present)
        return (reader(present) if read is None else read)(values, base, total)

    keys = jnp.zeros(whole.shape[0]) if key is None else row_keys(key, rows.row)
    values = lax.map(one, (rows.x, whole, keys))
    return Attributions(values, base) if scores is not None else Attributions(values[..., 0], base[0])


def linear_shapley(
    answer: Callable, params: Any, rows: Batch, background: Batch, players: Players | None = None
) -> Attributions:
    """Shapley values of an answer that is a sum of functions of one player each, as a linear model is of raw columns.

    Exact there, of one answer for every player; of another answer they do not sum to it, which `gap` tells. Of x [n, d] and a
    slope [d] they are `slope * (x - mean of the background)`.

    >>> from arsenal.records import batch
    >>> linear_shapley(lambda w, x: x @ w, jnp.array([1.0, 2.0]), batch(x=[[3.0, 3.0]]), batch(x=[[1.0, 2.0]])).values.tolist()
    [[2.0, 2.0]]
    """
    players = columns_of(rows.x) if players is None else players
    alone, count = np.eye(len(players.names), dtype=bool), len(players.names)
    return attribute(
        "linear_shapley", answer, params, players, rows, background, lambda key: alone, lambda _: weigh(np.eye(count))
    )


def gap(found: Attributions, scores: jax.Array) -> jax.Array:
    """[n] or [n, k]: how far `base` and a row's values are from its scores, which are to be their sum."""
    return found.base + found.values.sum(1) - scores


def kernel_shapley(
    key: jax.Array, answer: Callable, params: Any, rows: Batch, background: Batch, players: Players | None = None,
    coalitions: Annotated[int, Ge(2)] | None = None,
) -> Attributions:  # fmt: skip
    """Shapley values by weighted least squares over coalitions, exact where they are all asked. Lundberg & Lee, section 4.1.

    `coalitions`, 2 * players + 2048 unless told, and at most all: sizes from both ends are asked whole while they fit, as in
    the library `shap`; of the others coalitions are drawn with their complements, the same for all rows. Sums are exact.
    Raises ValueError for fewer coalitions than twice the players.

    >>> from arsenal.records import batch
    >>> x, none = batch(x=[[1.0, 1.0]]), batch(x=[[0.0, 0.0]])
    >>> kernel_shapley(jax.random.key(0), lambda _, x: x[:, 0] * x[:, 1], None, x, none).values.tolist()
    [[0.5, 0.5]]
    """
    players = columns_of(rows.x) if players is None else players
    count = len(players.names)
    many = min(2 * count + 2048 if coalitions is None else coalitions, 2**count - 2)
    if many < min(2 * count, 2**count - 2):
        raise ValueError(f"`coalitions` of `kernel_shapley` must be >= {2 * count}, twice its players; got {coalitions}.")
    present, weight = draw_coalitions(key, count, many)
    return attribute(
        "kernel_shapley", answer, params, players, rows, background, lambda _: present,
        lambda present: least_squares(present, weight),
    )  # fmt: skip


def draw_coalitions(key: jax.Array, players: int, many: int) -> tuple[jax.Array, jax.Array]:
    """About `many` coalitions [m, players] bool and the Shapley kernel's weights [m], those of each size summing to its share."""
    share = {s: (players - 1) / (s * (players - s)) * (2 if s != players - s else 1) for s in range(1, players // 2 + 1)}
    whole, weight, left = [np.zeros((0, players), bool)], [np.zeros(0)], many
    for size in list(share):
        there = math.comb(players, size) * (2 if size != players - size else 1)
        if left * share[size] / sum(share.values()) < there * (1 - 1e-8):
            break
        inside = np.array(list(itertools.combinations(range(players), size)))
        found = np.zeros((len(inside), players), bool)
        np.put_along_axis(found, inside, True, 1)
        found = found if size == players - size else np.concatenate([found, ~found])
        whole.append(found)
        weight.append(np.full(there, share.pop(size) / there))
        left -= there
    fixed, known = np.concatenate(whole), np.concatenate(weight)
    if not share:
        return jnp.asarray(fixed), jnp.asarray(known, dtype=float)
    pairs = max(1, left // 2)
    sizes = jnp.asarray(list(share), jnp.int32)
    likely = jnp.log(jnp.asarray(list(share.values()), dtype=float))
    drawn = sizes[jax.random.categorical(jax.random.fold_in(key, 0), likely, shape=(pairs,))]
    place = jnp.argsort(jnp.argsort(jax.random.uniform(jax.random.fold_in(key, 1), (pairs, players)), 1), 1)
    some = place.astype(jnp.int32) < drawn[:, None]
    each = jnp.full(2 * pairs, sum(share.values()) / (2 * pairs), dtype=float)
    return jnp.concatenate([fixed, some, ~some]), jnp.concatenate([jnp.asarray(known, dtype=float), each])


def least_squares(present: jax.Array, weight: jax.Array) -> Callable:
    """`(values [m, k], base [k], whole [k]) -> [players, k]`: the weighted least squares whose coefficients sum to the whole.

    With G = Z'WZ and b = Z'W(v - base) it is G⁻¹ (b + λ 1), λ by the sum: Lagrange.
    """
    design = present.astype(weight.dtype)
    if present.shape[0] == 0:  # of one player
        return lambda values, base, whole: (whole - base)[None]
    inverse = jnp.linalg.inv(jnp.matmul(design.T * weight, design, precision="highest"))
    fit = jnp.matmul(inverse, design.T * weight, precision="highest")
    along = inverse.sum(1) / inverse.sum()

    def read(values, base, whole):
        free = jnp.matmul(fit.astype(values.dtype), values - base, precision="highest")
        return free + along.astype(values.dtype)[:, None] * (whole - base - free.sum(0))

    return read


def sampling_shapley(
    key: jax.Array, answer: Callable, params: Any, rows: Batch, background: Batch, players: Players | None = None,
    permutations: Annotated[int, Ge(1)] = 10,
) -> Attributions:  # fmt: skip
    """Shapley values over random orders of the players, each walked forwards and backwards; sums are exact.

    Castro, Gómez & Tejada, Computers & Operations Research 36 (2009); Mitchell et al., JMLR 23 (2022) on both ways. A row's
    orders are drawn by the key and its id.
    """
    if permutations < 1:
        raise ValueError(f"`permutations` of `sampling_shapley` must be >= 1; got {permutations}.")
    players = columns_of(rows.x) if players is None else players
    count = len(players.names)

    def walks(one):
        """[2 * permutations, count + 1, count]: who is present after each step."""
        place = jnp.argsort(jax.random.uniform(one, (permutations, count)), 1).astype(jnp.int32)
        place = jnp.concatenate([place, count - 1 - place])
        return place[:, None, :] < jnp.arange(count + 1, dtype=jnp.int32)[:, None]

    def reader(present):
        def read(values, base, whole):
            path = values.reshape(2 * permutations, count + 1, -1)
            steps = present.reshape(2 * permutations, count + 1, count)
            came = (steps[:, 1:] & ~steps[:, :-1]).astype(values.dtype)
            return jnp.einsum("wsp,wsk->pk", came, path[:, 1:] - path[:, :-1], precision="highest") / (2 * permutations)

        return read

    return attribute(
        "sampling_shapley", answer, params, players, rows, background, lambda one: walks(one).reshape(-1, count), reader, key
    )
