"""What coalitions of players are worth: the mean answer where they have a row's columns and the others a background's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from arsenal.evaluation.explain.players import Players, mix
from arsenal.records import Batch, mask_dead_rows

AT_ONCE = 65_536
"""Rows that are answered together: enough to be wide, few enough to stay in a cache."""


def check_scores(method: str, answer: Callable, params: Any, x: Any) -> int | None:
    """How many scores `answer(params, x)` gives a row, None where it is one number [n]; ValueError for what is no score."""
    found = jax.eval_shape(answer, params, x)
    shape: tuple[int, ...] = getattr(found, "shape", ())
    kind = getattr(found, "dtype", None)
    if kind is None or not jnp.issubdtype(kind, jnp.floating) or len(shape) not in (1, 2):
        said = f"{kind} {list(shape)}" if kind is not None else f"a {type(found).__name__}"
        raise ValueError(f"`answer` of `{method}` must give scores, floats [n] or [n, k]; got {said}.")
    return shape[1] if len(shape) == 2 else None


def check_background(method: str, background: Batch) -> Batch:
    """The background without what its dead rows hold; ValueError where no row is there."""
    weight = background.weight
    if not isinstance(weight, jax.core.Tracer) and not (np.asarray(weight) > 0).any():
        raise ValueError(f"`background` of `{method}` must have a row that is there; got {len(weight)} rows, none of them.")
    return mask_dead_rows(Batch(background.x, None, jnp.asarray(weight), background.row))


def as_columns(scores: jax.Array) -> jax.Array:
    """Scores [n] or [n, k] as [n, k]."""
    return scores[:, None] if scores.ndim == 1 else scores


def mean_answer(answer: Callable, params: Any, background: Batch) -> jax.Array:
    """[k]: the mean answer of the background's rows, by weight."""
    scores = as_columns(answer(params, background.x))
    weight = background.weight.astype(scores.dtype)
    return weight @ jnp.where(weight[:, None] > 0, scores, 0) / weight.sum()


def coalition_values(
    answer: Callable, params: Any, players: Players, row: Any, background: Batch, present: jax.Array
) -> jax.Array:
    """[m, k]: of one row x, the mean answer over the background for each of the coalitions `present` [m, players] bool."""
    many, rows = len(present), len(background.weight)
    size = max(1, min(many, AT_ONCE // rows))
    parts = -(-many // size)
    filled = jnp.concatenate([present, jnp.zeros((parts * size - many, present.shape[1]), bool)])

    def value(some):
        mixed = jax.vmap(lambda here: jax.vmap(lambda other: mix(players, row, other, here))(background.x))(some)
        flat = jax.tree.map(lambda leaf: leaf.reshape(size * rows, *leaf.shape[2:]), mixed)
        scores = as_columns(answer(params, flat)).reshape(size, rows, -1)
        weight = background.weight.astype(scores.dtype)
        return jnp.einsum("srk,r->sk", jnp.where(weight[:, None] > 0, scores, 0), weight / weight.sum(), precision="highest")

    # Of one player there is no coalition between none and all: sizes are told, since nothing can be divided among nothing.
    found = lax.map(value, filled.reshape(parts, size, present.shape[1]))
    return found.reshape(parts * size, found.shape[2])[:many]
