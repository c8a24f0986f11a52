"""Generated requests that are wrong: never a 500, never a hang, and a witness always gets its own rows."""

from __future__ import annotations

import contextlib
import copy
import gzip
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import zlib

import grpc
import numpy as np
import pytest
from conftest import example
from hypothesis import HealthCheck, given, settings
from hypothesis import example as given_example
from hypothesis import strategies as st
from tensors import tensor

from arsenal_serving.protocols import protos

X = example()
POOL = protos.pool()
RPC = "inference.GRPCInferenceService"
MANY = 10_000
PACE = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

words = st.sampled_from(["x", "day", "inputs", "outputs", "data", "shape", "FP32", "BYTES", "INT8", "NaN", "zoo", "records"])
numbers = st.one_of(st.integers(-3, 300), st.integers(), st.floats(), st.sampled_from([2**31, 2**63, 2**64, 1e39, 1e-320]))
leaves = st.one_of(st.none(), st.booleans(), numbers, words, st.text(max_size=8))
values = st.recursive(
    leaves, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=3)), max_leaves=8
)
GOOD = [
    ("/v2/models/zoo/infer", {"id": "1", "inputs": [tensor(X[:2])], "outputs": [{"name": "predict", "parameters": {}}]}),
    ("/v2/models/zoo.embed/infer", {"inputs": [tensor(["dog"], "animal"), tensor(["2024-02-28"], "day"),
                                              tensor(np.array([["cat", "dog"]], object), "pair")]}),
    ("/v2/models/zoo.lengths/infer", {"inputs": [tensor(np.ones((1, 3), np.float32), n) for n in "xy"]}),
    ("/predict", {"records": [{"x": X[0].tolist()}]}),
    ("/models/zoo.embed/predict", {"records": [{"animal": "dog", "day": "2024-02-28", "pair": {"a": "cat", "b": "x"}}]}),
    ("/v2/repository/index", {"ready": True}),
    ("/v2/repository/models/zoo/load", {"parameters": {"config": "{}"}}),
]  # fmt: skip
PATHS = ["/v2/models/zoo/versions/1/infer", "/v2/models/zoo/versions/-1/infer", "/v2/models/../infer", "/v2/models/stats",
         "/v2/models/%00/infer", "/models//predict", "/openapi.json", "/v2//models/zoo/infer//", "/v2/models/zoo."]  # fmt: skip


def places(value, path=()):
    found = [path]
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += places(value[key], (*path, key))
    return found


@st.composite
def requests(draw):
    """A verb, a path, a body and headers, one to three changes away from a request that is right."""
    path, body = draw(st.sampled_from(GOOD))
    body = copy.deepcopy(body)
    for _ in range(draw(st.integers(0, 3))):
        where = draw(st.sampled_from(places(body)))
        if not where:
            body = draw(values) if draw(st.integers(0, 9)) == 0 else body
            continue
        inside = body
        for key in where[:-1]:
            inside = inside[key]
        match draw(st.sampled_from(["put", "drop", "double"])):
            case "put":
                inside[where[-1]] = draw(values)
            case "drop":
                del inside[where[-1]]
            case "double" if isinstance(inside, list):
                inside.append(copy.deepcopy(inside[where[-1]]))
    content, headers = json.dumps(body).encode("utf-8", "surrogatepass"), {"Content-Type": "application/json"}
    tail = draw(st.sampled_from([b"", b"", b"", X[:2].tobytes(), b"\x03\0\0\0dog", b"\xff" * 9]))
    if tail:
        length = len(content) + draw(st.sampled_from([0, 0, 0, 1, -1, 10**6]))
        headers["Inference-Header-Content-Length"] = str(length)
        content += tail
    match draw(st.integers(0, 11)):
        case 0:
            at = draw(st.integers(0, len(content)))
            content = content[:at] + draw(st.binary(max_size=6)) + content[at + draw(st.integers(0, 6)) :]
        case 1:
            content = gzip.compress(content)[: draw(st.integers(5, 10**6))]
            headers["Content-Encoding"] = draw(st.sampled_from(["gzip", "deflate", "br"]))
        case 2:
            content, headers["Content-Encoding"] = zlib.compress(content), draw(st.sampled_from(["deflate", "gzip"]))
        case 3:
            name = draw(st.sampled_from(["Content-Type", "Inference-Header-Content-Length", "Accept-Encoding"]))
            headers[name] = draw(st.sampled_from(["", "x", "0", "-5", "9" * 30, "gzip;q=x", "application/octet-stream"]))
    path = draw(st.sampled_from(PATHS)) if draw(st.integers(0, 9)) == 0 else path
    verb = draw(st.sampled_from(["POST"] * 9 + ["GET", "PUT"]))
    return verb, path, content, headers


