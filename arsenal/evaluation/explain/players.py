"""Who plays in an explanation: columns of the raw inputs by their names, or unions of them, each present or absent.

What is absent is taken from another row: Strumbelj & Kononenko, JMLR 11 (2010); Lundberg & Lee, NeurIPS 2017 (1705.07874).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Players(NamedTuple):
    """Names, and which part of a row is whose."""

    names: tuple[str, ...]
    owner: Any
    """As x without its rows: int32, of the first axes of a row's array; the number of the player whose that part is."""


def columns_of(x: Any, schema: Any = None, unions: Mapping[str, Sequence[str]] | None = None) -> Players:
    """A player for every raw column of x, an array [n, d] or a dict of them, by the names that a `Schema` has for them.

    A column of dates, of categories or of texts (codes [n, columns, length]) is one player. `unions` makes one of several:
    {"size": ["length", "width"]}. Columns without a name are called `x 1`, `x 2`. Raises ValueError for text in tokens, for
    images, and for names that are not there or in two unions.

    >>> columns_of({"numeric": np.zeros((5, 2)), "age": np.zeros(5)}).names
    ('numeric 1', 'numeric 2', 'age')
    """
    if schema is not None and (schema.tokenizer or is_text(x, schema)):
        raise ValueError("An explanation by columns takes inputs that have columns; the positions of a text are none.")
    named: list[str] = []
    owner = {}
    for name, leaf in (x if isinstance(x, dict) else {"x": x}).items():
        mine = column_names(name, np.shape(leaf), schema)
        number = np.arange(len(named), len(named) + len(mine), dtype=np.int32)
        owner[name] = number if np.ndim(leaf) > 1 else number[0]
        named += mine
    return unite(Players(tuple(named), owner if isinstance(x, dict) else owner["x"]), unions or {})


def is_text(x: Any, schema: Any) -> bool:
    """Whether x is rows of codes [n, t] that have no names: bytes, characters or tokens."""
    known = schema.inputs.get("x")
    return getattr(x, "ndim", 0) == 2 and np.dtype(x.dtype).kind in "iu" and known is not None and known.columns is None


def column_names(name: str, shape: tuple[int, ...], schema: Any) -> list[str]:
    """What the columns of an input of this shape are called; ValueError where it has none."""
    field = schema.inputs.get(name) if schema is not None else None
    known = list(field.columns) if field is not None and field.columns is not None else []
    if known and len(shape) > 1 and len(known) == shape[1]:
        return known
    if len(shape) not in (1, 2):
        raise ValueError(
            f"`columns_of` takes inputs [n, d]; `{name}` has shape {shape}. Of images `patches_of` makes players of squares."
        )
    return [name] if len(shape) == 1 else [f"{name} {i + 1}" for i in range(shape[1])]


def unite(players: Players, unions: Mapping[str, Sequence[str]]) -> Players:
    """The players with one for each union, in the place of its first column."""
    home = {name: name for name in players.names}
    for union, names in unions.items():
        for name in names:
            if home.get(name) != name:
                raise ValueError(f"The union `{union}` must be of columns that are there, each in one union; got `{name}`.")
            home[name] = f"{union}"
    made = tuple(dict.fromkeys(home[name] for name in players.names))
    number = np.array([made.index(home[name]) for name in players.names], np.int32)
    return Players(made, jax.tree.map(lambda owner: number[owner], players.owner))


def patches_of(x: Any, size: int) -> Players:
    """A player for every square of `size` pixels of images x [n, h, w] or [n, h, w, c], line by line.

    >>> patches_of(np.zeros((1, 4, 4)), 2).names
    ('0,0', '0,1', '1,0', '1,1')
    """
    if np.ndim(x) not in (3, 4) or size < 1:
        raise ValueError(f"`patches_of` takes images [n, h, w] or [n, h, w, c] and `size` >= 1; got {np.shape(x)} and {size}.")
    down, across = (np.arange(side) // size for side in np.shape(x)[1:3])
    wide = int(across[-1]) + 1
    names = tuple(f"{i},{j}" for i in range(int(down[-1]) + 1) for j in range(wide))
    return Players(names, (down[:, None] * wide + across).astype(np.int32))


def mix(players: Players, row: Any, other: Any, present: jax.Array) -> Any:
    """One row of which the players that are `present` [players] keep their columns, and the others have those of `other`.

    >>> mix(columns_of(np.zeros((1, 2))), jnp.ones(2), jnp.zeros(2), jnp.array([True, False])).tolist()
    [1.0, 0.0]
    """

    def one(owner, mine, theirs):
        here = present[owner]
        return jnp.where(here.reshape(*here.shape, *(1,) * (jnp.ndim(mine) - here.ndim)), mine, theirs)

    return jax.tree.map(one, players.owner, row, other)


def mix_sources(players: Players, x: Any, source: jax.Array) -> Any:
    """One row of which each player's columns are those of a row of x by its position: `source` [players] int32."""

    def one(owner, leaf):
        at = source[owner]
        spread = jnp.indices(at.shape, jnp.int32)
        return leaf[(at, *spread)]

    return jax.tree.map(one, players.owner, x)
