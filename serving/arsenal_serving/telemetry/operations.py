"""What stands around the answers of a running server: metrics, logs, the audit log and the request log."""

from __future__ import annotations

import argparse
import asyncio
import os
from typing import TYPE_CHECKING, Any

from arsenal_serving import __version__
from arsenal_serving.calls import Stop
from arsenal_serving.refused import Refused
from arsenal_serving.telemetry.audit import Audit
from arsenal_serving.telemetry.logs import Log
from arsenal_serving.telemetry.redaction import Redaction
from arsenal_serving.telemetry.turning import TurningFiles

if TYPE_CHECKING:  # it imports jax, which takes a second: not before the arguments are known to be good
    from arsenal_serving.protocols.serving import Serving

LOG, REQUEST_LOG = 256 << 20, 1 << 30  # bytes of the logs in a folder
SAMPLE, WINDOW = 0.01, 60.0  # of the requests; seconds
OPTIONS_OF = {
    "--redact": ("--request-log", "--monitor"),
    "--sample": ("--request-log",),
    "--request-log-bytes": ("--request-log",),
    "--monitor-window": ("--monitor",),
    "--log-bytes": ("--log-to",),
}
REFRESH = 1.0  # seconds between two times that a worker tells the others what it counted


def options(parser: argparse.ArgumentParser) -> None:
    """The options of this module."""
    group = parser.add_argument_group("logs")
    group.add_argument(
        "--log", choices=("errors", "requests"), default="errors", help="lines on stderr (default: %(default)s)"
    )
    group.add_argument("--log-to", metavar="FOLDER", help="write these lines there, in files that turn over")
    group.add_argument(
        "--log-bytes", type=_size, metavar="N", help="in all; the oldest go (default: 256 MiB)"
    )
    group.add_argument("--audit", metavar="FILE", help="append who changed what, as a chain of hashes")
    group.add_argument("--request-log", metavar="FOLDER", help="keep a sample of requests and answers; off otherwise")
    group.add_argument("--sample", type=_share, metavar="SHARE", help=f"of the requests (default: {SAMPLE})")
    group.add_argument(
        "--redact",
        action="append",
        default=[],
        metavar="INPUT[.COLUMN]",
        help="neither kept nor counted; an output alike; 'x.*name*' fits several; repeatable",
    )
    group.add_argument(
        "--monitor", metavar="FOLDER", help="count how what is asked is distributed, beside what the model learned from"
    )
    group.add_argument(
        "--monitor-window", type=_seconds, metavar="S", help="of each file (default: 60 seconds)"
    )
    group.add_argument(
        "--request-log-bytes", type=_size, metavar="N", help="in all; the oldest go (default: 1 GiB)"
    )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most 1; got {text!r}")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 1.0 <= value <= 86_400.0:
        raise argparse.ArgumentTypeError(f"must be 1 to 86400 seconds; got {text!r}")
    return value


def _given(given: argparse.Namespace, option: str) -> Any:
    return getattr(given, option.removeprefix("--").replace("-", "_"))


def _size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1 << 20:
        raise argparse.ArgumentTypeError(f"must be at least {1 << 20}; got {text!r}")
    return int(text)


