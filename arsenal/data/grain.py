"""Data sets of Google's Grain, or anything else that has a length and gives an element by its number."""

import hashlib
from typing import Any

import jax
import numpy as np
from arsenal_serving.export import Tensor

from arsenal.data.column import columns
from arsenal.data.dataset import Dataset, Schema, dataset


def grain(source: Any, name: str) -> Dataset:
    """A `grain.MapDataset`, or a random-access source of one's own: `len(source)` elements {"x": ..., "y": ...} or (x, y).

    x may be a dict of arrays; all elements have the shapes and types of the first. An element must depend on its number
    alone, as Grain's do; shuffling, repeating and batching are arsenal's. What the elements hold is not looked into, so
    `name`, with the first and the last of them, stands for it in the run's identity: change it when the data changes.
    """
    for word in ("__len__", "__getitem__"):
        if not hasattr(source, word):
            raise TypeError(f"`source` of `grain` must have a length and elements by number; got {type(source).__name__}.")
    n = len(source)
    if not 0 < n < 2**31:
        raise ValueError(f"`source` of `grain` must have a length in 1..2**31 - 1; got {n}.")

    def read(rows: np.ndarray) -> dict[str, Any]:
        elements = [element(source[int(row)]) for row in rows]
        return jax.tree.map(lambda *parts: np.stack(parts), *elements)

    ends = read(np.array([0, n - 1]))
    made = columns(read, ends, n)
    fields = {key: Tensor() for key in made["x"]} if isinstance(made["x"], dict) else {"x": Tensor()}
    told = hashlib.sha256(b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in jax.tree.leaves(ends))).hexdigest()
    return dataset(made["x"], made.get("y"), schema=Schema(fields), settings=[name, told])


def element(given: Any) -> dict[str, Any]:
    """An element as {"x": ..., "y": ...} of arrays."""
    if isinstance(given, tuple | list) and len(given) == 2:
        given = {"x": given[0], "y": given[1]}
    if not isinstance(given, dict) or "x" not in given or set(given) - {"x", "y"}:
        got = f"a dict of {', '.join(map(str, given))}" if isinstance(given, dict) else type(given).__name__
        raise ValueError(f'Elements of `grain` must be {{"x": ..., "y": ...}} or (x, y); got {got}.')
    return jax.tree.map(np.asarray, given, is_leaf=lambda v: isinstance(v, list))