@pytest.fixture(scope="module")
def addresses(folder):
    command = [sys.executable, "-m", "arsenal_serving", str(folder), "--port", "0", "--grpc-port", "0"]
    command += ["--max-batch", "8", "--max-body", "200000", "--control"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:(\d+)/.*grpc://127\.0\.0\.1:(\d+)", line)
    assert found, (line, process.stderr.read())
    yield int(found[1]), int(found[2])
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, "Traceback" in err) == (0, False), err[-2000:]


@pytest.fixture
def witness(addresses):
    """Another caller, whose answers must stay its own all the while."""
    stop, wrong, asked = threading.Event(), [], [0]
    body = json.dumps({"inputs": [tensor(X[:2])]}).encode()

    def work():
        connection, first = http.client.HTTPConnection("127.0.0.1", addresses[0], timeout=20), None
        while not stop.is_set():
            connection.request("POST", "/v2/models/zoo/infer", body)
            answer = json.loads(connection.getresponse().read())
            values = np.float32(answer["outputs"][0]["data"])
            first = values if first is None else first
            asked[0] += 1
            # Beside others its size, and so the last bits, may change; its rows may not.
            if not np.allclose(values, first, rtol=1e-5) or answer["outputs"][0]["shape"] != [2, 3]:
                wrong.append(answer)
            stop.wait(0.02)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join(30)
    assert not thread.is_alive() and asked[0] and not wrong, wrong[:1]


def ask_http(addresses, count):
    connections = [http.client.HTTPConnection("127.0.0.1", addresses[0], timeout=20)]

    @settings(max_examples=count, **PACE)
    @given(requests())
    @given_example(("POST", "/predict", b'{"records": [{"x": 1e400}]}', {}))
    def check(request):
        verb, path, content, headers = request
        connection = connections[0]
        connection.request(verb, path, content, headers)
        response = connection.getresponse()
        body = response.read()
        if response.getheader("Connection") == "close" or response.will_close:
            connection.close()
        assert response.status < 500 or response.status == 503, (response.status, body)
        if response.status >= 400 and response.getheader("Content-Type") == "application/json":
            if response.getheader("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert len(json.loads(body)["error"]) < 1000

    check()
    connections[0].close()


def ask_grpc(addresses, count):
    channel = grpc.insecure_channel(f"127.0.0.1:{addresses[1]}")
    good = protos.message(POOL, "inference.ModelInferRequest")(model_name="zoo")
    good.inputs.add(name="x", datatype="FP32", shape=[2, 8, 8]).contents.fp32_contents.extend(X[:2].ravel().tolist())
    raw = protos.message(POOL, "inference.ModelInferRequest")(model_name="zoo", raw_input_contents=[X[:2].tobytes()])
    raw.inputs.add(name="x", datatype="FP32", shape=[2, 8, 8])
    starts = [message.SerializeToString() for message in (good, raw)]
    methods = [method.name for method in POOL.FindServiceByName(RPC).methods if method.name != "RepositoryModelUnload"]
    refused = {"INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}

    @st.composite
    def messages(draw):
        content = bytearray(draw(st.sampled_from(starts)))
        for _ in range(draw(st.integers(0, 4))):
            at = draw(st.one_of(st.integers(0, 60), st.integers(0, max(0, len(content) - 1))))
            content[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=5))
        return draw(st.sampled_from(["ModelInfer"] * 9 + methods)), bytes(content)

    @settings(max_examples=count, **PACE)
    @given(messages())
    def check(message):
        name, content = message
        try:
            channel.unary_unary(f"/{RPC}/{name}")(content, timeout=20)
        except grpc.RpcError as error:
            assert error.code().name in refused, (error.code(), error.details())

    check()
    channel.close()


def test_a_few_over_http(addresses, witness):
    ask_http(addresses, 150)


def test_a_few_over_grpc(addresses, witness):
    ask_grpc(addresses, 150)


@pytest.mark.slow
def test_ten_thousand_over_http(addresses, witness):
    ask_http(addresses, MANY)


@pytest.mark.slow
def test_ten_thousand_over_grpc(addresses, witness):
    ask_grpc(addresses, MANY)


def test_what_is_no_http_at_all(addresses, witness):
    random = np.random.default_rng(0)
    head = b"POST /v2/models/zoo/infer HTTP/1.1\r\nHost: localhost\r\n"
    lines = [b"Content-Length: -1\r\n\r\n", b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"A" * 100_000, b"\0\r\n\r\n"]
    lines += [b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"Content-Length: 9999999999999999999999\r\n\r\n"]
    for content in [*(head + line for line in lines), *(random.bytes(n) for n in (1, 10, 1000, 100_000))]:
        with socket.create_connection(("127.0.0.1", addresses[0]), timeout=10) as client:
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                assert not client.recv(1000).startswith(b"HTTP/1.1 5")
