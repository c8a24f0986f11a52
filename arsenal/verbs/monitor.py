"""`arsenal monitor report|watch|reference|performance|compare|levels|export`: a served model beside what it learned from."""

import contextlib
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arsenal.cli import UsageError, as_count


def report(
    model: str, folder: str | None = None, table: str | None = None, method: str | None = None, since: str | None = None,
    until: str | None = None, size: str = "0.1", alpha: str = "0.01", log: str | None = None, labels: str | None = None,
    to: str = "monitor.html",
) -> None:  # fmt: skip
    """Write a page of what changed, since when, how much it matters, and for which values.

    model: the artifact, a model's folder or a run's. folder: what `arsenal-serve --monitor FOLDER` wrote; or table: a CSV or
    Parquet file, or a pattern, of rows that the model answers now. method: the default one unless given. since, until: times as
    2026-11-30T20:00, UTC, or how long ago, 6h, 30m, 2d. size: how far a column must have moved. alpha: the share of windows
    without drift that may say so. log, labels: as of `performance`, for its section, beside folder. to: the page.
    """  # fmt: skip
    from arsenal.monitoring.performance import log_findings, log_parts
    from arsenal.monitoring.report import write_batch, write_page
    from arsenal.monitoring.watch import read_batch, read_watched

    bounds = bounds_of(size, alpha)
    if (folder is None) == (table is None):
        raise UsageError("`report` needs folder=... or table=..., one of them.")
    if table is not None:
        if any(word is not None for word in (since, until, log, labels)):
            raise UsageError("`since`, `until`, `log` and `labels` are of folder=...; a table is one window.")
        print_findings(write_batch(Path(to), read_batch(model, table, method), bounds))
        print(f"page: {to}")
        return
    assert folder is not None
    begin, end = as_time("since", since, 0.0), as_time("until", until, math.inf)
    if labels is not None and log is None:
        raise UsageError("`labels` are joined to the rows of a request log; give `log` too.")
    said = log_findings(log, model, labels, method, begin, end) if log else None
    parts, seen = (log_parts(said), said.findings) if said else ([], [])
    print_findings(write_page(Path(to), read_watched(model, folder, method), bounds, begin, end, parts, seen) + seen)
    print(f"page: {to}")


def performance(
    log: str, model: str, labels: str | None = None, method: str | None = None, since: str | None = None,
    until: str | None = None, least: str = "", costs: str | None = None, positive: str | None = None, size: str = "0.02",
    alpha: str = "0.01", to: str | None = None,
) -> None:  # fmt: skip
    """Say how good answers are by labels that came later, and how good they probably are where none has come; exit 1 where worse.

    log: what `arsenal-serve --request-log` wrote, of one host or a folder of several. model: the artifact, a model's folder or a
    run's. labels: .csv, .parquet or .jsonl with id, label and, where requests have several rows, row. method: the one that was
    asked most unless given. since, until: the rows that are judged, beside those before. least: what must be kept to, as
    accuracy:0.9,log_loss:0.4. costs: of mistakes, as false_alarm:1,miss:5; positive: the class that an alarm is of, the last by
    name unless given. size: how much worse matters. alpha: the share of
    windows without change that may say so. to: a file to which findings are appended, such as FOLDER/findings.jsonl.
    """  # fmt: skip
    from arsenal.evaluation.threshold import read_costs
    from arsenal.monitoring.findings import append_findings
    from arsenal.monitoring.performance import PerformanceBounds, log_findings

    given = bounds_of(size, alpha)
    bounds = PerformanceBounds(given.size, given.alpha, least=as_bounds(least))
    try:
        price = None if costs is None else read_costs(costs)
    except ValueError as error:
        raise UsageError(str(error)) from error
    for name, value in (("least", bounds.least), ("costs", price)):
        if value and labels is None:
            raise UsageError(f"`{name}` is of answers with labels; give `labels` too.")
    if positive is not None and price is None:
        raise UsageError("`positive` is of `costs`.")
    begin, end = as_time("since", since, 0.0), as_time("until", until, math.inf)
    said = log_findings(log, model, labels, method, begin, end, price, bounds, positive=positive)
    if to is not None:
        append_findings(Path(to), said.findings)
    for one in said.findings:
        print(line_of(one))
    for remark in said.remarks:
        print(remark)
    for what, rows in (("unlike what it learned from", said.rare), ("unlike those before", said.other)):
        for row in rows[:NAMED]:
            print(f"{what}: {row.name}, by {row.by}")
    if any(one.state == "breach" for one in said.findings):
        raise Moved("what is above as a breach is worse than it was or must be.")
    if missing := sorted(set(bounds.least) - {one.name for one in said.findings if one.bound is not None}):
        raise Moved(f"{', '.join(missing)} must be kept to, and there are too few labels to say so.")


