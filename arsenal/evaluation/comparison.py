"""Several runs side by side: where their configs differ, what they reached, their curves in one picture."""

import string
from pathlib import Path
from typing import Any, NamedTuple

from arsenal.evaluation import plot
from arsenal.evaluation.report import Pictures, number, place, rendered
from arsenal.storage.files import write_text

DIFFERENCES_NAMED = 2
"""A curve is named by its run's settings where the runs differ in no more than so many."""


class Compared(NamedTuple):
    """A run as it is compared."""

    folder: str
    state: str
    config: dict[str, Any]
    """Values by path with dots."""
    metrics: dict[str, Any]
    """By "split/name"; of a population, a list."""
    history: list[dict]
    """Rows `{"step", "split", "values"}`."""


def letters(runs: list[Compared]) -> list[str]:
    """A short name for each run: A to Z, then numbers."""
    return [string.ascii_uppercase[i] if len(runs) <= 26 else str(i + 1) for i in range(len(runs))]


def differences(runs: list[Compared]) -> dict[str, list[str]]:
    """Settings that are not the same in all runs, by the shortest path that leads to them.

    >>> one, other = ({"a.b.rate": v, "b.rate": v, "seed": 0} for v in (1, 2))
    >>> differences([Compared("", "", one, {}, []), Compared("", "", other, {}, [])])
    {'b.rate': ['1', '2']}
    """
    keys = dict.fromkeys(key for run in runs for key in run.config)
    found = {key: [str(run.config.get(key, "-")) for run in runs] for key in keys}
    found = {key: values for key, values in found.items() if len(set(values)) > 1}
    return {
        key: values
        for key, values in found.items()
        if not any(key.endswith(f".{other}") and values == found[other] for other in found)
    }


def reached(runs: list[Compared]) -> dict[str, list[str]]:
    """Metrics as text, test first."""
    keys = sorted({key for run in runs for key in run.metrics}, key=lambda key: (place(key.rpartition("/")[0]), key))
    return {key: [number(run.metrics[key]) if key in run.metrics else "-" for run in runs] for key in keys}


def named(runs: list[Compared]) -> list[str]:
    """What the runs' curves are called: the letter, and few settings that differ."""
    differ = differences(runs)
    if not differ or len(differ) > DIFFERENCES_NAMED:
        return letters(runs)
    return [
        f"{letter}  " + ", ".join(f"{key.rpartition('.')[2].replace('_', ' ')} {values[i]}" for key, values in differ.items())
        for i, letter in enumerate(letters(runs))
    ]


def write_comparison(path: Path, runs: list[Compared]) -> None:
    """Write one page that loads nothing and runs no script: the table of runs, and a figure for each logged quantity."""
    names, pictures = named(runs), Pictures(None)
    logged = dict.fromkeys(
        (row["split"], name)
        for run in runs
        for row in run.history
        for name, value in row["values"].items()
        if value is not None
    )
    histories = {name: run.history for name, run in zip(names, runs, strict=True)}
    curves = [
        pictures(
            f"{split}_{name}", lambda theme, split=split, name=name: plot.compared_curves(histories, name, split, theme),
            f"{name} of {split} over step, a line for each run",
        )
        for split, name in sorted(logged, key=lambda key: (key[1], place(key[0])))
    ]  # fmt: skip
    page = {
        "title": f"{len(runs)} runs",
        "runs": [
            {"letter": letter, "folder": run.folder, "state": run.state} for letter, run in zip(letters(runs), runs, strict=True)
        ],
        "groups": [("Settings that differ", differences(runs)), ("Metrics", reached(runs))],
        "curves": curves,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, rendered("comparison.html", page))
