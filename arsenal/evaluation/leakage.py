"""Leakage: what a model could know of its test that it will not know in use.

Kapoor and Narayanan, Patterns 4 (2023): duplicates across splits, a column that is the target, training rows of later times.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from arsenal.records import Batch

GOOD = 0.98
"""A single column that tells so much of the target is one that knows it: of its classes, or of its variance."""
LEVELS = 0.5
"""A column with more levels than this share of the rows tells them apart, so that it fits any target: it is no evidence."""


Place = tuple[str, str, int | None]
"""A column: its name, the leaf of x that holds it, and which of the leaf's columns it is."""


class Leak(NamedTuple):
    """Something that looks like a leak, and what speaks for it."""

    kind: str
    """duplicates, target or time."""
    where: str
    text: str


def find_leaks(
    splits: Mapping[str, Batch], columns: Sequence[Place] | None = None, time: str | None = None
) -> list[Leak]:
    """What looks like a leak between the splits `train`, `validation` and `test`, in memory; most severe first.

    `columns` are those of the inputs; None takes all of an x that is one array or a dict.
    `time` names the column of `aux` or of the inputs by which the test should come after training.
    """
    columns = list_columns(splits["train"].x) if columns is None else columns
    return [*target_leaks(splits["train"], columns), *time_leaks(splits, columns, time), *duplicate_leaks(splits)]


def list_columns(x: Any) -> list[Place]:
    """The columns of an array [n, d], or of a dict of arrays [n] or [n, d]; others are not looked at one by one."""
    leaves = x if isinstance(x, Mapping) else {"": x}
    found: list[Place] = []
    for leaf, value in leaves.items():
        if np.ndim(value) == 1:
            found.append((leaf, leaf, None))
        elif np.ndim(value) == 2:
            found += [(f"{leaf or 'x'}[{i + 1}]", leaf, i) for i in range(np.shape(value)[1])]
    return found


def read_column(x: Any, leaf: str, index: int | None) -> np.ndarray:
    """A column [n] of the inputs."""
    value = np.asarray(x[leaf] if isinstance(x, Mapping) else x)
    return value if index is None else value[:, index]


def target_leaks(rows: Batch, columns: Sequence[Place]) -> list[Leak]:
    """Columns that alone know the target of the training rows nearly without error."""
    if rows.y is None or np.ndim(rows.y) != 1:
        return []
    live = np.asarray(rows.weight) > 0
    y, found = np.asarray(rows.y)[live], []
    for name, leaf, index in columns:
        value = read_column(rows.x, leaf, index)[live]
        score = knows(value, y)
        if score >= GOOD:
            what = "class" if np.issubdtype(y.dtype, np.integer) else "value"
            text = f"`{name}` alone tells the {what} of {score:.1%}: is it known before the target is?"
            found.append(Leak("target", name, text))
    return found


def knows(value: np.ndarray, y: np.ndarray) -> float:
    """How much of y [n] a column [n] tells by itself, 0..1, judged on rows that it did not see: each half by the other.

    Of classes the share told beyond the most frequent one, of numbers the share of the variance.
    """
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    labels = np.issubdtype(y.dtype, np.integer)
    there = np.isfinite(value) if value.dtype.kind == "f" else np.ones(len(value), bool)
    value, y = value[there], y[there]
    if len(value) < 20 or len(np.unique(y)) < 2 or (value.dtype.kind in "iu" and len(np.unique(value)) > LEVELS * len(value)):
        return 0.0
    half = np.arange(len(value)) % 2 == 0
    tree = (DecisionTreeClassifier if labels else DecisionTreeRegressor)(min_samples_leaf=3, random_state=0)
    right, worst = 0.0, 0.0
    for mine, other in ((half, ~half), (~half, half)):
        said = tree.fit(value[mine, None], y[mine]).predict(value[other, None])
        if labels:
            common = np.bincount(y[mine]).argmax()
            right, worst = right + (said != y[other]).sum(), worst + (y[other] != common).sum()
        else:
            right, worst = right + np.square(said - y[other]).sum(), worst + np.square(y[other] - y[mine].mean()).sum()
    return float(max(0.0, 1 - right / worst)) if worst > 0 else 0.0


def duplicate_leaks(splits: Mapping[str, Batch]) -> list[Leak]:
    """Rows of validation and test whose inputs are those of a training row."""
    known, found = set(row_bytes(splits["train"])), []
    for name in ("validation", "test"):
        if name in splits and len(splits[name].weight):
            rows = row_bytes(splits[name])
            same = sum(row in known for row in rows)
            if same:
                text = f"{same:,} of {len(rows):,} {name} rows have the inputs of a training row."
                found.append(Leak("duplicates", name, text))
    return found


def row_bytes(rows: Batch) -> list[bytes]:
    """The inputs of each row that is there, as bytes."""
    live = np.flatnonzero(np.asarray(rows.weight) > 0)
    flat = [np.ascontiguousarray(np.asarray(leaf)[live]).reshape(len(live), -1) for leaf in jax.tree.leaves(rows.x)]
    views = [leaf.view(np.uint8).reshape(len(live), -1) for leaf in flat]
    return [row.tobytes() for row in np.concatenate(views, 1)] if len(live) else []


def time_leaks(splits: Mapping[str, Batch], columns: Sequence[Place], time: str | None) -> list[Leak]:
    """Whether training rows are later than some that test, by the column of time."""
    if time is None or not len(splits["test"].weight):
        return []
    place = {name: (leaf, index) for name, leaf, index in columns}

    def at(rows):
        aux = rows.aux if isinstance(rows.aux, Mapping) else {}
        if time not in aux and time not in place:
            raise ValueError(f"`time` names no column; there are {', '.join([*aux, *place]) or 'none'}; got {time}.")
        return np.asarray(aux[time] if time in aux else read_column(rows.x, *place[time]), float)[np.asarray(rows.weight) > 0]

    train, first = at(splits["train"]), np.nanmin(at(splits["test"]))
    late = int((train > first).sum())
    if not late:
        return []
    return [Leak("time", time, f"{late:,} of {len(train):,} training rows are later in `{time}` than the first that tests.")]
