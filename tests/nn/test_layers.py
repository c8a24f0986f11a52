"""Layers give the numbers that PyTorch 2.13 gives for the same weights; the calls stand beside the numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal.nn import GRU, LSTM, BatchNorm, GroupNorm, LayerNorm, RMSNorm, attend, linen
from arsenal.records import Training, batch
from arsenal.testing import check


def wave(*shape, phase=0.0):
    """Numbers that need no generator: torch.tensor(wave(...)) is what PyTorch was given."""
    return np.sin(np.arange(np.prod(shape)) * 0.7 + phase).reshape(shape).astype(np.float32)


def weights(gates: int, size: int = 2, inputs: int = 3) -> dict:
    """What PyTorch calls these; a layer of `size` with so many gates stacks their rows."""
    shapes = {"weight_ih_l0": (gates * size, inputs), "weight_hh_l0": (gates * size, size)}
    shapes |= {"bias_ih_l0": (gates * size,), "bias_hh_l0": (gates * size,)}
    return {name: wave(*shape, phase=float(i)) for i, (name, shape) in enumerate(shapes.items())}


def lstm_from_torch(w: dict) -> dict:
    """Rows of PyTorch's matrices are the gates i, f, g, o; its two biases are added, so one is kept."""
    into, back = np.split(w["weight_ih_l0"], 4), np.split(w["weight_hh_l0"], 4)
    bias = np.split(w["bias_ih_l0"] + w["bias_hh_l0"], 4)
    cell = {f"i{gate}": {"kernel": into[i].T} for i, gate in enumerate("ifgo")}
    cell |= {f"h{gate}": {"kernel": back[i].T, "bias": bias[i]} for i, gate in enumerate("ifgo")}
    return {"params": {"cell": jax.tree.map(jnp.asarray, cell)}}


def gru_from_torch(w: dict) -> dict:
    """Gates r, z, n; the biases of r and z are added, those of n are two, since r multiplies one of them."""
    into, back = np.split(w["weight_ih_l0"], 3), np.split(w["weight_hh_l0"], 3)
    bias, more = np.split(w["bias_ih_l0"], 3), np.split(w["bias_hh_l0"], 3)
    cell = {f"i{gate}": {"kernel": into[i].T, "bias": bias[i] + (more[i] if gate != "n" else 0)} for i, gate in enumerate("rzn")}
    cell |= {f"h{gate}": {"kernel": back[i].T} for i, gate in enumerate("rzn")}
    cell["hn"]["bias"] = more[2]
    return {"params": {"cell": jax.tree.map(jnp.asarray, cell)}}