NAMED = 5
"""Rows of each kind that are printed."""


def compare(
    log: str, model: str, other: str, labels: str | None = None, method: str | None = None, since: str | None = None,
    until: str | None = None,
) -> None:  # fmt: skip
    """Say how another version would have answered what a version was asked: how alike, and who is right more often.

    log: what `arsenal-serve --request-log` wrote. model: the artifact that answered, a model's folder or a run's. other: the one
    that answers now, in this process. labels, method, since, until: as of `performance`.
    """
    from arsenal.monitoring.performance import compare_models

    begin, end = as_time("since", since, 0.0), as_time("until", until, math.inf)
    found, apart = compare_models(log, model, other, labels, method, begin, end)
    words = {"rows": "{:,} rows", "same": "same {:.4f}", "distance": "distance {:.4g}", "right": "right {:.4f}",
             "other_right": "the other {:.4f}", "p": "p {:.4f}, McNemar's"}  # fmt: skip
    print(", ".join(words[name].format(value) for name, value in found.items()))
    for row in apart[:NAMED]:
        print(f"apart by {row.score:.3g}: {row.name}, {row.by}")


def levels(
    objectives: str, url: str | None = None, prometheus: str | None = None, log: str | None = None, folder: str | None = None,
    to: str | None = None,
) -> None:  # fmt: skip
    """Say whether a server keeps to its objectives and how fast it burns what may fail; exit 1 where too fast.

    objectives: a YAML file. One of url: the server's /metrics, whose counters are kept in `levels.jsonl` of `folder` for the next
    look; prometheus: the address of a Prometheus server; log: a request log. to: a file to which findings are appended.
    """
    from arsenal.monitoring import levels as service
    from arsenal.monitoring.findings import append_findings

    promised = service.read_levels(objectives)
    if sum(one is not None for one in (url, prometheus, log)) != 1:
        raise UsageError("`levels` takes one of url, prometheus and log.")
    if url is not None and folder is None:
        raise UsageError("`url` needs `folder`, where counters are kept for the next look.")
    if url is not None:
        counts = service.look_at(url, folder or "", promised)
    elif prometheus is not None:
        counts = service.counts_of_prometheus(prometheus)
    else:
        counts = service.counts_of_log(log or "", None, promised.window)
    found = service.level_findings(promised, counts)
    if to is not None:
        append_findings(Path(to), found)
    for one in found:
        print(f"{one.state}  {one.name}: {one.why}")
    if any(one.state == "breach" for one in found):
        raise Moved("what is above as a breach is not kept to.")


def as_bounds(words: str) -> dict[str, float]:
    """Numbers by name.

    >>> as_bounds("accuracy:0.9,log_loss:0.4")
    {'accuracy': 0.9, 'log_loss': 0.4}
    """
    found = {}
    for part in filter(None, words.split(",")):
        name, _, number = part.strip().partition(":")
        try:
            value = float(number)
        except ValueError as error:
            raise UsageError(f"`least` must be names with numbers, as accuracy:0.9,log_loss:0.4 is; got {words}.") from error
        if not math.isfinite(value) or (name == "accuracy" and not 0 <= value <= 1):
            raise UsageError(f"`least` of {name} must be {'0 to 1' if name == 'accuracy' else 'a finite number'}; got {number}.")
        if name in found:
            raise UsageError(f"`least` has {name} twice; got {words}.")
        found[name] = value
    return found


