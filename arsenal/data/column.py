"""Columns that are read when asked: data that does not fit in memory looks like an array that nobody has loaded.

A column has `shape`, `dtype` and `column[rows]` for an int64 array of positions. NumPy's arrays are columns that are in
memory, its memory maps ones that are not; everything else that is read piece by piece is a `Column`.
"""

import dataclasses
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from arsenal.records import Batch


class Shares(NamedTuple):
    """Of rows that come from several parts: where each begins, and the end [k + 1], and how often its rows come [k], to sum 1."""

    begins: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Column:
    """Rows that `read` fetches: to a batch it is one leaf, as an array is."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[np.ndarray], np.ndarray]
    """`positions [m] -> values [m, ...]`."""
    chunks: np.ndarray | None = None
    """[k + 1]: where every chunk begins, and the end, if rows of a chunk are far cheaper together."""
    together: int = 1
    """How many chunks are at hand at once."""
    shares: Shares | None = None
    """Of a mixture: rows of its parts come by their weights and not once an epoch."""

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The rows at these positions, in their order."""
        return self.read(rows)

    def __len__(self) -> int:
        """How many rows there are."""
        return self.shape[0]


def columns(
    read: Callable[[np.ndarray], Any], like: Any, n: int, chunks: np.ndarray | None = None, together: int = 1,
    shares: Shares | None = None,
) -> Any:  # fmt: skip
    """A tree of columns of n rows from one `read(positions) -> tree`, shaped as `like`, the tree of a single row [1, ...].

    Columns of one tree that are asked for the same rows, one after another, share the read.
    """
    leaves, structure = jax.tree.flatten(like)
    lock, last = threading.Lock(), {}

    def part(i: int) -> Callable:
        def rows_of(rows):
            with lock:
                if i not in last or not np.array_equal(last["rows"], rows):
                    last.clear()
                    last.update(enumerate(jax.tree.leaves(read(rows))), rows=rows)
                return last.pop(i)  # once given, it is not kept

        return rows_of

    made = [Column((n, *v.shape[1:]), np.dtype(v.dtype), part(i), chunks, together, shares) for i, v in enumerate(leaves)]
    return jax.tree.unflatten(structure, made)


def in_memory(column: Any) -> bool:
    """Whether a column is an array that is there already."""
    return isinstance(column, np.ndarray | jax.Array) and not isinstance(column, np.memmap)


def is_streamed(rows: Batch) -> bool:
    """Whether any column of the rows is read when asked."""
    return not all(in_memory(v) for v in jax.tree.leaves(rows))


def column_at(column: Any, rows: np.ndarray) -> Any:
    """The column of these rising positions: a copy where it is in memory, a view where it is not."""
    if in_memory(column):
        return column[rows]
    chunks = getattr(column, "chunks", None)
    if chunks is not None:
        chunks = np.unique(np.searchsorted(rows, chunks))
    together, shares = getattr(column, "together", 1), getattr(column, "shares", None)
    if shares is not None:
        shares = shares._replace(begins=np.searchsorted(rows, shares.begins))
    return Column((len(rows), *column.shape[1:]), column.dtype, lambda at: column[rows[at]], chunks, together, shares)


def shares_of(rows: Any) -> Shares | None:
    """The shares of the parts of a mixture; None of other rows."""
    return next((v.shares for v in jax.tree.leaves(rows) if getattr(v, "shares", None) is not None), None)


def take(rows: Batch, mask: np.ndarray) -> Batch:
    """The rows where the mask [n] holds."""
    if not is_streamed(rows):
        return jax.tree.map(lambda v: v[mask], rows)
    return rows_at(rows, np.flatnonzero(mask))


def rows_at(rows: Batch, positions: np.ndarray) -> Batch:
    """The rows at rising positions [m]."""
    return jax.tree.map(lambda v: column_at(v, positions), rows)


def even_positions(n: int, most: int) -> np.ndarray:
    """At most `most` positions in 0..n-1, evenly spaced, the first among them. int64, rising.

    >>> even_positions(10, 4).tolist(), even_positions(3, 4).tolist()
    ([0, 2, 5, 7], [0, 1, 2])
    """
    return np.arange(min(n, most), dtype=np.int64) * n // max(1, min(n, most))


def gather(rows: Batch, positions: np.ndarray | None = None) -> Batch:
    """The rows at positions [m], all of them unless given, as arrays in memory of the types that every backend has."""
    positions = np.arange(len(rows.weight)) if positions is None else positions

    def read(path, column):
        if in_memory(column):
            return np.asarray(column)[positions]
        values = as_plain(column[positions])
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            name = jax.tree_util.keystr(path).lstrip(".")
            bad = positions[np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))[0]]
            raise ValueError(f"Values must be finite; `{name}` has NaN or infinity in the row with id {int(rows.row[bad])}.")
        return values

    return jax.tree_util.tree_map_with_path(read, rows)


def row_shapes(rows: Batch, n: int = 1) -> Batch:
    """The shapes and types of n rows in memory."""
    return jax.tree.map(
        lambda v: jax.ShapeDtypeStruct((n, *v.shape[1:]), v.dtype if in_memory(v) else plain_type(v.dtype)), rows
    )


def row_bytes(rows: Any) -> int:
    """Bytes of one row in memory."""
    return sum(int(np.prod(v.shape[1:], dtype=np.int64)) * v.dtype.itemsize for v in jax.tree.leaves(row_shapes(rows)))


def as_plain(value: Any) -> np.ndarray:
    """The value as float32, int32, uint8 or bool: what every backend has."""
    value = np.asarray(value)
    kept = plain_type(value.dtype)
    if kept == np.int32 and value.dtype != np.int32 and value.size and (value.min() < -(2**31) or value.max() >= 2**31):
        raise ValueError(f"Whole numbers must fit in 32 bits; got values from {value.min()} to {value.max()}.")
    return value.astype(kept, copy=False)


def plain_type(dtype: Any) -> np.dtype:
    """The type that `as_plain` gives to values of this one."""
    dtype = np.dtype(dtype)
    if dtype in (np.bool_, np.uint8, np.float32, np.int32):
        return dtype
    if np.issubdtype(dtype, np.floating):
        return np.dtype(np.float32)
    if np.issubdtype(dtype, np.integer):
        return np.dtype(np.int32)
    raise TypeError(f"Values must be numbers; got {dtype}. Strings pass through a codec.")
