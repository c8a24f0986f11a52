"""Tables that pandas, polars and pyarrow wrote, and answers that they read; run in an environment of its own."""

import io
import json
import sys
import urllib.request

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

CSV, ARROW = "text/csv", "application/vnd.apache.arrow.stream"
url = sys.argv[1]


def ask(model, body, kind, accept):
    headers = {"Content-Type": kind, "Accept": accept}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/models/{model}/predict", body, headers)) as answer:
        assert answer.headers["content-type"].startswith(accept)
        return answer.read()


def records(model, frame):
    """The same rows as JSON, which has tests of its own."""
    rows = [{"animal": r["animal"], "day": r["day"], "pair": [r["a"], r["b"]]} for r in frame]
    return json.loads(ask(model, json.dumps({"records": rows}).encode(), "application/json", "application/json"))["records"]


random = np.random.default_rng(0)
animals = ["cat", "dog", "éléphant", 'a "quoted", word']
rows = [
    {"animal": str(random.choice(animals)), "day": f"20{k % 90 + 10}-02-{k % 28 + 1:02}", "a": "dog", "b": str(random.choice(animals))}
    for k in range(200)
]
wanted = records("zoo.embed", rows)
embedding = np.float32([row["embedding"] for row in wanted])
pandas, polars, arrow = pd.DataFrame(rows), pl.DataFrame(rows), pa.Table.from_pylist(rows)


def stream(table):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table, max_chunksize=64)
    return sink.getvalue()


def polars_stream(frame, **options):
    sink = io.BytesIO()
    frame.write_ipc_stream(sink, **options)
    return sink.getvalue()


dated = pandas.assign(day=pd.to_datetime(pandas["day"]).dt.date, animal=pandas["animal"].astype("category"))
bodies = [
    (pandas.to_csv(index=False).encode(), CSV),
    (polars.write_csv().encode(), CSV),
    (polars.write_csv(line_terminator="\r\n", quote_style="always").encode(), CSV),
    (stream(arrow), ARROW),
    (stream(pa.Table.from_pandas(dated, preserve_index=False)), ARROW),
    (polars_stream(polars), ARROW),
    (polars_stream(polars, compat_level=pl.CompatLevel.oldest()), ARROW),
    (polars_stream(polars.with_columns(pl.col("day").str.to_date(), pl.col("animal").cast(pl.Categorical))), ARROW),
]
for body, kind in bodies:
    text = ask("zoo.embed", body, kind, CSV)
    for frame in (pd.read_csv(io.BytesIO(text), dtype={"embedding.0": np.float32, "embedding.1": np.float32}), pl.read_csv(text).to_pandas()):
        assert np.array_equal(frame[["embedding.0", "embedding.1"]].to_numpy(np.float32), embedding)
        assert [str(day) for day in frame["next_day"]] == [row["next_day"] for row in wanted]
        assert frame["b"].tolist() == [row["pair"]["b"] for row in wanted]
    raw = ask("zoo.embed", body, kind, ARROW)
    for frame in (pa.ipc.open_stream(raw).read_all().to_pandas(), pl.read_ipc_stream(io.BytesIO(raw)).to_pandas()):
        assert np.array_equal(frame[["embedding.0", "embedding.1"]].to_numpy(), embedding)
        assert frame["next_day"].tolist() == [row["next_day"] for row in wanted]

# Floats survive: any bits of a float32, written by pandas and by polars, come back as they went, times one half.
x = random.integers(0, 2**32, 64 * 50, np.uint32).view(np.float32)
x = np.where(np.isfinite(x) & (np.abs(x) < 1e30), x, np.float32(1)).reshape(50, 64)
names = [f"x.{k}" for k in range(64)]
frame = pd.DataFrame(x, columns=names)
answers = [
    pd.read_csv(io.BytesIO(ask("zoo.predict", body, kind, CSV)), dtype=np.float32).to_numpy()
    for body, kind in [
        (frame.to_csv(index=False).encode(), CSV),
        (pl.DataFrame(frame).write_csv().encode(), CSV),
        (stream(pa.Table.from_pandas(frame, preserve_index=False)), ARROW),
        (polars_stream(pl.DataFrame({"x": x.reshape(50, 8, 8)})), ARROW),
        (polars_stream(pl.DataFrame({"x": x.reshape(50, 8, 8).tolist()})), ARROW),
    ]
]
assert all(np.array_equal(answers[0], answer, equal_nan=True) for answer in answers)

# Every integer at its ends, and what is no number.
ends = {f"{sign}int{bits}": [np.iinfo(f"{sign}int{bits}").min, np.iinfo(f"{sign}int{bits}").max - 1] for sign in ("", "u") for bits in (8, 16, 32)}
frame = pd.DataFrame({name: np.array(values, name) for name, values in ends.items()} | {"bool": [True, False]})
for body, kind in [(frame.to_csv(index=False).encode(), CSV), (pl.DataFrame(frame).write_csv().encode(), CSV), (polars_stream(pl.DataFrame(frame)), ARROW)]:
    back = pl.read_ipc_stream(io.BytesIO(ask("zoo.types", body, kind, ARROW)))
    text = pd.read_csv(io.BytesIO(ask("zoo.types", body, kind, CSV)))
    for name, values in ends.items():
        assert back[name].to_list() == text[name].tolist() == [value + 1 for value in values], name
    assert back["bool"].to_list() == text["bool"].tolist() == [False, True]
missing = pd.DataFrame({"x.0": [1.0, None, np.inf], "x.1": [-1.0, 2.0, 0.0]})
for body, kind in [(missing.to_csv(index=False).encode(), CSV), (stream(pa.Table.from_pandas(missing, preserve_index=False)), ARROW)]:
    found = pd.read_csv(io.BytesIO(ask("zoo.logarithm", body, kind, CSV)))
    with np.errstate(all="ignore"):
        assert np.allclose(found.to_numpy(), np.log(missing.to_numpy()), equal_nan=True)
sys.stdout.write("agreed\n")