# layer = torch.nn.LSTM(3, 2, batch_first=True) with the weights above, x = wave(2, 4, 3, phase=4.0), y, _ = layer(x):
# y[:, -1], and after y.square().sum().backward() x.grad[0, 0] and layer.weight_hh_l0.grad[0]; the last row is
# flip(layer(flip(x))[0])[:, 0], flipped in time. The same of torch.nn.GRU.
TORCH = {
    "LSTM": (
        LSTM,
        lstm_from_torch,
        4,
        (
            [[-0.236204, 0.115304], [-0.633984, -0.222382]],
            [0.004419, 0.029774, 0.041127],
            [-0.134287, -0.054322],
            [[-0.284275, 0.070287], [-0.643604, -0.49674]],
        ),
    ),
    "GRU": (
        GRU,
        gru_from_torch,
        3,
        (
            [[-0.567207, 0.715647], [-0.857698, -0.191774]],
            [-0.098918, -0.130388, -0.100534],
            [-0.536634, -0.291613],
            [[-0.800691, 0.66676], [-0.8243, -0.759928]],
        ),
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_recurrent_layers_are_torchs(name):
    layer, from_torch, gates, (last, slope_x, slope_back, reverse) = TORCH[name]
    variables, x = from_torch(weights(gates)), jnp.asarray(wave(2, 4, 3, phase=4.0))
    own = jax.eval_shape(layer(2).init, jax.random.key(0), x)
    assert jax.tree.map(lambda v: v.shape, own) == jax.tree.map(lambda v: v.shape, variables)
    apply = jax.jit(layer(2).apply)
    np.testing.assert_allclose(apply(variables, x)[:, -1], last, atol=1e-5)
    g_variables, g_x = jax.jit(jax.grad(lambda v, x: jnp.square(apply(v, x)).sum(), (0, 1)))(variables, x)
    np.testing.assert_allclose(g_x[0, 0], slope_x, atol=1e-5)
    first = "hi" if name == "LSTM" else "hr"
    np.testing.assert_allclose(g_variables["params"]["cell"][first]["kernel"][:, 0], slope_back, atol=1e-5)
    np.testing.assert_allclose(jax.jit(layer(2, reverse=True).apply)(variables, x)[:, 0], reverse, atol=1e-5)


# torch.nn.functional.layer_norm(wave(2, 5, phase=1.0), (5,), wave(5, phase=2.0), wave(5, phase=3.0), eps=1e-5), and
# torch.nn.functional.rms_norm(wave(2, 5, phase=1.0), (5,), wave(5, phase=2.0), eps=1e-6).
LAYER_NORM = [[0.834185, -0.096276, -1.075125, -0.450174, 1.207725], [-0.846738, -0.93689, -0.893637, -1.538834, -1.975297]]
RMS_NORM = [[1.076962, 0.596533, -0.24295, -0.04789, 0.8579], [-1.210457, -0.514176, 0.130108, -0.34716, -1.153682]]


def test_norms_are_torchs():
    x, scale, bias = (jnp.asarray(wave(*shape, phase=p)) for shape, p in (((2, 5), 1.0), ((5,), 2.0), ((5,), 3.0)))
    np.testing.assert_allclose(LayerNorm(1e-5).apply({"params": {"scale": scale, "bias": bias}}, x), LAYER_NORM, atol=1e-5)
    np.testing.assert_allclose(RMSNorm(1e-6).apply({"params": {"scale": scale}}, x), RMS_NORM, atol=1e-5)


# torch.nn.GroupNorm(2, 4, eps=1e-6) of wave(2, 3, 4) with axes 1 and 2 swapped, back again, row 0; its weight is
# wave(4, phase=1.0), its bias wave(4, phase=2.0).
GROUP_NORM = [
    [0.904612, 1.949698, 0.306116, -0.789637], [1.57875, -0.410067, -1.158475, -0.879244], [-0.365764, 0.461734, 0.047065, -0.78357],
]  # fmt: skip


def test_group_norm_is_torchs():
    given = {"params": {"scale": jnp.asarray(wave(4, phase=1.0)), "bias": jnp.asarray(wave(4, phase=2.0))}}
    np.testing.assert_allclose(GroupNorm(2).apply(given, jnp.asarray(wave(2, 3, 4)))[0], GROUP_NORM, atol=1e-5)


# torch.nn.BatchNorm1d(4) in training of wave(6, 4), its first two rows, and the running mean after them.
BATCH_NORM = [[-0.13153, 0.96636, 1.39268, 0.99548], [0.33248, -0.95136, -1.60785, -1.25313]]
RUNNING = [0.009496, 0.014283, 0.012352, 0.004612]


@pytest.mark.parametrize(("dtype", "close"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2), (jnp.float16, 2e-3)])
def test_batch_norm_is_torchs_and_measures_half_floats_in_float32(dtype, close):
    x = jnp.asarray(wave(6, 4)).astype(dtype)
    model = linen(BatchNorm())
    variables = model.init(jax.random.key(0), x)
    variables |= {"params": jax.tree.map(lambda v: v.astype(dtype), variables["params"])}
    training = Training(jax.random.key(0), jnp.ones(6), jnp.arange(6))
    y, collections = jax.jit(lambda x: model.apply(variables, x, training))(x)
    stats = collections["batch_stats"]
    assert y.dtype == dtype and {leaf.dtype for leaf in jax.tree.leaves(stats)} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(y[:2].astype(jnp.float32), BATCH_NORM, atol=close)
    np.testing.assert_allclose(stats["mean"], RUNNING, atol=close / 10)
    # Sums of many half floats would stand still long before the end.
    many = jnp.ones((4096, 1), dtype)
    many_training = Training(jax.random.key(0), jnp.ones(4096), jnp.arange(4096))
    _, collections = jax.jit(lambda x: model.apply(model.init(jax.random.key(0), x), x, many_training))(many)
    np.testing.assert_allclose(collections["batch_stats"]["mean"], 0.1, rtol=1e-6)


# q, k, v = wave(2, 3, 2, 4, phase=0.0 | 1.0 | 2.0) with axes 1 and 2 swapped, as PyTorch has them:
# y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal), swapped back; y[1, 1, 0], and
# torch.autograd.grad(y.square().sum(), q)[1, 2, 1].
ATTENTION = {
    False: ([-0.734775, -0.251913, 0.349428, 0.786427], [-0.040946, 0.026157, 0.080958, 0.097683]),
    True: ([-0.467596, 0.174722, 0.734865, 0.94939], [-0.040946, 0.026157, 0.080958, 0.097683]),
}


@pytest.mark.parametrize("causal", ATTENTION)
def test_attention_is_torchs(causal):
    q, k, v = (jnp.asarray(wave(2, 3, 2, 4, phase=p)) for p in (0.0, 1.0, 2.0))
    answer, slope = ATTENTION[causal]

    @jax.jit
    def both(q):
        return jax.grad(lambda q: (jnp.square(y := attend(q, k, v, causal=causal)).sum(), y), has_aux=True)(q)

    got, y = both(q)
    np.testing.assert_allclose(y[1, 1, 0], answer, atol=1e-5)
    np.testing.assert_allclose(got[1, 2, 1], slope, atol=1e-5)


@pytest.mark.parametrize("layer", [LayerNorm(), RMSNorm(), GroupNorm(5), BatchNorm(), LSTM(4), GRU(4)], ids=lambda layer: type(layer).__name__)
def test_layers_keep_the_laws(layer):
    check(linen(layer), batch(x=wave(4, 3, 5), y=np.zeros(4, np.float32)))
