"""Kernels that are held and curves are PyTorch's and SciPy's; numbers of PyTorch are kept, see scripts/kept_vision.py."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import BSpline

from arsenal import optim
from arsenal.losses import squared_error
from arsenal.nn import Convolution, Dense, SplineDense, linen, spline_basis
from arsenal.nn.spline import spline_knots
from arsenal.records import Training, batch, hyperparameters
from arsenal.testing import check
from arsenal.training import supervised

KEPT = json.loads((Path(__file__).parents[1] / "kept" / "vision" / "kernels.json").read_text())


def wave(*shape, phase=0.0):
    """Numbers that need no generator."""
    return np.sin(np.arange(np.prod(shape)) * 0.7 + phase).reshape(shape).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x)


X, KERNEL = wave(5, 4), wave(3, 4, phase=1.0).T


def test_a_spectral_norm_is_pytorchs_in_training_and_after():
    layer = Dense(3, use_bias=False, kernel_norm="spectral")
    variables = {"params": {"kernel": jnp.asarray(KERNEL)}, "spectral": {"u": unit(wave(3, phase=2.0)), "v": unit(wave(4, phase=3.0))}}

    def total(params):
        y, changed = layer.apply(variables | {"params": params}, X, mutable=["spectral"])
        return jnp.square(y).sum(), (y, changed)

    (_, (y, changed)), slope = jax.value_and_grad(total, has_aux=True)(variables["params"])
    kept = KEPT["spectral"]
    np.testing.assert_allclose(y, kept["training"], atol=2e-5)
    np.testing.assert_allclose(slope["kernel"].T, kept["slope"], atol=2e-5)
    np.testing.assert_allclose(changed["spectral"]["u"], kept["u"], atol=2e-6)
    np.testing.assert_allclose(layer.apply({"params": {"kernel": KERNEL * 2}, **changed}, X), kept["answer"], atol=2e-5)


def test_a_spectral_norm_of_a_convolution_is_pytorchs_and_comes_to_the_singular_value():
    layer = Convolution(3, padding="valid", kernel_norm="spectral")
    kernel = wave(3, 2, 3, 3, phase=1.0).transpose(2, 3, 1, 0)
    variables = {"params": {"kernel": jnp.asarray(kernel)}, "spectral": {"u": unit(wave(3, phase=2.0)), "v": jnp.zeros(18)}}
    y, changed = layer.apply(variables, wave(1, 5, 4, 2), mutable=["spectral"])
    np.testing.assert_allclose(y.reshape(-1), KEPT["spectral convolution"], atol=2e-5)
    for _ in range(50):
        _, changed = layer.apply(variables | changed, wave(1, 5, 4, 2), mutable=["spectral"])
    largest = np.linalg.svd(kernel.reshape(18, 3), compute_uv=False)[0]
    plain = Convolution(3, padding="valid").apply({"params": {"kernel": kernel}}, wave(1, 5, 4, 2))
    np.testing.assert_allclose(layer.apply(variables | changed, wave(1, 5, 4, 2)) * largest, plain, rtol=1e-4, atol=1e-5)


def test_a_weight_norm_is_pytorchs():
    layer = Dense(3, use_bias=False, kernel_norm="weight")
    params = {"kernel": jnp.asarray(KERNEL), "gain": jnp.asarray(wave(3, phase=2.0))}
    y, slope = layer.apply({"params": params}, X), jax.grad(lambda p: jnp.square(layer.apply({"params": p}, X)).sum())(params)
    np.testing.assert_allclose(y, KEPT["weight"]["y"], atol=2e-5)
    np.testing.assert_allclose(slope["gain"], KEPT["weight"]["slope_gain"], rtol=1e-4)
    np.testing.assert_allclose(slope["kernel"].T, KEPT["weight"]["slope"], atol=5e-5)
    begun = layer.init(jax.random.key(0), X)["params"]
    np.testing.assert_allclose(begun["gain"], np.linalg.norm(begun["kernel"], axis=0), rtol=1e-6)


def test_a_model_iterates_in_training_alone():
    model = linen(Dense(3, kernel_norm="spectral"))
    rows = batch(x=X)
    variables = model.init(jax.random.key(0), rows.x)
    assert model.apply(variables, rows.x)[1] == {}
    changed = model.apply(variables, rows.x, Training(jax.random.key(1), rows.weight, rows.row, {}))[1]
    assert changed.keys() == {"spectral"} and not np.allclose(changed["spectral"]["u"], variables["spectral"]["u"])
    learner = supervised(model, squared_error(), optim.sgd(0.1))
    rows, hp = batch(x=X, y=wave(5, 3, phase=4.0)), hyperparameters(learner.hp)
    state = learner.init(jax.random.key(0), rows, hp)
    after = jax.jit(learner.step)(jax.random.key(1), state, rows, hp)[0]
    np.testing.assert_allclose(after.variables["spectral"]["u"], changed["spectral"]["u"], rtol=1e-5)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_bases_of_splines_are_scipys(degree):
    knots = spline_knots(5, degree, -1.0, 1.0)
    x = np.linspace(-0.999, 0.999, 41)
    wanted = BSpline.design_matrix(x, knots, degree).toarray()
    np.testing.assert_allclose(spline_basis(jnp.asarray(x, jnp.float32), knots, degree), wanted, atol=2e-6)
    np.testing.assert_allclose(wanted.sum(1), 1)
    assert not spline_basis(jnp.array([-9.0, 9.0]), knots, degree).any()


def test_a_layer_of_splines_is_a_sum_of_curves():
    layer = SplineDense(2, pieces=4)
    x = wave(6, 3) * 0.9
    variables = layer.init(jax.random.key(0), x)
    base, curves = (np.asarray(variables["params"][name], np.float64) for name in ("base", "curves"))
    knots, wanted = spline_knots(4, 3, -1.0, 1.0), np.zeros((6, 2))
    for i in range(3):
        for j in range(2):
            curve = BSpline(knots, curves[i * 7 : (i + 1) * 7, j], 3)
            wanted[:, j] += base[i, j] * x[:, i] / (1 + np.exp(-x[:, i])) + curve(x[:, i])
    np.testing.assert_allclose(layer.apply(variables, x), wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layer", [Dense(2, kernel_norm="spectral"), Dense(2, kernel_norm="weight"), SplineDense(2)])
def test_layers_keep_the_laws(layer):
    check(linen(layer), batch(x=wave(6, 3), weight=[1, 2, 1, 0.5, 1, 1], row=[3, 1, 4, 15, 9, 2]))


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="`kernel_norm` must be spectral or weight; got batch"):
        Dense(3, kernel_norm="batch").init(jax.random.key(0), X)
