"""A cell is read in one way, whoever sends it: the same odd rows by CSV, JSON, Arrow, tensors and gRPC."""

from __future__ import annotations

import csv
import functools
import io
import json
import math
import re
import signal
import subprocess
import sys

import grpc
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensors import tensor
from test_rpc import Client
from test_rpc import request as message

from arsenal_serving.__main__ import main
from arsenal_serving.artifact import manifest
from arsenal_serving.artifact.codecs import cells
from arsenal_serving.export import Method, Tensor, export
from arsenal_serving.model import load
from arsenal_serving.protocols import arrow, open_inference, records, tables
from arsenal_serving.refused import Refused

pyarrow = pytest.importorskip("pyarrow")

WORDS = list(cells.MISSING)
PORTS = {"numeric": ["age", "fare"], "categorical": ["sex", "alone", "deck"], "time": ["when"], "formatted": ["price"], "text": ["note"]}
CODECS = {
    "sex": {"kind": "category", "values": ["female", "male", "3"], "missing": WORDS},
    "alone": {"kind": "boolean", "missing": WORDS},
    "deck": {"kind": "category", "values": ["A", "B"]},
    "when": {"kind": "time", "unit": "s", "format": "%d.%m.%Y %H:%M", "missing": WORDS},
    "price": {"kind": "number", "decimal": ".", "thousands": ",", "missing": WORDS},
    "note": {"kind": "text", "analyzer": "word", "ngrams": [1, 1], "values": ["one", "two", "many", "true"], "length": 3, "missing": WORDS},
}
GOOD = {"age": 31.5, "fare": 7.25, "sex": "male", "alone": "yes", "deck": "B", "when": "1970-01-01T00:01:00Z", "price": "$1,234.50",
        "note": "One, two; and TWO"}  # fmt: skip
READ = {"age": 31.5, "fare": 7.25, "sex": 1, "alone": 1, "deck": 1, "when": 60, "price": 1234.5, "note": 122}
NONE, GONE = float("nan"), -(2**31)


def echo(params, x):
    # The codes of a text as digits, 1 of the first.
    return {**x, "text": jnp.where(x["text"] < 0, 0, x["text"] + 1) @ jnp.int32([100, 10, 1]), "scaled": x["numeric"] * params["by"]}


@pytest.fixture(scope="module")
def passengers(tmp_path_factory):
    example = {
        "numeric": np.float32([[1, 2], [np.nan, 3], [4, np.nan]]),
        "categorical": np.int32([[0, 0, 0], [3, 2, 1], [4, 3, 2]]),
        "time": np.int32([[0], [60], [GONE]]),
        "formatted": np.float32([[1.5], [np.nan], [3]]),
        "text": np.int32([[[0, 1, -1]], [[-1, -1, -1]], [[3, 3, 0]]]),
    }
    inputs = {
        "numeric": Tensor(columns=PORTS["numeric"], gaps=[*WORDS, "-999"]),
        **{port: Tensor(columns=PORTS[port], codec=PORTS[port]) for port in ("categorical", "time", "formatted", "text")},
    }
    outputs = {name: Tensor(finite=False) for name in ("numeric", "formatted", "scaled")}
    method = Method(echo, example, inputs, outputs)
    made = export(tmp_path_factory.mktemp("rows") / "rows", {"predict": method}, {"by": np.float32(2)}, name="rows", codecs=CODECS)
    found = load(made).methods["predict"]
    assert found.row_independent and found.inputs[0].name == "categorical"
    return made


@pytest.fixture(scope="module")
def asked(passengers):
    command = [sys.executable, "-m", "arsenal_serving", str(passengers), "--port", "0", "--grpc-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    ports = [re.search(rf"{scheme}://127\.0\.0\.1:(\d+)", line) for scheme in ("http", "grpc")]
    assert all(ports), (line, process.stderr.read())
    yield Server(process, int(ports[0][1])), Client(int(ports[1][1]))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, "Traceback" in err) == (0, False), err


def written(cell) -> str:
    """A cell as a spreadsheet writes it."""
    return cells.text(cell) or ""


