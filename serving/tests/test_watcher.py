"""What a server counts of what it is asked: sketches against the values themselves, and windows over sockets."""

from __future__ import annotations

import json
import signal
import time
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import start

from arsenal_serving.artifact import reference as references
from arsenal_serving.artifact.sketch import BINS, Sketch, describe, merge_all, read_columns, write_columns
from arsenal_serving.artifact.windows import merge_windows, read_windows
from arsenal_serving.export import Method, Tensor, export
from arsenal_serving.model import load
from arsenal_serving.refused import Refused

RANDOM = np.random.default_rng(0)


def test_numbers_are_counted_between_quantiles_and_merge_to_the_bit_of_counts():
    learned = RANDOM.normal(size=5000).astype(np.float32)
    column = describe("x", learned)
    assert len(column.edges) == BINS - 1 and sum(column.counts) == 5000
    np.testing.assert_allclose(np.array(column.counts[:-2]), 50, atol=1)
    assert column.mean == pytest.approx(learned.mean(dtype=float)) and column.deviation == pytest.approx(learned.std(dtype=float), rel=1e-6)
    came = np.concatenate([RANDOM.normal(1.0, 2.0, 900), [np.nan] * 7, [np.inf, -np.inf, 1e9]]).astype(np.float32)
    whole, parts = Sketch(column), [Sketch(column) for _ in range(3)]
    whole.add(came)
    for part, values in zip(parts, np.array_split(RANDOM.permutation(came), 3), strict=True):
        part.add(values)
    merged = merge_all(column, parts)
    np.testing.assert_array_equal(whole.counts, merged.counts)
    edges = np.array([-np.inf, *column.edges, np.inf])
    there = came[~np.isnan(came)].astype(float)
    wanted = [((there > low) & (there <= high)).sum() for low, high in pairwise(edges)]
    wanted[0] += 1  # minus infinity
    np.testing.assert_array_equal(whole.counts, [*wanted, 0, 7])
    assert whole.beyond == ((there < column.least) | (there > column.most)).sum() and whole.rows == 910
    again = Sketch.read(column, json.loads(json.dumps(whole.state())))
    np.testing.assert_array_equal(again.counts, whole.counts)
    assert read_columns(json.loads(json.dumps(write_columns([column]))), "it") == [column]


def test_few_values_are_bins_of_their_own():
    column = describe("n", np.array([0, 1, 1, 3, 3, 3], np.int32))
    assert column.edges == (0.5, 2.0) and column.counts == (1, 2, 3, 0, 0)
    assert [column.label(part) for part in range(column.parts)] == ["up to 0.5", "0.5 to 2", "above 2", "another", "missing"]


def test_words_are_counted_by_level_and_new_ones_by_name():
    column = describe("c", np.array(["a", "b", "b", None, "c"], dtype=object))
    assert column.levels == ("a", "b", "c") and column.counts == (1, 2, 1, 0, 1)
    sketch = Sketch(column)
    sketch.add(np.array(["a", "zebra", "zebra", None, "yak"], dtype=object))
    assert sketch.counts.tolist() == [1, 0, 0, 3, 1] and sketch.new == {"zebra": 2, "yak": 1}
    for k in range(1000):  # the frequent ones stay among the kept
        sketch.add(np.array([f"rare {k}", "zebra"], dtype=object))
    assert len(sketch.new) <= 20 and max(sketch.new, key=sketch.new.get) == "zebra" and sum(sketch.new.values()) == 2003


