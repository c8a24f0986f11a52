"""How good the answers of a served model are, once labels have come, and how good they probably are before.

With labels: accuracy (Wilson's interval), log loss, calibration, cost, errors of numbers, by slice. Before: what the model's own
confidence says, calibrated on rows that have labels, weighted to be such rows as come now; and what those rows' answers were
worth, weighted so. Both assume that only the rows have changed, not what is true of them (covariate shift).
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt, Interval
from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact.sketch import Sketch, describe
from scipy import stats

from arsenal.evaluation.bootstrap import bootstrap
from arsenal.evaluation.multiplicity import adjust_p_values
from arsenal.evaluation.significance import mcnemar, two_sides, wilson
from arsenal.evaluation.slices import slices_of
from arsenal.evaluation.threshold import Costs
from arsenal.monitoring.detectors import adwin
from arsenal.monitoring.drift import DriftBounds, drift_findings
from arsenal.monitoring.findings import Finding, State
from arsenal.monitoring.logged import LoggedRows, answer_again, join_labels, label_words, read_labels, read_logged, represent
from arsenal.monitoring.multivariate import MOST, as_numbers, importance, joint_findings
from arsenal.monitoring.outliers import (
    SHOWN,
    Outlier,
    columns_of_log,
    find_outliers,
    outlier_finding,
    outlier_part,
    telling_rows,
    value_text,
)
from arsenal.monitoring.watch import MonitoringError, find_model
from arsenal.numerics.isotonic import fit_steps, read_steps
from arsenal.records import Detector

BINS = 15
WORST = 8
"""Bad slices that are named."""
SMALLER = ("log_loss", "calibration_error", "cost", "mae", "rmse")
"""Measures of which less is better."""
REACH = 0.5
"""The share of rows that must be like some with labels, or nothing is said of their accuracy."""


class PerformanceBounds(NamedTuple):
    """From where on answers have become worse."""

    size: Annotated[float, Gt(0)] = 0.02
    """By how much a measure must be worse than before; of errors and losses, as a share of what it was."""
    alpha: Annotated[float, Interval(gt=0, lt=1)] = 0.01
    """The share of windows without change that may say so of any measure."""
    rows: Annotated[int, Gt(0)] = 30
    least: Mapping[str, float] = {}
    """What a measure must keep to, by its name: at least, or at most where less is better."""


class Measure(NamedTuple):
    """A measure of answers over some rows, with its interval."""

    name: str
    value: float
    low: float
    high: float
    rows: int
    error: float
    """The standard error."""


class JudgedAnswers(NamedTuple):
    """Answers beside what was true."""

    right: np.ndarray
    """[n]: 1 where the answer is right, or of numbers minus the distance."""
    loss: np.ndarray
    """[n]: what a detector of change may watch: 1 where it is wrong, or the distance."""
    confidence: np.ndarray | None
    measures: list[Measure]


def answer_of(rows: LoggedRows) -> tuple[np.ndarray, np.ndarray | None]:
    """What each row was answered [n], words or numbers, and where they were asked the probabilities of classes [n, classes]."""
    if "predict_proba" in rows.answered:
        p = np.asarray(rows.answered["predict_proba"], float)
        if p.ndim != 2 or len(rows.classes) != p.shape[1]:
            raise MonitoringError(f"`predict_proba` of {rows.model}/{rows.version} has no names for its classes.")
        return np.array(rows.classes, object)[p.argmax(1)], p
    if "predict" not in rows.answered or rows.answered["predict"].ndim != 1:
        raise MonitoringError(f"`{rows.method}` has no answer to hold against labels; predict and predict_proba have.")
    return rows.answered["predict"], None


def judge(
    rows: LoggedRows, y: np.ndarray, costs: Costs | None = None, confidence: float = 0.95, seed: int = 0,
    positive: str | None = None,
) -> JudgedAnswers:  # fmt: skip
    """The measures of answered rows whose labels y [n] are all there.

    Of classes accuracy, with costs of two classes `cost` per row, and where probabilities were asked `log_loss` and
    `calibration_error`; of numbers `mae`, `rmse` and `bias`. An alarm is of the class `positive`, the last by name unless told.
    """
    answer, p = answer_of(rows)
    n, z = len(y), two_sides(confidence)

    def mean(name, values):
        middle, error = float(values.mean()), float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else math.inf
        reach = float(stats.t.ppf((1 + confidence) / 2, max(n - 1, 1))) * error
        return Measure(name, middle, middle - reach, middle + reach, n, error)

    if p is None and answer.dtype.kind == "f":
        if costs is not None:
            raise MonitoringError(f"costs are of two classes; {rows.model} answers numbers.")
        try:
            off = answer - np.array([float(one) for one in y])
        except (TypeError, ValueError) as error:
            raise MonitoringError("labels of a model of numbers must be numbers.") from error
        far, square = np.abs(off), mean("rmse", off**2)
        root = math.sqrt(square.value)
        ends = (math.sqrt(max(square.low, 0)), math.sqrt(square.high))
        rmse = Measure("rmse", root, *ends, n, square.error / max(2 * root, 1e-300))
        return JudgedAnswers(-far, far, None, [mean("mae", far), rmse, mean("bias", off)])
    words = label_words(y)
    if rows.classes and (strange := sorted(set(words) - set(rows.classes))):
        raise MonitoringError(f"labels must be one of {', '.join(rows.classes)}; got {strange[0]}.")
    said = label_words(answer)
    right = (said == words).astype(float)
    share = float(right.mean())
    made = [Measure("accuracy", share, *wilson(share, n, z), n, math.sqrt(max(share * (1 - share), 0.25 / n) / n))]
    if costs is not None:
        alarm = alarm_class(rows, words, positive)
        wrongly, missed = (said == alarm) & (words != alarm), (said != alarm) & (words == alarm)
        made.append(mean("cost", costs.false_alarm * wrongly + costs.miss * missed))
    if p is None:
        return JudgedAnswers(right, 1 - right, None, made)
    at = np.searchsorted(np.sort(rows.classes), words)
    at = np.argsort(rows.classes)[at]
    sure = p.max(1)
    made.append(mean("log_loss", -np.log(np.clip(p[np.arange(n), at], 1e-15, 1))))
    made.append(calibration(sure, right, confidence, seed))
    return JudgedAnswers(right, 1 - right, sure, made)


def alarm_class(rows: LoggedRows, words: np.ndarray, positive: str | None) -> str:
    """The class that an alarm is of, the last by name unless told; MonitoringError where there are not two."""
    classes = sorted({*rows.known} or {*words.tolist()})
    if len(classes) != 2:
        raise MonitoringError(f"costs are of two classes; {rows.model} has {len(classes)}.")
    if positive is not None and positive not in classes:
        raise MonitoringError(f"`positive` must be one of {', '.join(classes)}; got {positive}.")
    return positive or classes[-1]


def calibration(sure: np.ndarray, right: np.ndarray, confidence: float = 0.95, seed: int = 0) -> Measure:
    """The expected calibration error of confidences [n], 15 bins, with a bootstrap's interval; of up to the last 20,000 rows.

    The resamples are more uneven than the rows, so the interval is moved down by as much as they are above the value.
    """
    sure, right = sure[-20_000:], right[-20_000:]
    place = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    member = jnp.asarray(place[:, None] == np.arange(BINS), jnp.float32)
    gap = jnp.asarray(sure - right, jnp.float32)

    def error(weight):
        return jnp.abs((weight * gap) @ member).sum() / weight.sum()

    found = bootstrap(jax.random.key(seed), error, np.ones(len(sure)), samples=1000, confidence=confidence, method="percentile")
    above = float(found.draws.mean()) - found.value
    low, high = max(found.low - above, 0.0), max(found.high - above, found.value)
    return Measure("calibration_error", found.value, min(low, found.value), high, len(sure), found.error)


def performance_findings(
    rows: LoggedRows, y: np.ndarray, before: tuple[LoggedRows, np.ndarray] | None = None, costs: Costs | None = None,
    bounds: PerformanceBounds = PerformanceBounds(), window: tuple[float, float] | None = None, at: float | None = None,  # noqa: B008
    positive: str | None = None,
) -> list[Finding]:  # fmt: skip
    """A finding of each measure of rows with labels y [n], against `least`, and against rows with labels `before`; of bad slices.

    A measure is a breach where even the better end of its interval misses its bound, a warning where its value does; a breach
    too where it is worse than before, by `size` and not by chance (p corrected for all measures). Slices are those worse than
    the rest of the rows, p corrected for all slices.
    """
    at = time.time() if at is None else at
    span = window or ((float(rows.time.min()), float(rows.time.max())) if len(y) else (0.0, 0.0))
    blank = Finding(at, rows.model, rows.version, "performance", "labels", "ok", rows=len(y), window=span)
    if len(y) < bounds.rows:
        state: State = "warning" if bounds.least else "ok"
        return [blank._replace(state=state, why=f"too few labels, {len(y)} of {bounds.rows}")]
    now = judge(rows, y, costs, positive=positive)
    if unknown := sorted(set(bounds.least) - {one.name for one in now.measures}):
        raise MonitoringError(f"a bound must be of {', '.join(one.name for one in now.measures)}; got {unknown[0]}.")
    then = judge(before[0], before[1], costs, positive=positive) if before is not None and len(before[1]) >= bounds.rows else None
    usual = {one.name: one for one in then.measures} if then else {}
    p = {}
    for one in now.measures:
        if (old := usual.get(one.name)) is not None and one.name != "bias":
            error = math.hypot(one.error, old.error)
            worse = (one.value - old.value) * (1 if one.name in SMALLER else -1)
            p[one.name] = float(stats.norm.sf(worse / error)) if error else float(worse <= 0)
    held = dict(zip(p, adjust_p_values(list(p.values())), strict=True)) if p else {}
    found = []
    for one in now.measures:
        less = one.name in SMALLER
        why = f"{one.value:.4g} ({one.low:.4g} to {one.high:.4g})"
        if one.name == "cost":
            why += f" a row, alarms being {alarm_class(rows, label_words(y), positive)}"
        state = "ok"
        bound, size = bounds.least.get(one.name), 0.0
        if one.name in held:
            old = usual[one.name]
            worse = (one.value - old.value) * (1 if less else -1)
            scale = abs(old.value) or 1.0 if less else 1.0
            size = max(worse / scale, 0.0)
            why += f", {old.value:.4g} before"
            state = "breach" if held[one.name] < bounds.alpha and size > bounds.size else "ok"
        if bound is not None:
            missed, surely = (one.value > bound, one.low > bound) if less else (one.value < bound, one.high < bound)
            state = "breach" if surely or state == "breach" else "warning" if missed else "ok"
            why += f"; must be at {'most' if less else 'least'} {bound:g}"
            size = max(size, abs(one.value - bound) if missed else 0.0)
        found.append(blank._replace(
            name=one.name, state=state, value=one.value, bound=bound, size=size, p=held.get(one.name), rows=one.rows, why=why
        ))  # fmt: skip
    flat = {name: column for name, column in rows.asked.items() if column.ndim == 1}
    columns = {name: column.astype(str) if column.dtype == object else column for name, column in flat.items()}
    name = now.measures[0].name
    scale = 1.0 if name == "accuracy" else float(now.loss.mean()) or 1.0
    bad: list[Finding] = []
    for part in (part for parts in slices_of(columns, now.right, np.ones(len(y))).values() for part in parts):
        size = (part.rest - part.value) / scale
        if part.p_value < bounds.alpha and size > bounds.size and part.rows >= bounds.rows:
            why = f"{abs(part.value):.4g}, elsewhere {abs(part.rest):.4g}"
            bad.append(blank._replace(
                name=name, state="warning", value=abs(part.value), size=size, p=part.p_value, rows=int(part.rows),
                slice=part.name, why=why,
            ))  # fmt: skip
    return found + sorted(bad, key=lambda one: -(one.size or 0))[:WORST]


def label_findings(
    rows: LoggedRows, y: np.ndarray, before: np.ndarray, alpha: float = 0.01, at: float | None = None
) -> list[Finding]:
    """Whether the labels [n] of rows are distributed as those before [m]: label drift, judged as a column is."""
    answer, p = answer_of(rows)
    of_numbers = p is None and answer.dtype.kind == "f"
    known, now = (np.array([float(one) for one in side]) if of_numbers else label_words(side) for side in (before, y))
    sketch = Sketch(describe("labels", known))
    sketch.add(now)
    span = (float(rows.time.min()), float(rows.time.max())) if len(y) else (0.0, 0.0)
    drift = drift_findings(rows.model, rows.version, "label_drift", {"labels": sketch}, span, DriftBounds(alpha=alpha), now=at)
    return [one for one in drift if one.kind == "label_drift"]


def change_findings(
    rows: LoggedRows, y: np.ndarray, detector: Detector, name: str = "loss", at: float | None = None
) -> list[Finding]:
    """Whether and when the losses of rows with labels y [n], in the order of their answers, changed: concept drift."""
    at = time.time() if at is None else at
    losses = judge(rows, y).loss
    _, alarms = detector.update(detector.init(), losses)
    where = np.flatnonzero(alarms.drift)
    span = (float(rows.time.min()), float(rows.time.max())) if len(y) else (0.0, 0.0)
    blank = Finding(at, rows.model, rows.version, "concept_drift", name, "ok", rows=len(y), window=span)
    if not len(where):
        return [blank._replace(why="no change")]
    found = []
    for start, end in zip(where, [*where[1:], len(losses)], strict=True):
        old, new = float(losses[:start].mean()) if start else math.nan, float(losses[start:end].mean())
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(float(rows.time[start])))
        state: State = "breach" if new > old else "warning"
        found.append(blank._replace(
            state=state, value=new, size=abs(new - old), why=f"changed at {when}: {new:.4g} since, {old:.4g} before",
            window=(float(rows.time[start]), span[1]), rows=int(end - start),
        ))  # fmt: skip
    return found


class Estimate(NamedTuple):
    """An accuracy that nobody has counted yet."""

    way: Literal["confidence", "weighted"]
    value: float
    low: float
    high: float
    known: float
    """How many of the rows with labels, in effect, it rests on."""
    reach: float
    """The share of the rows without labels, about, that are like some with one."""


def estimate_accuracy(
    known: LoggedRows, y: np.ndarray, rows: LoggedRows, confidence: float = 0.95, seed: int = 0, adapt: bool = True
) -> list[Estimate]:
    """The accuracy of rows without labels, from rows `known` with labels y [n]; of up to the last 5,000 of either.

    `confidence`: the mean probability that an answer is right, read from the model's own by an isotonic fit on the known rows for
    each class that is answered, which count as often as such rows come now (unless not `adapt`); needs `predict_proba`.
    `weighted`: the known rows' accuracy, counted so. Intervals are of the rows' number and of the known rows' in effect; that
    the weights are estimates themselves is not in them.
    Błaszczyk et al., adaptive estimation (2401.08348); Shimodaira, JSPI 90 (2000).
    """
    known, y, rows = known.take(np.arange(len(y))[-MOST:]), y[-MOST:], rows.take(np.arange(len(rows.id))[-MOST:])
    right = judge_right(known, y)
    z = two_sides(confidence)
    weight, reach = importance(as_numbers(known.asked, rows.asked), seed) if adapt else (np.ones(len(y)), 1.0)
    effect = float(weight.sum() ** 2 / (weight**2).sum())
    _, p = answer_of(known)
    made = []
    if p is not None:
        chance = read_chances(p, right, weight, np.asarray(rows.answered["predict_proba"], float))
        value = float(chance.mean())
        error = math.sqrt(float((chance * (1 - chance)).mean()) / len(chance) + max(value * (1 - value), 0.25 / effect) / effect)
        made.append(Estimate("confidence", value, max(value - z * error, 0.0), min(value + z * error, 1.0), effect, reach))
    share = float((weight * right).sum() / weight.sum())
    low, high = wilson(share, effect, z)
    error = math.sqrt(max(share * (1 - share), 1e-12) / len(rows.id))
    below, above = math.hypot(share - low, z * error), math.hypot(high - share, z * error)
    made.append(Estimate("weighted", share, max(share - below, 0.0), min(share + above, 1.0), effect, reach))
    return made


def judge_right(rows: LoggedRows, y: np.ndarray) -> np.ndarray:
    """1 where the answer is the label, else 0 [n]."""
    answer, p = answer_of(rows)
    if p is None and answer.dtype.kind == "f":
        raise MonitoringError("an accuracy can be estimated of classes; this model answers numbers.")
    return (label_words(answer) == label_words(y)).astype(float)


def read_chances(known: np.ndarray, right: np.ndarray, weight: np.ndarray, p: np.ndarray, least: int = 50) -> np.ndarray:
    """The probability [m] that the class of the largest of p [m, classes] is right, by isotonic fits on known rows [n, classes].

    Each class that is answered has its fit; one that fewer than `least` known rows have shares that of all.
    """
    answer, now, found = known.argmax(1), p.argmax(1), np.zeros(len(p))
    sure, hits, asked = (jnp.asarray(one, jnp.float32) for one in (known.max(1), right, p.max(1)))
    for label in np.unique(now):
        which = answer == label
        counted = jnp.asarray(weight * which if which.sum() >= least else weight, jnp.float32)
        chances = np.array(read_steps(fit_steps(sure, hits, counted), asked), np.float64)
        found[now == label] = chances[now == label]
    return found


def estimate_findings(
    known: LoggedRows, y: np.ndarray, rows: LoggedRows, bounds: PerformanceBounds = PerformanceBounds(),  # noqa: B008
    usual: float | None = None, at: float | None = None,
) -> list[Finding]:  # fmt: skip
    """A finding of each estimate, against `least`, or `usual` less `size`; a warning where none can be made.

    `usual` is the accuracy that there was, of the known rows unless given.
    """
    at = time.time() if at is None else at
    span = (float(rows.time.min()), float(rows.time.max())) if len(rows.id) else (0.0, 0.0)
    blank = Finding(at, rows.model, rows.version, "estimated_performance", "accuracy", "ok", rows=len(rows.id), window=span)
    few = max(bounds.rows, 100)
    if min(len(y), len(rows.id)) < few:
        return [blank._replace(why=f"too few rows, {min(len(y), len(rows.id))} of {few}")]
    usual = float(judge_right(known, y).mean()) if usual is None else usual
    bound = bounds.least.get("accuracy", usual - bounds.size)
    found = []
    for one in estimate_accuracy(known, y, rows):
        why = f"estimated by {one.way} {one.value:.4g} ({one.low:.4g} to {one.high:.4g}), {usual:.4g} before"
        if one.known < few / 2 or one.reach < REACH:
            alike = f"{one.reach:.0%} of what comes is like rows with labels, {one.known:.0f} of them in effect"
            why = f"no estimate by {one.way}: {alike}"
            found.append(blank._replace(state="warning", why=why))
            continue
        state: State = "breach" if one.high < bound else "warning" if one.value < bound else "ok"
        found.append(blank._replace(state=state, value=one.value, bound=bound, size=max(usual - one.value, 0.0), why=why))
    return found


def compare_models(
    folder: str | Path, model: str | Path, other: str | Path, labels: str | Path | None = None, method: str | None = None,
    since: float = 0.0, until: float = math.inf,
) -> tuple[dict[str, Any], list[Outlier]]:  # fmt: skip
    """`compare_versions` of what a version answered, by a request log, and of what another artifact answers to the same rows.

    Also the rows whose answers are furthest apart.
    """
    rows = read_logged(folder, model, method, since, until)
    where = find_model(other)
    manifest = artifact.read_manifest(where, artifact.open_version(where).files)
    ports = manifest["methods"].get(rows.method, {}).get("outputs", [])
    classes = next((tuple(port["columns"] or ()) for port in ports if port["name"] == "predict_proba"), ())
    again = rows._replace(model=manifest["name"], version=str(manifest["version"]), classes=classes,
                          answered=answer_again(other, rows))  # fmt: skip
    y = None if labels is None else join_labels(rows, read_labels(labels))[0]
    (a, p), (b, q) = answer_of(rows), answer_of(again)
    if p is not None and q is not None and rows.classes == again.classes:
        apart = np.abs(p - q).max(1)
    else:
        apart = np.abs(a - b) if a.dtype.kind == "f" else (label_words(a) != label_words(b)).astype(float)
    names, furthest = rows.names, np.argsort(-apart, kind="stable")[:SHOWN]
    said = [
        Outlier(names[at], float(rows.time[at]), float(apart[at]), (("was", value_text(a[at])), ("is", value_text(b[at]))))
        for at in furthest if apart[at] > 0
    ]  # fmt: skip
    return compare_versions(rows, again, y), said


def compare_versions(one: LoggedRows, other: LoggedRows, y: np.ndarray | None = None) -> dict[str, Any]:
    """How two versions answered the same requests, by id and row: how often alike, how far apart, and who is right more often.

    `y` [n] are labels of the rows of `one`, None where there is none; McNemar's p of the rows that have one. `rows`, `same`
    (share of equal words, or correlation of numbers), `distance` (mean of the largest difference of probabilities or numbers),
    and `right`, `other_right`, `p` with labels.
    """
    places = other.places
    both = [(at, places[key]) for key, at in one.places.items() if key in places]
    if not both:
        raise MonitoringError(f"no request was answered by {one.model}/{one.version} and {other.model}/{other.version} alike.")
    left, right = one.take(np.array([a for a, _ in both])), other.take(np.array([b for _, b in both]))
    (a, p), (b, q) = answer_of(left), answer_of(right)
    found: dict[str, Any] = {"rows": len(both)}
    if p is not None and q is not None and left.classes == right.classes:
        found["distance"] = float(np.abs(p - q).max(1).mean())
    if p is None and a.dtype.kind == "f":
        found["same"] = float(np.corrcoef(a, b)[0, 1]) if len(both) > 1 else math.nan
        found["distance"] = float(np.abs(a - b).mean())
        return found
    found["same"] = float((label_words(a) == label_words(b)).mean())
    if y is not None:
        there = np.array([y[at] is not None for at, _ in both])
        truth = label_words(np.array([y[at] for at, _ in both], object)[there])
        hits = [(label_words(answer)[there] == truth).astype(float) for answer in (a, b)]
        if there.any():
            found |= {"right": float(hits[0].mean()), "other_right": float(hits[1].mean()), "p": mcnemar(*hits).p_value}
    return found


class LogFindings(NamedTuple):
    """What a request log says."""

    findings: list[Finding]
    remarks: list[str]
    """In words, what could not be said."""
    rare: list[Outlier]
    """Rows least like those that the model learned from."""
    other: list[Outlier]
    """Rows least like those before, where the classifier tells both apart."""


def log_findings(
    folder: str | Path, model: str | Path, labels: str | Path | None = None, method: str | None = None, since: float = 0.0,
    until: float = math.inf, costs: Costs | None = None, bounds: PerformanceBounds = PerformanceBounds(),  # noqa: B008
    detector: Detector | None = None, positive: str | None = None,
) -> LogFindings:  # fmt: skip
    """All that a request log and a table of labels say of the rows from `since` on.

    Rows with labels before `since` are what those since are compared with; estimates of rows without labels rest on all that have
    one. Rows before and since are compared together, too.
    """
    rows = read_logged(folder, model, method)
    remarks = [f"{rows.others:,} rows of other versions are left out."] if rows.others else []
    now = (rows.time >= since) & (rows.time < until)
    if not now.any():
        raise MonitoringError(f"{folder} has no answered rows of {rows.model}/{rows.version} in the time that was asked for.")
    y, counts = join_labels(rows, read_labels(labels)) if labels is not None else (np.full(len(now), None, object), None)
    there = np.array([one is not None for one in y])
    old = rows.time < since
    found = []
    if counts is not None:
        remarks.append(f"Labels: {counts.text()}.")
        blank = Finding(time.time(), rows.model, rows.version, "quality", "labels", "warning", rows=counts.joined)
        for number, why in (
            (counts.contradicting, "rows have two labels"), (counts.ambiguous, "labels are of an id that several requests had"),
            (counts.unknown, f"labels are no class of the model, as {counts.example!r}"),
        ):  # fmt: skip
            if number:
                share = number / (counts.joined + number)
                state: State = "warning" if counts.joined else "breach"
                found.append(blank._replace(state=state, value=share, bound=0.0, size=share, why=f"{number:,} {why}"))
        before = (rows.take(there & old), y[there & old]) if (there & old).any() else None
        found += performance_findings(rows.take(there & now), y[there & now], before, costs, bounds, positive=positive)
        if before is not None:
            found += label_findings(rows.take(there & now), y[there & now], before[1], bounds.alpha)
        known, waiting = there & (rows.time < until), ~there & now
        if known.any():
            found += change_findings(rows.take(known), y[known], detector or adwin())
        if waiting.any() and known.any() and answer_of(rows)[0].dtype.kind != "f":
            usual = float(judge_right(*before).mean()) if before else None
            found += estimate_findings(rows.take(known), y[known], rows.take(waiting), bounds, usual)
    came = rows.take(now)
    span = (float(came.time.min()), float(came.time.max()))
    known_by, columns = columns_of_log(model, came)
    rare: list[Outlier] = []
    if known_by is not None:
        score, rare = find_outliers(known_by, columns, came.names, came.time)
        if (one := outlier_finding(rows.model, rows.version, known_by, score, span, bounds.alpha)) is not None:
            found.append(one)
    other: list[Outlier] = []
    if old.any():
        seen, how = represent(model, rows)
        remarks += how
        came = seen.take(now)
        together, domains = joint_findings(rows.model, rows.version, seen.take(old).asked, came.asked, span)
        found += together
        if domains is not None and together[0].state == "breach":
            which = came.take(domains.drawn)
            other = telling_rows(domains.now, which.asked, [*domains.columns], which.names, which.time)
    return LogFindings(found, remarks, rare, other)


def log_parts(said: LogFindings) -> list[dict[str, Any]]:
    """The sections of the page: answers and rows together, and which rows."""
    parts = [performance_part(said.findings, said.remarks)]
    if said.rare:
        parts.append(outlier_part("Rows least like those that it learned from", "score", said.rare, RARE_TEXT))
    if said.other:
        parts.append(outlier_part("Rows least like those before", "probability", said.other, OTHER_TEXT))
    return parts


RARE_TEXT = (
    "The score adds up, column by column, how rare a value is among the rows that it learned from; "
    "a row is shown where fewer than one in a hundred of these are as rare."
)
OTHER_TEXT = "The probability by which a classifier, which has not seen the row, tells it from the rows before."


def performance_part(findings: Sequence[Finding], remarks: Sequence[str] = ()) -> dict[str, Any]:
    """A section of the page, of findings of answers and of rows together."""
    lines = [
        {"cells": [one.name + (one.slice and f" where {one.slice}"), one.state, one.why], "strong": one.state == "breach"}
        for one in findings
    ]
    heads = ["measure", "state", "what"]
    return {"title": "How good its answers are", "heads": heads, "lines": lines, "pictures": [], "remarks": list(remarks)}
