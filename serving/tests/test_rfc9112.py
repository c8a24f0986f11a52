"""HTTP/1.1 by the letter of RFC 9112 and 9110, as raw bytes: a table, and an independent parser, h11, on generated ones.

What serves is asked over a socket, so that the table holds whatever parses.
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import NamedTuple

import h11
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_http1 import echo

from arsenal_serving.protocols.http1 import Limits, Server

LIMITS = Limits(max_body=100_000, grace=5.0)
GET, POST = b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


def headers(*lines: bytes) -> bytes:
    return GET + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


# What is sent, the statuses that come back, in their order, and the section. One status may be another that it allows.
TABLE: list[tuple[bytes, list, str]] = [
    # The message and its lines: 2.2, 3, 5
    (headers(b"Host: a"), [200], "3"),
    (b"\r\n" + headers(b"Host: a"), [200], "2.2: an empty line before a request"),
    (headers(b"Host: a") + NEXT, [200, 200], "9.3.2: pipelined"),
    (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", [(200, 400)], "3: one space"),
    (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", [400], "3: one space"),
    (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", [400], "3.2: a space in the target"),
    (b"GET foo HTTP/1.1\r\nHost: a\r\n\r\n", [400], "3.2: no form of a target"),
    (b"GET /#here HTTP/1.1\r\nHost: a\r\n\r\n", [400], "3.2.1: a fragment"),
    (b"GET http://a/x?y HTTP/1.1\r\nHost: b\r\n\r\n", [200], "3.2.2: the absolute form"),
    (b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", [400], "9110, 4.2.1: an empty host"),
    (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", [200], "3.2.4: the asterisk form"),
    (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", [501], "3.2.3: no tunnels here"),
    (b"GET / http/1.1\r\nHost: a\r\n\r\n", [400], "2.3: the name is case-sensitive"),
    (b"GET / HTTP/1\r\nHost: a\r\n\r\n", [400], "2.3"),
    (b"GET / HTTP/01.1\r\nHost: a\r\n\r\n", [400], "2.3"),
    (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", [505], "9110, 15.6.6"),
    (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", [(400, 505)], "9110, 15.6.6"),
    (b"GET /\r\nHost: a\r\n\r\n", [400], "3: a line without a version"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [(400, 505)], "9113, 3.4"),
    (b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n", [400], "5.6.2 of 9110: no token"),
    (headers(b"Host: a", b"X : y"), [400], "5.1: no space before the colon"),
    (headers(b"Host: a", b" X: y"), [(200, 400)], "2.2, 5.2"),
    (headers(b" Host: a"), [400], "2.2: a space before the first field"),
    (headers(b"Host: a", b"X: y", b" folded"), [(200, 400)], "5.2: refused, or spaces for it"),
    (headers(b"Host: a", b": y"), [400], "5: a field has a name"),
    (headers(b"Host: a", b"no colon"), [400], "5"),
    (headers(b"Host: a", b"X(): y"), [400], "5: the name is a token"),
    (headers(b"Host: a", b"X: a\x00b"), [400], "5.5 of 9110"),
    (headers(b"Host: a", b"X: a\rb"), [400], "2.2: a bare CR"),
    (headers(b"Host: a", b"X: \xe9\xff"), [200], "5.5 of 9110: obs-text"),
    (headers(b"Host: a", b"X:", b"Y:   \t"), [200], "5: empty values"),
    (headers(b"Host: a", b"X: 1", b"X: 2"), [200], "5.3 of 9110: a list"),
    # Host: 3.2
    (headers(), [400], "3.2: HTTP/1.1 without Host"),
    (headers(b"X: y"), [400], "3.2"),
    (headers(b"Host: a", b"Host: a"), [400], "3.2: twice"),
    (headers(b"Host: a", b"hOST: b"), [400], "3.2: twice"),
    (b"GET http://a/ HTTP/1.1\r\n\r\n", [400], "3.2: also with the absolute form"),
    (headers(b"Host:"), [200], "3.2: empty where there is no authority"),
    (headers(b"Host: a:80"), [200], "3.2"),
    (headers(b"Host: [::1]:80"), [200], "3.2"),
    (headers(b"Host: a b"), [400], "3.2: no host"),
    (headers(b"Host: a/b"), [400], "3.2: no host"),
    (headers(b"Host: me@a"), [400], "3.2: userinfo is no part of it"),
    (headers(b"Host: a:b"), [400], "3.2: no port"),
    (headers(b"Host: a, b"), [400], "3.2: no list"),
    (b"GET / HTTP/1.0\r\n\r\n", [200], "3.2: HTTP/1.0 has none"),
    (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", [400], "3.2"),
    # Framing: 6, 7
    (POST + b"Content-Length: 3\r\n\r\nabc" + NEXT, [200, 200], "6.2"),
    *((POST + b"Content-Length: " + wrong + b"\r\n\r\nabc", [(400, 413)], "6.3: no length")
      for wrong in (b"-1", b"+3", b"0x3", b"3 3", b"3,4", b"3;", b"", b"\xb3", b"99999999999999999999999999")),
    (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", [400], "6.3: two lengths"),
    (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT, [400], "6.1: both, as smugglers"),
    (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + NEXT, [501], "6.1: a coding that is not known"),
    (POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT, [501], "6.1"),
    (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", [400], "7.1: chunked once"),
    *((POST + b"Transfer-Encoding: " + wrong + b"\r\n\r\n0\r\n\r\n", [(400, 501)], "6.3: its end is not known")
      for wrong in (b"gzip", b"identity", b"xchunked", b"chunked, gzip", b"chunkedx", b"")),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [400], "6.1: not of HTTP/1.0"),
    (POST + b"Transfer-Encoding: ChUnKeD\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + NEXT, [200, 200], "7: case"),
    (CHUNKED + b"00003\r\nabc\r\n000\r\n\r\n" + NEXT, [200, 200], "7.1"),
    (CHUNKED + b"3;ext=1;two=\"a b\"\r\nabc\r\n0\r\n\r\n" + NEXT, [200, 200], "7.1.1: extensions are ignored"),
    (CHUNKED + b"3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n" + NEXT, [200, 200], "7.1.2: trailers"),
    *((CHUNKED + wrong, [400], "7.1")
      for wrong in (b"g\r\n", b"0x3\r\nabc\r\n", b"-3\r\nabc\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"\r\nabc\r\n", b"3 3\r\nabc\r\n",
                    b"FFFFFFFFFFFFFFFFF\r\n", b"3\nabc\r\n0\r\n\r\n")),
    (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + NEXT, [200, 200], "6: any request may have a body"),
    # The connection: 9
    (headers(b"Host: a", b"Connection: close") + NEXT, [200], "9.6: nothing is read after close"),
    (headers(b"Host: a", b"Connection: x, CLOSE") + NEXT, [200], "9.6"),
    (b"GET / HTTP/1.0\r\n\r\n" + NEXT, [200], "9.3: HTTP/1.0 closes"),
    (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + NEXT, [200, 200], "9.3"),
    (headers(b"Host: a", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA") + NEXT, [200, 200],
     "9110, 7.8: an upgrade may be ignored"),
    # Bounds: 3, 5.4 of 9110
    (b"GET /?" + b"q" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", [414], "3"),
    (b"GET /" + b"q" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", [414], "3"),
    (b"GET /?" + b"q" * 8_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", [200], "3: 8000 at least"),
    (headers(b"Host: a", b"X: " + b"x" * 70_000), [431], "5.4 of 9110"),
    (headers(b"Host: a", *(b"X%d: y" % k for k in range(20_000))), [431], "5.4 of 9110"),
    (CHUNKED + b"0\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", [431], "7.1.2"),
    (CHUNKED + b"0\r\n" + b"".join(b"X%d: y\r\n" % k for k in range(20_000)) + b"\r\n", [431], "7.1.2"),
    (CHUNKED + b"1;" + b"x" * 200_000 + b"\r\na\r\n0\r\n\r\n", [431], "7.1.1"),
    (CHUNKED + b"".join(b"1;" + b"x" * 5_000 + b"\r\na\r\n" for _ in range(40)) + b"0\r\n\r\n", [431], "7.1.1"),
]  # fmt: skip


async def sent(port: int, raw: bytes) -> bytes:
    """All that comes back to what is sent, whose end is said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def asked(*raws: bytes, handler=echo) -> list[bytes]:
    """The answers to each of these streams, from one server."""

    async def work() -> list[bytes]:
        server, listening = Server(handler, LIMITS), socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        await server.start(listening)
        try:
            return [await sent(port, raw) for raw in raws]
        finally:
            await server.stop(0.2)
            assert (server.bodies, server.connections) == (0, set())

    return asyncio.run(work())


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer) if found != b"100"]


