"""Gates on a run: its metrics, slices, calibration, latency, size and data, and the paired test against the champion."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.config import CONF, Config
from arsenal.data.column import is_streamed
from arsenal.evaluation.answers import answers
from arsenal.evaluation.drift import SURE
from arsenal.evaluation.findings import draw_metrics, drift_of_columns, fits_answers, named_columns
from arsenal.evaluation.gates import Gate, GateError, Verdict, judge_bounds, read_gates, refuse_gate
from arsenal.evaluation.leakage import duplicate_leaks, list_columns, row_bytes, target_leaks
from arsenal.evaluation.paired import Paired, lines_of_tests
from arsenal.evaluation.report import number
from arsenal.evaluation.slices import column_parts
from arsenal.evaluation.study import ANSWERS
from arsenal.metrics import accuracy, calibration_error, mean_absolute_error
from arsenal.models.aside import without_aside
from arsenal.nearest import nearest
from arsenal.records import Batch, Metric
from arsenal.road import compare_rows, compare_unseen
from arsenal.run import Run
from arsenal.training.driver import streams

CALLS, SECONDS = 300, 10.0
"""Answers that a latency is measured by, and the time after which no further one is asked."""
ROWS = 30
"""The rows that a slice has at least, unless its gate says so."""

TESTED = {"McNemar": "accuracy", "DeLong": "roc_auc"}
"""The metric of which a test of answers row by row tells the difference."""

Measured = tuple[Any, Any, str]
"""A value, its draws or None, and what else there is to say."""


def check_gates(gates: str | Path | Mapping[str, Any], run: Run, champion: Run | None = None) -> list[Verdict]:
    """What came of each bound of the gates, in their order; what cannot be measured fails, and its verdict says why.

    gates: a YAML file or what it holds; see `evaluation.gates.read_gates`. The champion is compared on the same rows; where there
    is none yet, its gates pass and say so. Raises GateError for a gate on what the run never measures, before anything compiles.
    """
    asked = read_gates(gates)
    measure = Measures(run, champion)
    for gate in asked:
        measure.refuse_unknown(gate)
    return [verdict for gate in asked for verdict in measure.judge(gate)]


def check_expectations(run: Run) -> list[Verdict]:
    """What came of what the experiment states, `expect`: bounds of metrics, as gates are; none where it states nothing."""
    stated = run.config.settings.expect
    return check_gates(stated, run) if stated else []


def find_beside(config: Config, kind: str) -> str | None:
    """The file KIND/NAME.yaml beside experiment/NAME.yaml of a config; None where there is none."""
    given = dict(word.split("=", 1) for word in config.overrides if "=" in word)
    name = given.get("+experiment")
    places = given.get("hydra.searchpath", "").strip("[]").split(",")
    folders = [*(Path(place.removeprefix("file://")) for place in places if place), CONF]
    found = (folder / kind / f"{name}.yaml" for folder in folders)
    return next((str(path) for path in found if path.is_file()), None)


def check_names(gates: Sequence[Gate], known: Sequence[str]) -> None:
    """Raise a GateError for a gate on a metric that a run never measures."""
    for gate in gates:
        if gate.what not in known:
            there = ", ".join(known) or "nothing"
            raise GateError(f"`{gate.name}` is never measured; this run measures {there}.{nearest(gate.what, known)}")


class Unmeasured(Exception):
    """Why something has no value."""


class SplitAnswers(NamedTuple):
    """Rows that judge, in memory, and what the run says of them."""

    rows: Batch
    outputs: dict[str, np.ndarray]


class Measures:
    """What gates ask of one run, each thing measured once."""

    def __init__(self, run: Run, champion: Run | None):
        """Of a run, beside the champion where there is one."""
        self.run, self.champion = run, champion
        self._key = streams(jax.random.key(run.config.settings.seed))["evaluate"]

    def refuse_unknown(self, gate: Gate) -> None:
        """Raise GateError for a gate on a metric or a column that there is not."""
        if gate.family in ("test", "validation", "champion"):
            known = [name for name in self.run.experiment.modes if gate.family != "champion" or name in self._own_metrics()]
            check_names([gate], known)
            if gate.family == "champion" and self.run.experiment.modes[gate.what] is None:
                raise GateError(f"`{gate.name}`: `{gate.what}` does not say which of its values are good, so none is better.")
        if gate.family == "slices" and gate.metric is not None and gate.metric not in (own := self._own_metrics()):
            near = nearest(gate.metric, own)
            raise GateError(f"`metric` of `{gate.name}` must be one of {', '.join(own)}; got {gate.metric}.{near}")
        split = {"test": "test", "validation": "validation"}.get(gate.what if gate.family == "calibration" else gate.family)
        if split is not None and not len(self.run.experiment.splits[split].weight):
            raise GateError(f"`{gate.name}` is of {split} rows, and the run's split leaves none.")
        if gate.family == "slices" and gate.what != "*":
            columns = self._columns(self._split())
            if gate.what not in columns:
                there = ", ".join(columns) or "of which there is none"
                raise GateError(f"`{gate.name}` must name a column, {there}.{nearest(gate.what, columns)}")

    def judge(self, gate: Gate) -> list[Verdict]:
        """A verdict for each bound."""
        try:
            if gate.family == "champion" and self.champion is None:
                side, bound = next(iter(gate.bounds.items()))
                return [Verdict(gate.name, True, None, bound, None, None, "there is no champion to compare with", side)]
            if gate.family == "slices":
                return [self._judge_slices(gate, side) for side in gate.bounds]
            value, draws, note = getattr(self, f"_{gate.family}")(gate)
        except Unmeasured as error:
            return [refuse_gate(gate, side, bound, str(error)) for side, bound in gate.bounds.items()]
        found = judge_bounds(gate, value, draws, note)
        return [self._with_tail(gate, one) for one in found] if gate.family == "latency" else found

    def _own_metrics(self) -> dict[str, Metric]:
        """The config's metrics by what they measure, not what the learner says of itself."""
        return {name: metric for metric in self.run.parts.metrics.values() for name in metric.compute(metric.empty())}

    def _split(self) -> str:
        """The rows that judge."""
        splits = self.run.experiment.splits
        found = next((name for name in ("test", "validation") if len(splits[name].weight)), None)
        if found is None:
            raise Unmeasured("the run's split leaves no rows that judge")
        return found

    @functools.cache  # noqa: B019
    def _answers(self, split: str) -> SplitAnswers:
        """The whole of a split, in memory, also where a report shows some of its rows only."""
        run, rows = self.run, self.run.experiment.splits[split]
        if is_streamed(rows):
            raise Unmeasured(f"the {len(rows.weight):,} {split} rows are read as they go")
        judged, inputs = run.results[split], run.parts.learner.inputs
        if len(judged.shown.weight) == len(rows.weight):
            return SplitAnswers(rows, {name: answer for name, answer in judged.answers.items() if name not in inputs})
        asked = {*ANSWERS, *(name for metric in run.parts.metrics.values() for name in metric.reads or ())}
        apply = {name: f for name, f in run.apply.items() if name in asked and name not in inputs}
        return SplitAnswers(rows, answers(apply, {}, run.params, rows, run.config.settings.batch_size or len(rows.weight)))

    @functools.cache  # noqa: B019 - lives as long as one check
    def _draws(self, split: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """Every metric on resamples of the rows, and why one has none."""
        try:
            given = self._answers(split)
        except Unmeasured as error:
            return {}, dict.fromkeys(self._own_metrics(), str(error))
        fitting = {name: one for name, one in self.run.parts.metrics.items() if fits_answers(one, given.outputs, given.rows)}
        found, gone = draw_metrics(self._key, fitting, {"": given.outputs}, given.rows)
        return {name: some[""].draws for name, some in found.items()}, gone

    def _test(self, gate: Gate) -> Measured:
        draws, gone = self._draws(gate.family)
        why = gone.get(gate.what)
        return self.run.metrics[gate.name], draws.get(gate.what), f"; no interval: {why.rstrip('.')}" if why else ""

    _validation = _test

    def _calibration(self, gate: Gate) -> Measured:
        given = self._answers(gate.what)
        metric = {"calibration_error": calibration_error()}
        if "predict_proba" not in given.outputs or not fits_answers(metric["calibration_error"], given.outputs, given.rows):
            raise Unmeasured("the run gives no probabilities of labels")
        found, gone = draw_metrics(self._key, metric, {"": given.outputs}, given.rows)
        if not found:
            raise Unmeasured(next(iter(gone.values())))
        return found["calibration_error"][""].value, found["calibration_error"][""].draws, ""

    def _columns(self, split: str) -> dict[str, np.ndarray]:
        return named_columns(self.run.experiment.splits[split].x, self.run.kept[0])

    def _judge_slices(self, gate: Gate, side: str) -> Verdict:
        """The part of a column, or of all columns, where the metric is worst, with an interval for all parts at once."""
        split = self._split()
        given, columns = self._answers(split), self._columns(split)
        names = [gate.what] if gate.what != "*" else list(columns)
        metric, measured = self._slice_metric(gate, given)
        weight, parts = np.asarray(given.rows.weight), []
        for name in names:
            for part in column_parts(name, columns[name], weight):
                if (part.mask & (weight > 0)).sum() >= (gate.rows or ROWS):
                    parts.append((self._slice_value(metric, measured, given, part.mask), part))
        parts = [(value, part) for value, part in parts if np.isfinite(value)]
        if not parts:
            raise Unmeasured(f"no part of {gate.what} has {gate.rows or ROWS} {split} rows and a value of {measured}")
        value, worst = (min if side == "min" else max)(parts, key=lambda one: one[0])
        rows = given.rows._replace(weight=np.where(worst.mask, weight, 0).astype(weight.dtype))
        drawn, gone = draw_metrics(self._key, {"": metric}, {"": given.outputs}, rows)
        note = f"; {measured} where {worst.text}, the worst of {len(parts)} parts, {number(float(weight[worst.mask].sum()))} rows"
        draws = drawn[measured][""].draws if measured in drawn else None
        note += f"; no interval: {gone[measured].rstrip('.')}" if measured in gone else ""
        return judge_bounds(gate._replace(bounds={side: gate.bounds[side]}), value, draws, note, len(parts))[0]

    def _slice_metric(self, gate: Gate, given: SplitAnswers) -> tuple[Metric, str]:
        if gate.metric is not None:
            return self._own_metrics()[gate.metric], gate.metric
        made = accuracy() if self.run.kept[0].target.columns else mean_absolute_error()
        if not fits_answers(made, given.outputs, given.rows):
            raise Unmeasured("slices need `metric`: the answers are neither labels nor one number a row")
        return made, next(iter(made.compute(made.empty())))

    def _slice_value(self, metric: Metric, name: str, given: SplitAnswers, mask: np.ndarray) -> float:
        weight = np.asarray(given.rows.weight)
        rows = given.rows._replace(weight=np.where(mask, weight, 0).astype(weight.dtype), aux=())
        place = np.asarray if "host" in metric.exempt else jnp.asarray
        outputs, rows = jax.tree.map(place, (given.outputs, rows))
        return float(np.asarray(metric.compute(metric.update(metric.empty(), outputs, rows))[name]))

    @functools.cache  # noqa: B019
    def _times(self, rows: int) -> np.ndarray:
        """Seconds of single requests of so many rows, the answer fetched, compiled before."""
        run = self.run
        inputs = run.parts.learner.inputs
        plain = [name for name in run.apply if name not in inputs]
        name = "predict" if "predict" in plain else next(iter([*plain, *run.apply]))
        examples = run.kept[1]
        at = np.arange(rows) % len(examples.weight)
        batch = jax.tree.map(lambda v: np.asarray(v)[at], examples)
        given = inputs[name](batch) if name in inputs else batch.x
        answer = jax.jit(run.apply[name])
        params = jax.device_put(run.params)
        for _ in range(10):
            jax.device_get(answer(params, given))
        times, end = [], time.perf_counter() + SECONDS
        while len(times) < CALLS and (len(times) < 10 or time.perf_counter() < end):
            began = time.perf_counter()
            jax.device_get(answer(params, given))
            times.append(time.perf_counter() - began)
        return np.array(times)

    def _latency(self, gate: Gate) -> Measured:
        times = self._times(gate.rows or 1)
        value = times.mean() if gate.what == "mean" else np.quantile(times, float(gate.what[1:]) / 100)
        rows = gate.rows or 1
        return float(value), None, f"; seconds of {len(times)} answers to {rows} row{'s' * (rows > 1)}, in this process"

    def _with_tail(self, gate: Gate, verdict: Verdict) -> Verdict:
        """A quantile's verdict with the exact tail of how many answers were slower than the bound."""
        from scipy import stats

        if gate.what == "mean" or verdict.side != "max":
            return verdict
        times, tail = self._times(gate.rows or 1), 1 - float(gate.what[1:]) / 100
        slower = int((times > verdict.bound).sum())
        p = float(stats.binom.cdf(slower, len(times), tail))
        return verdict._replace(p=p, why=f"{verdict.why}, {slower} slower than the bound, p {number(p)}")

    def _size(self, gate: Gate) -> Measured:
        if gate.what == "artifact":
            found = max(self.run.folder.glob("artifact/*/manifest.json"), key=lambda path: int(path.parent.name), default=None)
            if found is None:
                raise Unmeasured(f"nothing was exported to {self.run.folder / 'artifact'}")
            version = found.parent
            size = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
            return size, None, f"; bytes of version {version.name}"
        leaves = jax.tree.leaves(without_aside(self.run.params["learner"]))
        return sum(leaf.size if gate.what == "parameters" else leaf.nbytes for leaf in leaves), None, ""

    def _data(self, gate: Gate) -> Measured:
        splits = self.run.experiment.splits
        train = splits["train"]
        if gate.what == "rows":
            return float((np.asarray(train.weight) > 0).sum()), None, "; training rows"
        if any(is_streamed(rows) for rows in splits.values()):
            raise Unmeasured("the rows are read as they go, and are not looked through")
        return DATA[gate.what](self.run, splits)

    @functools.cached_property
    def _paired(self) -> tuple[Paired, str]:
        """Both on the same rows, and which those are."""
        champion = self.champion
        if champion is None:
            raise Unmeasured("there is no champion")
        try:
            found = compare_rows(self.run, champion)
            return found, f"{number(found.rows)} {found.split} rows of both"
        except ValueError as error:
            first = error
        try:
            found, left = compare_unseen(self.run, champion)
        except ValueError as error:
            why = f"{first} And on the run's own rows: {error}"
            raise Unmeasured(f"the champion {champion.folder} is not compared: {why}") from error
        return found, f"{number(found.rows)} {found.split} rows of the run, {left} that the champion saw left out"

    def _champion(self, gate: Gate) -> Measured:
        found, which = self._paired
        one = next((one for one in found.differences if one.metric == gate.what), None)
        if one is None:
            raise Unmeasured(f"no difference: {found.why_none.get(gate.what, 'the champion does not measure it')}")
        sign = 1 if one.mode == "max" else -1
        named = {name: test for name, test in found.tests.items() if TESTED[name] == gate.what}
        tests = f"; {', '.join(lines_of_tests(named))}" if named else ""
        note = f"; {gate.what} {number(one.one)} against {number(one.other)} on {which}{tests}"
        return sign * one.found.effect, sign * np.asarray(one.draws), note


def missing_share(run: Run, splits: Mapping[str, Batch]) -> Measured:
    """The largest share of missing values of a column, over all rows."""
    shares: dict[str, list[np.ndarray]] = {}
    for rows in splits.values():
        for name, column in named_columns(rows.x, run.kept[0]).items() if len(rows.weight) else ():
            gaps = np.isnan(column) if column.dtype.kind == "f" else column == "missing"
            shares.setdefault(name, []).append(gaps[np.asarray(rows.weight) > 0])
    worst = {name: float(np.concatenate(parts).mean()) for name, parts in shares.items()}
    if not worst:
        raise Unmeasured("there are no columns to look at one by one")
    name = max(worst, key=lambda one: worst[one])
    return worst[name], None, f" of `{name}`" if worst[name] else ""


def count_leaks(run: Run, splits: Mapping[str, Batch]) -> Measured:
    """Columns that alone know the target."""
    found = target_leaks(splits["train"], list_columns(splits["train"].x))
    return float(len(found)), None, "".join(f"; {one.text}" for one in found)


def duplicate_share(run: Run, splits: Mapping[str, Batch]) -> Measured:
    """The largest share of the rows of validation or test that have the inputs of a training row."""
    known = set(row_bytes(splits["train"]))
    shares = {
        name: sum(row in known for row in rows) / len(rows)
        for name in ("validation", "test")
        if (rows := row_bytes(splits[name]))
    }
    return max(shares.values(), default=0.0), None, "".join(f"; {one.text}" for one in duplicate_leaks(splits))


def largest_drift(run: Run, splits: Mapping[str, Batch]) -> Measured:
    """The largest population stability index among columns that are surely distributed otherwise than in training."""
    train = splits["train"]
    found, why = drift_of_columns(splits, named_columns(train.x, run.kept[0]), run.kept[0])
    if why or not found:
        raise Unmeasured(" ".join(why) or "there are no columns to look at one by one")
    sure = [one for one in found if one.p_value < SURE]
    if not sure:
        return 0.0, None, "; no column moved surely"
    worst = max(sure, key=lambda one: one.stability)
    return worst.stability, None, f"; `{worst.column}` in {worst.split}, {worst.test} p {number(worst.p_value)}"


DATA: dict[str, Callable[[Run, Mapping[str, Batch]], Measured]] = {
    "missing": missing_share, "leaks": count_leaks, "duplicates": duplicate_share, "drift": largest_drift,
}  # fmt: skip
"""What is measured of the data, but for its rows."""
