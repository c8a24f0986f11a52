"""Slices: where a model is worse than elsewhere, by a column, by two together, and how sure that is.

Chung et al., Slice Finder, ICDE 2019 (1807.06068). What is found among many slices is worse by chance too, so a slice is found
on one half of the rows and tested on the other.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from arsenal.data.splits import uniform
from arsenal.evaluation.multiplicity import adjust_p_values

LEVELS, PARTS, LEAST = 20, 4, 10
"""Levels up to which each is a slice of its own, the rarer ones being others; parts of equal weight of a column of numbers; the
weight that a level has at least."""


class Slice(NamedTuple):
    """Rows that have something in common, and how a model does on them."""

    name: str
    """As in `sex = male and age <= 19`."""
    rows: float
    """Weight of the rows that it is tested on."""
    value: float
    """The mean of what is measured, over those rows."""
    rest: float
    """The mean over the rows that are tested on and not in it."""
    low: float
    high: float
    """The interval of value - rest."""
    p_value: float
    """That value - rest is 0, corrected for the slices that are tested (Holm)."""


class Subset(NamedTuple):
    """One condition on a column."""

    column: str
    text: str
    mask: np.ndarray


def column_parts(name: str, column: Any, weight: Any, levels: Sequence[str] | None = None) -> list[Subset]:
    """The conditions on a column [n]: its levels, or quarters of its numbers by weight; gaps (NaN) are a part of their own.

    `levels` are the names of whole numbers. Rare levels are one part, `others`; a column of one value or of rare ones has none.
    """
    column, weight = np.asarray(column), np.asarray(weight, float)
    numbers = column.dtype.kind == "f"
    gaps = np.isnan(column) if numbers else np.zeros(len(column), bool)
    found = [Subset(name, f"{name} missing", gaps)] if (gaps & (weight > 0)).any() else []
    there = ~gaps & (weight > 0)
    known = np.unique(column[there])
    if len(known) < 2:
        return found
    if numbers and len(known) > PARTS:
        order = np.sort(column[there])
        edges = np.unique(order[np.ceil(np.linspace(0, 1, PARTS + 1)[1:-1] * len(order)).astype(int) - 1])
        bounds = [-np.inf, *edges, np.inf]
        return found + [
            Subset(name, interval_name(name, low, high), there & (column > low) & (column <= high))
            for low, high in itertools.pairwise(bounds)
        ]
    shares = [(float(weight[there & (column == level)].sum()), level) for level in known]
    kept = [level for share, level in sorted(shares, key=lambda one: -one[0])[:LEVELS] if share >= LEAST]
    found += [Subset(name, f"{name} = {level_name(level, levels)}", there & (column == level)) for level in kept]
    others = there & ~np.isin(column, kept)
    return found + ([Subset(name, f"{name} = others", others)] if kept and others.any() else [])


def interval_name(name: str, low: float, high: float) -> str:
    """A range of numbers for people."""
    if low == -np.inf:
        return f"{name} <= {high:.4g}"
    return f"{name} > {low:.4g}" if high == np.inf else f"{low:.4g} < {name} <= {high:.4g}"


def level_name(level: Any, levels: Sequence[str] | None) -> str:
    """A level by its name, where it has one."""
    if levels is not None and 0 <= int(level) < len(levels):
        return str(levels[int(level)])
    return f"{level:g}" if isinstance(level, np.floating) else f"{level}"


def slices_of(
    columns: Mapping[str, Any], value: Any, weight: Any, levels: Mapping[str, Sequence[str]] = {}, confidence: float = 0.95,
) -> dict[str, list[Slice]]:  # fmt: skip
    """By column, every part of it, tested against the rest of the rows; p-values hold for all parts together.

    `columns` [n] by name, `value` [n] what is measured of each row (1 where it is right, its loss), `weight` [n]. Raises
    ValueError for lengths that differ.
    """
    value, weight = check_columns(columns, value, weight)
    parts = [part for name, column in columns.items() for part in column_parts(name, column, weight, levels.get(name))]
    tested = compare_parts([(part.text, part.mask) for part in parts], value, weight, confidence)
    found: dict[str, list[Slice]] = {}
    for part, one in zip(parts, tested, strict=True):
        found.setdefault(part.column, []).append(one)
    return found


def find_worst(
    columns: Mapping[str, Any], value: Any, weight: Any, row: Any, worse: str = "low", *,
    levels: Mapping[str, Sequence[str]] = {}, least: int = 20, most: int = 10, confidence: float = 0.95,
) -> list[Slice]:  # fmt: skip
    """The slices of one or two conditions that are worst on half of the rows, as they are on the other half, worst first.

    Rows with an even hash of their id `row` [n] are searched, the others test. `worse` says which values are bad: low or high.
    A slice has at least `least` rows in either half; one within another that is as bad is left out. At most `most`.
    """
    value, weight = check_columns(columns, value, weight)
    if worse not in ("low", "high"):
        raise ValueError(f"`worse` of `find_worst` must be low or high; got {worse}.")
    sign = 1 if worse == "low" else -1
    half = uniform(np.asarray(row), 0) < 0.5
    parts = [part for name, column in columns.items() for part in column_parts(name, column, weight, levels.get(name))]
    candidates = [(part.text, part.mask) for part in parts]
    candidates += [
        (f"{a.text} and {b.text}", a.mask & b.mask) for a, b in itertools.combinations(parts, 2) if a.column != b.column
    ]
    ranked = []
    for text, mask in candidates:
        inside, outside = mask & half & (weight > 0), ~mask & half & (weight > 0)
        if min(inside.sum(), outside.sum(), (mask & ~half & (weight > 0)).sum()) >= least:
            gap, error = mean_difference(value, weight, inside, outside)[:2]
            ranked.append((sign * gap / error if error > 0 else sign * np.sign(gap) * np.inf, text, mask))
    ranked.sort(key=lambda one: one[0])
    chosen: list[tuple[str, np.ndarray]] = []
    for score, text, mask in ranked:
        within = any((mask & ~other).sum() == 0 or (other & ~mask).sum() == 0 for _, other in chosen)
        if score < 0 and not within and len(chosen) < most:
            chosen.append((text, mask))
    tested = compare_parts(chosen, value, weight * ~half, confidence)
    return sorted(tested, key=lambda one: sign * (one.value - one.rest))


def check_columns(columns: Mapping[str, Any], value: Any, weight: Any) -> tuple[np.ndarray, np.ndarray]:
    """The values and weights as floats; rows that are not there hold 0."""
    weight, value = np.asarray(weight, float), np.asarray(value, float)
    for name, column in {**columns, "value": value}.items():
        if np.shape(column) != weight.shape:
            raise ValueError(f"Slices take columns [{len(weight)}], as `weight`; `{name}` has shape {list(np.shape(column))}.")
    return np.where(weight > 0, value, 0), weight


def compare_parts(
    parts: Sequence[tuple[str, np.ndarray]], value: np.ndarray, weight: np.ndarray, confidence: float
) -> list[Slice]:
    """Each part against the rest, with p-values that hold for all of them."""
    rows = list(compare_each(parts, value, weight, confidence))
    adjusted = adjust_p_values([one.p_value for one in rows]) if rows else []
    return [one._replace(p_value=float(p)) for one, p in zip(rows, adjusted, strict=True)]


def compare_each(
    parts: Sequence[tuple[str, np.ndarray]], value: np.ndarray, weight: np.ndarray, confidence: float
) -> Iterator[Slice]:
    """Yield each part against the rest; NaN where either has fewer than two rows."""
    for text, mask in parts:
        gap, error, degrees = mean_difference(value, weight, mask & (weight > 0), ~mask & (weight > 0))
        inside, rest = (weighted_mean(value, weight * side) for side in (mask, ~mask))
        reach = stats.t.ppf((1 + confidence) / 2, degrees) * error
        p = 2 * stats.t.sf(abs(gap) / error, degrees) if error > 0 else (1.0 if gap == 0 else 0.0) if error == 0 else np.nan
        yield Slice(text, float((weight * mask).sum()), inside, rest, float(gap - reach), float(gap + reach), float(p))


def weighted_mean(value: np.ndarray, weight: np.ndarray) -> float:
    """The mean by weight; NaN of nothing."""
    return float((value * weight).sum() / weight.sum()) if weight.sum() > 0 else float("nan")


def mean_difference(value: np.ndarray, weight: np.ndarray, one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """The difference of the means of two sets of rows by weight (as counts), its standard error and degrees of freedom.

    Of numbers Welch's. Of values that are 0 or 1 Agresti and Caffo's (The American Statistician 54, 2000), with a row of either
    added to each set: where all of few rows are alike, Welch's error would be 0 and chance a certainty.
    """
    binary = np.isin(value[weight > 0], (0, 1)).all()
    means, errors, counts = [], [], []
    for mask in (one, other):
        mine = weight * mask
        count = mine.sum()
        if binary:
            mean = ((mine * value).sum() + 1) / (count + 2)
            errors.append(mean * (1 - mean) / (count + 2) if count > 1 else np.nan)
        else:
            mean = weighted_mean(value, mine)
            errors.append((mine * np.square(value - mean)).sum() / (count - 1) / count if count > 1 else np.nan)
        means.append(mean)
        counts.append(count)
    total = sum(errors)
    parts = sum(np.square(error) / (count - 1) for error, count in zip(errors, counts, strict=True) if count > 1)
    degrees = np.inf if binary else float(np.square(total) / parts) if parts > 0 else max(sum(counts) - 2, 1)
    return means[0] - means[1], float(np.sqrt(total)), degrees
