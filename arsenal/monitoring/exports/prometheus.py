"""Prometheus: rules on what `arsenal-serve` tells of itself, and findings in the text format that its collectors read.

Burn rates over a long and a short window are those of the Site Reliability Workbook, chapter 5 (Beyer et al., 2018).
https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules and /docs/instrumenting/exposition_formats.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from annotated_types import Gt, Interval

from arsenal.monitoring.findings import Finding
from arsenal.refusal import Refusal
from arsenal.storage.files import write_text

FAULTS = "5..|INTERNAL|UNAVAILABLE|UNKNOWN|DATA_LOSS"
"""Codes of HTTP and gRPC that are the server's fault."""
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds at which the server counts durations, so that a level can be promised there and nowhere else."""
BURNS = ((14.4, "1h", "5m", "page"), (6.0, "6h", "30m", "page"), (1.0, "3d", "6h", "ticket"))
"""How many times as fast as allowed, over which windows, and who hears of it."""
WINDOWS = ("5m", "30m", "1h", "6h", "3d")
RANKS = {"ok": 0, "warning": 1, "breach": 2}


class ExportError(Refusal):
    """What cannot be said in the words of others."""


class Promise(NamedTuple):
    """What a server is to keep to over thirty days."""

    answered: Annotated[float, Interval(gt=0, lt=1)] = 0.999
    """The share of requests that end without a fault of the server's."""
    quick: Annotated[float, Interval(gt=0, lt=1)] = 0.99
    """The share of requests that take at most `seconds`."""
    seconds: Annotated[float, Gt(0)] = 0.25
    """One of `BUCKETS`."""


def prometheus_rules(promise: Promise = Promise(), job: str = ".+") -> dict[str, Any]:  # noqa: B008
    """Groups of recording and alerting rules. `job`: of the servers, a regular expression.

    Raises `ExportError` for a promise that the server's counts cannot tell.
    """
    for name in ("answered", "quick"):
        if not 0 < getattr(promise, name) < 1:
            raise ExportError(f"`{name}` must lie between 0 and 1; got {getattr(promise, name)}.")
    if promise.seconds not in BUCKETS:
        near = min(BUCKETS, key=lambda one: abs(math.log(one / promise.seconds)) if promise.seconds > 0 else one)
        raise ExportError(f"`seconds` must be one of {', '.join(f'{one:g}' for one in BUCKETS)}; got {promise.seconds:g}. "
                         f"Did you mean {near:g}?")  # fmt: skip
    duration = "arsenal_serve_request_duration_seconds"
    records: list[dict[str, Any]] = []
    for window in WINDOWS:
        count = f'sum by (job, model) (rate({duration}_count{{job=~"{job}"}}[{window}]))'
        failed = f'sum by (job, model) (rate({duration}_count{{job=~"{job}",code=~"{FAULTS}"}}[{window}]))'
        quick = f'sum by (job, model) (rate({duration}_bucket{{job=~"{job}",le="{promise.seconds}"}}[{window}]))'
        # No request failed where no series says so: then the share is 0, not nothing.
        records.append({"record": f"arsenal:failed:ratio_rate{window}", "expr": f"({failed} or 0 * {count}) / ({count} > 0)"})
        records.append({"record": f"arsenal:slow:ratio_rate{window}", "expr": f"1 - {quick} / ({count} > 0)"})
    alerts = [
        burn_rule(kind, allowed, burn, what)
        for kind, allowed, what in (("failed", 1 - promise.answered, "fail"),
                                    ("slow", 1 - promise.quick, f"take longer than {promise.seconds:g} s"))
        for burn in BURNS
    ]  # fmt: skip
    chosen = f'{{job=~"{job}"}}'
    alerts += [
        rule("ArsenalNoModel", f"arsenal_serve_models_ready{chosen} == 0", "5m", "page",
             "{{ $labels.instance }} serves no model"),
        rule("ArsenalLateCompiles", f"sum by (job, model) (increase(arsenal_serve_late_compiles_total{chosen}[15m])) > 0", "0m",
             "ticket", "{{ $labels.model }} was compiled while callers waited"),
        rule("ArsenalQueue", f"min_over_time(arsenal_serve_queue_rows{chosen}[10m]) > 0", "10m", "ticket",
             "rows wait for the device of {{ $labels.instance }} all the time"),
        rule("ArsenalAuditFails", f"increase(arsenal_serve_audit_failures_total{chosen}[15m]) > 0", "0m", "page",
             "{{ $labels.instance }} cannot write its audit log, and refuses changes"),
        rule("ArsenalNotCounted", f"increase(arsenal_serve_monitor_dropped_total{chosen}[15m]) > 0", "0m", "ticket",
             "{{ $labels.instance }} answers what monitoring does not see"),
        rule("ArsenalFinding", "max by (model, version, kind, name, slice) (arsenal_finding_state) == 2", "0m", "ticket",
             "{{ $labels.kind }} of {{ $labels.model }} {{ $labels.version }}: {{ $labels.name }} {{ $labels.slice }}"),
        rule("ArsenalNothingFound", "time() - max by (model) (arsenal_finding_time_seconds) > 3600", "0m", "ticket",
             "nobody has looked at {{ $labels.model }} for an hour"),
    ]  # fmt: skip
    levels = {"name": "arsenal_levels", "interval": "30s", "rules": records}
    return {"groups": [levels, {"name": "arsenal_alerts", "rules": alerts}]}


