"""A data set: rows on the host beside the schema that says what they mean."""

import hashlib
import json
from typing import Any, NamedTuple

import jax
import numpy as np
from arsenal_serving.export import Tensor

from arsenal.records import Batch


class Schema(NamedTuple):
    """What the inputs and the target are called and how strings were coded: plain JSON."""

    inputs: dict[str, Tensor] = {}
    """By name of the input; a bare array is called `x`."""
    target: Tensor = Tensor()
    """Its `columns` are the labels in the order of their codes, where there are any."""
    codecs: dict[str, dict] = {}
    """State of every codec by name."""


class Dataset(NamedTuple):
    """Rows as numpy arrays, their schema, and what tells them from other rows."""

    rows: Batch
    schema: Schema
    fingerprint: str
    """SHA-256 over names, shapes, types and values."""


def dataset(x: Any, y: Any = None, row: Any = None, weight: Any = None, aux: Any = (), schema: Schema = Schema()) -> Dataset:  # noqa: B008
    """A `Dataset` from arrays; floats become float32, whole numbers int32."""
    x, y, aux = (jax.tree.map(plain, part, is_leaf=lambda v: isinstance(v, list)) for part in (x, y, aux))
    n = len(jax.tree.leaves(x)[0])
    if n == 0:
        raise ValueError("A data set needs at least one row; got none.")
    row = np.arange(n) if row is None else np.asarray(row)
    if not np.issubdtype(row.dtype, np.number) or not np.array_equal(row, row.astype(np.int64)):
        raise ValueError(f"Row ids must be whole numbers; got {row.dtype} such as {row[0]!r}.")
    row = plain(row.astype(np.int64))
    if len(np.unique(row)) != n:
        raise ValueError(f"Row ids must be distinct; got {n - len(np.unique(row))} repeated ones.")
    weight = np.ones(n, np.float32) if weight is None else np.asarray(weight, np.float32)
    rows = Batch(x, y, weight, row, aux)
    for path, leaf in jax.tree_util.tree_leaves_with_path(rows):
        name = jax.tree_util.keystr(path).lstrip(".")
        if leaf.shape[:1] != (n,):
            raise ValueError(f"Every part of a data set has the same number of rows, here {n}; `{name}` has shape {leaf.shape}.")
        if np.issubdtype(leaf.dtype, np.floating) and not np.isfinite(leaf).all():
            bad = np.flatnonzero(~np.isfinite(leaf.reshape(n, -1)).all(1))
            raise ValueError(
                f"Values must be finite; `{name}` has NaN or infinity in {len(bad)} rows, the first at position {bad[0]}."
            )
    return Dataset(rows, schema, fingerprint(rows, schema))


def as_dataset(data: Any) -> Dataset:
    """A `Dataset` as it is; a `Batch`, or a dict with x and perhaps y, row, weight and aux, made one."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, Batch):
        return dataset(**data._asdict())
    if isinstance(data, dict) and "x" in data:
        return dataset(**data)
    raise TypeError(f"`data` must be a Dataset, a Batch or a dict with x; got {type(data).__name__}.")


def plain(value: Any) -> np.ndarray:
    """The value as float32, int32, uint8 or bool: what every backend has."""
    value = np.asarray(value)
    if value.dtype in (np.bool_, np.uint8, np.float32, np.int32):
        return value
    if np.issubdtype(value.dtype, np.floating):
        return value.astype(np.float32)
    if np.issubdtype(value.dtype, np.integer):
        if value.size and (value.min() < -(2**31) or value.max() >= 2**31):
            raise ValueError(f"Whole numbers must fit in 32 bits; got values from {value.min()} to {value.max()}.")
        return value.astype(np.int32)
    raise TypeError(f"Values must be numbers; got {value.dtype}. Strings pass through a codec.")


def take(rows: Batch, mask: np.ndarray) -> Batch:
    """The rows where the mask [n] holds."""
    return jax.tree.map(lambda v: v[mask], rows)


def fingerprint(rows: Batch, schema: Schema) -> str:
    """SHA-256 over every array's name, type, shape and bytes, and over the schema."""
    digest = hashlib.sha256(json.dumps(schema, sort_keys=True, default=str).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(rows):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
