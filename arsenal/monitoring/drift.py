"""Drift of columns: what a model is asked, and answers, beside what it learned from, by counts in the bins of its reference.

A column has drifted where two things hold: it is far from its reference (`size`), and so far away does not come by chance
(`p`). How far is for numbers the mean distance that values have moved, in standard deviations of the reference (Wasserstein's,
Kantorovich 1942), and for words the share of rows whose level would have to change (the total variation). Whether by chance is
said by Smirnov's test of two samples and by Pearson's chi-square; p-values hold for all columns of a window together (Holm), so
of windows without drift at most the share `alpha` says a word. Counts in bins make Smirnov's test say less, never more.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from annotated_types import Gt, Interval
from arsenal_serving.artifact.sketch import NUMBER, ReferenceColumn, Sketch
from scipy import stats

from arsenal.evaluation.drift import level_test
from arsenal.evaluation.multiplicity import adjust_p_values
from arsenal.monitoring.findings import Finding, Kind, State
from arsenal.numerics.divergences import (
    binned_cramer_von_mises,
    binned_smirnov,
    jensen_shannon,
    population_stability,
)


class DriftBounds(NamedTuple):
    """From where on a column has drifted."""

    size: Annotated[float, Gt(0)] = 0.1
    alpha: Annotated[float, Interval(gt=0, lt=1)] = 0.01
    """The share of windows without drift in which any column is said to have drifted, at most."""
    gaps: Annotated[float, Gt(0)] = 0.02
    """By how much the share of missing values may rise."""
    unknown: Annotated[float, Gt(0)] = 0.01
    """The share of levels that the reference has not, and of numbers beyond its range, that may come."""
    rows: Annotated[int, Gt(0)] = 30
    """Fewer are no evidence, and nothing is said."""


class ColumnDrift(NamedTuple):
    """A column in a window beside its reference."""

    column: str
    rows: int
    test: str
    """Smirnov or chi-square."""
    statistic: float
    p: float
    """As it holds for all columns of the window."""
    size: float
    """In standard deviations for numbers, a share for words."""
    stability: float
    """The population stability index, gaps a part of their own."""
    distance: float
    """Jensen and Shannon's, 0..1, gaps a part of their own."""
    cramer_von_mises: float | None
    """The statistic of numbers; None of words."""
    drifted: bool
    before: float | None
    """The mean of numbers in the reference, and here."""
    now: float | None
    gaps: tuple[float, float]
    """The share of missing values in the reference, and here."""
    unknown: float
    """The share of levels that the reference has not, or of numbers beyond its range."""
    new: Mapping[str, float]
    """Such levels and how often they came."""


def compare_columns(sketches: Mapping[str, Sketch], bounds: DriftBounds = DriftBounds()) -> list[ColumnDrift]:  # noqa: B008
    """Every column of a window beside its reference, the furthest first; columns without a value on one side are not there."""
    found = [compare_sketch(sketch) for sketch in sketches.values() if sketch.known and sum(sketch.column.counts[:-1])]
    adjusted = adjust_p_values([one.p for one in found]) if found else []
    judged = [
        one._replace(p=float(p), drifted=bool(p < bounds.alpha and one.size > bounds.size and one.rows >= bounds.rows))
        for one, p in zip(found, adjusted, strict=True)
    ]
    return sorted(judged, key=lambda one: (not one.drifted, -one.size))


def compare_sketch(sketch: Sketch) -> ColumnDrift:
    """One column, its p by itself."""
    column = sketch.column
    before, now = np.asarray(column.counts), sketch.counts
    n, m = before[:-1].sum(), now[:-1].sum()
    parts = [np.append(counts[:-2], counts[-2:]) for counts in (before, now)]
    cramer = None
    if column.kind == NUMBER:
        p_of, q_of = before[:-2], now[:-2]
        statistic = binned_smirnov(p_of, q_of) if q_of.sum() else 1.0
        p = float(stats.kstwo.sf(statistic, max(round(n * m / (n + m)), 1))) if statistic > 0 else 1.0
        size = spread_of(column, sketch)
        cramer = binned_cramer_von_mises(p_of, q_of) if q_of.sum() else None
        test = "Smirnov"
        unknown = (sketch.beyond + now[-2]) / m
    else:
        statistic, p = level_test(np.stack([before[:-1], now[:-1]]))
        size, test = float(np.abs(before[:-1] / n - now[:-1] / m).sum() / 2), "chi-square"
        unknown = now[-2] / m
    gaps = (float(before[-1] / before.sum()), float(now[-1] / now.sum()))
    return ColumnDrift(
        column.name, int(sketch.rows), test, statistic, p, size, population_stability(*parts), jensen_shannon(*parts), cramer,
        False, column.mean, sketch.mean, gaps, float(unknown), dict(sketch.new),
    )  # fmt: skip