def test_a_sketch_of_another_reference_is_refused():
    sketch = Sketch(describe("x", np.arange(10.0)))
    with pytest.raises(Refused, match="the counts of column 'y' are not those of its reference"):
        Sketch.read(describe("y", np.arange(5.0)), sketch.state())


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A model of people by sex and age; older ones live less."""

    def predict(params, x):
        return (x["numbers"][:, 0] < params).astype(jnp.int32)

    random = np.random.default_rng(1)
    rows = {
        "numbers": random.normal(30, 8, (3000, 1)).astype(np.float32), "levels": random.integers(0, 2, (3000, 1)).astype(np.int32)
    }  # fmt: skip
    inputs = {"numbers": Tensor(["age"], ["age"]), "levels": Tensor(["sex"], ["sex"])}
    method = Method(predict, {k: v[:4] for k, v in rows.items()}, inputs=inputs, outputs={"predict": Tensor(codec="lives")})
    codecs = {
        "sex": {"kind": "category", "values": ["female", "male"]}, "age": {"kind": "number", "decimal": ".", "thousands": ""},
        "lives": {"kind": "category", "values": ["no", "yes"]},
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("people") / "people"
    export(folder, {"predict": method}, jnp.float32(32.0), codecs=codecs, reference=rows)
    return folder


def test_an_artifact_knows_what_it_learned_from(people):
    known = load(people).reference
    assert known.rows == 3000
    sex, age = known.methods["predict"].inputs
    assert (sex.name, sex.levels) == ("sex", ("female", "male")) and sum(sex.counts[:2]) == 3000
    assert age.name == "age" and age.mean == pytest.approx(30, abs=0.5)
    (lives,) = known.methods["predict"].outputs
    assert lives.levels == ("no", "yes") and lives.counts[1] / 3000 == pytest.approx(0.599, abs=0.03)  # normal below 32


def test_a_server_counts_what_it_is_asked(people, tmp_path):
    running = start(people, "--monitor", str(tmp_path), "--monitor-window", "1")
    records = [{"sex": "male", "age": 50.0 + k} for k in range(8)] + [{"sex": "other", "age": "61"}]
    for _ in range(5):
        answer = running.ask("POST", "/predict", {"records": records})
        assert answer.status == 200, answer.body
    until = time.monotonic() + 20
    known, found = load(people).reference, None
    while time.monotonic() < until and (found is None or found.rows < 45):
        time.sleep(0.2)
        found = merge_windows(read_windows(tmp_path / "people" / "1", known, "predict"))
    running.process.send_signal(signal.SIGTERM)
    running.process.communicate(timeout=20)
    found = merge_windows(read_windows(tmp_path / "people" / "1", known, "predict"))
    assert found.rows == 45
    sex, age = found.inputs["sex"], found.inputs["age"]
    assert sex.counts.tolist() == [0, 40, 5, 0] and sex.new == {"other": 5}
    assert age.rows == 45 and age.mean == pytest.approx(np.mean([*range(50, 58), 61])) and age.beyond >= 0
    assert found.outputs["predict"].counts.tolist() == [45, 0, 0, 0]


def test_what_is_redacted_is_not_counted(people, tmp_path):
    words = ("--monitor-window", "1", "--redact", "levels", "--redact", "predict")
    running = start(people, "--monitor", str(tmp_path), *words)
    assert running.ask("POST", "/predict", {"records": [{"sex": "Secret7", "age": 424242.5}] * 3}).status == 200
    running.process.send_signal(signal.SIGTERM)
    running.process.communicate(timeout=20)
    (window,) = read_windows(tmp_path / "people" / "1", load(people).reference, "predict")
    assert window.redacted == {"sex", "predict"} and list(window.inputs) == ["age"] and not window.outputs
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"Secret7" in path.read_bytes()]
    found = merge_windows([window, window._replace(redacted=frozenset({"x"}))])
    assert found.redacted == {"sex", "predict", "x"} and found.inputs["age"].rows == 6


def test_a_torn_window_is_left_out(people, tmp_path):
    (tmp_path / "20261130").mkdir()
    (tmp_path / "20261130" / "1.json").write_text('{"format": 1, "sin')
    with pytest.warns(UserWarning, match=r"1\.json is torn and left out"):
        assert not list(read_windows(tmp_path, load(people).reference, "predict"))


def test_a_model_without_a_reference_is_named(tmp_path):
    export(tmp_path / "plain", lambda params, x: x * params, jnp.float32(2.0), np.ones((2, 3), np.float32))
    assert load(tmp_path / "plain").reference is None
    running = start(tmp_path / "plain", "--monitor", str(tmp_path / "seen"))
    assert running.ask("POST", "/predict", {"records": [{"x": [1, 2, 3]}]}).status == 200
    running.process.send_signal(signal.SIGTERM)
    _, said = running.process.communicate(timeout=20)
    assert '"event":"no reference"' in said and not list((tmp_path / "seen").rglob("*.json"))


def test_a_reference_of_a_later_format_is_refused():
    content = json.dumps({"format": 99, "rows": 1, "methods": {}}).encode()
    with pytest.raises(Refused, match=r"reference.json has format 99; this version reads up to 1"):
        references.read(content)
    with pytest.raises(Refused, match=r"reference\.json is no reference"):
        references.read(b"[]")
