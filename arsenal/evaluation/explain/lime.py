"""Local surrogates: a weighted ridge regression on which columns of a row are kept.

Ribeiro, Singh & Guestrin, KDD 2016 (1602.04938).
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt
from jax import lax

from arsenal.evaluation.explain.coalitions import as_columns, check_background, check_scores
from arsenal.evaluation.explain.players import Players, columns_of, mix
from arsenal.records import Batch, mask_dead_rows, row_keys


class LocalSurrogate(NamedTuple):
    """Of every row the plane through answers near it."""

    values: Any
    """[n, players] or [n, players, k]: what keeping a player's columns adds to the answer."""
    intercept: Any
    """[n] or [n, k]: the plane where nothing is kept."""
    fidelity: Any
    """[n] or [n, k]: the share of the variance of those answers that the plane explains, at most 1."""


def lime(
    key: jax.Array, answer: Callable, params: Any, rows: Batch, background: Batch, players: Players | None = None,
    samples: Annotated[int, Ge(2)] = 1000, width: Annotated[float, Gt(0)] | None = None, alpha: Annotated[float, Ge(0)] = 1.0,
) -> LocalSurrogate:  # fmt: skip
    """The ridge regression of answers about rows near each row, of which every player is kept or not, as a coin says.

    Who is not kept has the columns of a background's row. A sample weighs `exp(-absent / (players * width²))` of the number of
    absent players; `width` is 0.75 unless told, as in the library `lime`. A row's samples are drawn by the key and its id.
    `answer(params, x)` gives scores [n] or [n, k].
    """
    if samples < 2:
        raise ValueError(f"`samples` of `lime` must be >= 2; got {samples}.")
    players = columns_of(rows.x) if players is None else players
    scores, background = check_scores("lime", answer, params, rows.x), check_background("lime", background)
    rows, count, likely = mask_dead_rows(rows._replace(y=None, aux=())), len(players.names), jnp.log(background.weight)

    def one(given):
        row, mine = given
        present = jax.random.bernoulli(jax.random.fold_in(mine, 0), 0.5, (samples, count)).at[0].set(True)
        chosen = jax.random.categorical(jax.random.fold_in(mine, 1), likely, shape=(samples,))
        other = jax.tree.map(lambda leaf: leaf[chosen], background.x)
        values = as_columns(answer(params, jax.vmap(lambda other, here: mix(players, row, other, here))(other, present)))
        return plane(present.astype(values.dtype), values, 0.75 if width is None else width, alpha)

    found = LocalSurrogate(*lax.map(one, (rows.x, row_keys(key, rows.row))))
    return found if scores is not None else LocalSurrogate(*(part[..., 0] for part in found))


def plane(kept: jax.Array, values: jax.Array, width: float, alpha: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Slopes [players, k], intercept [k] and fidelity [k] of values [samples, k] on what is kept [samples, players]."""
    share = (1 - kept).mean(1)
    weight = jnp.exp(-share / jnp.asarray(width, values.dtype) ** 2)
    total = weight.sum()
    mean, middle = weight @ kept / total, weight @ values / total
    x, y = kept - mean, values - middle
    gram = jnp.matmul(x.T * weight, x, precision="highest") + alpha * jnp.eye(x.shape[1], dtype=x.dtype)
    slope = jnp.linalg.solve(gram, jnp.matmul(x.T * weight, y, precision="highest"))
    left, power = weight @ jnp.square(y - x @ slope), weight @ jnp.square(y)
    return slope, middle - mean @ slope, jnp.where(power > 0, 1 - left / jnp.where(power > 0, power, 1), 1)