class Operations:
    """As the command's options say; `serving` is what was given, watched. Raises `Refused` for a log that is none.

    worker: which of several this process is.

    `begin` on the event loop, `ready` when models are, `drain` when nothing new is taken, `close` at the end.
    """

    def __init__(self, given: argparse.Namespace, serving: Serving, worker: int | None = None):
        from arsenal_serving.telemetry.metrics import Metrics
        from arsenal_serving.telemetry.request_log import RequestLog
        from arsenal_serving.telemetry.watcher import Watcher

        self._repository, self._said_ready, self._worker = serving.repository, False, worker
        self._audit = Audit(given.audit) if given.audit else None
        self._requests, self._redaction = None, Redaction(given.redact)
        for option, of in OPTIONS_OF.items():
            if _given(given, option) and not any(_given(given, one) for one in of):
                raise Refused(f"{option} needs {' or '.join(f'{one} FOLDER' for one in of)}.")
        if given.request_log:
            self._requests = RequestLog(
                given.request_log,
                self._repository,
                given.sample or SAMPLE,
                self._redaction,
                given.request_log_bytes or REQUEST_LOG,
            )
        try:
            files = TurningFiles(given.log_to, "server", given.log_bytes or LOG) if given.log_to else None
        except OSError as error:
            raise Refused(f"the log {given.log_to} cannot be written: {error.strerror}.") from error
        self._log = log = Log(given.log == "requests", files.append if files else None, worker)
        observers: list[Any] = [log.observe]
        counts: list[Any] = [("log_lines_dropped", "Lines of the log that were not written.", lambda: log.dropped)]
        if (audit := self._audit) is not None:
            observers.append(audit.observe)
            counts.append(("audit_failures", "Lines that the audit log did not take.", lambda: audit.failures))
            try:
                audit.record("start", {**self._process(), "server": __version__, "folder": str(given.folder)})
            except Stop as error:
                raise Refused(str(error).replace("; nothing was changed", "")) from error
        if (requests := self._requests) is not None:
            observers.append(requests.observe)
            about = "Requests of the sample that are not in the request log."
            counts.append(("request_log_dropped", about, lambda: requests.dropped))
        self._watcher = (
            Watcher(given.monitor, self._repository, given.monitor_window or WINDOW, self._redaction)
            if given.monitor
            else None
        )
        if (watcher := self._watcher) is not None:
            observers.append(watcher.observe)
            about = "Inferences that monitoring did not count, and windows that it could not write."
            counts.append(("monitor_dropped", about, lambda: watcher.dropped + watcher.failed))
        self._metrics = Metrics(self._repository, serving.engine, counts)
        self._repository.on_change = self.changed
        self.serving = serving._replace(
            observers=(self._metrics.observe, *serving.observers, *observers),
            metrics=self._metrics.expose,
        )

    def changed(self, event: str, details: dict[str, Any]) -> None:
        """Tell of a change before it takes effect; raises `Stop` where the audit log does not take it."""
        if self._audit is not None:
            try:
                self._audit.record(event, details)
            except Stop as error:
                self._log.event("error", "audit", error=str(error))
                raise
        self._log.event("info", event, **details)

    def begin(self) -> None:
        """From now on other workers know what this one counts."""
        if self._worker is not None:
            self._metrics.refresh()
            asyncio.get_running_loop().call_later(REFRESH, self.begin)

    def _tick(self) -> None:
        if self._watcher is not None:
            self._watcher.tick()
            asyncio.get_running_loop().call_later(REFRESH, self._tick)

    def ready(self) -> None:
        """Say that models are ready; raises `Refused` for what should be redacted and is nowhere."""
        self._redaction.check(self._repository)
        models = [f"{name}/{version}" for name, version, _ in self._repository.ready()]
        if self._watcher is not None:
            self._tick()
            for name, version, model in self._repository.ready():
                if model.reference is None:
                    self._log.event("warning", "no reference", model=name, version=version)
        self._said_ready = True
        self._log.event("info", "ready", **self._process(), models=models)

    def drain(self, seconds: float) -> None:
        """Say that nothing new is taken."""
        if self._said_ready:
            self._log.event("info", "drain", **self._process(), most=seconds)

    def close(self) -> None:
        """Write the last lines of all logs."""
        if self._requests is not None:
            self._requests.close()
        if self._watcher is not None:
            self._watcher.close()
        if self._audit is not None:
            try:
                self._audit.record("stop", self._process())
            except Stop as error:
                self._log.event("error", "audit", error=str(error))
            self._audit.close()
        if self._said_ready:
            self._log.event("info", "stop", **self._process())
        self._log.close()

    def _process(self) -> dict[str, Any]:
        return {"process": os.getpid()} | ({} if self._worker is None else {"worker": self._worker})
