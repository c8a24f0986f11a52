"""What one tensor of a request may be at most: rank, elements, nesting; by every way in which one comes."""

from __future__ import annotations

import orjson
import pytest
from conftest import example
from tensors import tensor

from arsenal_serving import protocol, records
from arsenal_serving.model import Limits, load
from arsenal_serving.refused import Refused

X = example()


def body(*tensors: dict) -> bytes:
    return orjson.dumps({"inputs": list(tensors)})


@pytest.fixture(scope="module")
def bounded(folder):
    return load(folder, max_batch=8, limits=Limits(rank=3, elements=200))


def test_too_many_elements_or_dimensions_in_every_encoding(bounded):
    predict, lengths = bounded.methods["predict"], bounded.methods["lengths"]
    assert protocol.parse(predict, body(tensor(X[:3]))).inputs["x"].shape == (3, 8, 8)
    said = r"input 'x' must hold at most 200 elements; got \[4, 8, 8\]"
    with pytest.raises(Refused, match=said):
        protocol.parse(predict, body(tensor(X[:4])))
    head = body({"name": "x", "shape": [4, 8, 8], "datatype": "FP32", "parameters": {"binary_data_size": 1024}})
    with pytest.raises(Refused, match=said):
        protocol.parse(predict, head + X[:4].tobytes(), len(head))
    with pytest.raises(Refused, match=said):
        records.parse(predict, orjson.dumps({"records": [{"x": x.tolist()} for x in X[:4]]}))
    with pytest.raises(Refused, match="at most 200 elements; got"):  # no array is made for it, however large it says it is
        protocol.parse(lengths, body({"name": "x", "shape": [2**40, 2**40], "datatype": "FP32", "data": []}))
    with pytest.raises(Refused, match=r"at most 3 sizes >= 1; got \[1, 1, 8, 8\]"):
        protocol.parse(predict, body(tensor(X[:1], shape=[1, 1, 8, 8])))
    with pytest.raises(Refused, match="at most 3 sizes >= 1"):
        records.parse(predict, orjson.dumps({"records": [{"x": [[[[[1.0]]]]]}]}))


@pytest.mark.parametrize("limits", [(0, 5), (33, 5), (3, 0)])
def test_limits_are_limited(folder, limits):
    with pytest.raises(Refused, match="`limits` must be a rank of 1 to 32"):
        load(folder, limits=Limits(*limits))


@pytest.mark.parametrize("depth", [1000, 1025, 90_000])
@pytest.mark.parametrize("path", ["/predict", "/v2/models/zoo/infer", "/v2/repository/index"])
def test_nesting(server, depth, path):
    reply = server.ask("POST", path, b"[" * depth + b"]" * depth)
    assert reply.status == 400
    assert ("depth limit exceeded" in reply.body["error"]) == (depth > 1024)
    assert len(reply.body["error"]) < 300
    deep = b'{"inputs": [{"name": "x", "shape": [1, 8, 8], "datatype": "FP32", "data": %s}]}' % (b"[" * depth + b"]" * depth)
    assert server.ask("POST", "/v2/models/zoo/infer", deep).status == 400
