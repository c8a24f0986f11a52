"""Several models and versions from one folder: index, load, unload, statistics; and the records of `/predict`."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import CODECS, example, methods, start
from tensors import tensor

from arsenal_serving.export import Method, Tensor, export

X = example()


def scaled(params, x):
    return x * params["by"]


def pairwise(params, x):
    return (x[:, None] - x[None]).sum(-1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for by in (2.0, 3.0):
        export(folder / "scale", scaled, {"by": np.float32(by)}, np.ones((2, 4), np.float32), name="scale")
    columns = {"x": Tensor(columns=["a", "b", "c", "d"])}
    named = Method(scaled, np.ones((2, 4), np.float32), columns, {"predict": Tensor(columns=["a", "b", "c", "d"])})
    export(folder / "named", {"predict": named}, {"by": np.float32(0.5)}, name="named")
    single = Method(pairwise, np.ones((3, 2), np.float32), {"x": Tensor(shape=["points", 2])}, batch=False)
    export(folder / "pairs", {"predict": single}, {"by": np.float32(1)}, name="pairs")
    (folder / "notes").mkdir()
    return folder


@pytest.fixture(scope="module")
def several(models):
    running = start(models, "--control", "--max-batch", "4")
    yield running
    running.process.send_signal(signal.SIGTERM)
    assert "Traceback" not in running.process.communicate(timeout=20)[1]


def states(server, **body):
    rows = server.ask("POST", "/v2/repository/index", body).body
    return [(row["name"], row["version"], row["state"]) for row in rows]


def answer(server, path: str):
    reply = server.ask("POST", f"/v2/models/{path}/infer", {"inputs": [tensor(np.ones((1, 4), np.float32))]})
    return reply.body["outputs"][0]["data"][0] if reply.status == 200 else reply.status


def test_models_and_versions_come_and_go(several):
    newest = [("named", "1", "READY"), ("pairs", "1", "READY"), ("scale", "2", "READY")]
    assert states(several) == newest
    assert (answer(several, "scale"), answer(several, "scale/versions/1"), answer(several, "named")) == (3.0, 404, 0.5)
    policy = {"parameters": {"config": '{"version_policy": {"all": {}}}'}}
    assert several.ask("POST", "/v2/repository/models/scale/load", policy).status == 200
    assert (answer(several, "scale"), answer(several, "scale/versions/1")) == (3.0, 2.0)
    assert several.ask("GET", "/v2/models/scale").body["versions"] == ["1", "2"]
    assert several.ask("POST", "/v2/repository/models/scale/unload", {}).status == 200
    assert answer(several, "scale") == 503
    assert several.ask("GET", "/v2/models/scale/ready").status == 503
    assert ("scale", "1", "UNAVAILABLE") in states(several)
    assert states(several, ready=True) == newest[:2]
    assert several.ask("POST", "/v2/repository/models/scale/load", b"").status == 200
    assert answer(several, "scale/versions/2") == 3.0


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("models/scal/load", {}, 404, "unknown model 'scal'; did you mean 'scale'?"),
        ("models/notes/load", {}, 404, "unknown model"),
        ("models/%2e%2e/load", {}, 404, "unknown model"),
        ("models/..%2fmodels/load", {}, 404, "no such path"),
        ("models/scal/unload", {}, 404, "unknown model"),
        ("models/scale/load", {"parameters": {"config": '{"version_policy": {"specific": {"versions": [7]}}}'}}, 400, "7"),
        ("models/scale/load", {"parameters": {"config": "{"}}, 400, "'config' is not JSON"),
        ("models/scale/load", {"parameters": {"file:1/model": "eA=="}}, 400, "unknown field 'file:1/model'"),
        ("models/scale/drop", {}, 404, "no such path"),
        ("index", {"ready": True, "more": 1}, 400, "unknown field 'more'"),
    ],
)
def test_what_is_no_such_model_is_told(several, path, body, status, says):
    reply = several.ask("POST", f"/v2/repository/{path}", body)
    assert (reply.status, says in reply.body["error"]) == (status, True), reply
    assert answer(several, "scale") == 3.0


def test_load_is_off_unless_it_is_let(server):
    assert "start the server with --control" in server.ask("POST", "/v2/repository/models/zoo/load", {}).body["error"]
    assert states(server) == [("zoo", "1", "READY")]


def test_statistics_count_rows_and_runs(several):
    before = several.ask("GET", "/v2/models/named/stats").body["model_stats"][0]
    several.ask("POST", "/v2/models/named/infer", {"inputs": [tensor(np.ones((3, 4), np.float32))]})
    several.ask("POST", "/v2/models/named/infer", {"inputs": [tensor(np.ones((3, 5), np.float32))]})
    after = several.ask("GET", "/v2/models/named/versions/1/stats").body["model_stats"][0]
    assert after["inference_count"] == before["inference_count"] + 3
    assert after["execution_count"] == before["execution_count"] + 1
    for part, more in (("success", 1), ("fail", 1), ("queue", 1), ("compute_infer", 1)):
        assert after["inference_stats"][part]["count"] == before["inference_stats"][part]["count"] + more, part
    assert [batch["batch_size"] for batch in after["batch_stats"]][-1] == 3
    assert after["last_inference"] > 1_600_000_000_000
    names = [row["name"] for row in several.ask("GET", "/v2/models/stats").body["model_stats"]]
    assert names == ["named", "pairs", "scale", "scale"]  # both versions: the load said all, and the policy keeps it


def test_records_by_column_and_in_lists(several):
    records = [{"x": {"d": 4, "c": 3.0, "b": 2, "a": 1}}, {"x": [2, 4, 6, 8]}]
    reply = several.ask("POST", "/models/named/predict", {"records": records})
    found = [{"predict": dict(zip("abcd", row, strict=True))} for row in ([0.5, 1.0, 1.5, 2.0], [1.0, 2.0, 3.0, 4.0])]
    assert reply.body == {"model": "named", "version": "1", "records": found}
    points = several.ask("POST", "/models/pairs/predict", {"records": [{"x": [[0, 0], [1, 2]]}]})
    assert points.body["records"] == [{"predict": [[0.0, -3.0], [3.0, 0.0]]}]
    assert several.ask("POST", "/models/scale/versions/2/predict", {"records": [{"x": [1] * 4}]}).status == 200
    assert "/models/named/predict" in several.ask("POST", "/predict", {"records": []}).body["error"]


def test_records_with_strings_and_methods(server):
    record = {"animal": "dog", "day": "2024-02-28", "pair": {"a": "cat", "b": "cow"}}
    reply = server.ask("POST", "/models/zoo.embed/predict", {"records": [record, record]})
    assert reply.body["records"][1]["next_day"] == "2024-02-29"
    assert reply.body["records"][0]["pair"] == {"a": "cat", "b": "unknown"}
    direct = server.ask("POST", "/predict", {"records": [{"x": row} for row in X.tolist()]})
    assert list(direct.body["records"][0]["predict"]) == CODECS["animal"]["values"]
    plain = server.infer("zoo", tensor(X)).body["outputs"][0]["data"]
    assert [value for row in direct.body["records"] for value in row["predict"].values()] == plain
    words = server.ask("POST", "/models/zoo.logarithm/predict", {"records": [{"x": ["Infinity", 0.0]}]})
    assert words.body["records"] == [{"logarithm": ["Infinity", "-Infinity"]}]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "the body must have 'records'"),
        ({"records": []}, "at least one record; got []"),
        ({"records": [3]}, "a record must be an object"),
        ({"records": [{"X": 1}]}, "unknown field 'X' of a record. There is: 'x'."),
        ({"records": [{"x": 1.0}]}, "must be float32 [batch, 8, 8]; got float32 [1]"),
        ({"records": [{"x": X[0].tolist()}, {"x": X[0, :3].tolist()}]}, "see axis 1"),
        ({"records": [{"x": [[]]}]}, "sizes >= 1"),
        ({"records": [{"x": np.full((8, 8), "1").tolist()}]}, "must be numbers for FP32; got '1'"),
        (b"[" * 2000, "is not JSON"),
    ],
)
def test_wrong_records_are_told_what_is_wrong(server, body, says):
    reply = server.ask("POST", "/predict", body)
    assert (reply.status, says in reply.body["error"]) == (400, True), reply.body


def test_the_openapi_document_is_what_is_served(server):
    document = server.ask("GET", "/openapi.json").body
    assert set(document["paths"]) == {
        "/predict",
        "/models/zoo/predict",
        *(f"/models/zoo.{method}/predict" for method in set(methods()) - {"predict"}),
    }
    values = {"string": "2024-02-29", "number": 1.5, "integer": 1, "boolean": True}

    def made(schema):
        schema = schema["anyOf"][0] if "anyOf" in schema else schema
        if schema["type"] == "array":
            return [made(schema["items"])] * schema["minItems"]
        if schema["type"] == "object":
            return {name: made(inner) for name, inner in schema["properties"].items()}
        return values[schema["type"]]

    def fits(value, schema):
        if "anyOf" in schema:
            return any(fits(value, inner) for inner in schema["anyOf"])
        if "enum" in schema:
            return value in schema["enum"]
        if schema["type"] == "array":
            low, high = schema.get("minItems", 0), schema.get("maxItems", 99)
            return isinstance(value, list) and low <= len(value) <= high and all(fits(v, schema["items"]) for v in value)
        if schema["type"] == "object":
            return set(value) == set(schema["properties"]) and all(fits(value[k], v) for k, v in schema["properties"].items())
        kinds = {"string": str, "number": (int, float), "integer": int, "boolean": bool}
        return isinstance(value, kinds[schema["type"]])

    for path, verbs in document["paths"].items():
        operation = verbs["post"]
        asked = made(operation["requestBody"]["content"]["application/json"]["schema"])
        reply = server.ask("POST", path, asked)
        assert reply.status == 200, (path, reply.body)
        assert fits(reply.body, operation["responses"]["200"]["content"]["application/json"]["schema"]), path


def test_a_folder_where_nothing_can_be_served_says_why(models, tmp_path):
    (tmp_path / "scale" / "1").mkdir(parents=True)
    (tmp_path / "scale" / "1" / "manifest.json").write_text("{}")
    command = [sys.executable, "-m", "arsenal_serving", str(tmp_path), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "no model could be loaded" in done.stderr
    assert "SHA256SUMS is missing" in done.stderr
