"""Columns of levels of any kind, learned from rows, as codes: 0..k-1 known, k unknown, k + 1 missing."""

from typing import Any

import numpy as np
from arsenal_serving.export import Tensor

from arsenal.data.dataset import Schema


def is_missing(column: np.ndarray) -> np.ndarray:
    """Where a column [n] has None or NaN."""
    return np.array([value is None or value != value for value in column.tolist()], bool)


def learn_levels(x: np.ndarray, weight: np.ndarray) -> list[np.ndarray]:
    """The sorted levels of every column of x [n, k] among the living rows; None behind them where values are missing.

    Raises TypeError for what is neither text nor number.
    """
    found = []
    for column in x[weight > 0].T:
        gaps = is_missing(column)
        if strange := next((v for v in column[~gaps].tolist() if not isinstance(v, str | int | float)), None):
            raise TypeError(f"Levels: the argument must be uniformly strings or numbers; got {strange!r}.")
        try:
            known = np.unique(column[~gaps])
        except TypeError:
            known = np.unique(column[~gaps].astype(str)).astype(object)
        found.append(np.array([*known.tolist(), None], object) if gaps.any() else known)
    return found


def has_missing(levels: np.ndarray) -> bool:
    """Whether there is a code for missing."""
    return levels.dtype == object and len(levels) > 0 and levels[-1] is None


def as_codes(x: np.ndarray, found: list[np.ndarray]) -> np.ndarray:
    """Codes [n, k] int32 of x [n, k]."""
    made = np.empty(x.shape, np.int32)
    for i, levels in enumerate(found):
        known = levels[:-1] if has_missing(levels) else levels
        code = {value: at for at, value in enumerate(known.tolist())}
        gaps, values = is_missing(x[:, i]), x[:, i].tolist()
        missing = len(known) + has_missing(levels)
        made[:, i] = [missing if gap else code.get(value, len(known)) for value, gap in zip(values, gaps, strict=True)]
    return made


def level_schema(found: list[np.ndarray], names: Any) -> Schema:
    """The schema of the columns: one input `categorical`, a codec for each."""
    columns = [str(name) for name in names] if names is not None else [f"x{i}" for i in range(len(found))]
    codecs = {}
    for column, levels in zip(columns, found, strict=True):
        known = levels[:-1] if has_missing(levels) else levels
        gaps = {"missing": []} if has_missing(levels) else {}
        codecs[column] = {"kind": "category", "values": [str(value) for value in known.tolist()]} | gaps
    return Schema({"categorical": Tensor(columns=columns, codec=columns)}, codecs=codecs)
