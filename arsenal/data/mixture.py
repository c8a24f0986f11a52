"""Several data sets as one whose rows come by weights: text of many kinds, as much of each as is told."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from arsenal.data.column import Shares, columns, gather, row_shapes
from arsenal.data.dataset import Dataset, dataset


def mixture(parts: Sequence[Dataset], weights: Sequence[float]) -> Dataset:
    """The rows of all parts, of which training meets each part's as often as its weight says; nothing is copied or loaded.

    Parts must have the same inputs, targets and schema. Of 4,096 rows that are met each part has its share, as near as whole rows
    can be; an epoch is as many rows as there are, and a part goes through all of its own before one comes again, so a small part
    of great weight is met several times an epoch. Which row comes when is a function of the seed and the step: a resumed run
    goes on at the very row. Evaluation meets each row once. Ids are 0, 1, ... part after part; `by_position` cuts within parts.
    Raises ValueError for parts that do not fit together.
    """
    if len(parts) != len(weights) or len(parts) < 2:
        got = f"{len(parts)} parts, {len(weights)} weights"
        raise ValueError(f"`mixture` takes two parts or more and a weight for each; got {got}.")
    shares = np.asarray(weights, np.float64)
    if not (np.isfinite(shares).all() and (shares > 0).all()):
        raise ValueError(f"`weights` of `mixture` must be above 0; got {list(weights)}.")
    first = parts[0]
    for at, part in enumerate(parts[1:], 2):
        if jax.tree.leaves(part.rows.aux) or jax.tree.leaves(first.rows.aux):
            raise ValueError("`mixture` takes inputs and targets; a part has further columns, `aux`.")
        ours, theirs = shape_text(first), shape_text(part)
        if ours != theirs:
            have = f"part 1 has {ours}, part {at} {theirs}"
            raise ValueError(f"All parts of `mixture` must have the same inputs and targets; {have}.")
        if part.schema != first.schema:
            differ = [name for name in first.schema._fields if getattr(first.schema, name) != getattr(part.schema, name)]
            raise ValueError(f"All parts of `mixture` must have one schema; `{differ[0]}` of part {at} is not that of part 1.")
    begins = np.cumsum([0, *(len(part.rows.weight) for part in parts)])

    def read(positions: np.ndarray) -> dict[str, Any]:
        of = np.searchsorted(begins, positions, side="right") - 1
        found = {i: gather(parts[i].rows, positions[of == i] - begins[i]) for i in np.unique(of).tolist()}
        order = np.argsort(np.concatenate([np.flatnonzero(of == i) for i in found]))
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *({"x": b.x, "y": b.y} for b in found.values()))
        return joined

    like = jax.tree.map(lambda v: np.zeros(v.shape, v.dtype), row_shapes(first.rows))
    made = columns(read, {"x": like.x, "y": like.y}, int(begins[-1]), shares=Shares(begins, shares / shares.sum()))
    return dataset(
        made["x"], made["y"], weight=np.concatenate([np.asarray(part.rows.weight) for part in parts]), schema=first.schema,
        files=[file for part in parts for file in part.files],
        settings={"parts": [part.fingerprint for part in parts], "weights": (shares / shares.sum()).tolist()},
    )  # fmt: skip


def shape_text(part: Dataset) -> str:
    """The shapes and types of a part's inputs and targets, in a line."""
    one = row_shapes(part.rows)
    tree = jax.tree_util.tree_leaves_with_path({"x": one.x, "y": one.y})
    return ", ".join(f"{jax.tree_util.keystr(path, simple=True, separator='.')} {v.dtype}{list(v.shape[1:])}" for path, v in tree)
