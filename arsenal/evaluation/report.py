"""The report of a run: one page that explains itself, the plots beside it, and the metrics as JSON."""

import base64
import io
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from arsenal.evaluation import plot
from arsenal.evaluation.expectation import holds
from arsenal.evaluation.hover import hover_points
from arsenal.evaluation.labels import display_name
from arsenal.evaluation.page import render
from arsenal.records import Batch
from arsenal.storage.files import to_json, write_bytes, write_json, write_text

if TYPE_CHECKING:  # they bring SciPy's statistics, which no other command needs
    from arsenal.evaluation.fairness import Fairness, GroupRates
    from arsenal.evaluation.findings import Findings

ORDER = ("test", "validation", "train")
TILES, CLASSES_SHOWN, NUMBERS = 8, 100, 8
NONE = (math.nan, math.nan)
"""No interval."""
LEADING = ("accuracy", "r2_score", "roc_auc", "f1_macro", "loss")


class Picture(NamedTuple):
    """A figure on the page: data URIs for light and dark pages, what it shows, its caption, its width in CSS pixels.

    `points` are lines of what the page's script says under the pointer: from the left, from the top, words.
    """

    name: str
    light: str
    dark: str
    alt: str
    caption: str
    width: int
    wide: bool
    points: str = ""


class PagePart(NamedTuple):
    """A part of the page that whoever calls `write_report` found out: pictures, lines of what and how much, and remarks."""

    pictures: Sequence[tuple[str, Callable[..., Any], str, str]] = ()
    """Name, what draws it in a theme, what it shows, caption."""
    lines: Sequence[tuple[str, str]] = ()
    remarks: Sequence[str] = ()


def write_report(
    folder: Path, *, title: str, status: dict, command: str, config: str, environment: dict, history: list[dict],
    metrics: dict[str, float], expect: dict[str, dict], labels: Sequence[str] | None,
    results: dict[str, tuple[Batch, dict[str, np.ndarray]]], totals: dict[str, float] = {},  # noqa: B006
    texts: dict[str, list[tuple[str, str]]] = {},  # noqa: B006
    tags: Sequence[str] = (), notes: Sequence[str] = (), axis: tuple[str, float] = ("step", 1),
    slope: tuple[np.ndarray, list[str]] | None = None, table: dict = {},  # noqa: B006
    rules: Sequence[dict] = (), findings: "Findings | None" = None, more: Mapping[str, PagePart] = {},
) -> Path:  # fmt: skip
    """Write `folder/index.html`, the PNGs beside it, `metrics.json` and `findings.json`; the path of the page.

    `status` holds the state and what else is known (`step`, `seconds`, `parameters`, ...), `command` makes the run again,
    `config` is YAML. `history` has rows `{"step", "split", "values"}`; a value is a number, None or a list with one per member
    of a population. `metrics` and `expect` go by "split/name", an expectation being `{"min": ..., "max": ...}`. `results` maps
    a split to its rows (NumPy, weight 0 = not there) and the answers [n, ...] by name: whole y with `predict` gives a confusion
    matrix and a table of classes, with `predict_proba` also ROC and calibration and, for images, the worst mistakes; masks and
    boxes are drawn beside the images that they are of; other y with `predict` gives residuals; images in `sample` come beside
    real ones, those in `predict` below x; x of two columns is drawn in the plane. `texts` are a split's prompts, each with how it
    goes on. What is absent has no section. `totals` are the
    weights of whole splits, of which `results` may hold some rows only. `axis` is what steps are counted in and how many there
    are to a step; `slope` are coefficients [d] or [d, classes] and the inputs' names; `table` is what was decided of the
    columns, `Schema.table`; `rules` are lines of `needs`, `gives` and how often that holds; `findings` are what is said beyond
    the metrics, `more` further sections by their titles. The page loads nothing; all is there without its script. Each file is
    replaced in one move.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = Pictures(folder)
    sections = [
        split_section(name, *results[name], labels, pictures, totals.get(name), texts.get(name, []))
        for name in sorted(results, key=split_rank)
    ]
    intervals = interval_texts(findings and findings._asdict())
    page = {
        "title": title,
        "state": str(status.get("state", "unknown")),
        "facts": facts(status),
        "tags": list(tags),
        "notes": list(notes),
        "checks": check_expectations(metrics, expect),
        "tiles": tiles(metrics, expect, intervals),
        "table": metric_table(metrics, intervals),
        "findings": findings and show_findings(findings, pictures),
        "more": [show_section(title, one, pictures) for title, one in more.items()],
        "curves": curves(history, pictures, axis) + coefficient_pictures(slope, labels, pictures),
        "curves_title": "The model" if slope is not None else "Learning curves",
        "sections": [s for s in sections if s],
        "columns": column_table(table),
        "rules": [{word: v if isinstance(v, str | list) else number(v) for word, v in one.items()} for one in rules],
        "command": command,
        "config": [colour(line) for line in config.splitlines()],
        "environment": list(chips(environment)),
    }
    write_json(folder / "metrics.json", to_json(metrics))
    if findings is not None:
        write_json(folder / "findings.json", to_json(plain_findings(findings)))
    write_text(folder / "index.html", render("report.html", page))
    return folder / "index.html"


class Pictures:
    """Draws each figure twice, for light and dark pages, and writes the light one beside the page."""

    def __init__(self, folder: Path | None, hover: bool = True):
        """The folder that the PNGs go to; None where they are in the page only. `hover`: whether the page has a script."""
        self.folder, self.hover = folder, hover

    def __call__(
        self, name: str, draw: Callable, alt: str, caption: str = "", wide: bool = False, hover: bool = True
    ) -> Picture:
        """The figure that `draw(theme)` makes, under the name `name`.png; without `hover` its points are not named."""
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("._") or "figure"
        light, dark = (draw(theme) for theme in (plot.LIGHT, plot.DARK))
        data = png(light)
        if self.folder is not None:
            write_bytes(self.folder / f"{name}.png", data)
        points = "\n".join(f"{left:g} {top:g} {text}" for left, top, text in hover_points(light)) if hover and self.hover else ""
        return Picture(name, uri(data), uri(png(dark)), alt, caption, round(light.get_figwidth() * 110), wide, points)


def png(figure: Any) -> bytes:
    """The figure as a PNG file, without the date or the library's version."""
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 4})
    return file.getvalue()


