"""A data set: rows on the host beside the schema that says what they mean."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from arsenal_serving.export import Tensor

from arsenal.data.column import as_plain, in_memory, is_streamed, plain_type
from arsenal.records import Batch
from arsenal.storage.content import Content, contents, find_changed


class Schema(NamedTuple):
    """What the inputs and the target are called and how strings were coded: plain JSON."""

    inputs: dict[str, Tensor] = {}
    """By name of the input; a bare array is called `x`."""
    target: Tensor = Tensor()
    """Its `columns` are the labels in the order of their codes, where there are any."""
    codecs: dict[str, dict[str, Any]] = {}
    """State of every codec by name."""
    tokenizer: dict[str, Any] = {}
    """Of text in tokens: the content of its `tokenizer.json`."""
    table: dict[str, Any] = {}
    """Of a table as it came: what was decided of each of its columns and of its target, and why; see `tabular`."""
    marks: tuple[str, ...] = ()
    """Of text: what stands for codes that are no text, which follow its own in this order, or are tokens of the tokenizer."""
    template: dict[str, Any] = {}
    """Of talks: {"source", "tokens"} of the chat template that they are written by."""


class Dataset(NamedTuple):
    """Rows as columns, their schema, and what tells them from other rows."""

    rows: Batch
    """x, y and aux are numpy arrays, or columns that are read when asked (`arsenal.data.column`); weight and row arrays."""
    schema: Schema
    fingerprint: str
    """SHA-256 over names, shapes, types and values."""
    files: dict[Path, Content] = {}
    """The files it was read from, as they were."""

    def check_unchanged(self) -> None:
        """Raise ValueError, naming the file, if one that the rows come from is no longer what it was."""
        if path := find_changed(self.files):
            raise ValueError(
                f"Data file {path} changed during training. What was saved is whole: with the file as it was, "
                "the same command goes on; with another, it is another run."
            )


def dataset(
    x: Any, y: Any = None, row: Any = None, weight: Any = None, aux: Any = (), schema: Schema = Schema(),  # noqa: B008
    files: Iterable[Path] = (), settings: Any = None,
) -> Dataset:  # fmt: skip
    """A `Dataset` from arrays; floats become float32, whole numbers int32.

    Columns that are read when asked stay as they are: their values are checked when they are read, and `files` and
    `settings` (JSON: how they are read) stand for them in the fingerprint. A memory map brings its own file.
    """

    def one(value):
        if not hasattr(value, "shape") or in_memory(value):
            return as_plain(value)
        plain_type(value.dtype)
        return value

    x, y, aux = (jax.tree.map(one, part, is_leaf=lambda v: isinstance(v, list)) for part in (x, y, aux))
    n = len(jax.tree.leaves(x)[0])
    if n == 0:
        raise ValueError("A data set needs at least one row; got none.")
    row = np.arange(n) if row is None else np.asarray(row)
    if not np.issubdtype(row.dtype, np.number) or not np.array_equal(row, row.astype(np.int64)):
        raise ValueError(f"Row ids must be whole numbers; got {row.dtype} such as {row[0]!r}.")
    row = as_plain(row.astype(np.int64))
    if len(np.unique(row)) != n:
        raise ValueError(f"Row ids must be distinct; got {n - len(np.unique(row))} repeated ones.")
    weight = np.ones(n, np.float32) if weight is None else np.asarray(weight, np.float32)
    rows = Batch(x, y, weight, row, aux)
    gaps = {f"x['{name}']" for name, tensor in schema.inputs.items() if may_miss(schema, tensor)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(rows):
        name = jax.tree_util.keystr(path).lstrip(".")
        if leaf.shape[:1] != (n,):
            raise ValueError(f"Every part of a data set has the same number of rows, here {n}; `{name}` has shape {leaf.shape}.")
        if in_memory(leaf) and np.issubdtype(leaf.dtype, np.floating) and not (sound := is_sound(leaf, name in gaps)).all():
            bad = np.flatnonzero(~sound.reshape(n, -1).all(1))
            raise ValueError(
                f"Values must be finite; `{name}` has NaN or infinity in {len(bad)} rows, the first at position {bad[0]}."
            )
    maps = [leaf for leaf in jax.tree.leaves(rows) if isinstance(leaf, np.memmap) and leaf.filename]
    found = contents(dict.fromkeys([*map(Path, files), *(Path(str(leaf.filename)) for leaf in maps)]))
    if is_streamed(rows):
        if not found and settings is None:
            raise ValueError("Columns that are read when asked need `files` or `settings`, which tell one content from another.")
        settings = [settings, *map(array_layout, maps)] if maps else settings
        return Dataset(rows, schema, fingerprint(rows, schema, [content.sha256 for content in found.values()], settings), found)
    return Dataset(rows, schema, fingerprint(rows, schema), found)


def may_miss(schema: Schema, tensor: Tensor) -> bool:
    """Whether NaN stands for a missing value in an input."""
    names = [tensor.codec] if isinstance(tensor.codec, str) else tensor.codec or ()
    return tensor.gaps is not None or any("missing" in schema.codecs[name] for name in names)


def is_sound(values: np.ndarray, gaps: bool) -> np.ndarray:
    """Whether each number is finite or, where there may be gaps, missing."""
    return ~np.isinf(values) if gaps else np.isfinite(values)


def array_layout(mapped: np.memmap) -> list[Any]:
    """Where in its file an array lies: offset of its first value and strides, in bytes."""
    whole = mapped
    while isinstance(whole.base, np.memmap):
        whole = whole.base
    return [mapped.offset + mapped.ctypes.data - whole.ctypes.data, list(mapped.strides)]


def as_dataset(data: Any) -> Dataset:
    """A `Dataset` as it is; a `Batch`, or a dict with x and perhaps y, row, weight and aux, made one."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, Batch):
        return dataset(**data._asdict())
    if isinstance(data, dict) and "x" in data:
        return dataset(**data)
    raise TypeError(f"`data` must be a Dataset, a Batch or a dict with x; got {type(data).__name__}.")


def fingerprint(rows: Batch, schema: Schema, sums: Sequence[str] = (), settings: Any = None) -> str:
    """SHA-256 over every array's name, type, shape and bytes, and over the schema.

    Of a column that is read when asked, `sums` of its files and the `settings` that it is read by are taken for the bytes.
    """
    # As it was before there were tokenizers, and before a tensor could say what pads it: no data does.
    inputs, target = {name: tensor[:4] for name, tensor in schema.inputs.items()}, schema.target[:4]
    more = [part for part in (schema.tokenizer, schema.table, schema.marks) if part]
    described = (inputs, target, schema.codecs, *more)
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(rows):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes() if in_memory(leaf) else json.dumps([*sums, settings]).encode())
    return digest.hexdigest()
