"""The connection: what HTTP/1.1 allows a client, and what no client may do to others. Clients: sockets, h11, http.client."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
import traceback

import h11
import pytest

from arsenal_serving.protocols import http1
from arsenal_serving.protocols.http1 import MAX_PIPELINED, SLICE, Exchange, Limits, Server

QUICK = Limits(max_body=200_000, max_bodies=250_000, max_connections=3, grace=0.2, rate=1_000_000, idle=0.5)


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """What the server does once a second and for two is done here at once: nobody needs to wait for it."""
    monkeypatch.setattr(http1, "SWEEP", 0.05)
    monkeypatch.setattr(http1, "LINGER", 0.3)


def echo(exchange: Exchange) -> None:
    """Answers with what it understood; a body that is long is read by a task."""

    async def later() -> None:
        answer(await exchange.read())

    def answer(body: bytes | None) -> None:
        if exchange.refused:
            status, message = exchange.refused
            exchange.answer(status, (), message.encode())
        elif body is not None:
            exchange.answer(200, ((b"x-path", exchange.path.encode()),), exchange.method.encode() + b" " + body)

    if exchange.refused or exchange.body is not None:
        answer(exchange.body)
    else:
        asyncio.get_running_loop().create_task(later())


def served(client, limits=QUICK, handler=echo):
    """Run `client(port)` on a thread beside a server."""

    async def work():
        listening = socket.create_server(("127.0.0.1", 0))
        server = Server(handler, limits)
        await server.start(listening)
        try:
            return await asyncio.to_thread(client, listening.getsockname()[1])
        finally:
            await server.stop(1.0)
            assert (server.bodies, server.connections) == (0, set())

    return asyncio.run(work())


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def rest(client: socket.socket) -> bytes:
    found = b""
    while piece := client.recv(65536):
        found += piece
    return found


def replies(raw: bytes, methods: str) -> list[tuple[int, bytes]]:
    """What an independent parser, h11, finds in the bytes that came back; it raises where they break the rules."""
    found = []
    parser = h11.Connection(h11.CLIENT)
    for at, method in enumerate(methods.split()):
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "a"), ("Content-Length", "0")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(raw if at == 0 else b"")
        status, body = 0, b""
        while not isinstance(event := parser.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
        found.append((status, body))
        if parser.their_state is h11.DONE and parser.our_state is h11.DONE:
            parser.start_next_cycle()
    assert not parser.trailing_data[0]
    return found


def test_requests_on_one_connection_are_answered_in_their_order():
    long = b"b" * 100_000

    def client(port):
        with connect(port) as there:
            there.sendall(b"POST /%7Ea HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1")
            there.sendall(b"HEAD http://h/b?c=1 HTTP/1.1\r\nHost: a\r\n\r\n")
            there.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
            there.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + long)
            there.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 40)
            there.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return rest(there)

    raw = served(client)
    found = replies(raw, "POST HEAD POST POST" + " GET" * 41)
    assert [body for _, body in found[:4]] == [b"POST 1", b"", b"POST abcde", b"POST " + long]
    assert {status for status, _ in found} == {200}
    assert b"x-path: /~a\r\n" in raw and b"x-path: /b\r\ncontent-length: 5\r\n\r\nHTTP/1.1" in raw
    assert raw.count(b"connection: close") == 1


def test_a_request_may_come_byte_by_byte_and_ask_whether_to_go_on():
    def client(port):
        found = []
        for version in (b"1.1", b"1.0"):
            with connect(port) as there:
                for byte in b"POST / HTTP/%s\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n" % version:
                    there.send(bytes([byte]))
                if version == b"1.1":  # of HTTP/1.0 nobody would know what it means
                    assert there.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
                there.sendall(b"abcde")
                found.append(rest(there))
        return found

    for answer in served(client):
        assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\nconnection: close\r\n\r\nPOST abcde")


def test_who_is_refused_is_not_told_to_go_on():
    def handler(exchange):
        exchange.answer(401, (), b"no key")

    def client(port):
        with connect(port) as there:
            there.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            return rest(there)

    assert served(client, handler=handler).startswith(b"HTTP/1.1 401 ")


def test_a_trailer_is_a_header_of_nothing():
    """Of this request or the next: a stranger's trailer would be the next one's Authorization."""
    seen = []

    def handler(exchange):
        async def later():
            body = await exchange.read()
            seen.append((dict(exchange.headers), body))
            exchange.answer(200, (), b"")

        asyncio.get_running_loop().create_task(later())

    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    trailers = b"Authorization: Bearer secret\r\nX-API-Key: secret\r\nHost: b\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
    plain = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nb"

    def client(port):
        for pieces in ([chunked + trailers + plain], [chunked, trailers, plain], [bytes([byte]) for byte in chunked + trailers + plain]):
            with connect(port) as there:
                for piece in pieces:
                    there.sendall(piece)
                found = b""
                while found.count(b"HTTP/1.1 200 ") < 2 or not found.endswith(b"\r\n\r\n"):
                    found += there.recv(1000)
                assert replies(found, "POST POST") == [(200, b"")] * 2

    served(client, handler=handler)
    assert len(seen) == 6
    assert [body for _, body in seen] == [b"a", b"b"] * 3
    assert all(headers.keys() == {b"host", name} for headers, name in zip((h for h, _ in seen), [b"transfer-encoding", b"content-length"] * 3, strict=True))


@pytest.mark.parametrize("size", [11, 100_000])
def test_who_asks_for_another_protocol_keeps_the_body(size):
    """Java's client sends `Upgrade: h2c` with its first request, body and all."""
    ask = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA\r\n"
    body = b"b" * size
    one = b"POST /a HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n%s" % (ask, size, body)
    two = b"POST /b HTTP/1.1\r\nHost: a\r\n%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (ask, size, body)
    last = b"GET /c HTTP/1.1\r\nHost: a\r\n%s\r\n" % ask.replace(b"Connection: ", b"Connection: close, ")

    def client(port):
        found = []
        for pieces in ([one + two + last], [one[:-5], one[-5:] + two[:40], two[40:], last]):
            with connect(port) as there:
                for piece in pieces:
                    there.sendall(piece)
                    time.sleep(0.02)
                found.append(rest(there))
        return found

    for raw in served(client):
        assert replies(raw, "POST POST GET") == [(200, b"POST " + body), (200, b"POST " + body), (200, b"GET ")]


