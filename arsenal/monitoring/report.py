"""What changed, since when, how much it matters and for which values: one page of a served model beside what it learned from."""

import math
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from arsenal_serving.artifact.sketch import NUMBER, Sketch
from arsenal_serving.artifact.windows import Window, merge_windows

from arsenal.evaluation import plot
from arsenal.evaluation.report import Pictures, number, render
from arsenal.monitoring.drift import ColumnDrift, DriftBounds, compare_columns, drift_findings
from arsenal.monitoring.findings import Finding
from arsenal.monitoring.outliers import find_outliers, outlier_finding, outlier_part
from arsenal.monitoring.watch import AnsweredTable, MonitoringError, Watched, merge_slices, windows_of
from arsenal.storage.files import write_text

SLICES = 24
"""Slices of time in which a page says since when a column has moved."""
SHOWN = 6
"""Columns that are drawn."""
PARTS = 12
"""Bars of a column."""
ANSWERS = ("performance", "estimated_performance", "concept_drift")
"""Kinds of findings that are said at the head of the page: that answers have become worse."""
HEADS = ["column", "moved by", "since", "p", "index", "before", "now", "missing", "not known"]


def findings_of(watched: Watched, window: Window, bounds: DriftBounds, now: float | None = None) -> list[Finding]:
    """All that a window says: drift of what it is asked and of what it answers, and the quality of both."""
    span = (window.since, window.until)
    found = []
    for kind, sketches, columns in (
        ("drift", window.inputs, watched.reference.inputs), ("prediction_drift", window.outputs, watched.reference.outputs),
    ):  # fmt: skip
        expected = [column.name for column in columns if column.name not in window.redacted]
        found += drift_findings(watched.model, watched.version, kind, sketches, span, bounds, expected, now)  # type: ignore[arg-type]
    return found


def write_page(
    path: Path, watched: Watched, bounds: DriftBounds = DriftBounds(), since: float = 0.0, until: float = math.inf,  # noqa: B008
    parts: Sequence[dict[str, Any]] = (), others: Sequence[Finding] = (),
) -> list[Finding]:  # fmt: skip
    """Write the page of a span of time; the findings that it shows.

    `parts` are more sections: title, heads, lines, pictures; `others` the findings that they show, which the head of the page
    heeds.
    """
    every = list(windows_of(watched, since, until))
    whole = merge_windows(every)
    if whole is None:
        raise MonitoringError(f"{watched.folder} has no window of `{watched.method}` between the times that were asked for.")
    slices = merge_slices(every, max((whole.until - whole.since) / SLICES, 1.0))
    return write_slices(path, watched, whole, slices, bounds, parts, others)


def write_batch(path: Path, batch: AnsweredTable, bounds: DriftBounds = DriftBounds()) -> list[Finding]:  # noqa: B008
    """Write the page of a table's rows; the findings that it shows."""
    known, window = batch.watched.reference, batch.window
    names = [f"row {at + 1}" for at in range(window.rows)]
    score, rare = find_outliers(known, batch.asked, names)
    span = (window.since, window.until)
    one = outlier_finding(batch.watched.model, batch.watched.version, known, score, span, bounds.alpha)
    parts = [outlier_part("Rows least like those that it learned from", "score", rare, one.why if one else "")] if rare else []
    others = [one] if one else []
    return write_slices(path, batch.watched, window, [window], bounds, parts, others) + others


def write_slices(
    path: Path, watched: Watched, whole: Window, slices: list[Window], bounds: DriftBounds, parts: Sequence[dict[str, Any]] = (),
    others: Sequence[Finding] = (),
) -> list[Finding]:  # fmt: skip
    """Write the page of a window, and of its slices in time; the findings that it shows."""
    write_text(path, render("monitoring.html", page_of(watched, whole, slices, bounds, parts, others)))
    return findings_of(watched, whole, bounds)


def page_of(
    watched: Watched, whole: Window, slices: list[Window], bounds: DriftBounds, parts: Sequence[dict[str, Any]],
    others: Sequence[Finding] = (),
) -> dict[str, Any]:  # fmt: skip
    """What the template shows."""
    asked, answered = compare_columns(whole.inputs, bounds), compare_columns(whole.outputs, bounds)
    sized = {name: sizes for way in ("inputs", "outputs") for name, sizes in sizes_of(slices, way, bounds).items()}
    began = {name: since_when(slices, sizes) for name, sizes in sized.items()}
    moved = [one for one in asked if one.drifted]
    answers = [one for one in answered if one.drifted]
    sketches = whole.inputs | whole.outputs
    pictures, drawn = Pictures(None, hover=False), (moved + answers)[:SHOWN]
    figures = []
    if drawn and len(slices) > 1:
        names = [clock(window.since, slices[-1].until - slices[0].since) for window in slices]
        several = {one.column: np.array([size for size, _ in sized[one.column]]) for one in drawn}
        title = "How far from what it learned from"
        figures.append(pictures("time", lambda theme: plot.sizes_in_time(names, several, bounds.size, title, theme),
                                "The distance of each column that has moved, by time", wide=True))  # fmt: skip
    for one in drawn:
        names, before, now = shares_of(sketches[one.column])
        figures.append(pictures(
            f"column_{len(figures)}",
            lambda theme, one=one, names=names, before=before, now=now: plot.shares_beside(
                names, before, now, one.column, ("learned from", "asked"), theme),
            f"Shares of {one.column} where it learned and now",
        ))  # fmt: skip
    qualities = [one for one in findings_of(watched, whole, bounds) if one.kind == "quality" and one.state != "ok"]
    worse = [one for one in others if one.state == "breach"]
    few, state = whole.rows < bounds.rows, "as it learned"
    for bad, said in ((qualities, "something is missing"), (worse, "worse than it was"), (moved + answers, "")):
        state = (said or f"{len(bad)} moved") if bad else state
    return {
        "title": f"{watched.model} {watched.version}", "state": "too few rows" if few else state,
        "good": not moved and not answers and not qualities and not worse and not few,
        "facts": [("method", watched.method), ("from, UTC", stamp(whole.since)), ("to, UTC", stamp(whole.until)),
                  ("rows", f"{whole.rows:,}"), ("learned from", f"{watched.known.rows:,}"),
                  *([("redacted", ", ".join(sorted(whole.redacted)))] if whole.redacted else [])],
        "warnings": [f"{one.name}: {one.why}" for one in qualities if one.state == "breach"]
        + [f"{one.name}: {one.why}" for one in worse if one.kind in ANSWERS]
        + ([f"{whole.rows} rows are too few to say anything; {bounds.rows} are needed."] if few else []),
        "tiles": [{"name": one.column, "value": size_text(one), "note": f"since {began[one.column]}"} for one in drawn],
        "pictures": figures,
        "heads": HEADS,
        "answers": [line_of(one, began) for one in answered],
        "columns": [line_of(one, began) for one in asked],
        "moved": len(moved), "bound": bounds.size, "alpha": bounds.alpha, "alpha_percent": f"{100 * bounds.alpha:g}",
        "qualities": [{"cells": [one.name, one.state, one.why], "strong": one.state == "breach"} for one in qualities],
        "parts": [*parts],
    }  # fmt: skip


