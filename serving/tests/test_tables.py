"""Tables for `/predict`: CSV and Arrow in and out, against pandas, polars and pyarrow, and with bytes that are wrong."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest
from conftest import ANIMALS, example, start
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_clients import agreed, environment

from arsenal_serving.artifact.golden import same_bits
from arsenal_serving.export import Method, Tensor, export
from arsenal_serving.model import TensorLimits, load
from arsenal_serving.protocols import arrow, records, tables
from arsenal_serving.refused import Refused

pyarrow = pytest.importorskip("pyarrow")
X = example()
PACE = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def text(header, *rows) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([header, *rows])
    return out.getvalue().encode()


def stream(columns: dict, **options) -> bytes:
    table = columns if isinstance(columns, pyarrow.Table) else pyarrow.table(columns)
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema, options=pyarrow.ipc.IpcWriteOptions(**options)) as out:
        out.write_table(table)
    return sink.getvalue()


PIXELS = [f"x.{k}" for k in range(64)]
EMBED = {"animal": ["dog", "cat"], "day": ["2024-02-28", "1970-01-01"], "a": ["cat", "cow"], "b": ["dog", "dog"]}
TYPES = {name: np.arange(3).astype(name) for name in ("int8", "int16", "int32", "uint8", "uint16", "uint32")}
TYPES["bool"] = np.array([True, False, True])


def same(found: dict, wanted: dict) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert same_bits(found[name], array) if array.dtype != object else (found[name] == array).all(), name


def test_a_table_holds_what_records_hold(model):
    predict, embed, kinds, logs = (model.methods[name] for name in ("predict", "embed", "types", "logarithm"))
    wanted = records.parse(predict, json.dumps({"records": [{"x": x.tolist()} for x in X]}).encode())
    flat = X.reshape(5, 64)
    same(tables.parse(predict, text(PIXELS, *flat.tolist())), wanted)
    shuffled = np.random.default_rng(0).permutation(64)
    same(tables.parse(predict, text([PIXELS[k] for k in shuffled], *flat[:, shuffled].tolist())), wanted)
    same(arrow.parse(predict, stream({f"x.{k}": flat[:, k] for k in range(64)})), wanted)
    same(arrow.parse(predict, stream({f"x.{k}": flat[:, k].astype(np.float64) for k in range(64)})), wanted)
    same(arrow.parse(predict, stream({"x": X.tolist()})), wanted)  # lists of lists of doubles
    cube = pyarrow.FixedSizeListArray.from_arrays(pyarrow.FixedSizeListArray.from_arrays(X.ravel(), 8), 8)
    same(arrow.parse(predict, stream({"x": cube})), wanted)
    batches = pyarrow.Table.from_batches([batch for k in range(5) for batch in pyarrow.table({"x": cube.slice(k, 1)}).to_batches()])
    same(arrow.parse(predict, stream(batches)), wanted)

    wanted = {"animal": np.array(EMBED["animal"], object), "day": np.array(EMBED["day"], object),
              "pair": np.array([EMBED["a"], EMBED["b"]], object).T}  # fmt: skip
    same(tables.parse(embed, b"\xef\xbb\xbf" + text(EMBED, *zip(*EMBED.values(), strict=True))), wanted)
    for kind in (pyarrow.string(), pyarrow.large_string(), pyarrow.string_view(), pyarrow.dictionary(pyarrow.int8(), pyarrow.string())):
        same(arrow.parse(embed, stream({name: pyarrow.array(values).cast(kind) for name, values in EMBED.items()})), wanted)
    others = {"id": [b"x", b"y"], **EMBED, "animals": [["dog"], None]}  # are left unread, whatever they are
    same(arrow.parse(embed, stream(others)), wanted)
    same(tables.parse(embed, text(["id", *EMBED], *zip("xy", *EMBED.values(), strict=True))), wanted)
    nothing = {"animal": np.empty(0, object), "day": np.empty(0, object), "pair": np.empty((0, 2), object)}
    same(arrow.parse(embed, stream({name: pyarrow.array([], pyarrow.string()) for name in EMBED})), nothing)
    same(tables.parse(embed, text(EMBED)), nothing)
    dates = {**EMBED, "day": pyarrow.array(np.array(EMBED["day"], "datetime64[D]"))}
    same(arrow.parse(embed, stream(dates)), wanted)

    words = np.array(["true", "False", "1"])
    columns = [*[array.astype(str) for name, array in TYPES.items() if name != "bool"], words]
    same(tables.parse(kinds, text(TYPES, *zip(*columns, strict=True))), TYPES)
    same(arrow.parse(kinds, stream(TYPES)), TYPES)
    same(arrow.parse(kinds, stream({**TYPES, "int8": TYPES["int8"].astype(np.int64)})), TYPES)

    wanted = {"x": np.float32([[np.nan, np.inf], [-np.inf, 1e-7], [np.nan, 0.1]])}
    same(tables.parse(logs, text(["x.0", "x.1"], ["", "inf"], ["-Infinity", "1e-7"], ["NaN", " 0.1"])), wanted)
    nulls = {"x.0": pyarrow.array([None, -math.inf, None], pyarrow.float64()), "x.1": [math.inf, 1e-7, 0.1]}
    same(arrow.parse(logs, stream(nulls)), wanted)
    ragged = {name: pyarrow.array([[1.0, 2.0], [3.0, 4.0]]) for name in "xy"}  # a dimension that varies
    same(arrow.parse(model.methods["lengths"], stream(ragged)), dict.fromkeys("xy", np.float32([[1, 2], [3, 4]])))


def test_what_is_wrong_with_a_table_is_said(model):
    predict, embed, kinds, lengths = (model.methods[name] for name in ("predict", "embed", "types", "lengths"))
    first = ["dog", "2024-02-28", "cat", "cat"]
    for method, body, said in [
        (predict, b"", "missing: ['x.0'"),
        (predict, text([*PIXELS[1:], "x.O"], [0] * 64), "missing: ['x.0']. Is 'x.O' meant?"),
        (predict, text(PIXELS[1:], [0] * 63), "missing: ['x.0']"),
        (predict, text([*PIXELS, "x.0"], [0] * 65), "'x.0' is there twice"),
        (predict, text(PIXELS, [0] * 64, [0] * 63), "line 3 must have as many cells as the header, 64; got 63"),
        (predict, text(PIXELS, [0] * 64, [*[0] * 63, "a"]), "row 2, column 'x.63' must be a number for input 'x'; got 'a'"),
        (predict, text(PIXELS, ["1_0", *[0] * 63]), "must be a number for input 'x'; got '1_0'"),
        (predict, text(PIXELS, ["", *[0] * 63]), "must be a number for input 'x'; got ''"),
        (predict, b'"x.0', "not CSV: line 1"),
        (predict, b"\xff\xfe", "not UTF-8"),
        (kinds, text(TYPES, [300, *[0] * 6]), "must lie in -128 to 127; got 300"),
        (kinds, text(TYPES, [1.0, *[0] * 6]), "must be a whole number"),
        (kinds, text(TYPES, ["9" * 5000, *[0] * 6]), "must be a whole number"),
        (kinds, text(TYPES, [*[0] * 6, "yes"]), "must be true or false"),
        (lengths, b"x,y\n1,2\n", "a dimension that varies has no columns"),
        (embed, text(EMBED, [*first, "more"]), "as many cells"),
    ]:  # fmt: skip
        with pytest.raises(Refused) as error:
            tables.parse(method, body)
        assert said in str(error.value), (str(error.value), said)
        assert len(str(error.value)) < 500
    good = stream({"x": X.tolist()})
    for method, body, said in [
        (predict, b"", "not an Arrow stream"),
        (predict, good[:-100], "not an Arrow stream"),
        (predict, stream({"x": X.tolist()}, compression="zstd"), "compressed Arrow buffers are not taken"),
        (embed, stream({n: pyarrow.array(v).dictionary_encode() for n, v in EMBED.items()}, compression="lz4"), "compressed"),
        (predict, stream({"x": [[[1.0]], [[1.0, 2.0]]]}), "equally long"),
        (predict, stream({"x": [[[1.0]], None]}), "1 nulls"),
        (predict, stream({"x": [[[[1.0]]]]}), "deeper than input 'x'"),
        (predict, stream({"x": [[["a"]]]}), "row 1, column 'x.0' must be a number for input 'x'; got 'a'"),
        (predict, stream({"x": pyarrow.nulls(5)}), "must be a number for input 'x'; got null"),
        (predict, stream({"x": pyarrow.array([[b"a"]])}), "got 'list<item: binary>'"),
        (predict, stream({"x": pyarrow.RunEndEncodedArray.from_arrays(pyarrow.array([2**30], pyarrow.int32()), [1.0])}), "run_end"),
        (predict, stream({"y": [1.0]}), "missing: ['x.0'"),
        (kinds, stream({**TYPES, "int8": [1, 2, 300]}), "'int8' must lie in -128 to 127; got 300"),
        (kinds, stream({**TYPES, "int8": [1.0, 2.0, 3.0]}), "must hold whole numbers, text; got double"),
        (kinds, stream({**TYPES, "bool": [1, 0, 1]}), "must hold truth values, text; got int64"),
        (embed, stream({**EMBED, "day": [1, 2]}), "must hold dates, text; got int64"),
    ]:  # fmt: skip
        with pytest.raises(Refused) as error:
            arrow.parse(method, body)
        assert said in str(error.value), (str(error.value), said)
        assert len(str(error.value)) < 500


def test_arrow_that_would_unfold_is_refused_before_it_does(model):
    embed, long = model.methods["embed"], "x" * (1 << 20)
    # 50 000 views of one string of a megabyte; as strings of their own they would be 50 GB.
    views = np.zeros((50_000, 4), np.int32)
    views[:] = (len(long), int.from_bytes(b"xxxx", "little"), 0, 0)
    letters = [None, pyarrow.py_buffer(views.tobytes()), pyarrow.py_buffer(long.encode())]
    shared = pyarrow.Array.from_buffers(pyarrow.string_view(), len(views), letters)
    body = stream({name: shared for name in EMBED})
    assert len(body) < 10 << 20
    with pytest.raises(Refused, match="at most 67108864 bytes together"):
        arrow.parse(embed, body)
    # Many rows that mean one string take that string once.
    codes = pyarrow.DictionaryArray.from_arrays(np.zeros(50_000, np.int8), [long])
    found = arrow.parse(embed, stream(dict.fromkeys(EMBED, codes)))
    assert found["animal"].shape == (50_000,) and len({id(one) for one in found["animal"]}) == 1
    sink = io.BytesIO()
    options = pyarrow.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    grown = [{name: pyarrow.array(words).dictionary_encode() for name in EMBED} for words in (["a"], ["a", "b"])]
    with pyarrow.ipc.new_stream(sink, pyarrow.table(grown[0]).schema, options=options) as out:
        for columns in grown:
            out.write_table(pyarrow.table(columns))
    with pytest.raises(Refused, match="dictionaries that grow"):
        arrow.parse(embed, sink.getvalue())
    batch = pyarrow.table({name: ["dog"] for name in EMBED}).to_batches()
    with pytest.raises(Refused, match="at most 4096 messages"):
        arrow.parse(embed, stream(pyarrow.Table.from_batches(batch * 4096)))
    few = embed._replace(inputs=tuple(port._replace(limits=TensorLimits(elements=1000)) for port in embed.inputs))
    with pytest.raises(Refused, match="at most 1000 rows"):
        arrow.parse(few, stream(dict.fromkeys(EMBED, pyarrow.array(["dog"] * 1001))))
    with pytest.raises(Refused, match="input 'pair' must hold at most 1000 elements"):
        arrow.parse(few, stream(dict.fromkeys(EMBED, pyarrow.array(["2024-02-28"] * 501))))
    with pytest.raises(Refused, match="input 'pair' must hold at most 1000 elements"):
        tables.parse(few, text(EMBED, *[["2024-02-28"] * 4] * 5000))


def test_answers_as_tables(model):
    embed = model.methods["embed"]
    answers = model.infer("embed", tables.parse(embed, text(EMBED, *zip(*EMBED.values(), strict=True))))
    wanted = {"embedding.0": answers["embedding"][:, 0], "embedding.1": answers["embedding"][:, 1], "next_day": answers["next_day"],
              "a": answers["pair"][:, 0], "b": answers["pair"][:, 1]}  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(tables.write(model, embed, "zoo.embed", answers).decode(), newline="")))
    assert [row["a"] for row in rows] == ["cat", "unknown"] and rows[0]["next_day"] == "2024-02-29"
    table = pyarrow.ipc.open_stream(arrow.write(model, embed, "zoo.embed", answers)).read_all()
    assert table.schema.metadata == {b"model": b"zoo.embed", b"version": b"1"}
    assert set(rows[0]) == set(table.column_names) == wanted.keys()
    for name, column in wanted.items():
        assert table[name].to_pylist() == column.tolist()
        if name.startswith("embedding"):
            assert same_bits(np.float32([row[name] for row in rows]), column)
    logs = model.methods["logarithm"]
    answers = model.infer("logarithm", {"x": np.float32([[-1, 0], [math.inf, 1]])})
    assert tables.write(model, logs, "x", answers) == b"logarithm.0,logarithm.1\r\nNaN,-Infinity\r\nInfinity,0.0\r\n"
    kinds = model.infer("types", TYPES)
    assert b"false" in tables.write(model, model.methods["types"], "x", kinds)


@settings(max_examples=200, **PACE)
@given(st.lists(st.tuples(st.sampled_from([*ANIMALS, 'a"b', "x,y", "a\nb", " c ", "=1+1"]), st.floats(width=32, allow_nan=False)), min_size=1))
def test_csv_in_gives_what_went_in(both, rows):
    model = both
    method = model.methods["predict"]
    found = tables.parse(method, text(["who", "value"], *((name, repr(value)) for name, value in rows)))
    assert found["who"].tolist() == [name for name, _ in rows]
    assert same_bits(found["value"], np.float32([value for _, value in rows]))
    again = arrow.parse(method, stream({"who": found["who"].tolist(), "value": found["value"]}))
    same(again, found)


def keep(params, inputs):
    return {"value": inputs["value"] * 1, "code": inputs["who"]}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    codecs = {"animal": {"kind": "category", "values": ANIMALS}}
    example = {"who": np.int32([0, 1]), "value": np.float32([1, 2])}
    described = {"who": Tensor(codec="animal"), "value": Tensor(finite=False)}
    method = Method(keep, example, described, {"value": Tensor(finite=False), "code": Tensor(codec="animal")})
    return load(export(tmp_path_factory.mktemp("both") / "both", {"predict": method}, {}, name="both", codecs=codecs))


def mutated(data: st.DataObject, body: bytes) -> bytes:
    content = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        piece = data.draw(st.one_of(st.binary(max_size=8), st.sampled_from([b"\xff\xff\xff\x7f", b"\0" * 8, b"\xff" * 8, b'"', b",", b"\n"])))
        content[at : at + data.draw(st.integers(0, 8))] = piece
    return bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.integers(0, 5)) == 0 else content)


def survives(model, count: int) -> None:
    """Bytes that are wrong are refused, or are read as something of the right type; nothing else is raised."""
    embed, predict, kinds = (model.methods[name] for name in ("embed", "predict", "types"))
    coded = {name: pyarrow.array(values).dictionary_encode() for name, values in EMBED.items()}
    views = {name: pyarrow.array(values, pyarrow.string_view()) for name, values in EMBED.items()}
    bodies = [
        (embed, tables.parse, text(EMBED, *zip(*EMBED.values(), strict=True))),
        (kinds, tables.parse, text(TYPES, *([1] * 7, [0] * 7))),
        (predict, tables.parse, text(PIXELS, [0.5] * 64)),
        *((embed, arrow.parse, stream(columns)) for columns in (EMBED, coded, views)),
        (kinds, arrow.parse, stream(TYPES)),
        (predict, arrow.parse, stream({"x": X.tolist()})),
    ]

    @settings(max_examples=count, **PACE)
    @given(st.data())
    def check(data):
        method, parse, body = data.draw(st.sampled_from(bodies))
        try:
            found = parse(method, mutated(data, body))
            with np.errstate(over="ignore"):
                model.infer(method.name, found)
        except Refused as error:
            assert len(str(error)) < 1000 and "\n" not in str(error)

    check()


def test_a_few_mutated_tables(model):
    survives(model, 400)


@pytest.mark.slow
def test_many_mutated_tables(model):
    survives(model, 6_000)


def test_over_http(server):
    body = text(EMBED, *zip(*EMBED.values(), strict=True))
    path = "/models/zoo.embed/predict"
    as_json = server.ask("POST", path, body, {"Content-Type": "text/csv; charset=utf-8"})
    assert (as_json.status, as_json.body["records"][0]["pair"]) == (200, {"a": "cat", "b": "dog"})
    for accept in ("text/csv", "application/json;q=0.5, text/csv", "text/html, text/csv;q=0.1"):
        reply = server.ask("POST", path, body, {"Content-Type": "text/csv", "Accept": accept})
        assert (reply.status, reply.headers["content-type"]) == (200, "text/csv; charset=utf-8"), accept
        assert len(list(csv.DictReader(io.StringIO(reply.body.decode())))) == 2
    for accept in ("*/*", "application/json", "text/csv;q=0, */*", "text/html", "text/csv;q=x"):
        assert server.ask("POST", path, body, {"Content-Type": "text/csv", "Accept": accept}).body == as_json.body, accept
    kind = {"Content-Type": arrow.STREAM, "Accept": arrow.STREAM}
    reply = server.ask("POST", path, stream(EMBED), kind)
    assert (reply.status, reply.headers["content-type"]) == (200, arrow.STREAM)
    assert pyarrow.ipc.open_stream(reply.body).read_all()["a"].to_pylist() == ["cat", "unknown"]
    wrong = server.ask("POST", path, b"a,b\n1,2\n", {"Content-Type": "text/csv", "Accept": "text/csv"})
    assert (wrong.status, wrong.headers["content-type"]) == (400, "application/json")
    assert server.ask("POST", path, b"x", {"Content-Type": "text/plain"}).status == 415
    assert server.ask("POST", "/v2/models/zoo.embed/infer", body, {"Content-Type": "text/csv"}).status == 415
    document = server.ask("GET", "/openapi.json").body["paths"]
    for name, kinds in (("zoo.embed", 3), ("zoo.lengths", 2)):
        assert len(document[f"/models/{name}/predict"]["post"]["requestBody"]["content"]) == kinds
        assert len(document[f"/models/{name}/predict"]["post"]["responses"]["200"]["content"]) == 3
    assert "columns: animal, day, a, b" in json.dumps(document["/models/zoo.embed/predict"])


def mean(params, x):
    return {"mean": x.mean(), "all": x * params["by"]}


def test_methods_that_have_no_table(tmp_path):
    method = Method(mean, np.ones((2, 3), np.float32), batch=False)
    found = load(export(tmp_path / "one", {"predict": method}, {"by": np.float32(2)}, name="one"))
    for parse in (tables.parse, arrow.parse):
        with pytest.raises(Refused, match="has no rows"):
            parse(found.methods["predict"], stream({"x": [1.0]}))
    assert list(records.openapi({"one": found})["paths"]["/predict"]["post"]["requestBody"]["content"]) == ["application/json"]


def test_columns_that_two_inputs_share_are_told_apart(tmp_path):
    inputs = {name: Tensor(columns=["a", "b"]) for name in "pq"}
    method = Method(lambda params, x: x["p"] - x["q"], {name: np.ones((2, 2), np.float32) for name in "pq"}, inputs=inputs)
    found = load(export(tmp_path / "two", {"predict": method}, {}, name="two")).methods["predict"]
    assert tables.columns(found) == ["p.a", "p.b", "q.a", "q.b"]


@pytest.mark.slow
def test_pandas_polars_and_pyarrow_read_and_write_the_same_tables(both, tmp_path_factory, folder):
    python = environment("tables", "pandas", "polars", "pyarrow")
    running = start(folder, "--max-rows", "1000")
    try:
        agreed(python, "frames.py", f"http://127.0.0.1:{running.port}")
    finally:
        running.process.terminate()
        running.process.communicate(timeout=20)