def watch(
    folder: str, model: str, method: str | None = None, window: str = "1h", every: str = "60", once: str = "false",
    size: str = "0.1", alpha: str = "0.01", to: str | None = None,
) -> None:  # fmt: skip
    """Look at the last window again and again, and append what is found to `findings.jsonl`, which alerts read.

    folder, model, method, size, alpha: as of `report`. window: how far back each look reaches, 1h, 30m. every: seconds between
    two looks. once: true looks once, and exits 1 where something has moved or a column is missing. to: the file; the folder's
    findings.jsonl unless given.
    """  # fmt: skip
    from arsenal_serving.refused import Refused

    from arsenal.monitoring.findings import FILE, append_findings
    from arsenal.monitoring.report import findings_of
    from arsenal.monitoring.watch import MonitoringError, read_watched, slices_of

    if once not in ("true", "false"):
        raise UsageError(f"`once` must be true or false; got {once}.")
    bounds, reach, pause = bounds_of(size, alpha), as_seconds("window", window), as_count("every", every)
    target, told = Path(to) if to else Path(folder) / FILE, ""
    while True:
        found = []
        try:
            watched = read_watched(model, folder, method)
            for one in slices_of(watched, math.inf, time.time() - reach):
                found += findings_of(watched, one, bounds)
        except (MonitoringError, Refused) as error:
            if once == "true":
                raise
            if str(error) != told:
                print(f"arsenal: {error}", flush=True)
            told = str(error)
        append_findings(target, found)
        print_findings(found)
        if once == "true":
            if any(one.state == "breach" for one in found):
                raise Moved("what is above has moved or is missing.")
            return
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(pause)
            continue
        return


def reference(model: str, method: str | None = None) -> None:
    """Say what an artifact knows of the rows that it learned from, column by column.

    model: the artifact, a model's folder or a run's. method: all of them unless given.
    """
    from arsenal_serving.artifact import folder as artifact
    from arsenal_serving.artifact.reference import FILE, read

    from arsenal.evaluation.report import number
    from arsenal.monitoring.watch import find_model
    from arsenal.runs.table import align

    where = find_model(model)
    held = artifact.open_version(where).files
    if FILE not in held:
        raise UsageError(f"{where} has no {FILE}; export its run again, where its data is.")
    known = read(held[FILE])
    if method is not None and method not in known.methods:
        raise UsageError(f"`method` must be one of {', '.join(known.methods)}; got {method}.")
    rows = []
    for name, one in known.methods.items():
        if method in (None, name):
            for way, columns in (("asked", one.inputs), ("answered", one.outputs)):
                for column in columns:
                    facts = [number(value) for value in (column.mean, column.deviation, column.least, column.most)]
                    gaps = column.counts[-1] / max(sum(column.counts), 1)
                    rows.append([name, way, column.name, column.kind, *facts, f"{gaps:.1%}", f"{len(column.levels) or ''}"])
    heads = ["method", "", "column", "kind", "mean", "deviation", "least", "most", "missing", "levels"]
    print(f"{where}: {known.rows:,} rows\n")
    print(align(heads, rows, range(4, 10)), end="")


