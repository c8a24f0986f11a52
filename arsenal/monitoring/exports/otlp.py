"""OpenTelemetry: findings as log records and as gauges, by OTLP/HTTP in JSON.

https://opentelemetry.io/docs/specs/otlp, version 1.5: names in lowerCamelCase, 64-bit integers as decimal strings.
"""

from collections.abc import Sequence
from typing import Any

from arsenal import __version__
from arsenal.monitoring.exports.prometheus import RANKS, newest_findings
from arsenal.monitoring.findings import Finding

SEVERITIES = {"ok": (9, "INFO"), "warning": (13, "WARN"), "breach": (17, "ERROR")}
"""Numbers and words of the log data model."""
MOST = 1000
"""Findings that one request carries."""


def attribute(key: str, value: Any) -> dict[str, Any]:
    """A key with its value."""
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    return {"key": key, "value": {"doubleValue": value} if isinstance(value, float) else {"stringValue": str(value)}}


def attributes_of(one: Finding) -> list[dict[str, Any]]:
    """What a finding is of."""
    found = {"model": one.model, "version": one.version, "kind": one.kind, "name": one.name, "slice": one.slice}
    return [attribute(f"arsenal.{key}", value) for key, value in found.items() if value]


def nanoseconds(seconds: float) -> str:
    """A time as OTLP's JSON has it."""
    return str(round(seconds * 1e6) * 1000)


def wrap(service: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Who tells, and by what."""
    return {"attributes": [attribute("service.name", service)]}, {"name": "arsenal.monitoring", "version": __version__}


def otlp_logs(findings: Sequence[Finding], service: str = "arsenal") -> dict[str, Any]:
    """An ExportLogsServiceRequest: a record for each finding."""
    records = []
    for one in findings:
        number, word = SEVERITIES[one.state]
        facts = {"state": one.state, "value": one.value, "bound": one.bound, "size": one.size, "p": one.p, "rows": one.rows,
                 "since": one.window[0], "until": one.window[1]}  # fmt: skip
        more = [attribute(f"arsenal.{key}", value) for key, value in facts.items() if value is not None]
        at, said = nanoseconds(one.time), one.why or f"{one.kind} of {one.name} is {one.state}"
        records.append({"timeUnixNano": at, "observedTimeUnixNano": at, "severityNumber": number, "severityText": word,
                        "body": {"stringValue": said}, "attributes": attributes_of(one) + more})  # fmt: skip
    resource, scope = wrap(service)
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [{"scope": scope, "logRecords": records}]}]}


def otlp_metrics(findings: Sequence[Finding], service: str = "arsenal") -> dict[str, Any]:
    """An ExportMetricsServiceRequest: gauges of the newest findings."""
    metrics = []
    newest = newest_findings(findings)
    for name, about, of in (
        ("state", "0 as it should be, 1 a warning, 2 a breach", lambda one: float(RANKS[one.state])),
        ("size", "how much it matters, in the unit of its kind", lambda one: one.size),
        ("value", "what was measured", lambda one: one.value),
    ):
        points = [{"timeUnixNano": nanoseconds(one.time), "asDouble": of(one), "attributes": attributes_of(one)}
                  for one in newest if of(one) is not None]  # fmt: skip
        if points:
            gauge = {"dataPoints": points}
            metrics.append({"name": f"arsenal.finding.{name}", "description": about, "unit": "1", "gauge": gauge})
    resource, scope = wrap(service)
    return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"scope": scope, "metrics": metrics}]}]}


def send_otlp(url: str, findings: Sequence[Finding], service: str = "arsenal") -> None:
    """Send findings to a collector, as http://localhost:4318; `DeliveryError` where it does not take them."""
    from arsenal.monitoring.alerts.channels import post_json

    for at in range(0, len(findings), MOST):
        post_json(f"{url.rstrip('/')}/v1/logs", otlp_logs(findings[at : at + MOST], service))
    newest = newest_findings(findings)
    for at in range(0, len(newest), MOST):
        post_json(f"{url.rstrip('/')}/v1/metrics", otlp_metrics(newest[at : at + MOST], service))
