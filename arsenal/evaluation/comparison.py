"""Several runs side by side: where their configs differ, what they reached, their curves in one picture."""

import string
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from arsenal.evaluation import plot
from arsenal.evaluation.labels import display_name
from arsenal.evaluation.report import Pictures, interval_text, number, render, split_rank
from arsenal.storage.files import write_text

if TYPE_CHECKING:  # it brings SciPy's statistics
    from arsenal.evaluation.paired import Paired

DIFFERENCES_NAMED = 3
"""Settings that a run is called by; where more differ, the first, and an ellipsis."""


class ComparedRun(NamedTuple):
    """A run as it is compared."""

    folder: str
    state: str
    config: dict[str, Any]
    """Values by path with dots."""
    metrics: dict[str, Any]
    """By "split/name"; of a population, a list."""
    history: list[dict]
    """Rows `{"step", "split", "values"}`."""
    modes: dict[str, str] = {}
    """Which values of a metric are good, min or max, by name, as far as it is known."""


def letters(runs: list[ComparedRun]) -> list[str]:
    """A short name for each run: A to Z, then numbers."""
    return [string.ascii_uppercase[i] if len(runs) <= 26 else str(i + 1) for i in range(len(runs))]


def differences(runs: list[ComparedRun]) -> dict[str, list[str]]:
    """Settings that are not the same in all runs, by the shortest path that leads to them.

    >>> one, other = ({"a.b.rate": v, "b.rate": v, "seed": 0} for v in (1, 2))
    >>> differences([ComparedRun("", "", one, {}, []), ComparedRun("", "", other, {}, [])])
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


def metric_rows(runs: list[ComparedRun]) -> dict[str, list[str]]:
    """Metrics as text, test first."""
    keys = sorted({key for run in runs for key in run.metrics}, key=lambda key: (split_rank(key.rpartition("/")[0]), key))
    return {key: [number(run.metrics[key]) if key in run.metrics else "-" for run in runs] for key in keys}


def curve_names(runs: list[ComparedRun]) -> list[str]:
    """What the runs' curves are called: the letter, and few settings that differ."""
    return [" ".join(filter(None, (letter, text))) for letter, text in zip(letters(runs), distinguish(runs), strict=True)]


def distinguish(runs: list[ComparedRun]) -> list[str]:
    """What tells each run from the others in a few words: the settings that differ, those with most values first."""
    differ = sorted(((k, v) for k, v in differences(runs).items() if k != "tags"), key=lambda item: -len(set(item[1])))
    few = differ[:DIFFERENCES_NAMED]
    more = ", …" if len(differ) > len(few) else ""
    return [
        ", ".join(f"{display_name(key.rpartition('.')[2])} {values[i]}" for key, values in few) + more for i in range(len(runs))
    ]


def best(runs: list[ComparedRun]) -> dict[str, list[bool]]:
    """Which runs reached the best value of each metric whose good values are known; none where all are alike."""
    modes = {name: mode for run in runs for name, mode in run.modes.items() if mode}
    found = {}
    for key in dict.fromkeys(key for run in runs for key in run.metrics if not key.startswith("train/")):
        mode = modes.get(key.rpartition("/")[2])
        values = np.array([mean_value(run.metrics.get(key)) for run in runs])
        there = values[np.isfinite(values)]
        if mode and len(there) > 1 and np.ptp(there) > 0:
            found[key] = (values == (there.min() if mode == "min" else there.max())).tolist()
    return found


def mean_value(value: Any) -> float:
    """A metric's value as a number, of a population the mean; NaN where it is none."""
    parts = np.array([np.nan if part is None else part for part in (value if isinstance(value, list) else [value])], float)
    return float(parts.mean())


def distinct_quantities(runs: list[ComparedRun], logged: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The quantities of splits less those that are another one in every run, as the loss may be the log loss."""
    found = []
    for split in dict.fromkeys(split for split, _ in logged):
        names = [name for of, name in logged if of == split]
        same = [set(plot.duplicate_quantities([row for row in run.history if row["split"] == split], names)) for run in runs]
        found += [(split, name) for name in names if not all(name in one for one in same)]
    return found


def paired_lines(names: tuple[str, str], found: "Paired") -> list[list[str]]:
    """Two runs on the same rows, in lines: what is compared, either's value, the difference, p, the test, who is better."""
    from arsenal.evaluation.paired import WHAT, verdict

    lines = []
    for one in found.differences:
        apart = f"{number(one.found.effect)} {interval_text(one.found.low, one.found.high)}"
        shown = [number(one.one), number(one.other), apart, number(one.found.p_value), "bootstrap"]
        lines.append([display_name(one.metric), *shown, verdict(one.found, one.mode, names)])
    for name, test in found.tests.items():
        apart = f"{number(test.effect)} {interval_text(test.low, test.high)}"
        lines.append([WHAT[name], "", "", apart, number(test.p_value), name, verdict(test, "max", names)])
    return lines


PairOfRuns = tuple[tuple[str, str], "Paired | str"]
"""The letters of two runs, and what their answers to the same rows say, or why they were not compared."""


def paired_section(names: tuple[str, str], found: "Paired | str") -> dict[str, Any]:
    """Two runs on the same rows, for the page."""
    if isinstance(found, str):
        return {"names": names, "why": found, "lines": [], "rows": "", "split": "", "none": []}
    none = [(display_name(name), why) for name, why in found.why_none.items()]
    lines = paired_lines(names, found)
    return {"names": names, "why": "", "lines": lines, "rows": number(found.rows), "split": found.split, "none": none}


def write_comparison(path: Path, runs: list[ComparedRun], pairs: Iterable[PairOfRuns] = ()) -> None:
    """Write one page that loads nothing: the table of runs, and a figure for each logged quantity.

    `pairs` are runs whose answers to the same rows were compared.
    """
    names, pictures = curve_names(runs), Pictures(None)
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
            f"{split}_{name}", lambda theme, split=split, name=name: plot.comparison_curves(histories, name, split, theme),
            f"{name} of {split} over step, a line for each run",
        )
        for split, name in sorted(distinct_quantities(runs, logged), key=lambda key: (key[1], split_rank(key[0])))
    ]  # fmt: skip
    page = {
        "title": f"{len(runs)} runs",
        "runs": [
            {"letter": letter, "folder": run.folder, "state": run.state, "name": name}
            for letter, run, name in zip(letters(runs), runs, distinguish(runs), strict=True)
        ],
        "groups": [("Settings that differ", differences(runs)), ("Metrics", metric_rows(runs))],
        "best": best(runs),
        "pairs": [paired_section(*pair) for pair in pairs],
        "curves": curves,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render("comparison.html", page))