def by_csv(server, rows: list[dict]):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([rows[0], *([written(cell) for cell in row.values()] for row in rows)])
    return of(server.ask("POST", "/predict", text.getvalue().encode(), {"Content-Type": "text/csv"}))


def by_records(server, rows: list[dict]):
    return of(server.ask("POST", "/predict", {"records": rows}))


def by_nested_records(server, rows: list[dict]):
    nested = [{port: {name: row[name] for name in names} for port, names in PORTS.items()} for row in rows]
    return of(server.ask("POST", "/predict", {"records": nested}))


def by_arrow(server, rows: list[dict]):
    columns = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        try:
            columns[name] = pyarrow.array(values)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):  # of several types: as text, nulls kept
            columns[name] = pyarrow.array([cells.text(value) for value in values])
    table, sink = pyarrow.table(columns), io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return of(server.ask("POST", "/predict", sink.getvalue(), {"Content-Type": arrow.STREAM}))


def by_tensors(server, rows: list[dict]):
    sent = []
    for port, names in PORTS.items():
        flat = [row[name] for row in rows for name in names]
        datatype = "FP32" if port == "numeric" else "BYTES"
        sent.append(tensor(np.zeros(0), port, shape=[len(rows), len(names)], datatype=datatype, data=flat))
    reply = server.infer("rows", *sent)
    if reply.status != 200:
        return reply.body["error"]
    outputs = {output["name"]: np.array(output["data"], object).reshape(len(rows), -1) for output in reply.body["outputs"]}
    return read(outputs, len(rows))


def by_grpc(client, rows: list[dict], raw: bool):
    arrays = {}
    for port, names in PORTS.items():
        values = [[row[name] for name in names] for row in rows]
        if port == "numeric":
            if any(isinstance(cell, str) for row in values for cell in row):
                return None  # the wire has no text there
            arrays[port] = np.array(values, np.float32)
        else:
            arrays[port] = np.array([[written(cell) for cell in row] for row in values], object)
    made = message(arrays, False, "rows")
    if raw:
        for each, array in zip(made.inputs, arrays.values(), strict=True):
            made.raw_input_contents.append(open_inference.to_bytes(array))
            each.ClearField("contents")
    try:
        reply = client("ModelInfer", made)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        return error.details()
    outputs = {}
    for at, output in enumerate(reply.outputs):
        dtype = open_inference.DTYPES[output.datatype]
        contents = np.frombuffer(reply.raw_output_contents[at], dtype) if raw else np.array(
            output.contents.fp32_contents or output.contents.int_contents, dtype)  # fmt: skip
        outputs[output.name] = contents.reshape(len(rows), -1)
    return read(outputs, len(rows))


def of(reply):
    if reply.status != 200:
        return reply.body["error"]
    rows = reply.body["records"]
    outputs = {port: np.array([list(row[port].values()) if isinstance(row[port], dict) else row[port] for row in rows], object)
               for port in [*PORTS, "scaled"]}  # fmt: skip
    return read(outputs, len(rows))


def read(outputs: dict, count: int) -> list[dict]:
    doubled = outputs["scaled"].astype(float)
    assert np.array_equal(doubled, outputs["numeric"].astype(float) * 2, equal_nan=True)
    places = [(port, at, name) for port, names in PORTS.items() for at, name in enumerate(names)]
    return [{name: float(outputs[port][row][at]) for port, at, name in places} for row in range(count)]


def must(column: str, what: str) -> str:
    port = next(port for port, names in PORTS.items() if column in names)
    return f"row 2, column '{column}' must {what} for input '{port}'"