@pytest.fixture(scope="module")
def answers():
    return asked(*(raw for raw, _, _ in TABLE))


@pytest.mark.parametrize("row", range(len(TABLE)), ids=[f"{at}-{section.split(':')[0]}" for at, (_, _, section) in enumerate(TABLE)])
def test_the_letter(answers, row):
    raw, wanted, section = TABLE[row]
    found = statuses(answers[row])
    fits = len(found) == len(wanted) and all(one in (each if isinstance(each, tuple) else (each,)) for one, each in zip(found, wanted, strict=True))
    assert fits, (raw[:200], section, found, wanted)


class Seen(NamedTuple):
    method: str
    headers: dict[bytes, bytes]
    body: bytes


def both(raw: bytes) -> tuple[list[Seen], list[Seen]]:
    """The requests that this server and h11 find in a stream, each up to the first that it refuses."""
    ours: list[Seen] = []

    def handler(exchange):
        async def later():
            body = await exchange.read()
            done(400 if body is None else 200)

        def done(status):
            if status == 200:
                coding = {name: value.lower() for name, value in exchange.headers.items() if name == b"transfer-encoding"}
                ours.append(Seen(exchange.method, exchange.headers | coding, exchange.body))
            exchange.answer(status, (), b"")

        if exchange.refused:
            done(exchange.refused[0])
        elif exchange.body is not None:
            done(200)
        else:
            asyncio.get_running_loop().create_task(later())

    asked(raw, handler=handler)
    theirs: list[Seen] = []
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(raw)
    parser.receive_data(b"")
    try:
        request, body = None, b""
        while not isinstance(event := parser.next_event(), h11.ConnectionClosed) and event is not h11.NEED_DATA:
            if event is h11.PAUSED:
                if request is None or parser.our_state is not h11.DONE:
                    break
                parser.start_next_cycle()
            elif isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                found: dict[bytes, bytes] = {}
                for name, value in request.headers:
                    value = value if name != b"transfer-encoding" else value.lower()
                    found[name] = found[name] + b", " + value if name in found else value
                theirs.append(Seen(request.method.decode(), found, body))
                parser.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                parser.send(h11.EndOfMessage())
    except h11.RemoteProtocolError:
        pass
    return ours, theirs


