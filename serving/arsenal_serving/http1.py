"""HTTP/1.1 on the event loop: httptools parses, a handler answers, and nobody can hold a connection for nothing.

A connection hands each request to the handler as an `Exchange`, once: a short one when all of it has come, a long one
at the end of its head, so that it can be refused before its body is read. Bounded: the head, a body, all bodies
together, the connections, how slowly a client may send or read. https://www.rfc-editor.org/rfc/rfc9112

There is no ASGI between: its events and a task for each request cost as much as the rest of a small answer, and it has
no word for a client that is slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socket import socket
from typing import Any, NamedTuple
from urllib.parse import unquote

import httptools

SHORT = 64 << 10  # a body that is waited for before the handler is called
MAX_HEAD = 64 << 10
MAX_PIPELINED = 16
LINGER = 2.0  # seconds in which a client that is still sending can read why it should not
REASONS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

Headers = Iterable[tuple[bytes, bytes]]


class Limits(NamedTuple):
    """max_body: bytes of one body; max_bodies: of all that are being read. max_connections: at once.

    grace, rate: a request must come, and an answer be taken, in `grace` seconds and one more for each `rate` bytes.
    idle: seconds that a connection may wait between requests.
    """

    max_body: int = 64 << 20
    max_bodies: int = 512 << 20
    max_connections: int = 4096
    grace: float = 10.0
    rate: int = 64 << 10
    idle: float = 75.0


DEFAULTS = Limits()


class Exchange:
    """One request, and the way to answer it.

    method: "GET". path: decoded, without the query. headers: names in lower case. address: the client's. body: all of
    it, or None while it is still to be read. refused: a status and a message, where the request is none to be handled.
    began: when its head had come, in seconds of `time.perf_counter`. on_gone: called when the client goes unanswered.
    """

    __slots__ = ("_ended", "_waiter", "address", "answered", "began", "body", "headers", "method", "on_gone", "path",
                 "refused", "via")  # fmt: skip

    def __init__(self, via: Connection, method: str, path: str, headers: dict[bytes, bytes]):
        self.via, self.method, self.path, self.headers = via, method, path, headers
        self.address = via.address
        self.began = time.perf_counter()
        self.body: bytes | None = None
        self.refused: tuple[int, str] | None = None
        self.on_gone: Callable[[], None] | None = None
        self.answered = self._ended = False
        self._waiter: asyncio.Future | None = None

    async def read(self) -> bytes | None:
        """The body, once it is there; None when the client has gone or its request was refused meanwhile."""
        if self.body is None and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.body

    async def left(self) -> None:
        """Wait until the client has gone without an answer."""
        if not (self._ended and self.body is None):
            gone = asyncio.Event()
            self.on_gone = gone.set
            await gone.wait()

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send the answer; the first counts, and none is sent to a client that has gone."""
        if not self.answered:
            self.answered = True
            self.on_gone = None  # it leads back here: without it nothing of a request is left to the collector
            self.via.send(self, status, headers, body)

    def end(self, body: bytes | None) -> None:
        """There is a body, or there will be none."""
        self.body, self._ended = body, True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if body is None and not self.answered and self.refused is None:
            self.answered = True
            if self.on_gone is not None:
                self.on_gone()


Handler = Callable[[Exchange], Any]


