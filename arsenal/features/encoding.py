"""Codes of categories as numbers that a network or a linear model can read."""

from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Gt

from arsenal.records import Transform


def one_hot(sizes: Sequence[Annotated[int, Gt(0)]]) -> Transform:
    """x {"categorical": [n, k] codes, perhaps "numeric": [n, d]} to [n, d + sum(sizes)] float32.

    Column i of the codes takes `sizes[i]` places, one for each of its categories in sorted order; an unknown
    category has zeros in all of them. Nothing is learned.
    """

    def apply(state, x):
        if not isinstance(x, dict) or "categorical" not in x:
            raise ValueError("`one_hot` takes x with an input `categorical`; this data has no column of strings.")
        codes = x["categorical"]
        if codes.shape[1] != len(sizes):
            raise ValueError(
                f"`sizes` of `one_hot` must have one number for each of {codes.shape[1]} columns; got {list(sizes)}."
            )
        hot = [jax.nn.one_hot(codes[:, i], size, dtype=jnp.float32) for i, size in enumerate(sizes)]
        return jnp.concatenate([*([x["numeric"]] if "numeric" in x else []), *hot], 1)

    return Transform(lambda key, rows: ((), rows._replace(x=apply((), rows.x))), apply)
