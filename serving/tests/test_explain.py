"""Explanations against differences, and against what linear functions must give."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal_serving.artifact.golden import same_bits
from arsenal_serving.explain import gradient
from arsenal_serving.export import Method, export
from arsenal_serving.model import load
from arsenal_serving.refused import Refused

RANDOM = np.random.default_rng(0)
W = {"a": RANDOM.standard_normal((6, 5)).astype(np.float32), "b": RANDOM.standard_normal((5, 3)).astype(np.float32)}
X = RANDOM.standard_normal((4, 2, 3)).astype(np.float32)


def scores(params, x):
    return jnp.tanh(x.reshape(x.shape[0], 6) @ params["a"]) @ params["b"]


def reference(x: np.ndarray) -> np.ndarray:
    """The best class's score of one row, in numpy and float64."""
    return np.tanh(x.reshape(6) @ np.float64(W["a"])) @ np.float64(W["b"])


@pytest.mark.parametrize("times_input", [False, True])
def test_it_is_the_slope_of_the_winning_score(tmp_path, times_input):
    folder = export(tmp_path / "m", {"scores": scores, "explain": gradient(scores, times_input=times_input)}, W, X)
    model = load(folder, max_batch=4)
    assert model.methods["explain"].rows == "independent"
    answer = model.infer("explain", {"x": X})["explain"]
    assert answer.shape == X.shape
    step = 1e-5
    for row in range(len(X)):
        best = int(reference(X[row]).argmax())
        for at in np.ndindex(X[row].shape):
            one = np.zeros(X[row].shape)
            one[at] = step
            slope = (reference(X[row] + one)[best] - reference(X[row] - one)[best]) / (2 * step)
            wanted = slope * (X[row][at] if times_input else 1.0)
            assert answer[(row, *at)] == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_of_a_linear_score_the_products_sum_to_it():
    x = X.reshape(4, 6)
    parts = gradient(lambda w, x: x @ w["a"], times_input=True)(W, x)
    np.testing.assert_allclose(parts.sum(1), (x @ W["a"]).max(1), rtol=1e-5)


def test_of_equal_scores_the_first_is_explained():
    explain = gradient(lambda _, x: jnp.stack([2 * x[:, 0], 2 * x[:, 1]], 1))
    assert explain({}, jnp.ones((1, 2))).tolist() == [[2.0, 0.0]]


def test_several_inputs_and_one_of_several_outputs(tmp_path):
    def both(params, inputs):
        return {"number": 3 * inputs["x"][:, 0] * inputs["y"], "other": inputs["y"]}

    example = {"x": X[:, 0], "y": X[:, 1, 0]}
    explain = gradient(both, output="number")
    answer = load(export(tmp_path / "m", {"explain": explain}, {}, example), max_batch=4).infer("explain", example)
    np.testing.assert_allclose(answer["y"], 3 * X[:, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(answer["x"][:, 0], 3 * X[:, 1, 0], rtol=1e-6)
    assert same_bits(answer["y"], np.asarray(jax.jit(explain)({}, example)["y"]))


@pytest.mark.slow
def test_what_is_fused_in_another_way_is_within_rounding(tmp_path):
    """Logarithms of a softmax: a program for every batch size is not compiled to the bits of one for four rows."""

    def logs(params, x):
        return jnp.log(jax.nn.softmax(scores(params, x)))

    explain = gradient(logs)
    model = load(export(tmp_path / "m", {"scores": scores, "explain": explain}, W, X), max_batch=4)
    wanted = np.asarray(jax.jit(explain)(W, X))
    answer = model.infer("explain", {"x": X})["explain"]
    said = {name: method["bits"] for name, method in model.manifest["methods"].items()}
    assert said == {"scores": True, "explain": same_bits(answer, wanted)}
    np.testing.assert_allclose(answer, wanted, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_explained(tmp_path):
    codes = np.arange(4, dtype=np.int32)
    for fn, example, says in (
        (gradient(lambda _, x: x * 1.0), codes, "method 'explain': only float inputs have a gradient; one"),
        (gradient(lambda _, x: x > 0), X, "one array of float scores"),
        (gradient(lambda _, x: {"a": x}), X, "name one of several by `output`"),
    ):
        with pytest.raises(Refused, match=says):
            export(tmp_path / "m", {"explain": Method(fn, example)}, {})


def test_explanations_of_coupled_rows_are_coupled(tmp_path):
    folder = export(tmp_path / "m", {"explain": gradient(lambda _, x: (x - x.mean(0)) ** 2)}, {}, X.reshape(4, 6))
    assert load(folder).methods["explain"].rows == "coupled"
