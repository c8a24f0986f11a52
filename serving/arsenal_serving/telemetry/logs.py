"""The log: lines of JSON on stderr, with the ids of a request and its trace, and never what was asked or answered.

By default what an operator must know: answers of status 5xx, with their traceback, and what happens to the server and
its models. With `--log requests` a line for each request.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

import orjson

from arsenal_serving.calls import Call
from arsenal_serving.telemetry.background import Background

FAULTS = {"INTERNAL", "UNAVAILABLE", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED", "DEADLINE_EXCEEDED"}
PROBES = {"live", "ready", "health"}  # whose 503 is an answer
CHANGES = {"load", "unload", "policy"}  # a refused one is always told, and why: no payload is in it
STDERR = 2
SHOWN = 200  # characters of a name that a client gave


class Log:
    """An observer of calls, and `event` for what else happens.

    requests: whether every call has its line. write: takes lines; stderr's unless given.
    """

    def __init__(
        self, requests: bool = False, write: Callable[[bytes], None] | None = None, worker: int | None = None
    ):
        self._requests, self._lines = requests, write or partial(write_all, STDERR)
        self._background = Background(self._write)
        self._worker = {} if worker is None else {"worker": worker}

    @property
    def dropped(self) -> int:
        """Lines that did not fit, or could not be written."""
        return self._background.dropped

    def observe(self, call: Call) -> None:
        """A line for a call, if it is to have one."""
        status = call.status
        if status == 200 or status == "OK":
            if self._requests:
                self._background.put(("info", time.time(), *_facts(call)))
        elif (status >= 500 if isinstance(status, int) else status in FAULTS) and call.operation not in PROBES:
            self._background.put(("error", time.time(), *_facts(call), call.error))
        elif call.operation in CHANGES:
            self._background.put(("warning", time.time(), *_facts(call), call.error))
        elif self._requests:
            self._background.put(("warning", time.time(), *_facts(call)))

    def event(self, level: str, event: str, **fields: Any) -> None:
        """A line for what happens to the server or its models."""
        self._background.put((level, time.time(), {"event": event, **fields}))

    def close(self) -> None:
        """Write what still waits."""
        self._background.close()

    def _write(self, taken: list[tuple]) -> None:
        lines = []
        for level, when, *told in taken:
            head = {"time": stamp(when), "level": level, **self._worker}
            line = head | told[0] if isinstance(told[0], dict) else _line(head, *told)
            try:
                lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            except TypeError:  # a string that is no Unicode; the standard library escapes it
                lines.append(json.dumps(line, default=str).encode() + b"\n")
        self._lines(b"".join(lines))


def _facts(call: Call) -> tuple:
    # Not the call itself: its arrays would be kept for as long as nobody reads the log.
    trace = None if call.trace is None else (*call.trace, call.headers[b"traceparent"])
    return (call.id, call.principal, call.protocol, call.operation, call.model, call.version, call.status,
            call.seconds, call.rows, trace)  # fmt: skip


def _line(
    head: dict[str, Any],
    id: str,
    principal: str,
    protocol: str,
    operation: str,
    model: str,
    version: str,
    status: int | str,
    seconds: float,
    rows: int,
    trace: tuple[str, str, bytes] | None,
    error: str | None = None,
) -> dict[str, Any]:
    line = {
        **head,
        "event": "request",
        "id": id,
        "principal": principal,
        "protocol": protocol,
        "operation": operation,
        "model": model[:SHOWN],
        "version": version,
        "status": status,
        "seconds": round(seconds, 6),
        "rows": rows,
    }
    if trace is not None:
        # The parent's span is in the header still, which was found to be valid.
        line |= {"trace": trace[0], "span": trace[1], "parent": trace[2][36:52].decode()}
    if error is not None:
        line["error"] = error
    return line


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of it, however many writes that takes."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def stamp(when: float) -> str:
    """Seconds since 1970 as RFC 3339 has them, to the microsecond.

    >>> stamp(1.5)
    '1970-01-01T00:00:01.500000Z'
    """
    whole = int(when)
    return f"{_second(whole)}.{int((when - whole) * 1e6):06d}Z"


@lru_cache(64)
def _second(whole: int) -> str:
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
