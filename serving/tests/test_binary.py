"""Binary tensors and compressed bodies over HTTP: bits in, bits out, and nothing that a client says is believed."""

from __future__ import annotations

import gzip
import json
import time
import zlib

import numpy as np
import pytest
from conftest import example, methods
from tensors import tensor

from arsenal_serving.artifact.golden import same_bits
from arsenal_serving.protocols.open_inference import DATATYPES, DTYPES

X = example()
PATH = "/v2/models/zoo/infer"


def packed(array: np.ndarray) -> bytes:
    if array.dtype.kind != "O":
        return array.tobytes()
    return b"".join(len(s.encode()).to_bytes(4, "little") + s.encode() for s in array.ravel())


def body(arrays: dict, **more) -> tuple[bytes, dict]:
    """A request with binary tensors and its headers."""
    tail = [packed(array) for array in arrays.values()]
    inputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": DATATYPES.get(array.dtype.name, "BYTES"),
            "parameters": {"binary_data_size": len(content)},
        }
        for (name, array), content in zip(arrays.items(), tail, strict=True)
    ]
    text = json.dumps({"inputs": inputs, **more}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}
    return text + b"".join(tail), headers


def unpacked(reply) -> tuple[dict, dict]:
    length = int(reply.headers["inference-header-content-length"])
    answer, rest, found = json.loads(reply.body[:length]), reply.body[length:], {}
    for output in answer["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is not None and output["datatype"] != "BYTES":
            found[output["name"]] = np.frombuffer(rest[:size], DTYPES[output["datatype"]]).reshape(output["shape"])
        elif size is not None:
            found[output["name"]] = rest[:size]
        rest = rest[size or 0 :]
    assert rest == b""
    return answer, found


def test_bits_go_in_and_come_out(server):
    plain = server.infer("zoo.label", tensor(X)).body["outputs"]
    content, headers = body({"x": X}, id="7", parameters={"binary_data_output": True})
    answer, found = unpacked(server.ask("POST", "/v2/models/zoo.label/infer", content, headers))
    assert answer["id"] == "7"
    assert same_bits(found["more.scores"].ravel(), np.float32(plain[1]["data"]))
    assert found["label"] == packed(np.array(plain[0]["data"], object))


def test_each_output_comes_as_it_is_asked_for(server):
    asked = [{"name": "more.scores", "parameters": {"binary_data": True}}, {"name": "label"}]
    answer, found = unpacked(server.infer("zoo.label", tensor(X), outputs=asked))
    assert [output["name"] for output in answer["outputs"]] == ["more.scores", "label"]
    assert list(found) == ["more.scores"]
    assert len(answer["outputs"][1]["data"]) == 5
    asked[0]["parameters"]["binary_data"] = False
    reply = server.infer("zoo.label", tensor(X), outputs=asked[:1], parameters={"binary_data_output": True})
    assert "inference-header-content-length" not in reply.headers


def test_every_type_and_strings_in_the_middle(server):
    arrays = {key: np.array(value) for key, value in methods()["types"].example.items()}
    content, headers = body(arrays, parameters={"binary_data_output": True})
    _, found = unpacked(server.ask("POST", "/v2/models/zoo.types/infer", content, headers))
    for key, value in arrays.items():
        assert same_bits(found[key], ~value if value.dtype == bool else value + value.dtype.type(1)), key
    strings = {
        "animal": np.array(["éléphant"], object),
        "day": np.array(["2024-02-28"], object),
        "pair": np.array([["cat", "dog"]], object),
    }
    content, headers = body(strings)
    reply = server.ask("POST", "/v2/models/zoo.embed/infer", content, headers)
    assert reply.status == 200, reply.body
    assert [output["data"] for output in reply.body["outputs"] if output["name"] == "pair"] == [["cat", "dog"]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content, headers: (content[:-1], headers), "'binary_data_size' of input 'x' must be 0 to the 1279 bytes"),
        (lambda content, headers: (content + b"x", headers), "1 bytes after the JSON belong to no input"),
        (lambda content, headers: (content, headers | {"Inference-Header-Content-Length": "99999"}), "must be at most"),
        (lambda content, headers: (content, headers | {"Inference-Header-Content-Length": "-1"}), "a whole number"),
        (lambda content, headers: (content, headers | {"Inference-Header-Content-Length": "12"}), "is not JSON"),
        (lambda content, headers: (content.replace(b"1280", b"1276"), headers), "must be 1280 bytes for FP32"),
        (lambda content, headers: (content.replace(b"1280", b"-280"), headers), "must be 0 to the 1280 bytes"),
    ],
)
def test_sizes_that_do_not_add_up(server, change, says):
    reply = server.ask("POST", PATH, *change(*body({"x": X})))
    assert reply.status == 400
    assert says in reply.body["error"], reply.body


