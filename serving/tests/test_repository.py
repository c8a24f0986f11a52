"""Several models and versions from one folder: index, load, unload, statistics; and the records of `/predict`."""

from __future__ import annotations

import http.client
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import CODECS, example, methods, start
from tensors import tensor

from arsenal_serving.export import Method, Tensor, export
from arsenal_serving.model import load
from arsenal_serving.refused import Refused
from arsenal_serving.repository.models import Repository

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


def test_records_by_the_names_of_columns_as_a_table_has_them(several, server):
    """One meaning in every route: columns beside those that are needed are left alone, what is empty is missing."""
    named = "/models/named/predict"
    wanted = several.ask("POST", named, {"records": [{"x": [1, 2, 3, 4]}]}).body
    for record in ({"a": 1, "b": 2, "c": 3, "d": 4}, {"d": 4, "c": 3, "b": 2, "a": 1, "id": 7, "target": "yes"},
                   {"x": {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, "id": None}):  # fmt: skip
        assert several.ask("POST", named, {"records": [record]}).body == wanted, record
    assert several.ask("POST", named, b"id,d,c,b,a\nq,4,3,2,1\n", {"Content-Type": "text/csv"}).body == wanted
    said = several.ask("POST", named, {"records": [{"x": [1] * 4}, {"a": 1, "B": 2, "c": 3, "d": 4}]}).body["error"]
    assert said == "record 2 must have the columns ['a', 'b', 'c', 'd']; missing: ['b']. Is 'B' meant?"

    embed = "/models/zoo.embed/predict"
    flat = {"animal": "dog", "day": "2024-02-28", "a": "cat", "b": "cow"}
    nested = {"animal": "dog", "day": "2024-02-28", "pair": ["cat", "cow"]}
    both = [server.ask("POST", embed, {"records": [flat, record]}).body["records"] for record in (nested, flat | {"more": 1})]
    assert both[0] == both[1] and both[0][0] == both[0][1]
    for column in ("animal", "a"):
        row = flat | {column: ""}
        csv = ",".join(row) + "\n" + ",".join(flat.values()) + "\n" + ",".join(row.values()) + "\n"
        answers = [
            server.ask("POST", embed, {"records": [flat, row]}),
            server.ask("POST", embed, csv.encode(), {"Content-Type": "text/csv"}),
            server.infer("zoo.embed", tensor(np.array(["dog", row["animal"]], object), "animal"), tensor(np.array([flat["day"]] * 2, object), "day"),
                         tensor(np.array([[flat["a"], flat["b"]], [row["a"], row["b"]]], object), "pair")),
        ]  # fmt: skip
        port = "pair" if column == "a" else "animal"
        said = f"row 2, column '{column}' must not be missing for input '{port}'; got ''."
        assert [(reply.status, reply.body["error"]) for reply in answers] == [(400, said)] * 3


def test_pages_of_other_sites_change_nothing(several):
    """A page may send a form, or no media type at all, to any server that its visitor reaches."""
    load, policy = "/v2/repository/models/scale/load", "/v2/repository/models/scale/policy"
    own, before = f"http://127.0.0.1:{several.port}", several.ask("GET", policy).body["policy"]
    for path, verb, body in ((load, "POST", b"{}"), (load.replace("load", "unload"), "POST", b""), (policy, "PUT", b'{"default": 1}')):
        for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": own.replace("http:", "https:") + "0"},
                        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):  # fmt: skip
            reply = several.ask(verb, path, body, headers)
            assert (reply.status, "may not change what is served" in reply.body["error"]) == (403, True), (path, headers)
        assert several.ask(verb, path, body, {"Content-Type": "text/plain"}).status == 415
        for headers in ({"Origin": own}, {"Sec-Fetch-Site": "none"}, {"User-Agent": "Mozilla/5.0"}):
            assert plain(several, verb, path, body, headers)[0] == 415, headers
    assert several.ask("POST", load, {}, {"Origin": own}).status == 200
    assert plain(several, "POST", load, b"{}", {})[0] == 200  # as Triton's client sends it
    status, said = plain(several, "PUT", policy, b"", {"Content-Type": "application/json"})
    assert (status, b"must be the whole policy; got none" in said) == (400, True)
    assert several.ask("GET", policy).body["policy"] == before


