"""What transforms read and give: one array of numbers, and the names of its columns."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from arsenal.records import Transform, anything

Names = dict[str, list[str]]
"""The columns of every input; those of one array are called `x`."""


def as_floats(x: Any) -> jax.Array:
    """x as floats: bytes and whole numbers become float32."""
    if isinstance(x, dict):
        raise ValueError(
            f"One array of numbers can be transformed so; this data has {', '.join(x)}. `tabular` makes one of them, as does "
            "`one_hot` of strings and numbers, and `columns` says what is done to which."
        )
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)


def as_table(name: str, x: Any) -> jax.Array:
    """x [n, d] as floats; ValueError where it is no table."""
    x = as_floats(x)
    if x.ndim != 2:
        raise ValueError(f"`{name}` takes x [n, d]; got shape {tuple(x.shape)}.")
    return x


def join(parts: Sequence[jax.Array]) -> jax.Array:
    """Arrays [n, ...] beside each other: of one type as they are, else as floats of the widest of their types."""
    if len({part.dtype for part in parts}) == 1:
        return jnp.concatenate(parts, 1)
    floats = [as_floats(part) for part in parts]
    wide = max((part.dtype for part in floats), key=lambda dtype: jnp.dtype(dtype).itemsize)
    return jnp.concatenate([part.astype(wide) for part in floats], 1)


def divide(part: Any, by: jax.Array) -> jax.Array:
    """`part / by`, 0 where there is nothing to divide by."""
    return jnp.where(by > 0, part / jnp.where(by > 0, by, 1), 0)


def keep_names(names: Names) -> Names:
    """The names of a transform that keeps its columns."""
    return names


def rename(*more: str, first: bool = True) -> Callable[[Names], Names]:
    """The names of a transform that gives every column's parts, column by column or (`first=False`) part by part.

    >>> rename(".sin", ".cos")({"x": ["hour"]})
    {'x': ['hour.sin', 'hour.cos']}
    """

    def names(given):
        if first:
            return {"x": [column + part for column in given["x"] for part in more]}
        return {"x": [column + part for part in more for column in given["x"]]}

    return names


def formula(
    apply: Callable[..., Any], check: Callable[..., Any] = anything, names: Callable[..., Any] | None = keep_names,
    inverse: Callable[..., Any] | None = None,
) -> Transform:  # fmt: skip
    """A transform that learns nothing: the same `apply(state, x)` for training and everybody else."""
    return Transform(lambda key, rows, hp: ((), rows._replace(x=apply((), rows.x))), apply, inverse, check, names=names)
