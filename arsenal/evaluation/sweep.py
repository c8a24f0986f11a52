"""The report of a sweep: the best value so far, which hyperparameter matters, where good trials lie, all of them in a table."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from arsenal.evaluation.hover import name_dots
from arsenal.evaluation.labels import display_name
from arsenal.evaluation.plot import LIGHT, Theme, dress, importances, legend, new_figure, rgb, shorten
from arsenal.evaluation.report import Pictures, colour, facts, number, render
from arsenal.storage.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES, TABLED, FAILURES, DOTS = 500, 100, 20, 2000
"""Most trials that are drawn as lines, listed, listed of those that failed, and drawn as dots."""
WILD = 4
"""A range so many times that of 95 % of the trials is not drawn whole."""
TREES, GROWN, BACKGROUND, PLACES = 48, 2000, 256, 24
"""Of the importance: trees, trials that they learn from, points behind a marginal, places along it."""


class Row(NamedTuple):
    """A trial as the report shows it."""

    id: int
    state: str
    step: int
    value: float | None
    values: dict[str, Any]
    reason: str = ""
    link: str = ""
    """Of its run folder, or of what is kept of its failure, from the report's folder."""


class Axis(NamedTuple):
    """A hyperparameter: its place in the unit interval for each trial [n], and what stands at places of that interval."""

    name: str
    unit: np.ndarray
    ticks: dict[float, str]


def write_sweep(
    folder: Path, *, title: str, status: dict, command: str, config: str, metric: str, mode: str, rows: Sequence[Row],
    axes: Sequence[Axis],
) -> Path:  # fmt: skip
    """Write `folder/index.html`, the PNGs beside it and `trials.csv`; the path of the page.

    `rows` are all trials in the order in which they were asked for, `axes` have a place for each of them. `command` trains
    the best one again. Of many trials the page draws and lists some and says so; the table of all is `trials.csv`. The page
    loads nothing; all is there without its script.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures, sign = Pictures(folder), 1 if mode == "min" else -1
    value = np.array([np.nan if row.value is None else row.value for row in rows], float)
    there = np.nonzero(np.isfinite(value))[0]
    order = there[np.argsort(sign * value[there], kind="stable")]
    whole = [i for i in order if rows[i].state == "complete"]
    ranked = np.array([*whole, *(i for i in order if rows[i].state != "complete")], int)
    found = []
    if len(there):
        found.append(
            pictures(
                "best", lambda theme: best_so_far(value, metric, mode, theme), f"The best {metric} so far over trials",
                "A dot is a trial, the line the best so far.",
            )
        )  # fmt: skip
    shares = importance(np.stack([axis.unit for axis in axes], 1)[there], value[there]) if len(there) >= 4 else None
    if shares is not None:
        found.append(
            pictures(
                "importance",
                lambda theme: importances(100 * shares, None, [a.name for a in axes], label="% of the variance", theme=theme),
                "The share of the variance that each hyperparameter explains by itself",
                "Of the variance of the trials' ranks, what each explains by itself in a random forest (Hutter et al., 2014). "
                "What is missing to 100 % lies in how they act together, or in chance.",
            )
        )  # fmt: skip
    lines, dots = pick_trials(ranked, LINES), pick_trials(ranked, DOTS)

    def said(drawn: np.ndarray) -> str:
        whole = len(drawn) == len(ranked)
        return "" if whole else f" {len(drawn):,} of {len(ranked):,} trials are drawn, the best and others evenly."

    if len(there) > 1:
        found.append(
            pictures(
                "parallel", lambda theme: parallel(axes, value, lines, metric, mode, theme), "Each trial as a line over the axes",
                "A line is a trial; blue ones are good, the thick one is the best." + said(lines), wide=True, hover=False,
            )
        )  # fmt: skip
        found.append(
            pictures(
                "slices", lambda theme: slices(axes, value, dots, metric, mode, theme, [dot_text(rows[i], metric) for i in dots]),
                f"{metric} over each hyperparameter",
                "A dot is a trial." + said(dots), wide=True,
            )
        )  # fmt: skip
    failed = [row for row in rows if row.state == "failed"]
    names = [axis.name for axis in axes]
    page = {
        "title": title, "state": str(status.get("state", "unknown")), "facts": facts(status), "pictures": found, "metric": metric,
        "names": names, "command": command, "config": [colour(line) for line in config.splitlines()],
        "table": [table_row(rows[i], names) for i in ranked[:TABLED]],
        "all": len(rows), "failed": [table_row(row, names) for row in failed[:FAILURES]], "failures": len(failed),
        "best": number(rows[ranked[0]].value) if len(ranked) else "-", "mode": mode,
    }  # fmt: skip
    write_text(folder / "trials.csv", trials_csv(rows, names, metric))
    write_text(folder / "index.html", render("sweep.html", page))
    return folder / "index.html"


def pick_trials(ranked: np.ndarray, most: int) -> np.ndarray:
    """All of the ranked trials, or the best tenth of `most` and others evenly."""
    if len(ranked) <= most:
        return ranked
    first = most // 10
    return np.concatenate([ranked[:first], ranked[np.linspace(first, len(ranked) - 1, most - first).astype(int)]])


def table_row(row: Row, names: Sequence[str]) -> dict[str, Any]:
    """A trial as a line of the page's table."""
    cells = [number(value) if isinstance(value, float) else str(value) for value in (row.values.get(name, "-") for name in names)]
    return {
        "id": row.id, "state": row.state, "step": number(row.step), "value": number(row.value), "cells": cells, "link": row.link,
        "reason": row.reason,
    }  # fmt: skip


