"""Asks a server over HTTP on many connections at once and times the answers, for `bench`, `replay` and benchmarks."""

from __future__ import annotations

import asyncio
import ssl
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httptools
import orjson

from arsenal_serving.refused import Refused, show

PATIENCE = 10.0  # seconds that a server may refuse connections


class Place(NamedTuple):
    """Where a server is, and the headers that it is to be asked with."""

    host: str
    port: int
    path: str
    secure: bool
    headers: Mapping[str, str]

    def request(self, path: str, body: bytes, **more: str) -> bytes:
        """The bytes of a POST."""
        said = {"Host": self.host, "Content-Type": "application/json", **self.headers, **more}
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items())]
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body

    def fetched(self, path: str, body: bytes | None = None) -> Any:
        """The JSON at a path; raises `Refused` where there is none."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        url = f"http{'s' if self.secure else ''}://{host}:{self.port}{path}"
        try:
            headers = {"Content-Type": "application/json", **self.headers}
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
                return orjson.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise Refused(
                f"{url} answers {error.code}: {show(error.read(300).decode(errors='replace'), 300)}"
            ) from error
        except (OSError, orjson.JSONDecodeError) as error:
            raise Refused(f"{url}: {getattr(error, 'reason', error)}") from error


def place(url: str, headers: Sequence[str] = ()) -> Place:
    """Where a URL points, and headers as "Name: value"; raises `Refused`.

    >>> place("http://[::1]:8000/v2/models/flowers")[:3]
    ('::1', 8000, '/v2/models/flowers')
    """
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError as error:
        raise Refused(f"{show(url)} is no URL: {error}.") from error
    if found.scheme not in ("http", "https") or not found.hostname:
        raise Refused(f"a URL must be like http://HOST:PORT; got {show(url)}.")
    named = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip() or any(ord(letter) < 32 for letter in header):
            raise Refused(f"--header must be like 'Name: value'; got {show(header)}.")
        named[name.strip()] = value.strip()
    secure = found.scheme == "https"
    return Place(found.hostname, port or (443 if secure else 80), found.path.rstrip("/"), secure, named)


class Question(NamedTuple):
    """What to send, and not before when, in seconds of `time.perf_counter`. which: what its answer is told with."""

    which: Any
    content: bytes
    at: float = 0.0


class Asking:
    """What all connections share.

    next: the next question, None when it is enough. answered: told which question had which status, body and seconds.
    took: seconds of each answer; wrong: how many were not 200, by status, "lost" with a connection, or "refused" one.
    """

    def __init__(
        self,
        next: Callable[[], Question | None],
        answered: Callable[[Any, int, bytes, float], None] | None = None,
        patience: float = PATIENCE,
    ):
        self.next, self.answered, self.patience = next, answered, patience
        self.took: list[float] = []
        self.wrong: Counter[str] = Counter()


class ClientConnection(asyncio.Protocol):
    """Asks again as soon as it was answered. ended: whether it is enough."""

    def __init__(self, asking: Asking):
        self.asking, self.ended = asking, asyncio.get_running_loop().create_future()
        self._question: Question | None = None
        self._pieces: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's word for a connection."""
        self._transport: Any = transport
        self._parser = httptools.HttpResponseParser(self)
        self._ask()

    def _ask(self) -> None:
        question = self.asking.next()
        if question is None:
            self._finish(True)
        elif (wait := question.at - time.perf_counter()) > 0:
            asyncio.get_running_loop().call_later(wait, self._send, question)
        else:
            self._send(question)

    def _send(self, question: Question) -> None:
        self._question, self._since = question, time.perf_counter()
        self._transport.write(question.content)

    def data_received(self, data: bytes) -> None:
        """asyncio's word for what comes."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """httptools' word for a piece of an answer."""
        if self.asking.answered:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """httptools' word for the end of an answer."""
        took, question, self._question = time.perf_counter() - self._since, self._question, None
        status = self._parser.get_status_code()
        self.asking.took.append(took)
        if status != 200:
            self.asking.wrong[str(status)] += 1
        if self.asking.answered and question:
            body, self._pieces = b"".join(self._pieces), []
            self.asking.answered(question.which, status, body, took)
        if self._parser.should_keep_alive():
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's word for a connection that has ended, perhaps before its answer."""
        if self._question is not None:
            self.asking.wrong["lost"] += 1
            if self.asking.answered:
                self.asking.answered(self._question.which, 0, b"", time.perf_counter() - self._since)
        self._finish(False)

    def _finish(self, enough: bool) -> None:
        if not self.ended.done():
            self.ended.set_result(enough)
        self._transport.close()


async def ask(asking: Asking, where: Place, connections: int) -> None:
    """Ask on so many connections until it is enough; one that the server closes is opened again."""
    tls = ssl.create_default_context() if where.secure else None

    async def one() -> None:
        loop, until = asyncio.get_running_loop(), time.perf_counter() + asking.patience
        while True:
            try:
                made = lambda: ClientConnection(asking)  # noqa: E731
                _, connection = await loop.create_connection(made, where.host, where.port, ssl=tls)
            except OSError:
                asking.wrong["refused"] += 1
                await asyncio.sleep(0.01)
                if time.perf_counter() >= until:
                    return
                continue
            if await connection.ended:
                return
            until = time.perf_counter() + asking.patience

    await asyncio.gather(*(one() for _ in range(connections)))


def latencies(seconds: Sequence[float]) -> dict[str, float | None]:
    """The median and the 99th percentile, in milliseconds; None of nothing."""
    ranked = sorted(seconds)
    if not ranked:
        return {"median_ms": None, "p99_ms": None}
    return {"median_ms": ranked[len(ranked) // 2] * 1e3, "p99_ms": ranked[len(ranked) * 99 // 100] * 1e3}