def spread_of(column: ReferenceColumn, sketch: Sketch) -> float:
    """Wasserstein's distance of a window's numbers from the reference's, in standard deviations of the reference.

    Each bin lies at its mean. A column that never varied and does now has moved by infinitely many deviations.
    """
    counts = sketch.counts[:-2]
    if column.deviation is None or not counts.sum() or not (np.isfinite(sketch.least) and np.isfinite(sketch.most)):
        return math.inf
    moved = float(stats.wasserstein_distance(column.means, sketch.means, column.counts[:-2], counts))
    return moved / column.deviation if column.deviation else math.inf if moved > 0 else 0.0


def drift_findings(
    model: str, version: str, kind: Kind, sketches: Mapping[str, Sketch], window: tuple[float, float],
    bounds: DriftBounds = DriftBounds(), expected: Sequence[str] = (), now: float | None = None,  # noqa: B008
) -> list[Finding]:  # fmt: skip
    """Findings for each column: of its values, and `quality`: gaps, unknown values, rows that lack.

    `expected` are the columns that the reference has; one that did not come at all is said.
    """
    now = time.time() if now is None else now
    compared = compare_columns(sketches, bounds)
    sure = bounds.alpha / max(2 * len(compared), 1)  # that no column of a window without change is said to be worse
    quality = Finding(now, model, version, "quality", "", "breach", window=window)
    found = []
    for one in compared:
        few = one.rows < bounds.rows
        size = one.size if math.isfinite(one.size) else BEYOND
        why = f"too few rows, {one.rows} of {bounds.rows}" if few else moved_text(one)
        state: State = "breach" if one.drifted else "ok"
        drift = Finding(now, model, version, kind, one.column, state, size, bounds.size, size, one.p, one.rows, window)
        found.append(drift._replace(why=why))
        if few:
            continue
        about = quality._replace(name=one.column, rows=one.rows)
        clean = len(found)
        column = sketches[one.column].column
        if (rise := one.gaps[1] - one.gaps[0]) > bounds.gaps and more_often(*one.gaps, column, one.rows) < sure:
            why = f"{one.gaps[1]:.1%} are missing, {one.gaps[0]:.1%} where it learned"
            found.append(about._replace(value=one.gaps[1], bound=one.gaps[0] + bounds.gaps, size=rise, why=why))
        if one.unknown > bounds.unknown and more_often(0.0, one.unknown, column, one.rows) < sure:
            often = ", ".join(sorted(one.new, key=lambda word: -one.new[word])[:5])
            what = f"levels that it did not learn from: {often}" if often else "values beyond those that it learned from"
            why = f"{one.unknown:.1%} are {what}"
            found.append(about._replace(state="warning", value=one.unknown, bound=bounds.unknown, size=one.unknown, why=why))
        if len(found) == clean:  # an alert on what was wrong ends by this
            known = f"{one.gaps[1]:.1%} are missing, {one.unknown:.1%} unlike what it learned from"
            found.append(about._replace(state="ok", value=one.gaps[1], bound=one.gaps[0] + bounds.gaps, size=0.0, why=known))
    for name in expected:
        rows = sketches[name].rows if name in sketches else 0.0
        if not rows:
            why = "nothing came under this name; was it renamed?"
            found.append(quality._replace(name=name, value=0.0, bound=1.0, size=1.0, why=why))
        elif not sketches[name].known:
            about = quality._replace(name=name, rows=int(rows), value=1.0, bound=bounds.gaps, size=1.0)
            found.append(about._replace(why="every value is missing"))
    return found


def more_often(before: float, now: float, column: ReferenceColumn, rows: int) -> float:
    """Fisher's p that a share of the rows has risen by chance alone."""
    learned = round(sum(column.counts))
    then, came = round(before * learned), round(now * rows)
    return float(stats.hypergeom.sf(came - 1, learned + rows, then + came, rows)) if came else 1.0


BEYOND = 1e9
"""What stands for a size beyond all measure where JSON has no infinity."""


def moved_text(one: ColumnDrift) -> str:
    """How far a column has moved, in words."""
    unit = "standard deviations" if one.test == "Smirnov" else "of the rows"
    means = f"; mean {one.before:.4g}, now {one.now:.4g}" if one.before is not None and one.now is not None else ""
    return f"moved by {one.size:.3g} {unit}{means}"
