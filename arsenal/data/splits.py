"""Splits by row id: by its hash, so that a row stays on its side whatever joins, or by its place in the sequence."""

from collections.abc import Callable
from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval

Fraction = Annotated[float, Interval(ge=0, lt=1)]


def by_row(validation: Fraction = 0.15, test: Fraction = 0.15, seed: Annotated[int, Ge(0)] = 0) -> Callable:
    """A function of row ids [n] that gives masks [n] for `train`, `validation` and `test`.

    The sizes are those fractions on average: each row is drawn by a hash of its id and the seed.
    """
    if validation + test >= 1:
        raise ValueError(f"`validation` + `test` of `by_row` must be < 1; got {validation} + {test}.")

    def split(row: np.ndarray) -> dict[str, np.ndarray]:
        at = uniform(row, seed)
        return {
            "train": at >= validation + test,
            "validation": at < validation,
            "test": (at >= validation) & (at < validation + test),
        }

    return split


def by_position(validation: Fraction = 0.1, test: Fraction = 0.1, gap: Annotated[int, Ge(0)] = 0) -> Callable:
    """A function of row ids [n] that gives masks [n]: the first ids train, the next validate, the last test.

    For rows in a sequence, where neighbours overlap: the `gap` ids before validation and before test belong to no
    side. The sizes are those fractions of the rows, gaps included.
    """
    if validation + test >= 1:
        raise ValueError(f"`validation` + `test` of `by_position` must be < 1; got {validation} + {test}.")

    def split(row: np.ndarray) -> dict[str, np.ndarray]:
        row = np.asarray(row).astype(np.int64)
        ordered = np.append(np.sort(row), np.iinfo(np.int64).max)
        first, second = (ordered[len(row) - round(len(row) * share)] for share in (validation + test, test))
        return {
            "train": row < first - gap,
            "validation": (row >= first) & (row < second - gap),
            "test": row >= second,
        }

    return split


def uniform(row: np.ndarray, seed: int) -> np.ndarray:
    """A number in [0, 1) for every id: SplitMix64 (Steele et al., OOPSLA 2014) of id and seed. float64 [n]."""
    with np.errstate(over="ignore"):
        z = np.asarray(row).astype(np.uint64) + np.uint64(seed) * np.uint64(0xD1342543DE82EF95)
        for _ in range(2):
            z = z + np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / 2.0**53