def trials_csv(rows: Sequence[Row], names: Sequence[str], metric: str) -> str:
    """All trials as CSV, every number with all of its digits."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["trial", "state", "step", metric, *names, "reason"])
    for row in rows:
        given = (row.values.get(name, "") for name in names)
        writer.writerow([row.id, row.state, row.step, "" if row.value is None else repr(row.value), *given, row.reason])
    return file.getvalue()


def importance(unit: np.ndarray, value: np.ndarray) -> np.ndarray | None:
    """The share [d] of the variance of the values' ranks [n] that each column of points [n, d] in the unit cube explains alone.

    Functional analysis of variance by a random forest; Hutter, Hoos & Leyton-Brown, ICML 2014. Its marginals are means over
    random points. None where all values are alike.
    """
    from sklearn.ensemble import RandomForestRegressor

    n, d = unit.shape
    rng = np.random.default_rng(0)
    few = rng.permutation(n)[:GROWN]
    rank = np.argsort(np.argsort(value[few], kind="stable"), kind="stable") / max(1, len(few) - 1)
    if np.ptp(value[few]) == 0:
        return None
    forest = RandomForestRegressor(TREES, min_samples_leaf=2, random_state=0).fit(unit[few], rank)
    behind = rng.random((BACKGROUND, d))
    at = (np.arange(PLACES) + 0.5) / PLACES
    points = np.tile(behind, (d * PLACES, 1))
    for i in range(d):
        points[i * PLACES * BACKGROUND : (i + 1) * PLACES * BACKGROUND, i] = np.repeat(at, BACKGROUND)
    marginal = forest.predict(points).reshape(d, PLACES, BACKGROUND).mean(2)
    total = forest.predict(rng.random((2048, d))).var()
    return np.minimum(marginal.var(1) / max(total, 1e-12), 1)  # both are of samples


def best_so_far(value: np.ndarray, metric: str, mode: str, theme: Theme = LIGHT) -> "Figure":
    """Values [n] over trials as dots, NaN where there is none, and the best so far as a line."""
    figure = new_figure(4.7, 3.4, theme)
    axes = figure.add_subplot()
    dress(axes, theme, f"Best {shorten(display_name(metric), 24)} so far")
    good = np.isfinite(value)
    at = np.nonzero(good)[0]
    reach = np.fmin.accumulate(value) if mode == "min" else np.fmax.accumulate(value)
    shown = at if len(at) <= DOTS else at[np.linspace(0, len(at) - 1, DOTS).astype(int)]
    axes.scatter(shown, value[shown], 10, color=theme.muted, alpha=0.5, linewidth=0)
    axes.step(np.arange(len(value)), reach, where="post", color=theme.right, linewidth=2)
    set_value_axis(axes, at, value[good], mode, theme)
    axes.set_xlabel("trial")
    return figure


class Span(NamedTuple):
    """The values between which a picture is drawn, and how many lie beyond, all on the side of the bad ones."""

    low: float
    high: float
    beyond: int


def span(value: np.ndarray, mode: str) -> Span:
    """All values [n]; where a few wild ones would take most of the picture, those up to the 95th percentile."""
    # Values that are there, not numbers between two of them.
    low, high = (np.min(value), kth(value, 0.95)) if mode == "min" else (kth(value, 0.05), np.max(value))
    least, most = float(value.min()), float(value.max())
    if most - least <= WILD * (high - low) or high == low:
        return Span(least, most, 0)
    return Span(float(low), float(high), int(((value < low) | (value > high)).sum()))


def kth(value: np.ndarray, share: float) -> float:
    """The value below which this share of them lies."""
    return float(np.sort(value)[round(share * (len(value) - 1))])


def set_value_axis(axes: Any, at: np.ndarray, value: np.ndarray, mode: str, theme: Theme) -> None:
    """A value axis for dots at `at` [n] with values [n]: logarithmic where they are positive and span much.

    Dots beyond its end are triangles at the edge, and it is said how many there are and how far the worst lies.
    """
    low, high, beyond = span(value, mode)
    wide = (high - low) or abs(high) or 1.0
    if low > 0 and high / low > 30:
        axes.set_yscale("log")
        bottom, top = low / 1.3, high * 1.3
    else:
        bottom, top = low - 0.07 * wide, high + 0.07 * wide
    axes.set_ylim(bottom, top)
    if beyond:
        edge, marker, worst = (top, "^", value.max()) if mode == "min" else (bottom, "v", value.min())
        out = (value > high) | (value < low)
        axes.scatter(at[out], np.full(beyond, edge), 22, marker=marker, color=theme.wrong, clip_on=False, linewidth=0, zorder=3)
        text = f"{beyond} beyond, to {number(float(worst))}"
        place = {"va": "top", "y": 0.97} if mode == "min" else {"va": "bottom", "y": 0.03}
        axes.text(0.98, s=text, transform=axes.transAxes, ha="right", fontsize=7.5, color=theme.wrong, **place)


def parallel(
    axes: Sequence[Axis], value: np.ndarray, drawn: np.ndarray, metric: str, mode: str, theme: Theme = LIGHT
) -> "Figure":
    """Parallel coordinates (Inselberg, 1985): a line for each of the `drawn` trials, best first, over all axes and the value."""
    from matplotlib.collections import LineCollection

    low, high, beyond = span(value[drawn], mode)
    place = np.clip((value[drawn] - low) / ((high - low) or 1.0), 0, 1)
    places = np.stack([axis.unit[drawn] for axis in axes] + [place], 1)
    m = places.shape[1]
    figure = new_figure(9.6, 4.0, theme)
    plain = figure.add_subplot()
    dress(plain, theme, "All trials", grid=False)
    share = np.linspace(0, 1, len(drawn))[:, None]
    colours = (1 - share) * rgb(theme.right) + share * rgb(theme.train)
    alpha = max(0.08, min(0.8, 30 / len(drawn)))
    lines = [np.stack([np.arange(m), one], 1) for one in places]
    plain.add_collection(LineCollection(lines[::-1], colors=[(*c, alpha) for c in colours[::-1]], linewidths=1))
    plain.plot(np.arange(m), places[0], color=theme.right, linewidth=2.6)
    for i in range(m):
        plain.axvline(i, color=theme.muted, linewidth=0.8)
        ticks = axes[i].ticks if i < m - 1 else {0.0: number(low), 1.0: number(high)}
        if i == m - 1 and beyond:  # those lines end at the edge, whose number is not theirs
            end, worst = (1.0, value[drawn].max()) if mode == "min" else (0.0, value[drawn].min())
            ticks[end] = f"{number(high if mode == 'min' else low)} to {number(float(worst))}"
        for at, text in ticks.items():
            plain.text(i + 0.02, at, shorten(text, 24), fontsize=7.5, color=theme.ink, va="center")
    names = [shorten(axis.name, 22) for axis in axes] + [shorten(metric, 22)]
    plain.set_xticks(range(m), names)
    plain.set(xlim=(-0.05, m - 1 + 0.25), ylim=(-0.05, 1.05), yticks=[])
    for spine in plain.spines.values():
        spine.set_visible(False)
    return figure


def dot_text(row: Row, metric: str) -> str:
    """A trial in a line."""
    values = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.values.items())
    return f"trial {row.id}: {', '.join(values)}: {metric} {number(row.value)}"


def slices(
    axes: Sequence[Axis], value: np.ndarray, drawn: np.ndarray, metric: str, mode: str, theme: Theme = LIGHT,
    texts: Sequence[str] | None = None,
) -> "Figure":  # fmt: skip
    """The value over each hyperparameter, a dot for each of the `drawn` trials, which `texts` say; at most eight axes."""
    shown = axes[:8]
    columns = min(4, len(shown))
    lines = -(-len(shown) // columns)
    figure = new_figure(9.6, 2.5 * lines, theme)
    grid = np.atleast_1d(figure.subplots(lines, columns, sharey=True, squeeze=False)).ravel()
    for place, axis in zip(grid, shown, strict=False):
        dress(place, theme)
        alpha = max(0.15, min(0.7, 100 / len(drawn)))
        cloud = place.scatter(axis.unit[drawn], value[drawn], 10, color=theme.right, alpha=alpha, linewidth=0)
        if texts is not None:
            name_dots(cloud, texts)
        place.set_xticks(list(axis.ticks), [shorten(text, 12) for text in axis.ticks.values()])
        place.set(xlim=(-0.05, 1.05))
        place.set_xlabel(shorten(axis.name, 30))
        set_value_axis(place, axis.unit[drawn], value[drawn], mode, theme)
    for place in grid[len(shown) :]:
        place.set_visible(False)
    grid[0].set_ylabel(shorten(display_name(metric), 20))
    legend(grid[0], theme)
    return figure
