"""Prometheus: service levels as rules on what `arsenal-serve` tells of itself, and findings in the text that its collectors read.

https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules and /docs/instrumenting/exposition_formats.
"""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from arsenal.monitoring.findings import Finding
from arsenal.monitoring.levels import COUNTED, RATES, RULES, SPANS, Objective, ServiceLevels, expressions_of, span
from arsenal.refusal import Refusal
from arsenal.storage.files import write_text

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds at which the server counts durations, so that a level can be promised there and nowhere else."""
SEVERITIES = {"breach": "page", "warning": "ticket"}
"""Who hears of it."""
RANKS = {"ok": 0, "warning": 1, "breach": 2}


class ExportError(Refusal):
    """What cannot be said in the words of others."""


PROMISED = ServiceLevels((Objective("failed", "errors", 0.999), Objective("slow", "latency", 0.99, within=0.25)))
"""What a server is to keep to over thirty days unless its objectives say otherwise."""


def prometheus_rules(levels: ServiceLevels = PROMISED, job: str = ".+") -> dict[str, Any]:
    """Groups of alerting rules. `job`: of the servers, a regular expression.

    Raises `ExportError` for an objective that the server's counts cannot tell.
    """
    for one in levels.objectives:
        if one.measure == "latency" and one.within not in BUCKETS:
            near = min(BUCKETS, key=lambda bound: abs(math.log(bound / one.within)))
            allowed = ", ".join(f"{bound:g}" for bound in BUCKETS)
            raise ExportError(f"`within` of `{one.name}` must be one of {allowed}; got {one.within:g}. Did you mean {near:g}?")
    chosen = f'{{job=~"{job}"}}'
    alerts = [
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
    promised = [found for one in levels.objectives for found in level_rules(one, levels.window, job)]
    return {"groups": [{"name": "arsenal_levels", "rules": promised}, {"name": "arsenal_alerts", "rules": alerts}]}


def level_rules(one: Objective, window: float, job: str = ".+") -> list[dict[str, Any]]:
    """The rules of an objective: one for each pair of windows over which its budget burns, or one for what has a bound."""
    by = "job, model" if one.measure in COUNTED else "job, instance"
    called = "Arsenal" + "".join(word.capitalize() for word in re.split(r"\W+|_", one.name))
    bad, total = expressions_of(one, job, by)
    place = "{{ $labels.model }}" if one.measure in COUNTED else "{{ $labels.instance }}"
    if (seconds := SPANS.get(one.measure)) is not None:
        count = total.replace("WINDOW", span(seconds))
        rate = count if one.measure == "compiles" else f"{count} / {seconds:g}"
        least = one.measure == "throughput"
        expr = f"{rate} {'<' if least else '>'} {one.least if least else one.most:g}"
        return [rule(called, expr, "0m", "page", f"{place}: {one.name}, {{{{ $value }}}} {RATES[one.measure]}")]
    made = []
    for burn in RULES:
        factor = burn.share * window / burn.long
        share = f"{bad} / ({total} > 0) > {factor * (1 - one.target):.6g}"
        expr = " and ".join(share.replace("WINDOW", span(length)) for length in (burn.long, burn.short))
        what = "of requests are not good" if one.measure in COUNTED else "of looks are above the bound"
        beyond = f"beyond {factor:g} times what the objective {one.name} allows"
        summary = f"{place}: {{{{ $value | humanizePercentage }}}} {what}, {beyond}"
        made.append(rule(f"{called}{span(burn.long)}", expr, "0m", SEVERITIES[burn.state], summary))
    return made


def rule(name: str, expr: str, lasts: str, severity: str, summary: str) -> dict[str, Any]:
    """An alerting rule."""
    return {"alert": name, "expr": expr, "for": lasts, "labels": {"severity": severity}, "annotations": {"summary": summary}}


def write_rules(path: Path, levels: ServiceLevels = PROMISED, job: str = ".+") -> None:
    """Write the rules as the YAML that `rule_files` names."""
    import yaml

    write_text(path, yaml.safe_dump(prometheus_rules(levels, job), sort_keys=False, width=1000))


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
