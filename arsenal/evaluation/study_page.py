"""The page of a study: which candidate is best and how sure that is, what each split says, and how the values matter."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from arsenal.evaluation.labels import display_name
from arsenal.evaluation.paired import WHAT
from arsenal.evaluation.plot import LIGHT, Theme, dress, legend, new_figure, shorten
from arsenal.evaluation.report import Pictures, colour, facts, interval_text, number, render
from arsenal.evaluation.study import Study
from arsenal.storage.files import write_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

DRAWN, TABLED = 25, 100
"""Most candidates that are drawn, and listed."""


class Table(NamedTuple):
    """A table of texts."""

    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def write_study(
    folder: Path, found: Study, *, title: str, status: dict, command: str, config: str, tables: Sequence[Table] = (),
    seconds: Mapping[str, float] = {},
) -> Path:  # fmt: skip
    """Write `folder/index.html`, the PNGs beside it and `leaderboard.csv`; the path of the page.

    `tables` stand before the pictures; `seconds` are those of a fit, by what the candidates' `name` is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures, ranked = Pictures(folder), found.leaderboard()
    if seconds:
        ranked["seconds"] = [seconds.get(name, float("nan")) for name in ranked["name"]]
    shown = [
        pictures(
            "intervals", lambda theme: intervals(found, ranked, theme), f"{found.metric} of the best candidates, split by split",
            f"A dot is a fit on rows that it was not fitted on; the bar is the {found.confidence:.0%} interval of the mean.",
            wide=True,
        )
    ] + [
        pictures(
            f"over_{key}", lambda theme, key=key: validation_curve(ranked, key, found.metric, theme),
            f"{found.metric} over {key}",
            "The best candidate of each value: of the rows that it was fitted on, and of those that it was not.",
        )
        for key in found.keys
        if is_axis(found.table[key])
    ]  # fmt: skip
    columns = [name.removeprefix("test/") for name in found.table.columns if name.startswith("test/")]
    page = {
        "title": title, "state": str(status.get("state", "unknown")), "facts": facts(status), "pictures": shown,
        "metric": found.metric, "mode": found.mode, "best": score_text(ranked.iloc[0]), "keys": found.keys,
        "values": [(key, cell(ranked.iloc[0][key])) for key in found.keys], "command": command,
        "config": [colour(line) for line in config.splitlines()], "all": len(ranked), "fits": len(found.table),
        "splits": int(found.table["split"].nunique()), "stuck": int((~found.table["converged"].astype(bool)).sum()),
        "confidence": f"{found.confidence:.0%}", "others": [name for name in columns if name != found.metric],
        "table": [table_line(found, row, columns) for _, row in ranked.head(TABLED).iterrows()],
        "choice": found.choice_line(), **row_tests(found, ranked),
        "tables": tables, "timed": bool(seconds), "gone": list(found.lines_without_value()),
    }  # fmt: skip
    write_text(folder / "leaderboard.csv", ranked.to_csv(index=False))
    write_text(folder / "index.html", render("study.html", page))
    return folder / "index.html"


def cell(value: Any) -> str:
    """A candidate's value for people."""
    return number(value) if value is None or isinstance(value, float) else str(value)


def row_tests(found: Study, ranked: "pd.DataFrame") -> dict[str, Any]:
    """The two best candidates row by row, as lines of a table, or why there is no such table."""
    names = [found.name_candidate(row) or "as it is" for _, row in ranked.head(2).iterrows()]
    if len(names) < 2:
        return {"pair": [], "tests": [], "no_tests": ""}
    try:
        tests = found.compare_rows(*ranked["candidate"].iloc[:2])
    except ValueError as error:
        return {"pair": names, "tests": [], "no_tests": str(error)}
    why = "" if tests else "McNemar's test is of labels, DeLong's of two classes with two rows of each in every split."
    lines = [(WHAT[name], name, f"{number(one.effect)} {interval_text(one.low, one.high)}", number(one.p_value))
             for name, one in tests.items()]  # fmt: skip
    return {"pair": names, "tests": lines, "no_tests": why}


def score_text(row: Any) -> str:
    """A mean and its interval."""
    return f"{number(row['mean'])} {interval_text(row['low'], row['high'])}".strip()


def table_line(found: Study, row: Any, columns: list[str]) -> dict[str, Any]:
    """A candidate as a line of the page's table."""
    mine = found.fits_of(row["candidate"])
    others = [number(float(mine[f"test/{name}"].mean())) for name in columns if name != found.metric]
    return {
        "values": [cell(row[key]) for key in found.keys], "score": score_text(row), "train": number(row["train"]),
        "p": number(row["p_value"]), "others": others, "fits": int(row["fits"]), "seconds": number(row.get("seconds")),
    }  # fmt: skip


def is_axis(values: Any) -> bool:
    """Whether a column holds numbers, three or more, along which a curve can be drawn."""
    return values.dtype.kind in "if" and values.nunique() > 2


def intervals(found: Study, ranked: "pd.DataFrame", theme: Theme = LIGHT) -> "Figure":
    """The metric of the best of the ranked candidates: a dot for each fit, the mean and its interval."""
    ranked = ranked.head(DRAWN)
    figure = new_figure(8, 1.2 + 0.32 * len(ranked), theme)
    axes = figure.add_subplot()
    for place, (_, row) in enumerate(ranked.iterrows()):
        scores = found.fits_of(row["candidate"])[f"test/{found.metric}"]
        axes.plot(scores, np.full(len(scores), place), "o", color=theme.muted, alpha=0.35, markersize=4, markeredgewidth=0)
        if np.isfinite(row["low"]):
            axes.plot([row["low"], row["high"]], [place, place], color=theme.right, linewidth=2.5, solid_capstyle="round")
        axes.plot(row["mean"], place, "o", color=theme.right, markersize=7)
    names = [found.name_candidate(row) or "as it is" for _, row in ranked.iterrows()]
    axes.set_yticks(range(len(ranked)), [shorten(name, 40) for name in names])
    axes.invert_yaxis()
    axes.set_xlabel(display_name(found.metric))
    dress(axes, theme)
    return figure


def validation_curve(ranked: "pd.DataFrame", key: str, metric: str, theme: Theme = LIGHT) -> "Figure":
    """The metric over a key's values, of the rows that train and of those that test, each value with its best candidate."""
    ranked = ranked.dropna(subset=key).drop_duplicates(key).sort_values(key)
    at = ranked[key].to_numpy(float)
    figure = new_figure(6.2, 4, theme)
    axes = figure.add_subplot()
    axes.plot(at, ranked["train"], "o--", color=theme.train, markersize=4, label="fitted on")
    axes.plot(at, ranked["mean"], "o-", color=theme.right, markersize=5, label="not fitted on")
    axes.fill_between(at, ranked["low"], ranked["high"], color=theme.right, alpha=0.15, linewidth=0)
    if (at > 0).all() and at.max() > 50 * at.min():
        axes.set_xscale("log")
    axes.set_xlabel(key)
    axes.set_ylabel(display_name(metric))
    dress(axes, theme)
    legend(axes, theme)
    return figure