ODD = {
    "an honest row": ({}, {}),
    "null": ({"age": None, "sex": None, "alone": None, "when": None, "price": None},
             {"age": NONE, "sex": 4, "alone": 3, "when": GONE, "price": NONE}),
    "empty cells": ({"age": "", "sex": "", "alone": "", "when": "", "price": ""},
                    {"age": NONE, "sex": 4, "alone": 3, "when": GONE, "price": NONE}),
    "words": ({"age": "NA", "fare": "n/a", "sex": "None", "alone": "<NA>", "when": "null", "price": "NaN"},
              {"age": NONE, "fare": NONE, "sex": 4, "alone": 3, "when": GONE, "price": NONE}),
    "a word that is a number": ({"age": -999, "fare": -999.0}, {"age": NONE, "fare": NONE}),
    "a level never seen": ({"sex": "?", "alone": "perhaps", "deck": "Z"}, {"sex": 3, "alone": 2, "deck": 2}),
    "numbers for categories": ({"sex": 3, "alone": 0}, {"sex": 2, "alone": 0}),
    "a number with a point": ({"sex": 3.0, "alone": 1.0, "deck": 2.5}, {"sex": 2, "alone": 1, "deck": 2}),
    "truth values": ({"alone": False, "sex": True}, {"alone": 0, "sex": 3}),
    "text for numbers": ({"age": " 4e1 ", "fare": "7"}, {"age": 40, "fare": 7}),
    "numbers for amounts": ({"price": 12.5}, {"price": 12.5}),
    "amounts": ({"price": "(12 %)"}, {"price": -0.12}),
    "a zone": ({"when": "1970-01-01 02:00:30.5+02:00"}, {"when": 30}),
    "words that nobody knows": ({"note": "three ones"}, {"note": 0}),
    "words beyond the last": ({"note": "one one one two"}, {"note": 111}),
    "a text that is none": ({"note": None}, {"note": 0}),
    "a text that is a truth value": ({"note": True}, {"note": 400}),
    "a time as people write it": ({"when": "03.01.1970 00:01"}, {"when": 172860}),
    "a day": ({"when": "1970-01-03"}, {"when": 172800}),
    "no number": ({"age": "old"}, must("age", "be a number")),
    "an underscore": ({"fare": "1_0"}, must("fare", "be a number")),
    "none where it is needed": ({"deck": None}, must("deck", "not be missing")),
    "empty where it is needed": ({"deck": ""}, must("deck", "not be missing")),
    "no time": ({"when": "yesterday"}, must("when", "be a date or time, as 2024-02-29 or 29.02.2024 18:30, that exists")),
    "a time far away": ({"when": "2100-01-01"}, must("when", "lie in 1901-12-14 to 2038-01-18")),
    "no amount": ({"price": "twelve"}, must("price", "be a number")),
    "infinity": ({"fare": "inf"}, "input 'numeric' of 'predict' must be finite; got inf in row 2, column 'fare'"),
}  # fmt: skip
ROUTES = ["csv", "records", "nested records", "arrow", "tensors", "grpc", "grpc, raw"]


def ask(asked, route: str, rows: list[dict]):
    server, client = asked
    if route.startswith("grpc"):
        return by_grpc(client, rows, route.endswith("raw"))
    ways = {"csv": by_csv, "records": by_records, "nested records": by_nested_records, "arrow": by_arrow, "tensors": by_tensors}
    return ways[route](server, rows)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", ODD)
def test_an_odd_row_means_the_same_by_every_route(asked, name, route):
    change, wanted = ODD[name]
    rows = [GOOD, GOOD | change]
    if route in ("csv", "records", "arrow"):  # whatever else there is, in whatever order
        rows = [{"id": 7, **dict(reversed(row.items()))} for row in rows]
    found = ask(asked, route, rows)
    if found is None:
        assert route.startswith("grpc")
    elif isinstance(wanted, str):
        assert isinstance(found, str) and found.startswith(wanted), found
    else:
        assert isinstance(found, list), found
        for got, row in zip(found, (READ, READ | wanted), strict=True):
            for column, value in row.items():
                assert np.array_equal(np.float32(got[column]), np.float32(value), equal_nan=True), (column, got)


@pytest.mark.parametrize("route", ["csv", "records", "arrow"])
def test_a_column_that_is_missing_is_named_with_the_nearest(asked, route):
    for column in ("sex", "note"):  # one of several, and the only one of an input
        row = {(name.title() if name == column else name): cell for name, cell in GOOD.items()}
        found = ask(asked, route, [row, row])
        assert f"missing: ['{column}']. Is '{column.title()}' meant?" in found


@pytest.mark.parametrize("column", GOOD)
@pytest.mark.parametrize("odd", [{}, [], [1], {"a": None}, [[]]])
def test_what_is_no_cell_is_refused(asked, column, odd):
    for ways in (by_records, by_nested_records, by_tensors):
        for others in ({}, {name: None for name in GOOD if name != "deck"}):
            found = ways(asked[0], [GOOD, GOOD | others | {column: odd}])
            assert isinstance(found, str) and "internal" not in found, found


