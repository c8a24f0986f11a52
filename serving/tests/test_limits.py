"""What one tensor of a request may be at most, by every way in which one comes; and what strangers leave behind."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from pathlib import Path

import orjson
import pytest
from conftest import example, start
from tensors import tensor

from arsenal_serving.model import TensorLimits, load
from arsenal_serving.protocols import open_inference, records
from arsenal_serving.refused import Refused
from arsenal_serving.security import api_keys

X = example()


def body(*tensors: dict) -> bytes:
    return orjson.dumps({"inputs": list(tensors)})


@pytest.fixture(scope="module")
def bounded(folder):
    return load(folder, max_batch=8, limits=TensorLimits(rank=3, elements=200))


def test_too_many_elements_or_dimensions_in_every_encoding(bounded):
    predict, lengths = bounded.methods["predict"], bounded.methods["lengths"]
    assert open_inference.parse(predict, body(tensor(X[:3]))).inputs["x"].shape == (3, 8, 8)
    said = r"input 'x' must hold at most 200 elements; got \[4, 8, 8\]"
    with pytest.raises(Refused, match=said):
        open_inference.parse(predict, body(tensor(X[:4])))
    head = body({"name": "x", "shape": [4, 8, 8], "datatype": "FP32", "parameters": {"binary_data_size": 1024}})
    with pytest.raises(Refused, match=said):
        open_inference.parse(predict, head + X[:4].tobytes(), len(head))
    with pytest.raises(Refused, match=said):
        records.parse(predict, orjson.dumps({"records": [{"x": x.tolist()} for x in X[:4]]}))
    with pytest.raises(Refused, match="at most 200 elements; got"):  # no array is made for it, however large it says it is
        open_inference.parse(lengths, body({"name": "x", "shape": [2**40, 2**40], "datatype": "FP32", "data": []}))
    with pytest.raises(Refused, match=r"at most 3 sizes >= 1; got \[1, 1, 8, 8\]"):
        open_inference.parse(predict, body(tensor(X[:1], shape=[1, 1, 8, 8])))
    with pytest.raises(Refused, match="at most 3 sizes >= 1"):
        records.parse(predict, orjson.dumps({"records": [{"x": [[[[[1.0]]]]]}]}))


@pytest.mark.parametrize("limits", [(0, 5), (33, 5), (3, 0)])
def test_limits_are_limited(folder, limits):
    with pytest.raises(Refused, match="`limits` must be a rank of 1 to 32"):
        load(folder, limits=TensorLimits(*limits))


@pytest.mark.parametrize("depth", [1000, 1025, 90_000])
@pytest.mark.parametrize("path", ["/predict", "/v2/models/zoo/infer", "/v2/repository/index"])
def test_nesting(server, depth, path):
    reply = server.ask("POST", path, b"[" * depth + b"]" * depth)
    assert reply.status == 400
    assert ("depth limit exceeded" in reply.body["error"]) == (depth > 1024)
    assert len(reply.body["error"]) < 300
    deep = b'{"inputs": [{"name": "x", "shape": [1, 8, 8], "datatype": "FP32", "data": %s}]}' % (b"[" * depth + b"]" * depth)
    assert server.ask("POST", "/v2/models/zoo/infer", deep).status == 400


def resident(process) -> float:
    """The megabytes that a process has had in memory at most."""
    return next(int(line.split()[1]) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line[:5] == "VmHWM") / 1024


def heads(count: int, *lines: bytes, path: bytes = b"/v2/models/zoo/infer") -> bytes:
    """So many requests without a key, each with a number wherever {} stands."""
    made = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n%s\r\n" % (path, b"".join(line + b"\r\n" for line in lines))
    return b"".join(made.replace(b"{}", b"%d" % at) for at in range(count))


def strange(token: bytes):
    """What a client can send, by what it is: before that was bounded each left tens to hundreds of megabytes."""
    long = b"x" * 14_000
    yield "paths", heads(1500, path=b"/v2/models/{}" + long + b"/infer")
    yield "paths that are short", heads(10_000, path=b"/v2/models/m{}/infer")
    yield "queries", heads(1500, path=b"/v2/models/zoo/infer?{}" + long)
    yield "values", heads(1500, b"X: {}" + long)
    yield "names", heads(300, *(b"X{}-%d: y" % k for k in range(1000)))
    yield "request ids", heads(1500, b"X-Request-Id: {}" + long)
    yield "traces", heads(3000, b"traceparent: 00-%032d-%016d-01" % (1, 1), b"tracestate: {}")
    yield "keys", heads(1500, b"Authorization: Bearer {}" + long)
    yield "hosts", heads(1500).replace(b"localhost", b"h" * 10_000)
    yield "a header", b"GET / HTTP/1.1\r\nX: " + b"x" * 30_000_000
    yield "a method", b"G" * 30_000_000
    # The framing of a body that is read.
    chunked = b"POST /v2/models/zoo/infer HTTP/1.1\r\nHost: localhost\r\nX-API-Key: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % token
    yield "a trailer", chunked + b"0\r\nX: " + b"x" * 30_000_000
    yield "trailers", chunked + b"0\r\n" + b"".join(b"X%d: y\r\n" % k for k in range(300_000))
    yield "an extension", chunked + b"1;" + b"x" * 30_000_000
    yield "extensions", chunked + b"".join(b"1;" + b"x" * 60_000 + b"\r\na\r\n" for _ in range(500))
    yield "small chunks", chunked + b"2\r\nab\r\n" * 600_000 + b"0\r\n\r\n"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_nothing_of_strangers_is_kept(folder, tmp_path):
    """Each kind of thing that a client can send, some 20 MB of it: the server is never much larger than before."""
    token = api_keys.add(tmp_path / "keys.json", "own", ["infer:*"]).encode()
    server = start(folder, "--keys", str(tmp_path / "keys.json"), "--max-batch", "2", "--request-log", str(tmp_path / "log"))
    try:
        grown = {}
        for name, raw in [("warm", heads(2000)), *strange(token)]:
            before = resident(server.process)
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client, contextlib.suppress(ConnectionError):
                reading = threading.Thread(target=read_all, args=(client,))
                reading.start()
                client.sendall(raw)
                client.shutdown(socket.SHUT_WR)
                reading.join(30)
            time.sleep(0.05)
            grown[name] = round(resident(server.process) - before)
        del grown["warm"]
        assert max(grown.values()) < 16, grown
        assert sum(grown.values()) < 40, grown
    finally:
        server.process.kill()
        server.process.communicate(timeout=20)


def read_all(client) -> None:
    with contextlib.suppress(OSError):
        while client.recv(1 << 16):
            pass
