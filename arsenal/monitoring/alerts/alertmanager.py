"""Alertmanager's API, both ways: alerts are told to it, and its webhook and what Prometheus would send to it become findings.

Version 2 of https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml; the webhook of
https://prometheus.io/docs/alerting/latest/configuration/#webhook_config.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from arsenal.monitoring.alerts.channels import post_json
from arsenal.monitoring.alerts.machine import ON, Alert
from arsenal.monitoring.findings import Finding, append_findings
from arsenal.refusal import Refusal

EVERY = 60.0
"""Seconds between two times that alerts are told anew, as Prometheus does."""
LASTS = 240.0
"""Seconds after which Alertmanager takes an alert for over that it is told no more."""
SOURCE = "arsenal"
NAMED = ("alertname", "model", "version", "severity")
"""Labels that have a field of their own in a finding; the others are its slice."""
MOST = 4 << 20
"""Bytes of a body that is read."""


def as_alertmanager(alerts: Iterable[Alert], now: float) -> list[dict[str, Any]]:
    """What is on, and what ended a little ago, as Alertmanager's API has it."""
    found = []
    for one in alerts:
        if one.state in ON or (one.state == "resolved" and one.fired and now - one.resolved < LASTS):
            labels = {"alertname": one.labels["rule"], "source": SOURCE}
            labels |= {label: word for label, word in one.labels.items() if word and label != "rule"}
            ends = now + LASTS if one.state in ON else one.resolved
            note = {"summary": one.why, "key": one.key} | ({"acknowledged_by": one.by} if one.state == "acknowledged" else {})
            found.append({"labels": labels, "annotations": note, "startsAt": write_stamp(one.fired), "endsAt": write_stamp(ends)})
    return found


def tell_alertmanager(url: str, alerts: Iterable[Alert], now: float) -> int:
    """Tell it what is on; how many those were. `DeliveryError` where it does not take them."""
    told = as_alertmanager(alerts, now)
    for at in range(0, len(told), 500):
        post_json(f"{url}/api/v2/alerts", told[at : at + 500])
    return len(told)


def from_alertmanager(given: Any, now: float) -> list[Finding]:
    """Findings of a webhook's body or of a list of alerts; those that came from here are left out.

    Raises ValueError for a body that is neither.
    """
    alerts = given.get("alerts") if isinstance(given, Mapping) else given
    if not isinstance(alerts, list) or not all(isinstance(one, Mapping) and is_labelled(one) for one in alerts):
        raise ValueError("the body must be a list of alerts with labels, alertname among them, or a mapping with `alerts`")
    found = []
    for one in alerts:
        labels, notes = one["labels"], one.get("annotations") or {}
        if labels.get("source") == SOURCE:
            continue
        since, ends = (read_stamp(one.get(key)) for key in ("startsAt", "endsAt"))
        over = one["status"] == "resolved" if "status" in one else ends is not None and 0 < ends <= now
        rest = ",".join(f"{key}={labels[key]}" for key in sorted(labels) if key not in NAMED)
        found.append(Finding(
            now, str(labels.get("model", labels.get("job", ""))), str(labels.get("version", "")), "service_level",
            str(labels.get("alertname", "")), "ok" if over else "warning" if labels.get("severity") == "warning" else "breach",
            window=(since or now, now), slice=rest, why=str(notes.get("summary") or notes.get("description") or ""),
        ))  # fmt: skip
    return found


def is_labelled(alert: Mapping[str, Any]) -> bool:
    """Whether an alert has labels, one of which says what it is."""
    labels = alert.get("labels")
    return isinstance(labels, Mapping) and bool(labels.get("alertname"))


def write_stamp(seconds: float) -> str:
    """A time as RFC 3339 has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_stamp(text: Any) -> float | None:
    """The seconds of such a time; None where it is none, or Go's zero."""
    try:
        found = datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
    return found if found > 0 else None


def listen(address: str, target: Path, hear: Callable[[list[Finding]], None] = lambda found: None) -> ThreadingHTTPServer:
    """Serve, in a thread, `POST /api/v2/alerts` for Prometheus and `POST /alertmanager` for Alertmanager's webhook.

    What comes is appended to `target` as findings, before it is answered; `hear` is told of them. Raises `Refusal` for an
    address that cannot be had.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise Refusal(f"`listen` must be HOST:PORT; got {address}.")

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            """Take alerts."""
            self.answer(*self.take())

        def take(self) -> tuple[int, str]:
            """The status of the answer, and what it says."""
            path = self.path.partition("?")[0].rstrip("/")
            length = self.headers.get("Content-Length", "")
            if path not in ("/api/v2/alerts", "/alertmanager"):
                return (404, "there are POST /api/v2/alerts and POST /alertmanager")
            if not length.isdigit() or int(length) > MOST:
                return (413, f"a body has a length of at most {MOST} bytes")
            try:
                found = from_alertmanager(json.loads(self.rfile.read(int(length))), time.time())
            except (ValueError, TypeError) as error:
                return (400, str(error))
            try:
                append_findings(target, found)
            except OSError as error:
                return (503, f"findings cannot be written: {error.strerror}")
            hear(found)
            return 200, ""

        def answer(self, code: int, said: str) -> None:
            """Answer in a word."""
            content = json.dumps(said).encode() if said else b""
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing of each."""

    try:
        server = ThreadingHTTPServer((host, int(port)), Handler)
    except OSError as error:
        raise Refusal(f"`listen`: {address} cannot be had: {error.strerror or error}.") from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
