"""The engine: what it accepts, how it pads and splits, what it refuses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import example, parameters, predict

from arsenal_serving.artifact.golden import same_bits
from arsenal_serving.export import Method, Tensor, export
from arsenal_serving.model import load
from arsenal_serving.protocols import records
from arsenal_serving.refused import Refused

X = example()


def test_answers_are_the_bits_of_jit_at_the_padded_size(model):
    wanted = np.asarray(jax.jit(predict)(parameters(), np.concatenate([X, X[:3]])))
    assert same_bits(model.infer("predict", {"x": X})["predict"], wanted[:5])


def test_a_row_has_the_same_bits_whatever_is_beside_it(model):
    alone = model.infer("predict", {"x": X})["predict"]
    crowd = model.infer("predict", {"x": np.concatenate([X, -7 * X[:2]])})["predict"]
    assert same_bits(alone, crowd[:5])


def test_large_requests_are_split(model):
    x = np.tile(X, (4, 1, 1))[:19]
    answer = model.infer("predict", {"x": x})["predict"]
    assert answer.shape == (19, 3)
    whole = model.infer("predict", {"x": x[:8]})["predict"]
    assert same_bits(answer[:8], whole)


def test_warm_compiles_every_padded_size_and_nothing_compiles_after(model):
    model.warm()
    before = len(model._kept)
    for rows in range(1, 20):
        model.infer("predict", {"x": np.tile(X, (4, 1, 1))[:rows]})
    assert len(model._kept) == before
    assert model.quick("predict", 1, 10.0)
    assert not model.quick("centre", 1, 10.0)


def test_rows_that_influence_each_other_are_never_padded_or_split(model):
    assert not model.methods["centre"].row_independent
    for rows in (1, 3, 11):
        x = np.random.default_rng(rows).standard_normal((rows, 2)).astype(np.float32)
        np.testing.assert_allclose(model.infer("centre", {"x": x})["centre"], x - x.mean(0), atol=1e-6)
        assert ("centre", (rows, 2)) in model._kept


def test_sizes_that_come_by_do_not_fill_the_memory(model, monkeypatch):
    monkeypatch.setattr("arsenal_serving.model.KEPT", 2)
    for rows in (21, 22, 23, 24):
        model.infer("centre", {"x": np.ones((rows, 2), np.float32)})
    assert [key[1] for key in model._kept][-2:] == [(23, 2), (24, 2)]


def test_strings_go_in_and_come_out(model):
    pair = np.array([["cat", "dog"], ["cow", "éléphant"]], dtype=object)
    inputs = {"animal": np.array(["dog", "cow"], object), "day": np.array(["1999-12-31", "2024-02-28"]), "pair": pair}
    answer = model.infer("embed", inputs)
    assert answer["next_day"].tolist() == ["2000-01-01", "2024-02-29"]
    assert answer["pair"].tolist() == [["cat", "dog"], ["unknown", "éléphant"]]
    np.testing.assert_array_equal(answer["embedding"], parameters()["table"][[1, 3]] * np.float32(1.5))
    assert set(model.infer("label", {"x": X})["label"].tolist()) <= {"cat", "dog", "éléphant"}


def test_symbolic_dimensions_must_agree_and_keep_the_constraints(folder, model):
    for engine in (model, load(folder, form="durable")):
        for length in (2, 6):
            ones = np.ones((3, length), np.float32)
            assert engine.infer("lengths", {"x": ones, "y": ones})["sum"].tolist() == [2.0 * length] * 3
        long = np.ones((3, 7), np.float32)
        with pytest.raises(Refused, match=r"method 'lengths' does not run at .*7"):
            engine.infer("lengths", {"x": long, "y": long})
        with pytest.raises(Refused, match="its 'length' is 6, that of an input before it is 7"):
            engine.infer("lengths", {"x": long, "y": long[:, :6]})


@pytest.mark.parametrize(
    ("method", "inputs", "says"),
    [
        ("predct", {"x": X}, "unknown method 'predct' of 'zoo'; did you mean 'predict'"),
        ("predict", {}, r"needs the inputs \['x'\]; missing: \['x'\]"),
        ("predict", {"y": X}, "unknown input 'y' of 'predict'"),
        ("embed", {"animl": X, "day": X, "pair": X}, "unknown input 'animl' of 'embed'; did you mean 'animal'"),
        ("predict", {"x": X, "y": X}, "unknown input 'y'"),
        ("predict", {"x": X.astype(np.float64)}, r"must be float32 \[batch, 8, 8\]; got float64 \[5, 8, 8\]"),
        ("predict", {"x": X.astype(">f4")}, "must be float32"),
        ("predict", {"x": X.tolist()}, "must be a numpy array; got list"),
        ("predict", {"x": X[0]}, r"got float32 \[8, 8\]"),
        ("predict", {"x": X[:, :7]}, r"got float32 \[5, 7, 8\]"),
        ("predict", {"x": np.tile(X, (21, 1, 1))}, "takes 0 to 100 rows; got 105"),
        ("predict", {"x": np.where(np.equal(X, X[2, 1, 0]), np.nan, X)}, r"must be finite; got nan at \[2, 1, 0\]"),
        ("predict", {"x": X.astype(object)}, "got strings"),
        ("embed", {"animal": np.int32([1]), "day": np.int32([1]), "pair": np.int32([[1, 1]])}, "must be strings"),
    ],
)
def test_refusals_say_what_is_allowed_and_what_came(model, method, inputs, says):
    with pytest.raises(Refused, match=says) as caught:
        model.infer(method, inputs)
    assert "\n" not in str(caught.value)


def test_texts_go_in_and_come_out_of_any_length(tmp_path):
    def shift(params, inputs):
        codes = inputs["prompt"]
        shifted = jnp.where(codes >= 0, codes + params["k"], -1)
        return {"text": jnp.concatenate([shifted, shifted], 1), "length": (codes >= 0).sum(1)}

    example = {"prompt": np.array([[97, 98, -1], [99, -1, -1]], np.int32)}
    said = Tensor(codec="language")
    made = export(
        tmp_path / "m", {"shift": Method(shift, example, {"prompt": said}, {"text": said})}, {"k": np.int32(1)},
        codecs={"language": {"kind": "tokens", "length": 3}},
    )  # fmt: skip
    model = load(made)
    answer = model.infer("shift", {"prompt": np.array(["abc", "x"], object)})
    assert answer["text"].tolist() == ["bcdbcd", "y"] and answer["length"].tolist() == [3, 1]
    assert "strings [batch]" in map(str, model.methods["shift"].outputs)
    parsed = records.parse(model.methods["shift"], b'{"records": [{"prompt": "hal"}, {"prompt": 9}]}')
    assert model.infer("shift", parsed)["text"].tolist() == ["ibmibm", ":"]
    with pytest.raises(Refused, match="row 1, column 'prompt' must have 1 to 3 tokens, not 4"):
        model.infer("shift", {"prompt": np.array(["abcd"], object)})
    assert model.infer("shift", {"prompt": np.array([], object)})["text"].tolist() == []