def sizes_of(slices: list[Window], way: str, bounds: DriftBounds) -> dict[str, list[tuple[float, bool]]]:
    """For each column, by slice, how far it was and whether that is drift; NaN where it was not there."""
    found = [{one.column: (one.size, one.drifted) for one in compare_columns(getattr(window, way), bounds)} for window in slices]
    names = dict.fromkeys(name for one in found for name in one)
    return {name: [one.get(name, (math.nan, False)) for one in found] for name in names}


def since_when(slices: list[Window], sizes: list[tuple[float, bool]]) -> str:
    """From which slice on a column has been elsewhere in all; `-` where it is not at the end."""
    first = None
    for window, (size, drifted) in zip(reversed(slices), reversed(sizes), strict=True):
        if math.isnan(size):
            continue
        if not drifted:
            break
        first = window.since
    return "-" if first is None else stamp(first)


def line_of(one: ColumnDrift, began: dict[str, str]) -> dict[str, Any]:
    """A line of the table of columns."""
    p = "< 0.0001" if one.p < 1e-4 else f"{one.p:.4f}"
    missing = f"{one.gaps[1]:.1%}" + (f" ({one.gaps[0]:.1%})" if one.gaps[0] != one.gaps[1] else "")
    since = began[one.column] if one.drifted else "-"
    cells = [one.column, size_text(one), since, p, number(one.stability, 3), number(one.before), number(one.now), missing,
             f"{one.unknown:.1%}"]  # fmt: skip
    return {"cells": cells, "strong": one.drifted}


def size_text(one: ColumnDrift) -> str:
    """How far a column has moved, with its unit."""
    if not math.isfinite(one.size):
        return "beyond measure"
    return f"{one.size:.2f} sd" if one.test == "Smirnov" else f"{one.size:.1%}"


def shares_of(sketch: Sketch) -> tuple[list[str], np.ndarray, np.ndarray]:
    """A column's parts by name with their shares before and now: neighbouring bins are joined, of levels the rest is one."""
    column = sketch.column
    before, now = (np.asarray(counts, float) / max(np.sum(counts), 1) for counts in (column.counts, sketch.counts))
    parts = column.parts - 2
    if column.kind == NUMBER:
        cuts = np.unique(np.linspace(0, parts, min(PARTS, parts) + 1).round().astype(int))
        names = [join_labels(column.label(a), column.label(b - 1)) for a, b in pairwise(cuts)]
        joined = [[one[a:b].sum() for a, b in pairwise(cuts)] for one in (before, now)]
        rest = [(column.label(at), at) for at in (parts, parts + 1)]
    else:
        order = np.argsort(-(before[:parts] + now[:parts]), kind="stable")
        kept = order[: PARTS - 2]
        names = [column.levels[at] for at in kept]
        joined = [one[kept].tolist() for one in (before, now)]
        if len(order) > len(kept):
            names.append("the rest")
            for shares, one in zip(joined, (before, now), strict=True):
                shares.append(one[order[len(kept) :]].sum())
        rest = [("not known", parts), ("missing", parts + 1)]
    for name, at in rest:
        if before[at] or now[at]:
            names.append(name)
            for shares, one in zip(joined, (before, now), strict=True):
                shares.append(one[at])
    return names, np.array(joined[0]), np.array(joined[1])


def join_labels(first: str, last: str) -> str:
    """One label for neighbouring bins.

    >>> join_labels("up to 2", "2 to 3"), join_labels("2 to 3", "3 to 5"), join_labels("3 to 5", "above 5")
    ('up to 3', '2 to 5', 'above 3')
    """
    if first == last:
        return first
    low, high = first.split(" to ")[0], last.split(" to ")[-1]
    if first.startswith("up to"):
        return "all" if last.startswith("above") else f"up to {high}"
    return f"above {low}" if last.startswith("above") else f"{low} to {high}"


def stamp(seconds: float) -> str:
    """A time of the world's clock for people."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))


def clock(seconds: float, span: float) -> str:
    """A time as exact as a span of time needs it."""
    form = "%H:%M:%S" if span < 3600 else "%H:%M" if span < 86400 else "%m-%d %H:%M"
    return time.strftime(form, time.gmtime(seconds))