class Server:
    """Listens, sweeps out who is too slow, and drains; `handler` is called on the event loop."""

    def __init__(self, handler: Handler, limits: Limits = DEFAULTS, tls: ssl.SSLContext | None = None):
        self.handler, self.limits = handler, limits
        self.connections: set[Connection] = set()
        self.bodies = 0  # bytes of bodies that are being read
        self.draining = False
        self.date = b""
        # Who says nothing while TLS is agreed on is no connection yet, and has as long as for a request.
        self._greeted: dict[str, Any] = {"ssl": tls, "ssl_handshake_timeout": limits.grace} if tls else {}
        self._sockets: list[socket] = []
        self._servers: list[asyncio.Server] = []
        self._sweeping: asyncio.Task | None = None

    async def start(self, *sockets: socket) -> None:
        """Take connections on listening sockets."""
        loop = asyncio.get_running_loop()
        self._tick()
        for listening in sockets:
            made = await loop.create_server(lambda: Connection(self), sock=listening, backlog=2048, **self._greeted)
            self._servers.append(made)
        self._sockets = list(sockets)
        self._sweeping = loop.create_task(self._sweep())

    async def stop(self, seconds: float) -> None:
        """Take nothing new, finish what has begun for so many seconds at most, and close."""
        loop = asyncio.get_running_loop()
        self.draining = True
        # Who the kernel has let in already is answered: closing the socket under them would reset them.
        waiting = [duplicate(listening) for listening in self._sockets]
        for server in self._servers:
            server.close()
        for listening in waiting:
            with listening, contextlib.suppress(OSError):
                while True:
                    made, _ = listening.accept()
                    made.setblocking(False)
                    await loop.connect_accepted_socket(lambda: Connection(self), made, **self._greeted)
        until = loop.time() + seconds
        settled = loop.time() + 0.1  # a request may be on its way on a connection that was idle
        while self.connections and loop.time() < until:
            if loop.time() > settled:
                for connection in list(self.connections):
                    if connection.idle():
                        connection.close()
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _tick(self) -> None:
        self.date = b"date: " + email.utils.formatdate(usegmt=True).encode() + b"\r\n"

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._tick()
            now = time.perf_counter()
            for connection in list(self.connections):
                connection.check(now)


def duplicate(listening: socket) -> socket:
    """The same listening socket under another descriptor, not blocking."""
    again = listening.dup()
    again.setblocking(False)
    return again