def stream(columns: dict) -> bytes:
    table, sink = pyarrow.table(columns), io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue()


def test_every_arrow_type_has_a_meaning_or_a_refusal(passengers):
    model = load(passengers)
    method, pa = model.methods["predict"], pyarrow
    good = {name: [cell, cell] for name, cell in GOOD.items()}
    moments = np.array(["1970-01-01T00:00:01.5", "NaT"], "datetime64[ms]")
    decimals = pa.array([3, None]).cast(pa.decimal128(22, 2))
    days = pa.array([1, None], pa.int32()).cast(pa.date32())
    read = {
        "sex": [
            (pa.array(["male", None]).dictionary_encode(), [1, 4]),
            (pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int8()), pa.array([None, "male"])), [1, 4]),
            (pa.array([3, None]).dictionary_encode(), [2, 4]),
            (pa.array(["male", None]).cast(pa.dictionary(pa.uint32(), pa.large_string())), [1, 4]),
            (pa.DictionaryArray.from_arrays(pa.array([None, None], pa.uint8()), pa.array([], pa.string())), [4, 4]),
            (pa.array([3, None], pa.uint8()), [2, 4]),
            (pa.array([3.0, None], pa.float32()), [2, 4]),
            (decimals, [2, 4]),
            (pa.array([True, None]), [3, 4]),
            (days, [3, 4]),
            (pa.array(["male", None], pa.string_view()), [1, 4]),
            (pa.nulls(2), [4, 4]),
            (pa.array(moments), "must hold text, whole numbers, numbers, decimals, truth values, dates; got timestamp[ms]"),
            (pa.array([b"male", None]), "must be numbers, truth values, text, dates, timestamps or lists of them; got 'binary'"),
            (pa.array([["male"], ["male"]]), "the column 'sex' is deeper than input 'categorical'"),
        ],
        "alone": [
            (pa.array([True, None]), [1, 3]),
            (pa.array([0, 1], pa.int64()), [0, 1]),
            (pa.array(["T", "na"]), [1, 2]),
            (days, "must hold truth values, text"),
        ],
        "when": [
            (pa.array(moments), [1, GONE]),
            (pa.array(moments.astype("M8[ns]")).cast(pa.timestamp("ns", "Europe/Berlin")), [1, GONE]),
            (pa.array(["1969-12-31T23:59:58.5", None]).cast(pa.timestamp("us")), [-2, GONE]),
            (days.cast(pa.date64()), [86400, GONE]),
            (days, [86400, GONE]),
            (pa.array(moments).dictionary_encode(), [1, GONE]),
            (pa.nulls(2), [GONE, GONE]),
            (pa.array([1, 2]), "must hold dates, timestamps, text; got int64"),
            (pa.array([2**62, None], pa.int64()).cast(pa.timestamp("s")), "must be a date or time"),
            (pa.array([1, 2], pa.int32()).cast(pa.time32("s")), "dates, timestamps or lists of them; got 'time32[s]'"),
        ],
        "price": [
            (pa.array([1, None]), [1, NONE]),
            (pa.array([0.5, float("nan")], pa.float32()), [0.5, NONE]),
            (decimals, [3, NONE]),
            (pa.array(["EUR 5", None]), [5, NONE]),
            (pa.array([True, False]), "must hold text, whole numbers, numbers, decimals; got bool"),
            (pa.array([1.0, float("inf")]), "row 2, column 'price' must be a finite number"),
            (pa.array([1.0, 1e39]), "row 2, column 'price' must be a finite number"),
        ],
        "age": [
            (pa.array([1, None]), [1, NONE]),
            (pa.array([0.5, None], pa.float16()), [0.5, NONE]),
            (pa.array([-999, 2], pa.int16()), [NONE, 2]),
            (decimals, [3, NONE]),
            (pa.array(["5", None]), [5, NONE]),
            (pa.array([0.5, None]).dictionary_encode(), [0.5, NONE]),
            (pa.nulls(2), [NONE, NONE]),
            (pa.array([True, False]), "must hold numbers, whole numbers, decimals, text; got bool"),
            (pa.array(moments), "must hold numbers, whole numbers, decimals, text; got timestamp"),
        ],
        "note": [
            (pa.array(["two", None]), [200, 0]),
            (pa.array(["two", None]).dictionary_encode(), [200, 0]),
            (pa.array([True, None]), [400, 0]),
            (pa.array(moments), "must hold text, whole numbers, numbers, decimals, truth values, dates; got timestamp[ms]"),
        ],
        "deck": [(pa.array(["A", None]), "row 2, column 'deck' must not be missing for input 'categorical'; got null.")],
    }  # fmt: skip
    for column, tried in read.items():
        port, at = next((port, names.index(column)) for port, names in PORTS.items() if column in names)
        for array, wanted in tried:
            try:
                answers = model.infer("predict", arrow.parse(method, stream(good | {column: array})))
            except Refused as error:
                assert isinstance(wanted, str) and wanted in str(error), (column, array, str(error))
                continue
            assert not isinstance(wanted, str), (column, array)
            assert np.array_equal(answers[port][:, at].astype(float), np.array(wanted, float), equal_nan=True), (column, array, answers[port])