def uri(data: bytes) -> str:
    """The PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def html_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of texts for a notebook."""

    def line(tag, cells):
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    top = f"<thead>{line('th', head)}</thead>" if head else ""
    return f"<table>{top}<tbody>{''.join(line('td', cells) for cells in lines)}</tbody></table>"


def report_link(page: Path) -> str:
    """A link to a report for a notebook, from where it runs; nothing where there is no report."""
    return f'<p><a href="{escape(os.path.relpath(page))}">The report</a></p>' if page.is_file() else ""


def split_rank(split: str) -> tuple[int, str]:
    """Test before validation before training, then the others by name."""
    return (ORDER.index(split) if split in ORDER else len(ORDER), split)


def number(value: Any, digits: int = 4) -> str:
    """A number for people; of a population, the median and the range.

    >>> [number(v) for v in (0.98123456, 25000, 1e-7, None, [1.0, 3.0, 2.0])]
    ['0.9812', '25,000', '1e-07', '-', '2 (1 to 3)']
    """
    if isinstance(value, list | tuple):
        there = sorted(float(v) for v in np.ravel(np.array(value, float)) if math.isfinite(v))
        if not there:
            return "-"
        return f"{number(float(np.median(there)))} ({number(there[0])} to {number(there[-1])})"
    if isinstance(value, bool | str):
        return str(value)
    if value is None or not math.isfinite(value):
        return "-"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.1f}"
    return f"{value:.{digits}f}" if 0.1 <= abs(value) < 1 else f"{value:.{digits}g}"


def duration_text(seconds: float) -> str:
    """A time for people.

    >>> [duration_text(s) for s in (3.2, 75, 7500, 200_000)]
    ['3.2 s', '1 min 15 s', '2 h 5 min', '2 d 7 h']
    """
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.2g} s"
    for size, unit, part, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {small}"
    raise AssertionError


def facts(status: dict) -> list[tuple[str, str]]:
    """What the status says beside the state, as names and texts."""
    known = {"duration": ("trained for", duration_text), "time": ("ended", moment)}
    told = []
    for key, value in status.items():
        if key in ("state", "process") or value is None or isinstance(value, dict):
            continue
        name, text = known.get(key, (display_name(key), number))
        told.append((name, text(value)))
    return told


