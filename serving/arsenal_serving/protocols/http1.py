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
import re
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
MAX_HEAD = 64 << 10  # with the trailers; and what may stand between two pieces of a body
MAX_TARGET = 16 << 10
MAX_PIPELINED = 16
SLICE = 4 << 10  # the parser gets so much at once, so that one read brings few requests beyond MAX_PIPELINED
SWEEP = 1.0  # seconds between two looks at who is too slow
LINGER = 2.0  # seconds in which a client that is still sending can read why it should not
# uri-host [":" port], RFC 9112, 3.2 and RFC 3986, 3.2.2
HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
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

    method: "GET". path: decoded, without the query; a slash that was encoded stays so, "%2F". headers: names in lower
    case; of those that came twice the values with commas between. host: the one that is asked, as it was sent. address:
    the client's. body: all of it, or None while it is still to be read. refused: a status and a message, where the
    request is none to be handled. began: when its head had come, in seconds of `time.perf_counter`. on_gone: called
    when the client goes unanswered.
    """

    __slots__ = ("_ended", "_waiter", "address", "answered", "began", "body", "expecting", "headers", "host", "method",
                 "on_gone", "path", "refused", "streaming", "via")  # fmt: skip

    def __init__(self, via: Connection, method: str, path: str, headers: dict[bytes, bytes], host: bytes = b""):
        self.via, self.method, self.path, self.headers, self.host = via, method, path, headers, host
        self.expecting = False  # the client waits for "100 Continue" before it sends the body
        self.address = via.address
        self.began = time.perf_counter()
        self.body: bytes | None = None
        self.refused: tuple[int, str] | None = None
        self.on_gone: Callable[[], None] | None = None
        self.answered = self._ended = self.streaming = False
        self._waiter: asyncio.Future | None = None

    async def read(self) -> bytes | None:
        """The body, once it is there; None when the client has gone or its request was refused meanwhile."""
        if self.body is None and not self._ended:
            if self.expecting:
                self.expecting = False
                self.via.go_on(self)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.body

    async def wait_gone(self) -> None:
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

    def begin(self, status: int, headers: Headers) -> None:
        """Send the head of an answer whose body comes in pieces."""
        if not self.answered and not self.streaming:
            self.streaming = True
            self.via.send_head(self, status, headers)

    def write(self, piece: bytes, last: bool = False) -> None:
        """Send a piece of a body that has begun; none is sent to a client that has gone."""
        if not self.answered:
            if last:
                self.answered = True
                self.on_gone = None
            self.via.send_piece(self, piece, last)

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
            await asyncio.sleep(SWEEP)
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
    """One client: its requests in their order, one at a time.

    What a client sends is bounded before it is kept, and no depth grows with what it pipelines: a request is handed on
    in a loop and never from within the answer to the one before.
    """

    def __init__(self, server: Server):
        self.server, self.limits = server, server.limits
        self.address = ""
        self._parser = httptools.HttpRequestParser(self)
        self._target, self._headers = b"", dict[bytes, bytes]()
        self._again = 0  # how many hosts the head names after the first
        self._host = b""  # the last one that was sound
        self._body: bytes | bytearray = b""
        self._length = self._head = self._between = self._size = 0
        self._reading: Exchange | None = None  # whose head has come, and not yet all of its body
        self._upgrading = False  # its body is parsed anew: llhttp would take it for another protocol
        self._due = 0  # bytes of its body that are to come, where it said how many
        self._queue: deque[Exchange] = deque()  # of which the first is being answered
        self._handed: Exchange | None = None  # the one that the handler has
        self._handing = False
        self._kept = b""  # of one read, what is parsed once fewer requests wait
        self._since: float | None = None  # since when a request is coming
        self._quiet = time.perf_counter()  # since when nothing is
        self._unsent = (0.0, 0)  # since when the client has not read, and how much it had to
        self._choked = False  # it reads more slowly than it asks
        self._last = False  # nothing is read after what is being answered
        self._paused = False
        self._chunked = self._closing = False  # of an answer that goes out in pieces
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
        self._kept = b""
        if self._reading is not None:
            self._reading.end(None)
        for exchange in self._queue:
            exchange.end(None)
        self._queue.clear()

    def pause_writing(self) -> None:
        """asyncio's word for a client that reads slowly: nothing more is answered, or read, until it has caught up."""
        self._unsent = (time.perf_counter(), self._transport.get_write_buffer_size())
        self._choked = True

    def resume_writing(self) -> None:
        """asyncio's word for one that has caught up."""
        self._unsent = (0.0, 0)
        self._choked = False
        asyncio.get_running_loop().call_soon(self._resume)

    def data_received(self, data: bytes) -> None:
        """asyncio's word for what a client sends."""
        if self._lingering or self._last:
            return
        if self._kept:  # it was on its way when reading was paused
            self._kept += data
        elif len(data) <= SLICE and not self._choked and len(self._queue) < MAX_PIPELINED:
            self._feed(data)
        else:
            self._kept = data
            self._resume()

    def _resume(self) -> None:
        """Go on with what was kept, and with reading, as far as the client's requests are answered and read."""
        self._hand()
        kept, at, self._kept = self._kept, 0, b""
        while at < len(kept) and not (self._full() or self._lingering or self._last):
            size = max(SLICE, self._due)
            self._feed(kept[at : at + size])
            at += size
        if not self._lingering and not self._last:
            self._kept = kept[at:]
        full = self._full()
        if full is not self._paused and not self._transport.is_closing():
            self._paused = full
            if full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
                if self._since is not None:  # the rest of a request could not come meanwhile
                    self._since = time.perf_counter()

    def _full(self) -> bool:
        return not self._lingering and (self._choked or len(self._queue) >= MAX_PIPELINED)

    def _feed(self, data: bytes) -> None:
        self._head += len(data)
        self._between += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self._last:  # what follows a request that was to be the last is not looked at
                self._refuse(400, f"this is not HTTP/1.1: {str(error)[:200]}")
            return
        if self._since is None or self._lingering:
            return
        if self._reading is None:
            if self._head > MAX_HEAD:
                too_long = not self._headers and len(self._target) > MAX_TARGET
                self._refuse(*(TARGET_TOO_LONG if too_long else HEAD_TOO_LONG))
        elif self._between > MAX_HEAD or self._head > MAX_HEAD + 16 * self._length:
            self._refuse(431, f"what is not the body itself must be at most {MAX_HEAD} bytes, trailers among it")

    def _go_on_without(self, rest: bytes) -> None:
        """Read the body of a request that asks for another protocol, as if it had not asked: RFC 9110, 7.8."""
        exchange = self._reading
        if not self._upgrading or exchange is None:  # it was refused, or a trailer says so, which means nothing
            self._parser = httptools.HttpRequestParser(self)
            if rest and not self._lingering and not self._last:
                self._feed(rest)
            return
        old, self._parser = self._parser, httptools.HttpRequestParser(self)
        close = b"close" in exchange.headers.get(b"connection", b"").lower() or old.get_http_version() == "1.0"
        chunked = b"transfer-encoding" in exchange.headers
        framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % self._due
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n%s\r\n" % (framing, b"connection: close\r\n" * close))
        if rest:
            self._feed(rest)

    def on_message_begin(self) -> None:
        """httptools' word for the first byte of a request."""
        if not self._lingering and not self._upgrading:
            self._since, self._head, self._size, self._again = time.perf_counter(), 0, 0, 0
            self._headers, self._target = {}, b""

    def on_url(self, url: bytes) -> None:
        """httptools' word for a piece of the target."""
        if not self._upgrading:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools' word for a header, and for a trailer, of which none is kept: RFC 9110, 6.5.1."""
        if self._upgrading:
            return
        self._size += len(name) + len(value) + 4
        if self._reading is not None:
            if self._size > MAX_HEAD:
                self._refuse(*HEAD_TOO_LONG)
            return
        name = name.lower()
        if name in self._headers:
            self._again += name == b"host"
            value = self._headers[name] + b", " + value
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        """httptools' word for the end of a head."""
        if self._upgrading:
            self._upgrading = False
            return
        if self._lingering or self._last:
            return
        whole, self._target = self._target, b""
        headers, self._headers = self._headers, {}
        target, host = whole.partition(b"?")[0], headers.get(b"host", b"")
        if not target.startswith(b"/") and b"://" in target:  # its authority stands in the place of Host: 3.2.2
            host, slash, rest = target.partition(b"://")[2].partition(b"/")
            target = slash + rest or b"/"
        path = target.decode("latin-1")
        if "%" in path:
            path = unquote(path.replace("%2F", "%252F").replace("%2f", "%252F"))
        # Of its versions only 1.1 keeps the connection without being asked to; the word itself costs more to make.
        plain = b"connection" not in headers and self._parser.should_keep_alive()
        version = "1.1" if plain else self._parser.get_http_version()
        exchange = Exchange(self, self._parser.get_method().decode("latin-1"), path, headers, host)
        self._reading, self._between = exchange, 0
        self._upgrading = b"upgrade" in headers and self._parser.should_upgrade()
        said = headers.get(b"content-length", b"0")
        length = int(said) if said.isdigit() and len(said) < 20 else 0
        chunked = b"transfer-encoding" in headers
        self._due = 0 if chunked else length
        # Most requests of a connection have the head of the one before; every rule is in `_wrong`.
        alike = host == self._host != b"" and not self._again and version == "1.1" and not chunked and whole[:1] == b"/"
        alike = alike and self._size < SLICE and len(whole) < SLICE and b"#" not in whole
        if not alike and (wrong := self._wrong(exchange.method, whole, headers, version)) is not None:
            self._refuse(*wrong)
            return
        if b"expect" in headers:
            exchange.expecting = headers[b"expect"].lower() == b"100-continue" and version == "1.1"
        if length > self.limits.max_body:
            self._refuse(413, f"the body must be at most {self.limits.max_body} bytes")
        elif length > SHORT or chunked or (exchange.expecting and length):
            self._begin(exchange)

    def _wrong(self, method: str, target: bytes, headers: dict[bytes, bytes], version: str) -> tuple[int, str] | None:
        """What is wrong with a head, as a status and a message, beyond what the parser has refused."""
        if version == "0.9":  # a line without a version, too
            return 400, "a request line must name its version, HTTP/1.1"
        if version not in ("1.1", "1.0"):
            return 505, f"this server speaks HTTP/1.1; got HTTP/{version}"
        if len(target) > MAX_TARGET:
            return TARGET_TOO_LONG
        if self._size + len(target) > MAX_HEAD:
            return HEAD_TOO_LONG
        if method == "CONNECT":
            return 501, "this server is no proxy, and makes no tunnels"
        if b"#" in target or b":///" in target[:9] or target.endswith(b"://"):
            return 400, "the target of a request has a host, where it names a scheme, and no fragment"
        hosts = (b"host" in headers) + self._again
        if hosts != 1 and (hosts or version == "1.1"):
            return 400, f"a request must have one Host header; got {hosts}"
        host = headers.get(b"host", b"")
        if host != self._host:
            if not HOST.fullmatch(host):
                return 400, "the Host header must be a host and perhaps a port"
            self._host = host
        if (coding := headers.get(b"transfer-encoding")) is not None:
            codings = [part.strip() for part in coding.lower().split(b",")]
            if version == "1.0" or b"content-length" in headers or codings[-1] != b"chunked":
                return 400, "the body has no known end: Transfer-Encoding is chunked, of HTTP/1.1, with no length"
            if len(codings) > 1:
                return 501, "of the transfer codings only chunked is understood"
        return None

    def on_body(self, body: bytes) -> None:
        """httptools' word for a piece of a body."""
        if self._lingering or self._reading is None:
            return
        # One buffer: of a body in chunks of two bytes a list would take thirty times as much.
        if not self._length:
            self._body = body
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body
        self._length += len(body)
        self._due = max(0, self._due - len(body))
        self._between = 0
        self.server.bodies += len(body)
        if self._length > self.limits.max_body:
            self._refuse(413, f"the body must be at most {self.limits.max_body} bytes")
        elif self.server.bodies > self.limits.max_bodies:
            self._refuse(503, "the server is reading as many bytes as it may; try again")

    def on_message_complete(self) -> None:
        """httptools' word for the end of a request."""
        if self._lingering or self._reading is None or self._upgrading:
            return
        exchange, self._reading = self._reading, None
        body = bytes(self._body)
        self._forget()
        self._since, self._quiet, self._due = None, time.perf_counter(), 0
        if not self._parser.should_keep_alive():
            self._last = True
        begun = bool(self._queue) and self._queue[-1] is exchange
        exchange.end(body)
        if not begun:
            self._begin(exchange)

    def go_on(self, exchange: Exchange) -> None:
        """Tell a client that waits for it to send the body; it is the handler that knows whether it wants it."""
        if exchange is self._reading and not self._length and not self._lingering:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def send(self, exchange: Exchange, status: int, headers: Headers, body: bytes) -> None:
        """Write an answer, and hand the next request to the handler."""
        unread = exchange is self._reading
        last = self._is_last(exchange)
        pieces = [REASONS[status], self.server.date]
        for name, value in headers:
            pieces += (name, b": ", value, b"\r\n")
        pieces.append(b"content-length: %d\r\n" % len(body))
        pieces.append(b"connection: close\r\n\r\n" if last else b"\r\n")
        if exchange.method != "HEAD":
            pieces.append(body)
        self._transport.write(b"".join(pieces))
        self._go_to_next(unread, last)

    def send_head(self, exchange: Exchange, status: int, headers: Headers) -> None:
        """Write the head of an answer in chunks, RFC 9112, 7.1; to HTTP/1.0, which has none, up to the end."""
        self._chunked = self._parser.get_http_version() != "1.0"
        self._closing = self._is_last(exchange) or not self._chunked
        pieces = [REASONS[status], self.server.date]
        for name, value in headers:
            pieces += (name, b": ", value, b"\r\n")
        pieces.append(b"transfer-encoding: chunked\r\n" if self._chunked else b"")
        pieces.append(b"connection: close\r\n\r\n" if self._closing else b"\r\n")
        self._transport.write(b"".join(pieces))

    def send_piece(self, exchange: Exchange, piece: bytes, last: bool) -> None:
        """Write a chunk and, behind the last one, hand the next request to the handler."""
        if self._chunked:
            piece = (b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b"") + (b"0\r\n\r\n" if last else b"")
        self._transport.write(piece)
        if last:
            self._go_to_next(False, self._closing)

    def _is_last(self, exchange: Exchange) -> bool:
        return exchange is self._reading or self.server.draining or (self._last and len(self._queue) == 1)

    def _go_to_next(self, unread: bool, last: bool) -> None:
        """The first request is answered. unread: not all of it had come. last: nothing follows on this connection."""
        self._queue.popleft()
        self._quiet = time.perf_counter()
        if unread:
            self._lingering = self._lingering or self._quiet + LINGER
            if self._transport.can_write_eof():
                self._transport.write_eof()
        elif last:
            self.close()
        elif self._paused or self._kept:
            asyncio.get_running_loop().call_soon(self._resume)
        elif self._queue:
            self._hand()

    def idle(self) -> bool:
        """Whether nothing has come that is to be answered."""
        return not self._queue and self._reading is None and self._since is None and not self._kept

    def check(self, now: float) -> None:
        """End it where its client is too slow."""
        limits = self.limits
        if self._lingering:
            if now > self._lingering and not self._queue:
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
        self._hand()

    def _hand(self) -> None:
        """Hand the first request to the handler, and the next where it was answered at once."""
        if self._handing:
            return  # an answer within the handler leads here: the loop below goes on
        self._handing = True
        try:
            while self._queue and self._queue[0] is not self._handed and not self._choked:
                self._handed = self._queue[0]
                self.server.handler(self._handed)
        finally:
            self._handing = False

    def _forget(self) -> None:
        self.server.bodies -= self._length
        self._body, self._length = b"", 0

    def _refuse(self, status: int, message: str) -> None:
        """Have the handler word an answer to what has begun to come, read no more, and close."""
        if self._lingering:
            return
        exchange = self._reading = self._reading or Exchange(self, "GET", "", {})
        exchange.refused = (status, message)
        self._lingering = time.perf_counter() + LINGER
        self._forget()
        self._kept, self._headers, self._target = b"", {}, b""
        if exchange in self._queue:
            exchange.end(None)
        else:
            self._begin(exchange)


HEAD_TOO_LONG = (431, f"the head of a request must be at most {MAX_HEAD} bytes")
TARGET_TOO_LONG = (414, f"the target of a request must be at most {MAX_TARGET} bytes")