def test_no_arrow_type_is_an_error_of_the_server(passengers):
    model, pa = load(passengers), pyarrow
    method, good = model.methods["predict"], {name: [cell, cell] for name, cell in GOOD.items()}
    whole = pa.array([1, None], pa.int64())
    kinds = [pa.int8(), pa.uint64(), pa.float16(), pa.float64(), pa.bool_(), pa.string(), pa.binary(), pa.date64(), pa.time64("ns"),
             *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC")), pa.duration("s"),
             pa.decimal128(30, 3), pa.decimal256(60, 0)]  # fmt: skip
    tried = [array for kind in kinds for array in (whole.cast(kind) if kind not in (pa.binary(), pa.date64(), pa.float16()) else pa.nulls(2, kind),)]
    far = pa.array([2**63 - 1, -(2**63) + 1], pa.int64())
    tried += [far, *(far.cast(pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")), pa.array([2**31 - 1, -(2**31)], pa.int32()).cast(pa.date32())]
    tried += [array.dictionary_encode() for array in tried if not pa.types.is_null(array.type)]
    tried += [pa.nulls(2, kind) for kind in kinds] + [pa.array([[1], None]), pa.array([{"a": 1}, None]), pa.array([[], []], pa.list_(pa.string()))]
    for column in GOOD:
        for array in tried:
            try:
                model.infer("predict", arrow.parse(method, stream(good | {column: array})))
            except Refused as error:
                assert len(str(error)) < 500 and "not an Arrow stream" not in str(error), (column, array.type, error)


CELL = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8), st.sampled_from(["$1", "1,5", "2024-02-29", "NA", "yes"]))


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.fixed_dictionaries({name: CELL for name in GOOD}), min_size=1, max_size=3))
def test_any_cells_mean_the_same_in_json_and_csv(passengers, rows):
    model = loaded(passengers)

    def answer(parse, body):
        try:
            return {name: array.tolist() for name, array in model.infer("predict", parse(model.methods["predict"], body)).items()}
        except Refused as error:
            assert "\n" not in str(error) and len(str(error)) < 1000
            return str(error).partition("; got")[0]

    text = io.StringIO(newline="")
    csv.writer(text).writerows([list(GOOD), *([written(row[name]) for name in GOOD] for row in rows)])
    try:
        body = json.dumps({"records": rows}).encode()
        content = text.getvalue().encode()
    except UnicodeEncodeError:  # half a surrogate pair is no text
        return
    by_json, by_table = answer(records.parse, body), answer(tables.parse, content)
    numbers = any(isinstance(row[name], bool | int | float) for row in rows for name in GOOD)
    if not numbers or not isinstance(by_json, str):  # a number for a time is refused, its text is as well, but otherwise
        assert repr(by_json) == repr(by_table)


@functools.cache
def loaded(folder):
    return load(folder)