def moment(seconds: float) -> str:
    """A time since 1970 as a date in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def check_expectation(name: str, metrics: dict, bounds: dict) -> dict:
    """One expectation: the bounds as text, what was measured, and whether it holds; a bound of another name never does."""
    value = metrics.get(name)
    signs = {"min": "≥", "max": "≤"}
    met = all(key in signs and holds(value, key, bound) for key, bound in bounds.items())
    text = " and ".join(f"{signs.get(key, key)} {bound:g}" for key, bound in bounds.items())
    return {"name": name, "bounds": text, "value": "not measured" if value is None else number(value), "met": met}


def check_expectations(metrics: dict, expect: dict[str, dict]) -> list[dict]:
    """Every expectation, in order."""
    return [check_expectation(name, metrics, bounds or {}) for name, bounds in expect.items()]


def tiles(metrics: dict, expect: dict[str, dict], intervals: dict[str, str] = {}) -> list[dict]:  # noqa: B006
    """The headline numbers: what was expected first, then the metrics of the foremost split."""
    split = min((name.rpartition("/")[0] for name in metrics), key=split_rank, default="")
    rest = [name for name in metrics if name.rpartition("/")[0] == split and name not in expect]
    rest.sort(key=lambda name: LEADING.index(name.rpartition("/")[2]) if name.rpartition("/")[2] in LEADING else len(LEADING))
    shown = [name for name in expect if name in metrics] + rest
    return [
        {
            "name": display_name(name.rpartition("/")[2]),
            "split": name.rpartition("/")[0],
            "value": number(metrics[name]),
            "interval": intervals.get(name, ""),
            "check": check_expectation(name, metrics, expect[name] or {}) if name in expect else None,
        }
        for name in shown[:TILES]
    ]


def metric_table(metrics: dict, intervals: dict[str, str] = {}) -> dict | None:  # noqa: B006
    """All metrics, one line per name and one column per split; with their intervals, or why there is none."""
    splits = sorted({name.rpartition("/")[0] for name in metrics}, key=split_rank)
    names = list(dict.fromkeys(name.rpartition("/")[2] for name in metrics))
    if not names:
        return None

    def cell(split, name):
        key = f"{split}/{name}" if split else name
        return " ".join([number(metrics[key]), intervals.get(key, "")]).strip() if key in metrics else ""

    return {"splits": splits, "lines": [(display_name(name), [cell(s, name) for s in splits]) for name in names]}


def interval_texts(findings: Mapping[str, Any] | None) -> dict[str, str]:
    """The interval of each metric that has one, by "split/name"; of `findings.json`, or the same as a dictionary."""
    if not findings:
        return {}
    both = ((findings["split"], findings["intervals"]), ("validation", findings.get("validation", {})))
    return {f"{split}/{name}": interval_text(*ends) for split, found in both for name, ends in found.items()}


def interval_text(low: float, high: float) -> str:
    """The ends of an interval for people."""
    return f"({number(low)} to {number(high)})" if math.isfinite(low) and math.isfinite(high) else ""


def group_rates(one: "GroupRates") -> list[tuple[str, str]]:
    """The rates of a group with Wilson's 95 % intervals, of rows that count by whole weights."""
    from arsenal.evaluation.significance import two_sides, wilson

    positives = one.rows * one.base_rate
    of = (one.rows, positives, one.rows - positives, one.rows, one.rows)
    return [
        (number(rate), interval_text(*wilson(rate, n, two_sides(0.95))) if n > 0 and math.isfinite(rate) else "")
        for rate, n in zip(one[2:], of, strict=True)
    ]


def fair_gaps(fair: "Fairness") -> list[tuple[str, tuple[float, float, float]]]:
    """How far groups are apart: what is compared, and its value and interval."""
    return [(kind, one) for kind, one in fair._asdict().items() if kind != "groups"]


def plain_findings(found: "Findings") -> dict[str, Any]:
    """What was found, for whoever reads it by program: nested dictionaries and lists by the names of the records' fields."""

    def plain(value):
        if hasattr(value, "_asdict"):
            return {name: plain(one) for name, one in value._asdict().items()}
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        return np.asarray(value).tolist() if hasattr(value, "dtype") else value

    return plain(found)