def test_no_depth_grows_with_what_is_pipelined():
    """Answers at once, of which each led to the next from within: a good request and 5,000 bad ones in one write."""
    depths, waiting = [], []

    def handler(exchange):
        depths.append(sum(1 for _ in traceback.walk_stack(None)))
        waiting.append(len(exchange.via._queue))
        if exchange.path == "/later":
            asyncio.get_running_loop().call_later(0.05, exchange.answer, 200, (), b"")
        else:
            exchange.answer(400, (), b"")

    def client(port):
        with connect(port) as there:
            threading.Thread(target=there.sendall, args=(b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n" + b"GET /bad HTTP/1.1\r\nHost: a\r\n\r\n" * 5_000
                             + b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",)).start()
            return rest(there)

    raw = served(client, handler=handler)
    assert (raw.count(b"HTTP/1.1 200 "), raw.count(b"HTTP/1.1 400 ")) == (1, 5_001)
    assert max(depths) - min(depths) < 12
    assert max(waiting) < MAX_PIPELINED + SLICE // 30  # of one read no more are made than one slice holds


def test_who_asks_and_does_not_read_fills_no_memory():
    """What is pipelined waits unread while the answers are."""
    sizes = []

    def handler(exchange):
        sizes.append(exchange.via._transport.get_write_buffer_size())
        exchange.answer(200, (), b"x" * 100_000)

    def client(port):
        with connect(port) as there:
            there.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                for _ in range(200):
                    there.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)

    served(client, QUICK._replace(grace=1.0), handler=handler)
    assert max(sizes) < 1_000_000


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 400_000, 431),
        (b"GET /" + b"x" * 400_000, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"x" * 65536 + b"\r\n30000\r\n"
         + b"x" * 196608, 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", 408),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\nabc", 408),
        (b"GET / HT", 408),
    ],
)  # fmt: skip
def test_what_is_no_request_or_too_much_or_too_slow_is_told_and_the_connection_ends(sent, status):
    def client(port):
        with connect(port) as there:
            there.sendall(sent)
            return rest(there)

    ((found, _),) = replies(served(client), "GET")
    assert found == status


def test_who_drips_holds_nothing_for_long_and_who_does_not_read_neither():
    def client(port):
        began = time.perf_counter()
        with connect(port) as there, pytest.raises(OSError):
            for _ in range(200):  # one byte at a time
                there.send(b"X" if time.perf_counter() - began > 0.05 else b"GET / HTTP/1.1\r\nX")
                time.sleep(0.05)
        dripped = time.perf_counter() - began
        with connect(port) as there:
            there.sendall(b"POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            time.sleep(0.8)  # asks for much, reads nothing
            return dripped, len(rest(there))

    def handler(exchange):
        exchange.answer(200, (), b"x" * 30_000_000) if exchange.path == "/big" else echo(exchange)

    dripped, read = served(client, handler=handler)
    assert dripped < 3
    assert read < 30_000_000


def test_connections_and_all_bodies_together_are_bounded_and_idle_ones_end():
    def client(port):
        held = [connect(port) for _ in range(3)]
        with connect(port) as fourth:
            assert rest(fourth).startswith(b"HTTP/1.1 503 ")
        for one in held[:2]:
            one.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 150000\r\n\r\n" + b"x" * 140_000)
        answers = b"".join(rest(one) for one in held)
        for one in held:
            one.close()
        return answers

    answers = served(client, QUICK._replace(grace=1.0))
    assert answers.count(b"HTTP/1.1 503 ") == 1  # two bodies were more than may be read at once
    assert answers.count(b"HTTP/1.1 408 ") == 1


def test_stopping_answers_what_has_begun_and_who_the_kernel_let_in():
    async def work():
        listening = socket.create_server(("127.0.0.1", 0))
        server, seen = Server(lambda exchange: seen.append(exchange)), list[Exchange]()
        await server.start(listening)
        loop, port = asyncio.get_running_loop(), listening.getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /begun HTTP/1.1\r\nHost: a\r\n\r\n")
        while not seen:
            await asyncio.sleep(0.01)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as late:  # in the kernel's queue
            late.sendall(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
            stopping = loop.create_task(server.stop(5.0))
            while len(seen) < 2:
                await asyncio.sleep(0.01)
            for exchange in seen:
                exchange.answer(200, (), exchange.path.encode())
            await stopping
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
            found = await reader.read(), await asyncio.to_thread(rest, late)
        writer.close()
        return found

    begun, late = asyncio.run(work())
    assert begun.endswith(b"/begun") and late.endswith(b"/late")


def test_a_client_that_goes_is_noticed_once():
    gone = []

    def handler(exchange):
        exchange.on_gone = lambda: gone.append(exchange)

    def client(port):
        with connect(port) as there:
            there.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
            time.sleep(0.1)
        time.sleep(0.2)

    served(client, handler=handler)
    (exchange,) = gone
    exchange.answer(200, (), b"to nobody")
