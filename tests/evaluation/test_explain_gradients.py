"""Gradients: what axioms demand, closed forms, and a picture in which it is known where the answer lies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import models
from arsenal.evaluation import explain
from arsenal.nn import Convolution
from arsenal.records import batch

KEY = jax.random.key(0)
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(5, 4)).astype(np.float32)
W = jnp.asarray(DRAW.normal(size=(4, 3)), jnp.float32)


def scores(w, x):
    return jnp.tanh(x @ w) * 2 + jnp.square(x[:, :1])


def best(x):
    return np.asarray(scores(W, X)).argmax(1), np.asarray(scores(W, jnp.asarray(x, jnp.float32)))


@pytest.mark.parametrize("start", [None, np.float32([1, -1, 0.5, 0])])
def test_integrated_gradients_sum_to_the_difference_of_scores(start):
    found = explain.integrated_gradients(scores, W, batch(x=X), start, steps=48)
    at, mine = best(X)
    _, theirs = best(np.broadcast_to(np.zeros(4) if start is None else start, X.shape))
    each = np.arange(5)
    np.testing.assert_allclose(found.sum(1), mine[each, at] - theirs[each, at], atol=1e-4)
    few = np.asarray(explain.integrated_gradients(scores, W, batch(x=X), start, steps=400))
    np.testing.assert_allclose(found, few, atol=1e-4)


def test_expected_gradients_are_shapley_values_of_a_linear_answer():
    others, weight = DRAW.normal(size=(7, 4)).astype(np.float32), np.float32([1, 2, 0, 1, 1, 1, 1])
    others[2] = np.nan
    slope = W[:, 0]
    found = explain.expected_gradients(KEY, lambda w, x: x @ w, slope, batch(x=X), batch(x=others, weight=weight), draws=4000)
    mean = np.average(others[weight > 0], axis=0, weights=weight[weight > 0])
    np.testing.assert_allclose(found, (X - mean) * np.asarray(slope), atol=0.08)


def test_saliency_is_the_slope_and_smooth_grad_its_mean_about_the_input():
    rows = batch(x=X)
    at, _ = best(X)
    step = 1e-2
    slope = np.asarray(explain.saliency(scores, W, rows))
    for i in range(4):
        up, down = (np.asarray(scores(W, X + sign * step * np.eye(4, dtype=np.float32)[i])) for sign in (1, -1))
        np.testing.assert_allclose(slope[:, i], ((up - down) / 2 / step)[np.arange(5), at], atol=5e-3)
    np.testing.assert_allclose(explain.gradient_times_input(scores, W, rows), slope * X, atol=1e-5)
    np.testing.assert_allclose(explain.smooth_grad(KEY, scores, W, rows, draws=3, noise=0.0), slope, atol=1e-5)
    turned = batch(x=X[::-1], row=np.arange(5)[::-1])
    np.testing.assert_allclose(explain.smooth_grad(KEY, scores, W, rows, 4), explain.smooth_grad(KEY, scores, W, turned, 4)[::-1], atol=1e-5)


@pytest.mark.slow
def test_grad_cam_finds_where_the_answer_lies():
    x = np.zeros((2, 8, 8), np.float32)
    x[0, 1:3, 1:3], x[1, 5:7, 5:7] = 1, 1
    layer = Convolution(1)
    params = {"params": {"kernel": jnp.ones((3, 3, 1, 1))}}
    answer = lambda params, x: jax.nn.relu(layer.apply(params, x[..., None])).mean((1, 2))  # noqa: E731
    heat = np.asarray(explain.grad_cam(answer, params, batch(x=x)))
    assert heat.shape == (2, 8, 8) and heat.min() >= 0
    assert np.unravel_index(heat[0].argmax(), (8, 8)) <= (2, 2)
    assert heat[1, 4:, 4:].sum() > 0.8 * heat[1].sum()
    model = models.convolutional(3, channels=(2, 3), hidden=4)
    variables = model.init(KEY, jnp.asarray(x))
    for layer in (-1, 0):
        assert explain.grad_cam(lambda v, x: model.apply(v, x)[0], variables, batch(x=x), layer).shape == (2, 8, 8)


@pytest.mark.slow
def test_attention_is_what_the_transformer_used_and_rolls_out_to_shares():
    model = models.transformer(11, layers=2, heads=2, width=8, context=6)
    tokens = jnp.asarray(DRAW.integers(0, 11, (3, 6)), jnp.int32)
    variables = model.init(KEY, tokens)
    assert set(variables) == {"params"}
    weights = model.methods["attention"](variables, tokens)
    assert weights.shape == (3, 2, 2, 6, 6)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert float(jnp.triu(weights, 1).max()) == 0
    rolled = explain.attention_rollout(weights)
    np.testing.assert_allclose(rolled.sum(-1), 1, atol=1e-5)
    each = (np.asarray(weights, float).mean(2) + np.eye(6)) / 2
    np.testing.assert_allclose(rolled, each[:, 1] @ each[:, 0], atol=1e-5)


@pytest.mark.parametrize(("call", "said"), [
    (lambda: explain.grad_cam(scores, W, batch(x=X)), "`grad_cam` needs a model with a convolution; this one has none"),
    (lambda: explain.saliency(scores, W, batch(x=np.zeros((2, 4), np.int32))), "takes inputs of floats, which have a gradient; one of these is int32"),
    (lambda: explain.integrated_gradients(scores, W, batch(x=X), steps=0), "`steps` of `integrated_gradients` must be >= 1; got 0"),
    (lambda: explain.expected_gradients(KEY, scores, W, batch(x=X), batch(x=X, weight=np.zeros(5))), "must have a row that is there"),
    (lambda: explain.attention_rollout(jnp.ones((2, 3, 3))), r"takes weights \[n, layers, heads, t, t\]; got shape \(2, 3, 3\)"),
])  # fmt: skip
def test_what_cannot_be_explained_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
