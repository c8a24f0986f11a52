"""Lengths that are rounded up: the answers of each length itself, no compile after ready, runs shared by unequal ones."""

from __future__ import annotations

import asyncio
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal_serving.artifact import lengths
from arsenal_serving.export import Method, Tensor, export
from arsenal_serving.model import load
from arsenal_serving.refused import Refused
from arsenal_serving.repository.engine import Engine, Statistics

TABLE = np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)
TOKENS = np.random.default_rng(1).integers(1, 10, (3, 5)).astype(np.int32)
SHAPE = ["batch", "length"]


def attend(params, tokens):
    """Self-attention over what is no padding (0), a value for each position and the mean of the row."""
    x, real = params[tokens], tokens != 0
    scores = jnp.where(real[:, None, :], x @ x.transpose(0, 2, 1), -jnp.inf)
    each = jnp.where(real[..., None], jax.nn.softmax(scores) @ x, 0.0)
    return {"each": each, "mean": each.sum(1) / real.sum(1, keepdims=True)}


def mean(params, tokens):
    return params[tokens].mean(1)


def method(fn, constraints=("length <= 20",), **tensor):
    return Method(fn, TOKENS, {"x": Tensor(shape=SHAPE, **tensor)}, constraints=constraints, sizes=(1, 4))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = export(tmp_path_factory.mktemp("padded") / "attend", {"attend": method(attend, pad=0)}, TABLE)
    found = load(folder)
    found.warm()
    return found


def tokens(rows, length):
    return np.random.default_rng(length).integers(1, 10, (rows, length)).astype(np.int32)


def test_every_length_gives_its_own_answers_and_nothing_compiles_later(model):
    assert model.methods["attend"].lengths == {"length": (1, 2, 4, 8, 16, 20)}
    for length in (1, 2, 3, 7, 13, 16, 20):
        x = tokens(3, length)
        got, want = model.infer("attend", {"x": x}), jax.jit(attend)(TABLE, x)
        for name in ("each", "mean"):
            assert got[name].shape == want[name].shape
            np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-6)
    assert model.late_compiles == 0
    with pytest.raises(Refused, match="takes 'length' up to 20; got 21"):
        model.infer("attend", {"x": tokens(1, 21)})


def test_a_row_has_the_same_bits_whatever_the_lengths_beside_it(model):
    async def scene():
        engine, statistics = Engine(), Statistics()
        model.quick = lambda *_: False
        asked = [tokens(1, 6), *(tokens(1, length) for length in (5, 7, 8))]
        many = await asyncio.gather(*(engine.infer(model, "attend", {"x": x}, statistics) for x in asked))
        return asked, many, statistics.runs

    try:
        asked, many, runs = asyncio.run(scene())
    finally:
        del model.quick
    assert runs == 2  # the first at once, the rest, of three lengths, together
    for x, got in zip(asked, many, strict=True):
        alone = model.infer("attend", {"x": np.concatenate([x] * 4)})
        assert got["each"].shape == (1, x.shape[1], 4)
        if x.shape[1] != 6:  # which ran as one row, a program of its own
            np.testing.assert_array_equal(got["each"][0], alone["each"][0])


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (method(mean, pad=0), "output 'mean': filling {'length': 5} up to {'length': 8} with `pad` changes the answer"),
        (method(attend, pad=1), "with `pad` changes the answer"),
        (method(attend, constraints=(), pad=0), "a constraint must bound it, like 'length <= 512'"),
        (method(attend, constraints=("length <= 20", "mod(length, 5) == 0"), pad=0), "must be <= or >= a number"),
        (method(attend, pad=0.5), "must be of int32; got 0.5"),
        (Method(attend, TOKENS, {"x": Tensor(pad=0)}), "no dimension beyond the batch that varies"),
        (method(lambda params, x: params[jnp.concatenate([x, x], 1)], pad=0), "has the dimension '2*length', which cannot"),
        (method(lambda params, x: x - x.mean(0).astype(jnp.int32), pad=0), "needs rows that do not influence each other"),
    ],
)
def test_padding_that_changes_an_answer_is_refused_at_export(tmp_path, made, says):
    with pytest.raises(Refused) as refused:
        export(tmp_path / "m", {made.fn.__name__.strip("<>").replace("lambda", "other"): made}, TABLE)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("pad", "dtype", "may"),
    [(0, "int32", True), (0.5, "int8", False), (300, "int8", False), (0.1, "float32", True), (1e5, "float16", False), (2, "bool", False)],
)
def test_what_can_stand_in_an_array(pad, dtype, may):
    assert lengths.can_fill(pad, np.dtype(dtype)) == may


def test_an_artifact_without_the_field_is_what_it_was(tmp_path, model):
    folder = export(tmp_path / "plain", {"mean": method(mean)}, TABLE)
    assert json.loads((folder / "manifest.json").read_text())["methods"]["mean"]["inputs"][0]["pad"] is None
    plain = load(folder)
    plain.warm()
    assert plain.methods["mean"].lengths == {}
    assert plain.infer("mean", {"x": tokens(2, 3)})["mean"].shape == (2, 4)
