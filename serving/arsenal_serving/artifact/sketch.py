"""Columns as counts: how one was distributed where a model learned, and how it is where the model is asked.

A column of numbers has bins between quantiles of the reference (between its values where they are few), one of words
its levels. A sketch counts what falls into them, so it has a size of its own whatever is counted, and those of workers,
hosts and hours are merged by adding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from arsenal_serving.refused import Refused, show

NUMBER, CATEGORY = "number", "category"
BINS, LEVELS = 100, 200  # of numbers; of words, beyond which the rarest are one
SEEN = 20  # levels that the reference has not, kept by name with their counts
FORMAT = 1


class ReferenceColumn(NamedTuple):
    """A column's reference.

    name: the port's, with the column's behind a dot where it has several. edges: of numbers, between bins, rising; a
    bin holds what is above the edge before it and at most the one behind. levels: of words. counts: by bin or level,
    then what is none of the levels, then gaps. means: of numbers, of each bin. least, most, mean, deviation: of numbers
    that are there, else None.
    """

    name: str
    kind: str
    edges: tuple[float, ...]
    levels: tuple[str, ...]
    counts: tuple[float, ...]
    means: tuple[float, ...]
    least: float | None
    most: float | None
    mean: float | None
    deviation: float | None

    @property
    def parts(self) -> int:
        """Counts that a sketch of it has: bins or levels, others, gaps."""
        return (len(self.edges) + 1 if self.kind == NUMBER else len(self.levels)) + 2

    def label(self, part: int) -> str:
        """A part in words."""
        if part >= self.parts - 2:
            return ("another", "missing")[part - self.parts + 2]
        if self.kind == CATEGORY:
            return self.levels[part]
        low = self.edges[part - 1] if part else None
        high = self.edges[part] if part < len(self.edges) else None
        if low is None:
            return "all" if high is None else f"up to {high:.4g}"
        return f"above {low:.4g}" if high is None else f"{low:.4g} to {high:.4g}"


def describe(name: str, values: np.ndarray) -> ReferenceColumn:
    """The reference of a column: numbers [n], NaN where one is missing, or words [n] as objects, None where missing."""
    if values.dtype.kind in "OUS":
        there = np.array([value for value in values.tolist() if value is not None], dtype=object)
        levels, counts = np.unique(there.astype(str), return_counts=True) if len(there) else (np.array([], str), [])
        often = np.sort(np.argsort(-np.asarray(counts), kind="stable")[:LEVELS])
        made = ReferenceColumn(name, CATEGORY, (), tuple(levels[often].tolist()), (), (), None, None, None, None)
    else:
        wide = values.astype(np.float64)
        there = wide[np.isfinite(wide)]
        if len(there) == 0:
            made = ReferenceColumn(name, NUMBER, (), (), (), (), None, None, None, None)
        else:
            values_there = np.unique(there)
            if len(values_there) <= BINS:
                edges = (values_there[1:] + values_there[:-1]) / 2
            else:
                edges = np.unique(np.quantile(there, np.arange(1, BINS) / BINS))
            facts = (float(there.min()), float(there.max()), float(there.mean()), float(there.std()))
            made = ReferenceColumn(name, NUMBER, tuple(edges.tolist()), (), (), (), *facts)
    counted = Sketch(made)
    counted.add(values)
    return made._replace(counts=tuple(counted.counts.tolist()), means=tuple(counted.means.tolist()))


class Sketch:
    """What came of a column since it was begun. `add` takes values, `merge` another sketch of the same reference."""

    __slots__ = ("_edges", "_levels", "beyond", "column", "counts", "least", "most", "new", "sums")

    def __init__(self, column: ReferenceColumn):
        self.column = column
        self._edges = np.array(column.edges)
        self._levels = {level: place for place, level in enumerate(column.levels)}
        self.counts = np.zeros(column.parts)
        self.sums = np.zeros(column.parts - 2 if column.kind == NUMBER else 0)  # of bins, less the reference's mean
        self.beyond = 0.0  # numbers below the least or above the most of the reference
        self.least, self.most = np.inf, -np.inf
        self.new: dict[str, float] = {}  # levels that the reference has not

    @property
    def rows(self) -> float:
        """How many values came, gaps among them."""
        return float(self.counts.sum())

    @property
    def known(self) -> float:
        """How many values came that are no gaps."""
        return float(self.counts[:-1].sum())

    @property
    def mean(self) -> float | None:
        """Of the numbers; None where there are none."""
        if self.column.mean is None or not self.known:
            return None
        return self.column.mean + float(self.sums.sum()) / self.known

    @property
    def means(self) -> np.ndarray:
        """Of the numbers in each bin; of an empty bin the reference's, or its end."""
        known = np.array(self.column.means or [*self.column.edges, *self.column.edges[-1:]] or [0.0] * len(self.sums))
        there = self.counts[:-2] > 0 if len(self.sums) else np.zeros(0, bool)
        made = known.astype(float).copy()
        made[there] = (self.column.mean or 0.0) + self.sums[there] / self.counts[:-2][there]
        return made

    def add(self, values: np.ndarray) -> None:
        """Count numbers [n] or words [n] as in `describe`."""
        if self.column.kind == NUMBER:
            self._add_numbers(values)
        else:
            self._add_words(values)

    def _add_numbers(self, values: np.ndarray) -> None:
        try:
            wide = values.astype(np.float64)
        except (TypeError, ValueError):  # words where numbers were: none of them is known
            self.counts[-2] += len(values)
            return
        # Sorted, values are counted where edges fall among them: six times as fast as edges are found for each value.
        there = np.sort(wide)  # gaps come last
        if np.isnan(there[-1:]).any():
            there = there[: np.searchsorted(there, np.nan)]
        self.counts[-1] += len(wide) - len(there)
        if not len(there):
            return
        begin = np.concatenate([[0], np.searchsorted(there, self._edges, "right")])
        counts = np.diff(begin, append=len(there))
        self.counts[:-2] += counts
        some = counts > 0
        self.sums[some] += np.add.reduceat(there - (self.column.mean or 0.0), begin[some])
        low, high = float(there[0]), float(there[-1])
        self.least, self.most = min(self.least, low), max(self.most, high)
        column = self.column
        if column.least is not None and column.most is not None and (low < column.least or high > column.most):
            within = np.searchsorted(there, column.most, "right") - np.searchsorted(there, column.least)
            self.beyond += len(there) - int(within)

    def _add_words(self, values: np.ndarray) -> None:
        for value, count in Counter(values.tolist()).items():
            if value is None or value != value:
                self.counts[-1] += count
                continue
            word = value if isinstance(value, str) else str(value)
            place = self._levels.get(word)
            if place is None:
                self.counts[-2] += count
                self._keep(word, count)
            else:
                self.counts[place] += count

    def _keep(self, word: str, count: float) -> None:
        """Of new levels the frequent ones by name: the rarest makes room, and hands on its count (Metwally 2005)."""
        if word not in self.new and len(self.new) >= SEEN:
            rarest = min(self.new, key=self.new.__getitem__)
            count += self.new.pop(rarest)
        self.new[word] = self.new.get(word, 0.0) + count

    def merge(self, other: Sketch) -> None:
        """Count what another one counted."""
        self.counts += other.counts
        self.sums += other.sums
        self.beyond += other.beyond
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)
        for word, count in other.new.items():
            self._keep(word, count)

    def state(self) -> dict[str, Any]:
        """As JSON has it."""
        some = np.isfinite(self.least)
        return {
            "counts": self.counts.tolist(),
            "sums": np.where(np.isfinite(self.sums), self.sums, 0.0).tolist(),
            "beyond": self.beyond,
            "least": self.least if some else None,
            "most": self.most if some else None,
            **({"new": self.new} if self.new else {}),
        }

    @classmethod
    def read(cls, column: ReferenceColumn, state: Mapping[str, Any]) -> Sketch:
        """The sketch of that state; raises `Refused` for one of another reference."""
        made = cls(column)
        counts, sums = (np.asarray(state.get(key, ()), float) for key in ("counts", "sums"))
        fits = counts.shape == made.counts.shape and sums.shape == made.sums.shape
        if not fits or not np.isfinite(counts).all() or (counts < 0).any():
            raise Refused(f"the counts of column {show(column.name)} are not those of its reference.")
        made.counts, made.sums, made.beyond = counts, sums, float(state.get("beyond", 0.0))
        if state.get("least") is not None:
            made.least, made.most = float(state["least"]), float(state["most"])
        made.new = {str(word): float(count) for word, count in dict(state.get("new", {})).items()}
        return made


def merge_all(column: ReferenceColumn, sketches: Iterable[Sketch]) -> Sketch:
    """One that counts what all of them counted."""
    made = Sketch(column)
    for sketch in sketches:
        made.merge(sketch)
    return made


def write_columns(columns: Sequence[ReferenceColumn]) -> list[dict[str, Any]]:
    """Columns as JSON has them."""
    return [column._asdict() for column in columns]


def read_columns(found: Any, what: str) -> list[ReferenceColumn]:
    """Columns of JSON; raises `Refused` for what is none."""
    try:
        made = []
        for one in found:
            lists = {key: tuple(one[key]) for key in ("edges", "levels", "counts", "means")}
            made.append(ReferenceColumn(**{**one, **lists}))
    except (TypeError, KeyError, ValueError) as error:
        raise Refused(f"{what} holds no columns of a reference: {error}.") from error
    for column in made:
        if column.kind not in (NUMBER, CATEGORY) or len(column.counts) != column.parts:
            raise Refused(f"column {show(column.name)} of {what} is no reference: {len(column.counts)} counts.")
    return made