def show_findings(found: "Findings", pictures: Pictures) -> dict[str, Any]:
    """What the page shows of what was found."""

    def line(one):
        return {
            "name": one.name, "rows": number(one.rows), "value": number(one.value), "rest": number(one.rest),
            "gap": f"{number(one.value - one.rest)} {interval_text(one.low, one.high)}", "p": number(one.p_value),
            "strong": one.p_value < 0.05,
        }  # fmt: skip

    shown = []
    if found.importance is not None:
        names, one = list(found.names), found.importance
        draw = lambda theme: plot.importances(one.mean, one.deviation, names, "Permutation importance", "", theme)  # noqa: E731
        worse = "log loss" if found.value_name == "accuracy" else "squared error"
        caption = f"How much worse the {worse} becomes when a column's values are dealt out anew."
        shown = [pictures("importance", draw, "How much each column matters", caption)]
    return {
        "split": found.split, "metric": display_name(found.metric), "value_name": found.value_name,
        "why_none": [(display_name(name), why) for name, why in found.why_none.items()],
        "compared": [
            {"name": one.name, "value": f"{number(one.value)} {interval_text(*one.ends)}",
             "better": f"{number(one.better)} {interval_text(one.low, one.high)}",
             "says": "better" if one.low > 0 else "worse" if one.high < 0 else "not told apart"}
            for one in found.compared
        ],
        "slices": [line(one) for parts in found.slices.values() for one in parts],
        "worst": [line(one) for one in found.worst],
        "groups": [
            {"name": name,
             "lines": [[(one.name, ""), (number(one.rows), ""), *group_rates(one)] for one in fair.groups],
             "gaps": [(display_name(kind), number(one[0]), interval_text(*one[1:])) for kind, one in fair_gaps(fair)]}
            for name, fair in found.groups.items()
        ],
        "leaks": [one.text for one in found.leaks],
        "pictures": shown,
        "remarks": list(found.remarks),
        **show_thresholds(found, pictures), **show_mistakes(found), **show_drift(found),
        **show_robustness(found, pictures),
    }  # fmt: skip


def show_section(title: str, one: PagePart, pictures: Pictures) -> dict[str, Any]:
    """A further section, for the page."""
    drawn = [pictures(name, draw, alt, caption) for name, draw, alt, caption in one.pictures]
    return {"title": title, "pictures": drawn, "lines": list(one.lines), "remarks": list(one.remarks)}


def show_thresholds(found: "Findings", pictures: Pictures) -> dict[str, Any]:
    """What a threshold does, for the page: pictures, and lines of what the chosen one costs."""
    one = found.thresholds
    if one is None:
        return {"threshold_pictures": [], "threshold_lines": []}
    from arsenal.evaluation.threshold import draw_costs, draw_thresholds

    alt = "Precision, recall, F1 and the share of yes over the threshold"
    shown = [pictures("thresholds", lambda theme: draw_thresholds(one, theme), alt)]
    lines = []
    if one.costs is not None:
        caption = "The bar is the 95 % interval on the rows that test." if one.found_on else ""
        shown.append(pictures("costs", lambda theme: draw_costs(one, theme), "A row's mean cost over the threshold", caption))
    if one.found_on and one.costs is not None:
        saved = f"{number(one.saved[0])} {interval_text(*one.saved[1:])}"
        lines = [
            ("a false alarm, a miss", f"{number(one.costs.false_alarm)}, {number(one.costs.miss)}"),
            (f"threshold of least cost on the {one.found_on} rows", number(one.best)),
            ("if the probabilities were true it would be", number(one.calibrated)),
            (f"a row's mean cost with it, {found.split} rows", f"{number(one.cost[0])} {interval_text(*one.cost[1:])}"),
            ("with 0.5", f"{number(one.plain[0])} {interval_text(*one.plain[1:])}"), ("so it saves", saved),
        ]  # fmt: skip
    return {"threshold_pictures": shown, "threshold_lines": lines}


def show_mistakes(found: "Findings") -> dict[str, Any]:
    """The rows worth looking at, for the page."""
    names = list(found.mistakes[0].columns) if found.mistakes else []
    lines = [
        [str(one.row), *(number(v) for v in (one.truth, one.said, one.size)), *(number(v) for v in one.columns.values())]
        for one in found.mistakes
    ]
    words = ("is", "said", "how sure") if found.value_name == "accuracy" else ("true", "predicted", "off by")
    return {"mistakes": lines, "mistake_heads": ["row", *words, *names]}