TOKENS = st.sampled_from([b"X", b"x-a", b"Accept", b"a.b", b"!#$%&'*+-.^_`|~"])
VALUES = st.binary(max_size=12).map(lambda text: bytes(byte for byte in text if byte == 9 or 32 <= byte != 127).strip(b" \t"))


@st.composite
def requests(draw) -> bytes:
    """A request that is sound, however odd."""
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS"]))
    lines = [b"%s:%s%s" % (name, draw(st.sampled_from([b"", b" ", b" \t"])), value) for name, value in draw(st.lists(st.tuples(TOKENS, VALUES), max_size=4))]
    lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from([b"Host: a", b"host:a:80", b"HOST: [::1]", b"Host:"])))
    body, form = draw(st.binary(max_size=60)), draw(st.sampled_from(["none", "length", "chunked"]))
    if form == "length":
        lines.append(b"Content-Length: %d" % len(body))
    elif form == "chunked":
        lines.append(draw(st.sampled_from([b"Transfer-Encoding: chunked", b"transfer-encoding:CHUNKED"])))
        size = draw(st.integers(1, 20))
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        extension = draw(st.sampled_from([b"", b";a", b';a="b"']))
        trailer = draw(st.sampled_from([b"", b"X-T: 1\r\n", b"Authorization: Bearer x\r\n", b"Host: b\r\n"]))
        body = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"
    else:
        body = b""
    target = draw(st.sampled_from([b"/", b"/a%20b?c=%2F", b"http://a/b", b"/" + b"x" * 300]))
    return method + b" " + target + b" HTTP/1.1\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + body


# The same examples every time: what is generated anew is for whoever looks for more, not for a landing.
PACE = {"deadline": None, "database": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=150, **PACE)
@given(st.lists(requests(), min_size=1, max_size=4))
def test_what_is_sound_is_read_as_h11_reads_it(stream):
    ours, theirs = both(b"".join(stream))
    assert ours == theirs
    assert len(ours) == len(stream)
    assert not any(b"authorization" in seen.headers or b"x-t" in seen.headers for seen in ours)


PIECES = [b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\x00", b"0", b"5", b",", b";", b"\xff", b"Content-Length: 3\r\n", b"Host: b\r\n",
          b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n", b"HTTP/1.0"]  # fmt: skip


@settings(max_examples=300, **PACE)
@given(st.data())
def test_what_is_broken_is_read_as_h11_reads_it_or_refused(data):
    """Of two parsers on one road neither may see a request where the other saw a body."""
    content = bytearray(b"".join(data.draw(st.lists(requests(), min_size=1, max_size=3))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.sampled_from(PIECES))
    # What we take and h11 does not, since RFC 9112 allows it: empty lines before a request (2.2), two spaces in it (3).
    content = content.lstrip(b"\r\n")
    assume(not re.search(rb" {2}[^\r\n]*HTTP/", content))
    # Also before a later request, behind a head (an empty line more) or behind a body (a line that is no part of it).
    assume(not re.search(rb"(?<!\r\n)\r?\n[A-Z]{3,7} |\r\n\r?\n\r?\n", content))
    ours, theirs = both(bytes(content))
    for mine, other in zip(ours, theirs, strict=False):
        assert (mine.method, mine.body) == (other.method, other.body), bytes(content)
    assert len(ours) <= len(theirs), bytes(content)