def test_strings_and_booleans_that_are_none(server):
    arrays = {key: np.array(value) for key, value in methods()["types"].example.items()}
    content, headers = body(arrays)
    at = content.rindex(arrays["bool"].tobytes())
    reply = server.ask("POST", "/v2/models/zoo.types/infer", content[:at] + b"\x02" + content[at + 1 :], headers)
    assert "must be bytes 0 or 1 for BOOL; got 2" in reply.body["error"]
    strings = {"animal": np.array(["dog"], object), "day": np.array(["2024-02-28"], object)}
    content, headers = body(strings | {"pair": np.array([["cat", "dog"]], object)})
    for wrong, says in ((b"\xff\xff\xff\xffdog", "ends within a string"), (b"\x03\0\0\0d\xffg", "must be UTF-8")):
        changed = content.replace(b"\x03\0\0\0dog", wrong, 1)
        reply = server.ask("POST", "/v2/models/zoo.embed/infer", changed, headers)
        assert reply.status == 400
        assert says in reply.body["error"], reply.body


@pytest.mark.parametrize(("coding", "squeeze"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_both_ways(server, coding, squeeze):
    x = np.tile(X, (10, 1, 1))
    plain = server.infer("zoo", tensor(x)).body
    text = json.dumps({"inputs": [tensor(x)]}).encode()
    headers = {"Content-Encoding": coding, "Accept-Encoding": f"br;q=1.0, {coding};q=0.5"}
    reply = server.ask("POST", PATH, squeeze(text), headers)
    assert reply.headers["content-encoding"] == coding
    assert json.loads((gzip.decompress if coding == "gzip" else zlib.decompress)(reply.body)) == plain
    refused = server.ask("POST", PATH, text, {"Accept-Encoding": f"{coding};q=0, identity"})
    assert "content-encoding" not in refused.headers
    if coding == "gzip":  # one member or several: RFC 1952, 2.2
        members = squeeze(text[:100]) + squeeze(b"") + squeeze(text[100:])
        assert server.ask("POST", PATH, members, {"Content-Encoding": "gzip"}).body == plain
    for wrong in (squeeze(text)[:-9], squeeze(text) + b"more", squeeze(text) + squeeze(text)[:5], text):
        assert server.ask("POST", PATH, wrong, headers).status == 400


def test_a_bomb_is_not_unpacked(server):
    began = time.perf_counter()
    many = server.ask("POST", PATH, gzip.compress(b"") * 9000, {"Content-Encoding": "gzip"})
    assert (many.status, "at most 1024 members" in many.body["error"]) == (400, True)
    assert time.perf_counter() - began < 2  # what follows each is not copied as often as there are some
    for bomb in (gzip.compress(b" " * (100 << 20)), gzip.compress(b" " * 150_000) * 100):
        assert len(bomb) < 200_000
        reply = server.ask("POST", PATH, bomb, {"Content-Encoding": "gzip"})
        assert reply.status == 413
        assert "at most 200000 bytes when decompressed" in reply.body["error"]


def test_no_rows_are_answered_with_no_rows(server):
    """By every route, of every kind of method: what a client filtered away is no error."""
    none = np.empty((0, 8, 8), np.float32)
    (output,) = server.infer("zoo", tensor(none)).body["outputs"]
    assert output == {"name": "predict", "shape": [0, 3], "datatype": "FP32", "data": []}
    head = json.dumps({"inputs": [{"name": "x", "shape": [0, 8, 8], "datatype": "FP32", "parameters": {"binary_data_size": 0}}],
                       "parameters": {"binary_data_output": True}}).encode()  # fmt: skip
    reply = server.ask("POST", PATH, head, {"Inference-Header-Content-Length": str(len(head))})
    assert (reply.status, json.loads(reply.body)["outputs"][0]["shape"]) == (200, [0, 3])
    inputs = [tensor(np.empty(0, object), "animal"), tensor(np.empty(0, object), "day"), tensor(np.empty((0, 2), object), "pair")]
    shapes = {output["name"]: output["shape"] for output in server.infer("zoo.embed", *inputs).body["outputs"]}
    assert shapes == {"embedding": [0, 2], "pair": [0, 2], "next_day": [0]}
    for method, x in (("centre", np.empty((0, 2), np.float32)), ("logarithm", np.empty((0, 2), np.float32))):
        assert server.infer(f"zoo.{method}", tensor(x)).body["outputs"][0]["shape"] == [0, 2]
    ragged = [tensor(np.empty((0, 4), np.float32), name) for name in "xy"]
    assert server.infer("zoo.lengths", *ragged).body["outputs"][0]["shape"] == [0]
    assert server.ask("POST", "/predict", {"records": []}).body["records"] == []
    csv = server.ask("POST", "/models/zoo.embed/predict", b"animal,day,a,b\r\n", {"Content-Type": "text/csv", "Accept": "text/csv"})
    assert (csv.status, csv.body) == (200, b"embedding.0,embedding.1,next_day,a,b\r\n")