def show_robustness(found: "Findings", pictures: Pictures) -> dict[str, Any]:
    """What disturbances of the rows do, for the page."""
    one = found.robustness
    if one is None:
        return {"robust": [], "robust_pictures": [], "robust_head": ""}
    from arsenal.evaluation.robustness import draw_robustness

    def draw(theme):
        return draw_robustness(one, theme)

    alt = f"How much worse the {display_name(one.metric)} is over noise and over a shift"
    curves = any(line.kind != "missing" for line in one.lines)
    shown = [pictures("robustness", draw, alt, "Of the same rows; the band is the 95 % interval.", wide=True)] if curves else []
    lines = [
        [line.what, number(line.value), f"{number(line.worse)} {interval_text(line.low, line.high)}"]
        for line in sorted(one.lines, key=lambda line: -line.worse) if line.kind == "missing"
    ]  # fmt: skip
    return {"robust": lines, "robust_pictures": shown, "robust_head": f"{display_name(one.metric)}, {number(one.clean)} as it is"}


def show_drift(found: "Findings") -> dict[str, Any]:
    """Where the columns are otherwise than in training, for the page."""
    lines = [
        {"strong": one.moved, "cells": [one.column, one.split, number(one.stability), number(one.distance), one.test,
                                        number(one.statistic), number(one.p_value)]}
        for one in found.drift
    ]  # fmt: skip
    return {"drift": lines, "moved": sum(one.moved for one in found.drift)}


def column_table(table: dict) -> dict | None:
    """What a table's columns were taken for, one line each, the target first; None where the data was no table."""
    if not table:
        return None
    target = [{"name": "the target", "kind": table["task"], "why": table["why"], "missing": 0}] if "task" in table else []
    return {"lines": target + [{"name": name, **one} for name, one in table["columns"].items()], "notes": table["notes"]}


def curves(history: list[dict], pictures: Pictures, axis: tuple[str, float] = ("step", 1)) -> list[Picture]:
    """One figure per quantity that was a number at two steps or more; a quantity of two names is drawn once."""
    names = dict.fromkeys(name for row in history for name, value in row["values"].items() if value is not None)
    names = {name: None for name in names if len({row["step"] for row in history if row["values"].get(name) is not None}) > 1}
    same = plot.duplicate_quantities(history, list(names))
    return [
        pictures(
            f"curve_{name}", lambda theme, name=name: plot.learning_curves(history, [name], theme, axis),
            f"{display_name(name)} over {axis[0]}, in training and validation",
            " ".join(f"In validation {display_name(other)} is the same number." for other, of in same.items() if of == name),
        )
        for name in names
        if name not in same
    ]  # fmt: skip


def coefficient_pictures(
    slope: tuple[np.ndarray, list[str]] | None, labels: Sequence[str] | None, pictures: Pictures
) -> list[Picture]:
    """The coefficients of a linear model, where it is one."""
    if slope is None:
        return []
    values, names = slope
    note = "What a unit of each input, as the learner sees it, adds to the answer" + (" of a class." if values.ndim > 1 else ".")
    draw = lambda theme: plot.coefficients(values, names, labels or (), theme)  # noqa: E731
    return [pictures("coefficients", draw, "The coefficients of the inputs", note)]


def can_show(name: str, answer: Any) -> bool:
    """Whether the page can show an answer of this name and shape [n, ...]: labels, numbers, probabilities, images, boxes."""
    if name == "predict":
        return math.prod(answer.shape[1:]) <= NUMBERS or plot.is_images(answer)
    if name == "boxes":
        return answer.shape[2:] == (4,)
    if name == "sample":
        return plot.is_images(answer)
    return name in ("predict_proba", "scores", "labels") and len(answer.shape) == 2


