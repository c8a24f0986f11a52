"""Holes in texts, drawn anew at every step: an augmentation for bidirectional models.

Liu et al. 2019 (1907.11692), section 4.1, after Devlin et al. (1810.04805).
"""

from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Interval

from arsenal.records import Augmentation, row_keys


def mask_tokens(
    vocabulary: Annotated[int, Gt(0)], code: Annotated[int, Ge(0)], share: Annotated[float, Interval(ge=0, le=1)] = 0.15
) -> Augmentation:
    """Other places to be guessed than those that `arsenal.data.masked` drew: a `share` of each row, which is traced.

    x [n, t] holds the tokens, y [n, t] those that were hidden, -1 elsewhere; both are put together and drawn anew by the row's
    id: of the places 80 % get the mask's `code`, 10 % any of 0..vocabulary-1, 10 % stay.
    """

    def apply(key, batch, hp):
        tokens = jnp.where(batch.y >= 0, batch.y, batch.x)

        def one(key, row):
            chosen, way, any_token = jax.random.split(key, 3)
            hidden = jax.random.uniform(chosen, row.shape) < hp["share"]
            how = jax.random.uniform(way, row.shape)
            other = jax.random.randint(any_token, row.shape, 0, vocabulary, row.dtype)
            put = jnp.where(how < 0.8, jnp.asarray(code, row.dtype), jnp.where(how < 0.9, other, row))
            return jnp.where(hidden, put, row), jnp.where(hidden, row, -1)

        x, y = jax.vmap(one)(row_keys(key, batch.row), tokens)
        return batch._replace(x=x, y=y)

    return Augmentation(apply, {"share": share}, {"in expectation": "which places of a row are hidden is drawn"})