def test_arrow_of_few_bytes_and_many_rows_is_refused_before_it_unfolds(passengers):
    method = load(passengers).methods["predict"]
    for array in (pyarrow.nulls(6_000_000), pyarrow.array(np.zeros(6_000_000, bool))):
        with pytest.raises(Refused, match="'categorical' must hold at most 16777216 elements"):
            arrow.parse(method, stream(dict.fromkeys(GOOD, array)))


def test_amounts_come_as_numbers_too(passengers, asked):
    model = load(passengers)
    sent = {"text": np.array([["two"]], object), "numeric": np.float32([[1, 2]]), "categorical": np.array([["male", None, "A"]], object), "time": np.array([["1970-01-01"]], object)}
    wanted = {"text": [[200]], "numeric": [[1, 2]], "categorical": [[1, 3, 0]], "time": [[0]], "formatted": [[2.5]], "scaled": [[2, 4]]}
    for amount in (np.float32([[2.5]]), np.array([[2.5]], object), np.array([["2.50"]])):
        found = model.infer("predict", sent | {"formatted": amount})
        assert {name: array.tolist() for name, array in found.items()} == wanted
    with pytest.raises(Refused, match=r"row 1, column 'price' must be a finite number for input 'formatted'; got inf"):
        model.infer("predict", sent | {"formatted": np.float32([[np.inf]])})
    with pytest.raises(Refused, match=r"must be strings \[batch, 3\]; got int64"):  # codes by mistake are no texts
        model.infer("predict", sent | {"formatted": np.float32([[1]]), "categorical": np.array([[1, 1, 1]])})
    server, client = asked
    texts = [tensor(sent[name], name) for name in ("numeric", "categorical", "time", "text")]
    for amount in (tensor(np.float32([[2.5]]), "formatted"), tensor([["2.5"]], "formatted")):
        reply = server.infer("rows", *texts, amount)
        assert {output["name"]: output["data"] for output in reply.body["outputs"]}["formatted"] == [2.5], reply.body
    strings = {name: np.array([[written(cell) for cell in row] for row in sent[name]], object) for name in ("categorical", "time", "text")}
    reply = client("ModelInfer", message({"numeric": sent["numeric"], **strings, "formatted": np.float32([[2.5]])}, False, "rows"))
    assert list(next(output for output in reply.outputs if output.name == "formatted").contents.fp32_contents) == [2.5]


def test_the_openapi_document_says_what_may_be_missing(passengers):
    document = records.openapi({"rows": load(passengers)})
    record = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]["records"]["items"]
    columns = {}
    for either in record["allOf"]:
        columns |= either["anyOf"][1]["properties"]
    nullable = {name for name, schema in columns.items() if schema is not False and "null" in schema["type"]}
    assert nullable == {"age", "fare", "sex", "alone", "when", "price", "note"}
    assert columns["deck"] == {"type": ["string", "number", "boolean"], "minLength": 1}
    assert columns["price"]["type"] == ["string", "number", "null"]
    assert columns["age"]["type"] == ["number", "null", "string"]
    reads = re.compile(columns["age"]["pattern"])
    assert all(reads.search(text) for text in ("1", " -1.5 ", "NA", "#N/A", "", "-999")) and not reads.search("old")


def test_golden_answers_keep_their_gaps_and_the_manifest_its_words(passengers, tmp_path, capsys):
    content = json.loads((passengers / "manifest.json").read_text())
    (numeric,) = [port for port in content["methods"]["predict"]["inputs"] if port["name"] == "numeric"]
    assert numeric["gaps"] == [*WORDS, "-999"] and numeric["finite"]
    assert all("gaps" not in port for port in content["methods"]["predict"]["inputs"] if port["name"] != "numeric")
    assert manifest.parse(manifest.text(content)) == content
    assert load(passengers).differences["predict"]["numeric"] == 0.0
    assert main(["inspect", str(passengers)]) == 0
    assert "numeric: float32 [batch, 2], columns age, fare, may be missing\n" in capsys.readouterr().out
    plain = export(tmp_path / "plain", lambda params, x: x + 1, {}, np.ones((2, 2), np.float32))
    assert "gaps" not in (plain / "manifest.json").read_text()


def fill(params, x):
    return jnp.where(jnp.isnan(x), jnp.nanmean(x, 0), x)


