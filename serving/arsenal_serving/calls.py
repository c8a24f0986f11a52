"""One request as what stands around an answer sees it: who asks for what, and how it ended.

A protocol makes a `Call` for each request. Before the work it is admitted (`Admit`: authentication, scopes, rates);
after the answer each observer sees it (`Observer`: metrics, logs, request log, shadow traffic, rollback), in their
order and on the event loop, so an observer is quick and never raises.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

# What a caller may be allowed: `live` is open to all, `read` is metadata, statistics and documents.
LIVE, READ, INFER, METRICS, ADMIN = "live", "read", "infer", "metrics", "admin"


class Stop(Exception):
    """Ends a request with an HTTP status of its own, and headers; everything else that is refused is a 400."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]):
        super().__init__(message)
        self.status, self.headers = status, headers


class Call:
    """A request.

    protocol: "http" or "grpc". operation: the last word of its route, "infer", "predict", "metadata", "load". headers:
    in lower case, gRPC's metadata alike. address: the client's. model: as the client named it. method, version: what
    was found. key: what a sticky choice between versions hangs on. principal: who asks, once admitted. scopes: what
    it may do, None for everything. id: the request's. inputs, answers: named arrays of an inference that succeeded so
    far. dialect: whose clients ask, "openai" or nobody's in particular. status: HTTP's, or the name of gRPC's code; 0
    for a client that went away. seconds: from the head of the request to the end of the answer.
    """

    __slots__ = (
        "address",
        "answers",
        "began",
        "dialect",
        "error",
        "headers",
        "id",
        "inputs",
        "key",
        "method",
        "model",
        "operation",
        "principal",
        "protocol",
        "rows",
        "scopes",
        "seconds",
        "status",
        "trace",
        "version",
    )

    def __init__(self, protocol: str, headers: Mapping[bytes, bytes], address: str = ""):
        self.protocol, self.headers, self.address = protocol, headers, address
        self.operation = self.model = self.method = self.version = self.principal = self.id = ""
        self.inputs: dict[str, Any] | None = None
        self.answers: dict[str, Any] | None = None
        self.key: bytes | None = None
        self.scopes: frozenset[str] | None = None
        self.trace: tuple[str, str] | None = None  # W3C trace and parent ids
        self.rows = 0
        self.status: int | str = 0
        self.dialect = ""
        self.error = ""
        self.seconds = 0.0
        self.began = time.perf_counter()


Admit = Callable[[Call, str], None]
Observer = Callable[[Call], None]


def anybody(call: Call, need: str) -> None:
    """Admit every call: for a server that listens to its own machine only."""