def plain(server, verb, path, body, headers):
    """A request with these headers alone."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request(verb, path, body, headers)
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


@pytest.mark.parametrize(("host", "status"), [("localhost", 200), ("127.0.0.1:1", 200), ("[::1]:9", 200), ("LOCALHOST:80", 200),
                                              ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost.evil:80", 421)])  # fmt: skip
def test_a_name_that_means_this_machine_is_none_of_the_servers(several, host, status):
    """DNS rebinding: a page's own name may be made to mean 127.0.0.1."""
    assert several.ask("GET", "/v2/models/scale", None, {"Host": host}).status == status


@pytest.mark.parametrize("path", ["//v2/models/scale", "/v2//models/scale", "/v2/models//scale", "/v2%2Fmodels/scale", "/v2/models%2fscale",
                                  "/v2/models/scale//", "/v2/models/x/../scale", "/v2/repository%2fmodels/scale/unload", "/models//predict"])  # fmt: skip
def test_a_path_has_one_spelling(several, path):
    """Of what a proxy's rule would not see as the path that it forbids."""
    assert several.ask("POST" if path.endswith(("unload", "predict")) else "GET", path).status == 404


def test_the_configuration_that_tritons_clients_read(several, server):
    found = several.ask("GET", "/v2/models/scale/config").body
    assert found["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
    assert (found["name"], found["max_batch_size"], found["platform"]) == ("scale", 16384, "jax_export")
    assert several.ask("GET", "/v2/models/pairs/versions/1/config").body["max_batch_size"] == 0
    kinds = {each["name"]: each["data_type"] for each in server.ask("GET", "/v2/models/zoo.embed/config").body["input"]}
    assert kinds == {"animal": "TYPE_STRING", "day": "TYPE_STRING", "pair": "TYPE_STRING"}
    assert several.ask("GET", "/v2/models/none/config").status == 404


def test_parameters_that_are_null_are_none(several):
    body = {"inputs": [tensor(np.ones((1, 4), np.float32)) | {"parameters": None}], "parameters": None, "outputs": [{"name": "predict", "parameters": None}]}
    assert several.ask("POST", "/v2/models/scale/infer", body).status == 200
    assert several.ask("POST", "/v2/repository/models/named/load", {"parameters": None}).status == 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "the body must have 'records'"),
        ({"records": {}}, "'records' must be a list of records; got {}"),
        ({"records": [{"x": X[0].tolist()}, 3]}, "record 2 must be an object"),
        ({"records": [{"X": 1}]}, "record 1 must have the columns ['x']; missing: ['x']. Is 'X' meant?"),
        ({"records": [{"x.0": 1}]}, "record 1 must have the columns ['x.0'"),
        ({"records": [{"x": 1.0}]}, "must be float32 [batch, 8, 8]; got float32 [1]"),
        ({"records": [{"x": X[0].tolist()}, {"x": X[0, :3].tolist()}]}, "see axis 1"),
        ({"records": [{"x": [[]]}]}, "sizes >= 1"),
        ({"records": [{"x": np.full((8, 8), "one").tolist()}]}, "row 1, column 'x.0' must be a number for input 'x'; got 'one'"),
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

    def made(schema, which):
        if "allOf" in schema:
            rest = made({k: v for k, v in schema.items() if k != "allOf"}, which)
            return rest | {k: v for each in schema["allOf"] for k, v in made(each, which).items()}
        if "anyOf" in schema:
            schema = schema["anyOf"][which]
            schema = {"type": "object", **schema} if "properties" in schema else schema
        if "enum" in schema:
            return schema["enum"][0]
        if schema["type"] == "array":
            return [made(schema["items"], which)] * schema.get("minItems", 1)
        if schema["type"] == "object":
            return {name: made(inner, which) for name, inner in schema["properties"].items() if inner is not False}
        return values[schema["type"] if isinstance(schema["type"], str) else schema["type"][0]]

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
        for which in (0, -1):
            asked = made(operation["requestBody"]["content"]["application/json"]["schema"], which)
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


def test_a_model_that_is_a_link_is_said_to_be_one(models, tmp_path):
    (tmp_path / "scale").symlink_to(models / "scale")
    found = Repository(tmp_path, load)
    with pytest.raises(Refused, match="no model could be loaded: scale: it is a link"):
        found.start()
    shutil.copytree(models / "named", tmp_path / "named")
    found.follow()
    rows = {row["name"]: (row["state"], row["reason"]) for row in found.index()}
    assert rows["named"] == ("READY", "") and rows["scale"][0] == "UNAVAILABLE" and "it is a link" in rows["scale"][1]