def count_missing(params, code):
    return code + jnp.where(code == 2, (code == 2).sum(), 0)


def count_times(params, day):
    return jnp.where(day == GONE, jnp.sort(day)[-1], day)


CODED = {"k": {"kind": "category", "values": ["a"], "missing": []}, "t": {"kind": "time", "unit": "D", "missing": []}}


@pytest.mark.parametrize(
    ("fn", "example", "tensor", "coupled"),
    [
        (fill, np.float32([[1, 2], [3, 4]]), Tensor(gaps=[]), True),  # none of the example's rows has a gap
        (fill, np.float32([[1, 2], [3, 4]]), Tensor(finite=False), True),
        (count_missing, np.int32([0, 0]), Tensor(codec="k"), True),
        (count_times, np.int32([1, 2]), Tensor(codec="t"), True),
        (lambda params, x: jnp.nan_to_num(x), np.float32([[1, np.nan]]), Tensor(gaps=[]), False),
        (lambda params, code: code + jnp.where(code == 2, 5, 0), np.int32([[0, 0]]), Tensor(codec=["k", "k"]), False),
        (lambda params, day: jnp.where(day == GONE, 0, day), np.int32([1, 2]), Tensor(codec="t"), False),
    ],
)
def test_rows_that_influence_each_other_by_what_is_missing_are_found_out(tmp_path, fn, example, tensor, coupled):
    method = Method(fn, example, {"x": tensor}, {"predict": Tensor(finite=False)})
    made = export(tmp_path / "rows", {"predict": method}, {}, codecs=CODED)
    assert load(made).methods["predict"].row_independent != coupled


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda port: port | {"gaps": "NA"}, "must be a list"),
        (lambda port: port | {"gaps": [1]}, "must be a string"),
        (lambda port: port | {"codec": "price", "gaps": ["NA"]}, "cannot have 'gaps'"),
        (lambda port: port | {"codec": "deck"}, "must hold integer codes; it is float32"),
        (lambda port: port | {"codec": ["sex", "price"]}, "must hold integer codes; it is float32"),
    ],
)
def test_a_manifest_that_mixes_codes_and_numbers_is_refused(passengers, change, says):
    from arsenal_serving.model import _port

    content = json.loads((passengers / "manifest.json").read_text())
    ports = content["methods"]["predict"]["inputs"]
    at = next(at for at, port in enumerate(ports) if port["name"] == "numeric")
    ports[at] = change(ports[at])
    with pytest.raises(Refused, match=says):
        _port(manifest.parse(manifest.text(content))["methods"]["predict"]["inputs"][at], CODECS, inward=True)


def test_a_table_of_odd_cells_is_read_at_once(passengers):
    """Whole columns go through C, whatever is missing in them."""
    method = load(passengers, max_rows=100_000).methods["predict"]
    lines = ["age,fare,sex,alone,deck,when,price,note", *["31.5,NA,male,,B,1970-01-01T00:01:00Z,12.5,one"] * 50_000]
    found = tables.parse(method, "\n".join(lines).encode())
    assert math.isnan(found["numeric"][-1, 1]) and found["categorical"].shape == (50_000, 3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_gaps_of_every_width(tmp_path, dtype):
    kind = open_inference.DTYPES[open_inference.DATATYPES[dtype]]
    example = np.array([[1, np.nan], [2, 3]]).astype(kind)
    method = Method(lambda params, x: x + 1, example, {"x": Tensor(gaps=["NA", "-999"])}, {"predict": Tensor(finite=False)})
    model = load(export(tmp_path / "gaps", {"predict": method}, {}, name="gaps"))
    body = json.dumps({"records": [{"x": ["NA", -999]}, {"x": [None, "2"]}]}).encode()
    sent = records.parse(model.methods["predict"], body)
    sent["x"].flags.writeable = False
    found = model.infer("predict", sent)["predict"]
    assert found.dtype == kind and np.array_equal(found.astype(np.float32), np.float32([[np.nan, np.nan], [np.nan, 3]]), equal_nan=True)
    assert float(sent["x"][0, 1]) == -1000 if dtype == "bfloat16" else float(sent["x"][0, 1]) == -999  # as it was asked