def export(to: str, into: str, findings: str | None = None, objectives: str | None = None, job: str = ".+") -> None:
    """Tell others what monitoring knows: rules for Prometheus, a dashboard for Grafana, findings for OpenTelemetry.

    to: rules, grafana, metrics (findings as Prometheus' textfile collector reads them), otlp or parquet. into: the file; of otlp
    the collector's URL, http://HOST:4318. findings: findings.jsonl or its folder, of metrics, otlp and parquet. objectives: of
    rules, the file of `levels`; 0.999 answered and 0.99 within 0.25 s unless given. job: of the servers in Prometheus.
    """
    from arsenal.monitoring import exports
    from arsenal.monitoring.findings import FILE, read_findings
    from arsenal.monitoring.levels import read_levels
    from arsenal.storage.files import write_text

    if to not in ("rules", "grafana", "metrics", "otlp", "parquet"):
        raise UsageError(f"`to` must be one of rules, grafana, metrics, otlp, parquet; got {to}.")
    if objectives is not None and to != "rules":
        raise UsageError(f"`objectives` is of to=rules; got to={to}.")
    if findings is not None and to in ("rules", "grafana"):
        raise UsageError(f"`findings` is of to=metrics, otlp and parquet; got to={to}.")
    if to == "otlp" and not into.startswith(("http://", "https://")):
        raise UsageError(f"`into` of to=otlp must be a collector's URL, http://HOST:4318; got {into}.")
    found = []
    if to in ("metrics", "otlp", "parquet"):
        place = Path(findings or "")
        if findings is None or not (place.is_file() or (place / FILE).is_file()):
            raise UsageError(f"`findings` must name findings.jsonl or its folder; got {findings}.")
        found = read_findings(Path(findings))
    if to == "rules":
        exports.write_rules(Path(into), read_levels(objectives) if objectives else exports.PROMISED, job)
    elif to == "grafana":
        exports.write_dashboard(Path(into))
    elif to == "otlp":
        exports.send_otlp(into, found)
    elif to == "metrics":
        write_text(Path(into), exports.findings_text(found))
    else:
        exports.write_parquet(Path(into), found)
    print(f"{into}: {len(found):,} findings" if to in ("metrics", "otlp", "parquet") else into)


class Moved(UsageError):
    """Something has moved: what a look that exits says last."""


def print_findings(found: list[Any]) -> None:
    """What is not as it should be, or that all is."""
    wrong = [one for one in found if one.state != "ok"]
    for one in wrong:
        print(line_of(one))
    if not wrong:
        few = next((one.why for one in found if one.why.startswith("too few")), None)
        columns = len({one.name for one in found if one.kind in ("drift", "prediction_drift")})
        print(few or (f"{columns} columns are as they were" if found else "nothing came"))


def line_of(one: Any) -> str:
    """A finding in a line."""
    return f"{one.state}  {one.kind}  {one.name}{one.slice and f' where {one.slice}'}: {one.why}"


def bounds_of(size: str, alpha: str) -> Any:
    """The bounds of drift by their words."""
    from arsenal.monitoring.drift import DriftBounds

    made = []
    for name, word, most in (("size", size, math.inf), ("alpha", alpha, 1.0)):
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not 0 < value < most:
            raise UsageError(f"`{name}` must be a number above 0{' and below 1' if most == 1 else ''}; got {word}.")
        made.append(value)
    return DriftBounds(made[0], made[1])


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def as_seconds(name: str, word: str) -> float:
    """A length of time such as 90s, 30m, 6h or 2d.

    >>> as_seconds("window", "30m")
    1800.0
    """
    number, unit = word[:-1], word[-1:]
    if unit not in UNITS or not number.isascii() or not number.isdigit() or not int(number):
        raise UsageError(f"`{name}` must be a length such as 90s, 30m, 6h or 2d; got {word}.")
    return float(number) * UNITS[unit]


def as_time(name: str, word: str | None, default: float) -> float:
    """A time in seconds: of the world's clock, or how long ago."""
    if word is None:
        return default
    if word[-1:] in UNITS and word[:-1].isdigit():
        return time.time() - as_seconds(name, word)
    try:
        found = datetime.fromisoformat(word)
    except ValueError as error:
        allowed = "a time such as 2026-11-30T20:00, UTC, or how long ago, such as 6h"
        raise UsageError(f"`{name}` must be {allowed}; got {word}.") from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


VERBS: dict[str, Callable[..., None]] = {
    "report": report, "watch": watch, "reference": reference, "performance": performance, "compare": compare, "levels": levels,
    "export": export,
}  # fmt: skip