def burn_rule(kind: str, allowed: float, burn: tuple[float, str, str, str], what: str) -> dict[str, Any]:
    """The rule of one burn rate: beyond it over the long window, and over the short one, so that it ends soon after its cause."""
    factor, long, short, severity = burn
    bound = f"{factor * allowed:.6g}"
    expr = " and ".join(f"arsenal:{kind}:ratio_rate{window} > {bound}" for window in (long, short))
    share, model = "{{ $value | humanizePercentage }}", "{{ $labels.model }}"
    summary = f"{share} of requests to {model} {what}, beyond {factor:g} times what is allowed"
    return rule(f"Arsenal{kind.capitalize()}{long}", expr, "0m", severity, summary)


def rule(name: str, expr: str, lasts: str, severity: str, summary: str) -> dict[str, Any]:
    """An alerting rule."""
    return {"alert": name, "expr": expr, "for": lasts, "labels": {"severity": severity}, "annotations": {"summary": summary}}


def write_rules(path: Path, promise: Promise = Promise(), job: str = ".+") -> None:  # noqa: B008
    """Write the rules as the YAML that `rule_files` names."""
    import yaml

    write_text(path, yaml.safe_dump(prometheus_rules(promise, job), sort_keys=False, width=200))


def newest_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Of each thing that was looked at the newest finding."""
    newest: dict[tuple[str, ...], Finding] = {}
    for one in findings:
        key = (one.model, one.version, one.kind, one.name, one.slice)
        if key not in newest or newest[key].time <= one.time:
            newest[key] = one
    return [newest[key] for key in sorted(newest)]


def findings_text(findings: Sequence[Finding]) -> str:
    """The newest of the findings as Prometheus' text, for node_exporter's textfile collector."""
    newest = newest_findings(findings)
    lines: list[str] = []
    for name, about, of in (
        ("arsenal_finding_state", "How it is: 0 as it should be, 1 a warning, 2 a breach.", lambda one: RANKS[one.state]),
        ("arsenal_finding_size", "How much it matters, in the unit of its kind.", lambda one: one.size),
        ("arsenal_finding_value", "What was measured.", lambda one: one.value),
        ("arsenal_finding_bound", "What it must keep to.", lambda one: one.bound),
        ("arsenal_finding_rows", "The rows that it is of.", lambda one: one.rows),
        ("arsenal_finding_time_seconds", "When it was found.", lambda one: one.time),
    ):
        samples = [f"{name}{{{labels_text(one)}}} {float(of(one))!r}" for one in newest if of(one) is not None]
        if samples:
            lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge", *samples]
    return "".join(f"{line}\n" for line in lines)


def labels_text(one: Finding) -> str:
    """The labels of a finding."""
    found = {"model": one.model, "version": one.version, "kind": one.kind, "name": one.name, "slice": one.slice}
    escaped = {key: word.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for key, word in found.items()}
    return ",".join(f'{key}="{word}"' for key, word in escaped.items())