def split_section(
    split: str, rows: Batch, answers: dict, labels: Sequence[str] | None, pictures: Pictures, total: float | None = None,
    texts: Sequence[tuple[str, str]] = (),
) -> dict | None:
    """The plots and the table that fit a split's rows and answers; None where nothing does."""
    shown = total is not None and np.asarray(rows.weight, float).sum() < total
    (x, y, weight, answers), lost = sound_rows(rows, answers)
    predict, proba, sample = (answers.get(name) for name in ("predict", "predict_proba", "sample"))
    found: list[Picture] = []
    classes: dict | None = None
    if len(weight) and y is not None:
        if is_labels(y, predict, proba):
            said: Any = proba.argmax(1) if predict is None and proba is not None else predict
            found += classification_plots(split, x, y, said, proba, weight, labels, pictures)
            classes = class_table(y, said, proba, weight, labels)
        elif predict is not None and predict.shape == y.shape and y.dtype.kind in "fiu" and y[:1].size <= NUMBERS:
            found += regression_plots(split, y, predict, np.repeat(weight, y[:1].size), pictures)
    if len(weight) and plot.is_images(sample):
        found += sample_plots(split, x, sample, pictures)
    if len(weight) and plot.is_images(x) and are_masks(y, predict) and y.shape == x.shape[:3]:
        found.append(mask_plot(split, x, y, predict, labels, pictures))
    elif len(weight) and predict is not None and plot.is_images(predict) and x is not None and x.shape == predict.shape:
        found.append(reconstruction_plots(split, x, predict, pictures))
    if len(weight) and plot.is_images(x) and isinstance(rows.y, dict) and {"boxes", "scores", "labels"} <= answers.keys():
        found.append(box_plot(split, rows, answers, labels, pictures))
    if not found and not lost and not texts:
        return None
    counted = number(float(weight.sum())) + (f" of {number(total)}" if shown else "")
    return {
        "split": split, "rows": counted, "lost": lost, "pictures": found, "classes": classes, "some": shown, "texts": texts,
    }  # fmt: skip


def sound_rows(rows: Batch, answers: dict) -> tuple[tuple[Any, Any, np.ndarray, dict[str, np.ndarray]], int]:
    """x, y, weight and answers [m, ...] of the rows that are there and whose answers are numbers; how many had NaN or infinity.

    Dictionaries, of x or of an answer, are left out.
    """
    weight = np.asarray(rows.weight, float)
    answers = {name: np.asarray(v) for name, v in answers.items() if not isinstance(v, dict)}
    told = [v for name, v in answers.items() if name in ("predict", "predict_proba", "sample") and v.dtype.kind in "fiub"]
    sound = np.all([np.isfinite(v.reshape(len(v), -1)).all(1) for v in told], axis=0) if told else np.ones(len(weight), bool)
    there = (weight > 0) & sound

    def column(v):
        if v is None or isinstance(v, dict):
            return None
        return np.asarray(v) if there.all() else np.asarray(v)[there]

    columns = column(rows.x), column(rows.y), weight[there], {name: column(v) for name, v in answers.items()}
    return columns, int(((weight > 0) & ~sound).sum())


def is_labels(y: np.ndarray, predict: np.ndarray | None, proba: np.ndarray | None) -> bool:
    """Whether y [n] are whole labels and the answers are labels or their probabilities."""
    whole = y.ndim == 1 and y.dtype.kind in "iub" and y.min() >= 0
    if proba is not None and (proba.ndim != 2 or (whole and y.max() >= proba.shape[1])):
        return False
    said = predict is not None and predict.shape == y.shape and predict.dtype.kind in "iub" and predict.min() >= 0
    return whole and (said or (predict is None and proba is not None))


def classification_plots(split, x, y, said, proba, weight, labels, pictures) -> list[Picture]:
    """The plots of a classifier's answers on the rows that are there."""
    y, said = y.astype(int), said.astype(int)
    classes = max(int(y.max()), int(said.max())) + 1
    many = max(classes, len(labels or ())) > plot.PAIRS_LIMIT
    confusion = plot.confusion_pairs if many else plot.confusion_matrix
    found = []
    if x is not None and x.ndim == 2 and x.shape[1] == 2 and classes <= CLASSES_SHOWN:
        found.append(
            pictures(
                f"{split}_plane", lambda theme: plot.plane(x, y, weight, labels, theme), f"The {split} rows in the plane",
                "Where a row lies is all that the learner is told of it.",
            )
        )  # fmt: skip
    found += [
        pictures(
            f"{split}_confusion", lambda theme: confusion(y, said, weight, labels, theme),
            f"{'Most frequent mistakes' if many else 'Confusion matrix'} of the {split} rows",
            "" if many else "Rows are the truth. Blue is right, orange wrong, by share of the row.",
            wide=classes > 12,
        )
    ]  # fmt: skip
    if proba is None:
        return found
    found += [
        pictures(
            f"{split}_roc", lambda theme: plot.roc(y, proba, weight, labels, theme), f"ROC curves of the {split} rows",
            "Each class against the rest; the dashed line is chance." if proba.shape[1] > 2 else "The dashed line is chance.",
        ),
        pictures(
            f"{split}_precision_recall", lambda theme: plot.precision_recall(y, proba, weight, labels, theme),
            f"Precision and recall of the {split} rows",
            "Dashed: the share of the class, which chance would have." if proba.shape[1] == 2 else "Each class against the rest.",
        ),
        pictures(
            f"{split}_calibration", lambda theme: plot.calibration(y, proba, weight, theme=theme),
            f"Reliability diagram of the {split} rows", "Where the two meet, answers are as often right as they claim.",
        ),
    ]  # fmt: skip
    if plot.is_images(x):
        found.append(
            pictures(
                f"{split}_mistakes", lambda theme: plot.wrong_examples(x, y, proba, weight, labels, theme=theme),
                f"The most confident mistakes on the {split} rows", wide=True,
            )
        )  # fmt: skip
    return found


