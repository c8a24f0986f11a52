"""Codes of categories as numbers that a network or a linear model can read."""

from collections.abc import Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt

from arsenal.records import Transform


def one_hot(sizes: Sequence[Annotated[int, Gt(0)]] | None = None, schema: Any = None) -> Transform:
    """x {"categorical": [n, k] codes, perhaps "numeric": [n, d]} to [n, d + sum(sizes)] float32.

    Column i of the codes takes `sizes[i]` places, one for each of its categories in sorted order; an unknown
    category has zeros in all of them. Nothing is learned. The `sizes` are those of the data's `schema`, which a config
    gives by itself, and may be larger; they have to be given where columns have no codec.
    """
    known = None if schema is None else categories(schema)
    sizes = known if sizes is None else list(sizes)

    def apply(state, x):
        if not isinstance(x, dict) or "categorical" not in x:
            raise ValueError("`one_hot` takes x with an input `categorical`; this data has no column of strings.")
        codes = x["categorical"]
        if sizes is None:
            raise ValueError("`sizes` of `one_hot` must be given: this data does not say how many categories a column has.")
        if codes.shape[1] != len(sizes):
            raise ValueError(
                f"`sizes` of `one_hot` must have one number for each of {codes.shape[1]} columns; got {list(sizes)}."
            )
        hot = [jax.nn.one_hot(codes[:, i], size, dtype=jnp.float32) for i, size in enumerate(sizes)]
        return jnp.concatenate([*([x["numeric"]] if "numeric" in x else []), *hot], 1)

    def check(rows):
        jax.eval_shape(lambda x: apply((), x), rows.x)
        codes, there = rows.x["categorical"], known or []
        if not there and not isinstance(codes, jax.ShapeDtypeStruct):  # where nobody knows, the last code may be the unknown one
            there = np.asarray(codes)[np.asarray(rows.weight) > 0].max(0, initial=0).tolist()
        for i, (size, least) in enumerate(zip(sizes or (), there, strict=False)):
            if size < least:
                raise ValueError(
                    f"`sizes` of `one_hot` must be at least {there}, the categories of every column; got {list(sizes or ())}: "
                    f"column {i + 1} has {least}."
                )

    return Transform(lambda key, rows, hp: ((), rows._replace(x=apply((), rows.x))), apply, check=check)


def categories(schema: Any) -> list[int] | None:
    """How many categories each column of the input `categorical` has, as its codecs know; None where they do not."""
    field = schema.inputs.get("categorical")
    if field is None or not field.codec:
        return None
    names = [field.codec] * len(field.columns or ()) if isinstance(field.codec, str) else field.codec
    states = [schema.codecs[name] for name in names]
    return [len(state["values"]) for state in states] if all("values" in state for state in states) else None