class Connection(asyncio.Protocol):
    """One client: its requests in their order, one at a time."""

    def __init__(self, server: Server):
        self.server, self.limits = server, server.limits
        self.address = ""
        self._parser = httptools.HttpRequestParser(self)
        self._target, self._headers = b"", dict[bytes, bytes]()
        self._pieces: list[bytes] = []
        self._length = self._head = self._size = 0
        self._reading: Exchange | None = None  # whose head has come, and not yet all of its body
        self._queue: deque[Exchange] = deque()  # of which the first is being answered
        self._since: float | None = None  # since when a request is coming
        self._quiet = time.perf_counter()  # since when nothing is
        self._unsent = (0.0, 0)  # since when the client has not read, and how much it had to
        self._last = False  # nothing is read after what is being answered
        self._paused = False
        self._lingering = 0.0  # until when what a refused client still sends is thrown away

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's word for a client that has come."""
        self._transport: Any = transport
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if isinstance(peer, tuple) else ""
        self.server.connections.add(self)
        if len(self.server.connections) > self.limits.max_connections:
            self._refuse(503, f"there are {self.limits.max_connections} connections, as many as may be")

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's word for a client that has gone."""
        self.server.connections.discard(self)
        self._forget()
        if self._reading is not None:
            self._reading.end(None)
        for exchange in self._queue:
            exchange.end(None)
        self._queue.clear()

    def pause_writing(self) -> None:
        """asyncio's word for a client that reads slowly."""
        self._unsent = (time.perf_counter(), self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """asyncio's word for one that has caught up."""
        self._unsent = (0.0, 0)

    def data_received(self, data: bytes) -> None:
        """asyncio's word for what a client sends."""
        if self._lingering:
            return
        self._head += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._last = True  # no other protocol is spoken here: it is answered as if it had not asked
        except httptools.HttpParserError as error:
            self._refuse(400, f"this is not HTTP/1.1: {error}")
            return
        if self._reading is None and self._since is not None and self._head > MAX_HEAD:
            self._refuse(431, f"the head of a request must be at most {MAX_HEAD} bytes")

    def on_message_begin(self) -> None:
        """httptools' word for the first byte of a request."""
        if not self._lingering:
            self._since, self._head, self._size = time.perf_counter(), 0, 0

    def on_url(self, url: bytes) -> None:
        """httptools' word for a piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools' word for a header."""
        self._size += len(name) + len(value) + 4
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """httptools' word for the end of a head."""
        if self._lingering:
            return
        target, self._target = self._target.partition(b"?")[0], b""
        headers, self._headers = self._headers, {}
        if not target.startswith(b"/") and b"://" in target:
            with contextlib.suppress(httptools.HttpParserInvalidURLError):
                target = httptools.parse_url(target).path or b"/"
        path = unquote(target.decode("latin-1")) if b"%" in target else target.decode("latin-1")
        exchange = Exchange(self, self._parser.get_method().decode("latin-1"), path, headers)
        self._reading, self._head = exchange, 0
        said = headers.get(b"content-length", b"0")
        length = int(said) if said.isdigit() else 0
        if self._size + len(target) > MAX_HEAD:
            self._refuse(431, f"the head of a request must be at most {MAX_HEAD} bytes")
        elif length > self.limits.max_body:
            self._refuse(413, f"the body must be at most {self.limits.max_body} bytes")
        elif length > SHORT or b"transfer-encoding" in headers:
            self._begin(exchange)
        if headers.get(b"expect", b"").lower() == b"100-continue" and not self._lingering:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """httptools' word for a piece of a body."""
        if self._lingering:
            return
        self._pieces.append(body)
        self._length += len(body)
        self.server.bodies += len(body)
        if self._length > self.limits.max_body:
            self._refuse(413, f"the body must be at most {self.limits.max_body} bytes")
        elif self.server.bodies > self.limits.max_bodies:
            self._refuse(503, "the server is reading as many bytes as it may; try again")

    def on_message_complete(self) -> None:
        """httptools' word for the end of a request."""
        if self._lingering or self._reading is None:
            return
        exchange, self._reading = self._reading, None
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._forget()
        self._since, self._quiet = None, time.perf_counter()
        if not self._parser.should_keep_alive():
            self._last = True
        begun = bool(self._queue) and self._queue[-1] is exchange
        exchange.end(body)
        if not begun:
            self._begin(exchange)

    def send(self, exchange: Exchange, status: int, headers: Headers, body: bytes) -> None:
        """Write an answer, and hand the next request to the handler."""
        unread = exchange is self._reading
        last = unread or self.server.draining or (self._last and len(self._queue) == 1)
        pieces = [REASONS[status], self.server.date]
        for name, value in headers:
            pieces += (name, b": ", value, b"\r\n")
        pieces.append(b"content-length: %d\r\n" % len(body))
        pieces.append(b"connection: close\r\n\r\n" if last else b"\r\n")
        if exchange.method != "HEAD":
            pieces.append(body)
        self._transport.write(b"".join(pieces))
        self._queue.popleft()
        self._quiet = time.perf_counter()
        if unread:
            self._lingering = self._lingering or self._quiet + LINGER
            if self._transport.can_write_eof():
                self._transport.write_eof()
        elif last:
            self.close()
        elif self._queue:
            self.server.handler(self._queue[0])
        if self._paused and not last:
            self._paused = False
            self._transport.resume_reading()

    def idle(self) -> bool:
        """Whether nothing has come that is to be answered."""
        return not self._queue and self._reading is None and self._since is None

    def check(self, now: float) -> None:
        """End it where its client is too slow."""
        limits = self.limits
        if self._lingering:
            if now > self._lingering:
                self.abort()
        elif self._since is not None and not self._paused:
            allowed = limits.grace + (self._length + self._head) / limits.rate
            if now - self._since > allowed:
                self._refuse(408, f"a request must come within {limits.grace:g} s and {limits.rate} bytes a second")
        elif self.idle() and now - self._quiet > limits.idle:
            self.close()
        since, size = self._unsent
        if since:
            left = self._transport.get_write_buffer_size()
            if now - since > limits.grace + (size - left) / limits.rate:
                self.abort()

    def close(self) -> None:
        """Close it once what was written is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close it now."""
        self._transport.abort()

    def _begin(self, exchange: Exchange) -> None:
        self._queue.append(exchange)
        if len(self._queue) == 1:
            self.server.handler(exchange)
        elif len(self._queue) >= MAX_PIPELINED:
            self._paused = True
            self._transport.pause_reading()

    def _forget(self) -> None:
        self.server.bodies -= self._length
        self._pieces, self._length = [], 0

    def _refuse(self, status: int, message: str) -> None:
        """Have the handler word an answer to what has begun to come, read no more, and close."""
        exchange = self._reading = self._reading or Exchange(self, "GET", "", {})
        exchange.refused = (status, message)
        self._lingering = time.perf_counter() + LINGER
        self._forget()
        if exchange in self._queue:
            exchange.end(None)
        else:
            self._begin(exchange)
