"""The protocol, asked of a real server process over sockets."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import orjson
import pytest
from conftest import embed, example, methods, parameters, predict, start
from tensors import array, tensor

from arsenal_serving.artifact.golden import same_bits
from arsenal_serving.export import SERVED
from arsenal_serving.protocols.open_inference import DATATYPES

X = example()
PAIR = np.array([["cat", "dog"]], object)


@pytest.mark.parametrize("rows", [1, 2, 4, 8])
def test_answers_are_the_bits_of_jit_at_the_same_size(server, rows):
    x = np.random.default_rng(rows).standard_normal((rows, 8, 8)).astype(np.float32)
    reply = server.infer("zoo", tensor(x))
    assert reply.status == 200
    assert (reply.body["model_name"], reply.body["model_version"]) == ("zoo", "1")
    (output,) = reply.body["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("predict", "FP32", [rows, 3])
    assert same_bits(array(output), np.asarray(jax.jit(predict)(parameters(), x)))


def test_every_integer_type_and_booleans(server):
    example = {**methods()["types"].example, "int8": np.int8([-128, 0, 126]), "uint32": np.uint32([0, 1, 2**32 - 2])}
    reply = server.infer("zoo.types", *(tensor(value, key) for key, value in example.items()))
    assert reply.status == 200, reply.body
    got = {output["name"]: array(output) for output in reply.body["outputs"]}
    for key, value in example.items():
        assert same_bits(got[key], ~value if value.dtype == bool else value + value.dtype.type(1)), key
    assert set(DATATYPES) == set(SERVED)


def test_float32_survives_json():
    bits = np.random.default_rng(0).integers(0, 2**32, 400_000, np.uint32)
    floats = bits.view(np.float32)
    floats = floats[np.isfinite(floats)]
    text = orjson.dumps(floats, option=orjson.OPT_SERIALIZE_NUMPY)
    assert same_bits(np.array(json.loads(text), np.float32), floats)


def test_flat_and_nested_data_are_the_same(server):
    flat, nested = server.infer("zoo", tensor(X)), server.infer("zoo", tensor(X, data=X.tolist()))
    assert flat.status == 200
    assert flat.body == nested.body


def test_strings_in_labels_and_dates_out(server):
    inputs = [tensor(["dog"], "animal"), tensor(["2024-02-28"], "day"), tensor(PAIR, "pair")]
    reply = server.infer("zoo.embed", *inputs, id="é-1")
    outputs = {output["name"]: output for output in reply.body["outputs"]}
    assert reply.body["id"] == "é-1"
    assert outputs["next_day"] == {"name": "next_day", "shape": [1], "datatype": "BYTES", "data": ["2024-02-29"]}
    assert outputs["pair"]["data"] == ["cat", "dog"]
    codes = {"animal": np.int32([1]), "day": np.int32([0]), "pair": np.int32([[0, 1]])}
    wanted = jax.jit(embed)(parameters(), codes)["embedding"]
    assert same_bits(array(outputs["embedding"]), np.asarray(wanted))
    assert server.infer("zoo.label", tensor(X)).body["outputs"][0]["datatype"] == "BYTES"


def test_outputs_are_selected_in_the_order_asked(server):
    asked = [{"name": "more.scores", "parameters": {"binary_data": False}}, {"name": "label"}]
    reply = server.infer("zoo.label", tensor(X), outputs=asked, parameters={"anything": 1})
    assert [output["name"] for output in reply.body["outputs"]] == ["more.scores", "label"]
    assert [output["name"] for output in server.infer("zoo.label", tensor(X), outputs=[]).body["outputs"]] == [
        "label",
        "more.scores",
    ]
    assert "id" not in reply.body


def test_what_is_no_number_travels_as_a_word_where_the_signature_allows_it(server):
    words = [-1.0, 0.0, "Infinity", "NaN", 1.0, 2.0]
    reply = server.infer("zoo.logarithm", tensor(np.zeros((3, 2), np.float32), data=words))
    assert reply.status == 200
    data = reply.body["outputs"][0]["data"]
    assert data == ["NaN", "-Infinity", "Infinity", "NaN", 0.0, pytest.approx(np.log(2))]
    wanted = np.log(np.float32(2.0), dtype=np.float32)
    assert np.float32(data[-1]) == pytest.approx(wanted, rel=1e-6)
    assert "must be finite; got nan" in server.infer("zoo", tensor(X[:1], data=["NaN"] * 64)).body["error"]


def test_rows_that_influence_each_other_are_run_together(server):
    x = np.float32([[1, 2], [3, 5], [8, 2]])
    output = array(server.infer("zoo.centre", tensor(x)).body["outputs"][0])
    np.testing.assert_allclose(output, x - x.mean(0), atol=1e-6)
    assert server.ask("GET", "/v2/models/zoo.centre").body["parameters"]["rows"] == "coupled"


@pytest.mark.parametrize("slash", ["", "/"])
def test_health_and_metadata(server, slash):
    assert server.ask("GET", f"/v2{slash}").body["name"] == "arsenal-serve"
    assert server.ask("GET", f"/v2/health/live{slash}").body == {"live": True}
    assert server.ask("GET", f"/v2/health/ready{slash}").body == {"ready": True}
    for path in ("/v2/models/zoo", "/v2/models/zoo.predict", "/v2/models/zoo/versions/1"):
        assert server.ask("GET", f"{path}/ready{slash}").body == {"name": path.split("/")[3], "ready": True}
        body = server.ask("GET", path + slash).body
        assert body["versions"] == ["1"]
        assert body["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 8, 8]}]
        assert body["outputs"][0]["parameters"] == {"columns": "cat,dog,éléphant"}
        assert body["parameters"]["program"] == "versioned"
        assert body["parameters"]["rows"] == "independent"
    shapes = [port["shape"] for port in server.ask("GET", "/v2/models/zoo.lengths").body["inputs"]]
    assert shapes == [[-1, -1], [-1, -1]]
    assert server.ask("POST", f"/v2/models/zoo/versions/1/infer{slash}", {"inputs": [tensor(X)]}).status == 200


ONE = X[:1]
NESTED = ONE.tolist()
WRONG = [
    ([tensor(ONE, "y")], {}, "unknown input 'y' of 'predict'"),
    ([], {}, "missing: ['x']"),
    ([tensor(ONE), tensor(ONE)], {}, "'x' was sent twice"),
    ([tensor(ONE, datatype="FP64")], {}, "must have datatype FP32; got 'FP64'"),
    ([tensor(ONE, datatype="float")], {}, "datatypes: "),
    ([tensor(ONE, datatype=None)], {}, "must have datatype FP32; got None"),
    ([tensor(ONE, shape=[64])], {}, "must be float32 [batch, 8, 8]; got float32 [64]"),
    ([tensor(ONE, shape=[1, 4, 16])], {}, "got float32 [1, 4, 16]"),
    ([tensor(ONE, shape=[2, 8, 8])], {}, "must hold 128 elements for the shape [2, 8, 8]; got 64"),
    ([tensor(ONE, shape=[1, 8, -8])], {}, "sizes >= 1"),
    ([tensor(ONE, shape=[1, 8, True])], {}, "sizes >= 1"),
    ([tensor(ONE, shape=[1, 0, 8], data=[])], {}, "sizes >= 1"),
    ([tensor(ONE, shape=[0, 8, -8], data=[])], {}, "sizes >= 1"),
    ([tensor(ONE, shape=[0, 8, 7], data=[])], {}, "got float32 [0, 8, 7]"),
    ([tensor(ONE, shape=[2**63, 2**63])], {}, "must hold at most 16777216 elements"),
    ([tensor(ONE, shape=[1] * 33)], {}, "at most 32 sizes"),
    ([tensor(ONE, shape="1,8,8")], {}, "'shape' of input 'x' must be a list"),
    ([tensor(ONE, data=NESTED[0])], {}, "see axis 0"),
    ([tensor(ONE, data=[NESTED[0][:7]])], {}, "see axis 1"),
    ([tensor(ONE, data=[[*NESTED[0][:7], 5]])], {}, "see axis 2"),
    ([tensor(ONE, data="1.0")], {}, "must be a list; got '1.0'"),
    ([tensor(ONE, data=["1.0"] * 63 + ["1.O"])], {}, "row 1, column 'x.63' must be a number for input 'x'; got '1.O'"),
    ([tensor(ONE, data=[True] * 64)], {}, "must be numbers for FP32; got True"),
    ([tensor(ONE, data=[None] * 64)], {}, "must be a number for input 'x'; got null"),
    ([tensor(ONE, data=[[1.0]] * 64)], {}, "see axis 0"),
    ([tensor(ONE, data=[1e39] * 64)], {}, "must be finite; got inf at [0, 0, 0]"),
    ([tensor(np.zeros((101, 8, 8), np.float32))], {}, "takes 0 to 100 rows; got 101"),
    ([{"name": "x"}], {}, "an input must have 'data'"),
    ([{**tensor(ONE), "dta": 1}], {}, "unknown field 'dta' of an input; did you mean 'data'"),
    ([{**tensor(ONE), "parameters": {"binary_data_size": 256}}], {}, "unknown field 'data' of an input with 'binary_da"),
    ([{**tensor(ONE), "parameters": {"shared_memory_region": "a"}}], {}, "'shared_memory_region' is not served here"),
    ([{**tensor(ONE), "parameters": []}], {}, "'parameters' of an input must be an object"),
    ([tensor(ONE)], {"parameters": {"timeout": -1}}, "'timeout' must be whole microseconds"),
    ([tensor(ONE)], {"outputs": [{"name": "predict", "parameters": {"classification": 2}}]}, "'classification' is not"),
    ([3], {}, "an input must be an object"),
    ([tensor(ONE)], {"outputs": [{"name": "predct"}]}, "unknown output 'predct' of 'predict'; did you mean 'predict'"),
    ([tensor(ONE)], {"outputs": [{"name": ["predict"]}]}, "unknown output"),
    ([tensor(ONE)], {"outputs": [{"name": "predict"}] * 2}, "asked for twice"),
    ([tensor(ONE)], {"outputs": "predict"}, "'outputs' must be a list"),
    ([tensor(ONE)], {"output": []}, "unknown field 'output' of the body; did you mean 'outputs'"),
    ([tensor(ONE)], {"model_name": "zo"}, "'model_name' must be that of the path, 'zoo'; got 'zo'"),
    ([tensor(ONE)], {"id": 7}, "'id' must be a string; got 7"),
    ([tensor(ONE)], {"inputs": {"x": 1}}, "'inputs' must be a list"),
]


@pytest.mark.parametrize(("tensors", "more", "says"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_request_is_told_what_is_wrong(server, tensors, more, says):
    reply = server.infer("zoo", *tensors, **more)
    assert reply.status == 400
    assert says in reply.body["error"], reply.body
    assert list(reply.body) == ["error"]
    assert len(reply.body["error"]) < 500


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("uint8", [1, 2, 256], "must lie in 0 to 255; got 256"),
        ("uint8", [1, 2, -1], "must lie in 0 to 255; got -1"),
        ("uint32", [1, 2, 2**63], "must lie in 0 to 4294967295"),
        ("int32", [1, 2, 1.5], "must be whole numbers for INT32; got 1.5"),
        ("int32", [1, 2, 1e17], "must be whole numbers for INT32; got 1e+17"),
        ("uint8", [1, 2, 256.0], "must lie in 0 to 255; got 256"),
        ("int32", [1, 2, False], "must be whole numbers for INT32; got False"),
        ("bool", [True, True, 1], "must be true or false for BOOL; got 1"),
    ],
)
def test_integers_are_not_bent_into_shape(server, name, value, says):
    inputs = {key: tensor(x, key) for key, x in methods()["types"].example.items()}
    inputs[name]["data"] = value
    reply = server.infer("zoo.types", *inputs.values())
    assert reply.status == 400
    assert says in reply.body["error"], reply.body


def test_a_whole_number_may_have_a_point(server):
    inputs = {key: tensor(x, key) for key, x in methods()["types"].example.items()}
    inputs["int32"]["data"] = [1, 2.0, -3e2]
    outputs = {output["name"]: output["data"] for output in server.infer("zoo.types", *inputs.values()).body["outputs"]}
    assert outputs["int32"] == [2, 3, -299]


def test_strings_that_no_codec_takes(server):
    def ask(day):
        return server.infer("zoo.embed", tensor(["dog"], "animal"), tensor([day], "day"), tensor(PAIR, "pair"))

    assert "row 1, column 'day' must be a date that reads YYYY-MM-DD and exists for input 'day'; got '2023-02-30'" in ask("2023-02-30").body["error"]
    assert ask("x" * 100_000).status == 400
    assert "column 'day' must be a date that reads" in server.infer("zoo.embed", tensor(["x"], "animal"), tensor(["x"], "day", data=[5]), tensor(PAIR, "pair")).body["error"]


BOMB = b'{"inputs": [{"name": "x", "shape": [1, 8, 8], "datatype": "FP32", "data": %s}]}'


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"NaN", b"[]", b"null", b"\xff\xfe", b'{"inputs": [NaN]}', b'"\\ud800"', b'{"a": 1, "a": 2}', b"{}",
     b"[" * 150_000, b'{"inputs":' * 15_000, BOMB % (b"[" * 900 + b"]" * 900),
     BOMB % (b'[{"a":' * 400 + b"1" + b"}]" * 400), BOMB % b"[NaN]", BOMB % b"[1e400]",
     BOMB % (b"[" + b"9" * 5000 + b"]"), BOMB % b"{}", BOMB[:-9]],
)  # fmt: skip
def test_a_body_that_is_no_request_is_a_400(server, body):
    reply = server.ask("POST", "/v2/models/zoo/infer", body)
    assert reply.status == 400
    assert reply.body["error"]


@pytest.mark.parametrize(
    ("verb", "path", "status", "says"),
    [
        ("GET", "/", 404, "the Open Inference Protocol begins at /v2"),
        ("GET", "/v2/modls/zoo", 404, "no such path"),
        ("GET", "/v2/models", 404, "no such path"),
        ("GET", "/v2/models/zo", 404, "unknown model 'zo'; did you mean 'zoo'?"),
        ("GET", "/v2/models/zoo.predct", 404, "did you mean 'zoo.predict'?"),
        ("POST", "/v2/models/" + "a" * 5000 + "/infer", 404, "unknown model"),
        ("GET", "/v2/models/%2e%2e%2fzoo", 404, "unknown model|no such path"),
        ("GET", "/v2/models/zoo/versions/2", 404, "no version '2'"),
        ("GET", "/v2/models/zoo/versions", 404, "no such path"),
        ("GET", "/v2/models/zoo/infer", 405, "answers POST; got GET"),
        ("POST", "/v2/health/live", 405, "answers GET; got POST"),
        ("DELETE", "/v2/models/zoo", 405, "answers GET; got DELETE"),
    ],
)
def test_wrong_paths_and_methods(server, verb, path, status, says):
    reply = server.ask(verb, path)
    assert reply.status == status
    assert any(part in reply.body["error"] for part in says.split("|")), reply.body
    assert status != 405 or reply.headers["allow"] in ("GET", "POST")


@pytest.mark.parametrize(
    "headers",
    [{"Content-Type": "text/plain"}, {"Content-Encoding": "br"}, {"Content-Encoding": "gzip, gzip"}],
)
def test_other_media_types_are_refused(server, headers):
    reply = server.ask("POST", "/v2/models/zoo/infer", {"inputs": [tensor(X)]}, headers)
    assert reply.status == 415
    content_type = {"Content-Type": "application/json; charset=utf-8"}
    assert server.ask("POST", "/v2/models/zoo/infer", {"inputs": [tensor(X)]}, content_type).status == 200


def test_a_body_is_read_no_further_than_allowed(server):
    assert server.ask("POST", "/v2/models/zoo/infer", b" " * 200_001).status == 413
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"POST /v2/models/zoo/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(4):  # never says how long it will be, never ends
            client.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_goes_away_half_way_harms_nobody(server):
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"POST /v2/models/zoo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
    assert server.infer("zoo", tensor(X)).status == 200


def test_sigterm_answers_what_is_in_flight_and_refuses_what_is_new(folder):
    server = start(folder, "--max-batch", "1")
    body = json.dumps({"inputs": [tensor(X[:1])]}).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"POST /v2/models/zoo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
        client.sendall(body[:100])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
        assert server.process.poll() is None
        client.sendall(body[100:])
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 ")
    output = json.loads(answer.partition(b"\r\n\r\n")[2])["outputs"][0]
    assert same_bits(array(output), np.asarray(jax.jit(predict)(parameters(), X[:1])))
    out, err = server.process.communicate(timeout=10)
    assert (out, [json.loads(line)["event"] for line in err.splitlines()]) == ("", ["ready", "drain", "stop"])
    assert server.process.returncode == 0


def run(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "arsenal_serving", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_startup_errors_are_one_line(folder, server, tmp_path):
    shutil.copytree(folder, tmp_path / "bad")
    (tmp_path / "bad" / "programs" / "predict.mlir").write_bytes(b"x")
    for arguments, status, says in (
        ([tmp_path / "none"], 1, "is not an artifact folder"),
        ([tmp_path / "bad", "--port", "0"], 1, "'programs/predict.mlir' has changed"),
        ([folder, "--port", server.port], 1, f"cannot listen on 127.0.0.1:{server.port}: Address already in use"),
        ([folder, "--port", "70000"], 2, "must be 0 to 65535; got '70000'"),
    ):
        done = run(*arguments)
        assert done.returncode == status
        assert says in done.stderr.splitlines()[-1]
        assert status == 2 or len(done.stderr.splitlines()) == 1
        assert "Traceback" not in done.stderr


def test_help_does_not_wait_for_jax():
    code = "import sys, arsenal_serving.__main__; print({'jax', 'numpy', 'jwt', 'prometheus_client'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert "--max-batch" in run("--help").stdout