def regression_plots(split, y, predict, weight, pictures) -> list[Picture]:
    """The plots of answers that are numbers."""
    y, predict = y.reshape(-1), predict.reshape(-1)
    return [
        pictures(
            f"{split}_predicted", lambda theme: plot.prediction_scatter(y, predict, weight, theme),
            f"Predicted and true values of the {split} rows", "On the line the answer is exact.",
        ),
        pictures(
            f"{split}_residuals", lambda theme: plot.residuals(y, predict, weight, theme), f"Residuals of the {split} rows",
            "A good model leaves no pattern around zero.",
        ),
    ]  # fmt: skip


def sample_plots(split, x, sample, pictures) -> list[Picture]:
    """Images that the model drew, beside real ones on the same scale of grey."""
    real = plot.is_images(x) and x.shape[1:3] == sample.shape[1:3]
    limits = (float(x.min()), float(x.max())) if real else None

    def grid(name, images, title, alt):
        return pictures(f"{split}_{name}", lambda theme: plot.sample_grid(images, title, limits, theme=theme), alt)

    found = [grid("samples", sample, "Drawn", "Images that the model drew")]
    return found + ([grid("real", x, "Real", f"Real images of the {split} rows")] if real else [])


def reconstruction_plots(split, x, predict, pictures) -> Picture:
    """Images, eight in a line, and below each what the model made of it."""
    lines = [images[i : i + 8] for i in range(0, min(len(x) // 8 * 8, 24) or len(x), 8) for images in (x, predict)]
    limits = (float(x.min()), float(x.max()))
    return pictures(
        f"{split}_restored",
        lambda theme: plot.sample_grid(np.concatenate(lines), "Restored", limits, columns=len(lines[0]), theme=theme),
        f"Images of the {split} rows, and below each what the model restores", "Each line of images stands above its answers.",
    )  # fmt: skip


def are_masks(y: np.ndarray | None, predict: np.ndarray | None) -> bool:
    """Whether y and the answers are whole labels [n, h, w] of pixels."""
    if y is None or predict is None or y.ndim != 3 or y.shape != predict.shape:
        return False
    return y.dtype.kind in "iu" and predict.dtype.kind in "iu"


def mask_plot(split, x, y, predict, labels, pictures) -> Picture:
    """Pictures, what each of their pixels shows, and what the model says."""
    return pictures(
        f"{split}_masks", lambda theme: plot.masks(x, y, predict, labels, theme),
        f"Pictures of the {split} rows, below each the truth, and below that the answer",
        "Each line of pictures stands above its true masks, and those above what the model says.", wide=True,
    )  # fmt: skip


def box_plot(split, rows, answers, labels, pictures) -> Picture:
    """Pictures with the boxes that are true and those that the model is rather sure of."""
    there = np.asarray(rows.weight) > 0
    x, boxes, scores, said = (np.asarray(v)[there] for v in (rows.x, *(answers[name] for name in ("boxes", "scores", "labels"))))
    true = {name: np.asarray(rows.y[name])[there] for name in ("boxes", "labels")}
    return pictures(
        f"{split}_boxes", lambda theme: plot.objects(x, true, boxes, scores, said, labels, theme=theme),
        f"Pictures of the {split} rows with the boxes that the model says",
        f"Dashed: the truth. Answers with a score of {plot.SURE:g} or more.", wide=True,
    )  # fmt: skip


def class_table(y, said, proba, weight, labels) -> dict:
    """Precision, recall, F1, area under the ROC curve and weight of every class; of more than 100 the worst."""
    y, said = y.astype(int), said.astype(int)
    classes = max([len(labels or ()), int(y.max()) + 1, int(said.max()) + 1])
    right = np.bincount(y, weight * (y == said), classes)
    predicted, true = np.bincount(said, weight, classes), np.bincount(y, weight, classes)

    def quotient(a, b):
        return np.where(b > 0, a / np.where(b > 0, b, 1), np.nan)

    precision, recall, f1 = quotient(right, predicted), quotient(right, true), quotient(2 * right, predicted + true)
    shown = np.nonzero(predicted + true > 0)[0]
    note = ""
    if len(shown) > CLASSES_SHOWN:
        note = f"The {CLASSES_SHOWN} classes with the lowest F1 of {len(shown):,}."
        shown = shown[np.argsort(f1[shown], kind="stable")[:CLASSES_SHOWN]]

    def line(c):
        area = plot.roc_curve(y == c, proba[:, c], weight)[2] if proba is not None and c < proba.shape[1] else math.nan
        name = labels[c] if labels and c < len(labels) else str(c)
        ends = class_intervals(right[c], predicted[c], true[c], weight)
        if proba is not None and c < proba.shape[1]:
            ends.append(area_interval(y == c, proba[:, c], weight))
        shares = [share_bar(v, *e) for v, e in zip((precision[c], recall[c], f1[c], area), [*ends, NONE], strict=False)]
        return {"name": name, "support": number(float(true[c])), "shares": shares}

    return {"note": note, "lines": [line(c) for c in shown], "areas": proba is not None}


def class_intervals(right: float, predicted: float, true: float, weight: np.ndarray) -> list[tuple[float, float]]:
    """The 95 % intervals of a class's precision, recall and F1: Wilson's, of rows that count by whole weights.

    F1 is `2 j / (1 + j)` of j, the share of right ones among the rows that are the class or said to be, and rises with it.
    """
    if (weight != np.round(weight)).any():
        return [NONE] * 3
    from arsenal.evaluation.significance import two_sides, wilson  # SciPy's statistics take a second to load

    z = two_sides(0.95)
    ends = [wilson(right / n, n, z) if n > 0 else NONE for n in (predicted, true, predicted + true - right)]
    low, high = ends[2]
    return [*ends[:2], (2 * low / (1 + low), 2 * high / (1 + high))]


def area_interval(positive: np.ndarray, score: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """DeLong's 95 % interval of the area under a ROC curve; NaN where a class has not two rows, or weights are not whole."""
    from arsenal.evaluation.significance import delong

    if min(weight[positive].sum(), weight[~positive].sum()) < 2 or (weight != np.round(weight)).any():
        return NONE
    found = delong(positive.astype(int), score, weight=weight)
    return max(found.low + 0.5, 0.0), min(found.high + 0.5, 1.0)


def share_bar(value: float, low: float = math.nan, high: float = math.nan) -> dict:
    """A share as text and as the width of its bar in percent, with its interval."""
    known = math.isfinite(value)
    ends = f"({low:.2f} to {high:.2f})" if math.isfinite(low) and math.isfinite(high) else ""
    return {"text": f"{value:.3f}" if known else "-", "percent": round(100 * value, 1) if known else 0, "ends": ends}


def colour(line: str) -> tuple[str, str, str]:
    """A line of YAML as key, value and comment; together they are the line."""
    found = re.match(r"^(\s*(?:- )?[\w./@${}:-]+?:(?=\s|$))?(.*?)((?:(?<=\s)|^)#.*)?$", line)
    if not found:
        return "", line, ""
    key, value, comment = (part or "" for part in found.groups())
    return key, value, comment


def chips(tree: dict, prefix: str = ""):
    """Pairs of name and texts from a nested dict: `packages` of versions is one line of chips."""
    for key, value in tree.items():
        if isinstance(value, dict) and any(isinstance(v, dict) for v in value.values()):
            yield from chips(value, f"{prefix}{key} ")
        elif isinstance(value, dict):
            yield f"{prefix}{key}", [(str(k), str(v)) for k, v in value.items()]
        elif isinstance(value, list | tuple):
            yield f"{prefix}{key}", [("", str(v)) for v in value]
        else:
            yield f"{prefix}{key}", [("", str(value))]
