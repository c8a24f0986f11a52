"""States that add small increments are kept in 32 bits, whatever the parameters are kept in."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arsenal import optim, training
from arsenal.combine import ema
from arsenal.data import arrays
from arsenal.numerics.wide import HALF
from arsenal.records import Learner, Mean, Model, batch, hyperparameters

OPTIMIZERS = {
    "adam": optim.adam(), "adamw": optim.adamw(), "sgd": optim.sgd(momentum=0.9), "rmsprop": optim.rmsprop(momentum=0.5),
    "lion": optim.lion(), "lamb": optim.lamb(), "clipped": optim.clipped(optim.adam(), 1.0), "plateau": optim.plateau(optim.adam()),
    "scheduled": optim.scheduled(optim.adam(), optim.cosine(10)), "grouped": optim.grouped([{"pattern": ".*"}], optim.adam()),
}  # fmt: skip


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizers_state_is_wide(name, dtype):
    optimizer, params = OPTIMIZERS[name], {"w": jnp.ones(3, dtype)}
    hp = hyperparameters(optimizer.hp)
    state, after = jax.eval_shape(lambda: optimizer.update(optimizer.init(params, hp), params, params, hp, jnp.ones(())))
    assert not [leaf for leaf in jax.tree.leaves(state) if leaf.dtype in HALF]
    assert after["w"].dtype == dtype
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, jax.eval_shape(optimizer.init, params, hp))


def test_adams_moments_of_half_precision_parameters_are_optaxs_of_single_precision():
    optimizer, params = optim.adam(1e-3), jnp.ones(4, jnp.bfloat16)
    hp, peer, gradient = hyperparameters(optimizer.hp), optax.adam(1e-3), np.array([1.0, -0.5, 0.25, 3.0], np.float32)
    state, theirs = optimizer.init(params, hp), peer.init(jnp.ones(4))
    update = jax.jit(optimizer.update)
    for _ in range(50):
        state, params = update(state, params, jnp.asarray(gradient, jnp.bfloat16), hp, None)
        with jax.numpy_dtype_promotion("standard"):
            _, theirs = peer.update(jnp.asarray(gradient), theirs)
    for ours, wanted in ((state[0].mu, theirs[0].mu), (state[0].nu, theirs[0].nu)):
        np.testing.assert_allclose(ours, wanted, rtol=1e-4)  # 1 - 0.999 in float32


def walking(dtype) -> Learner:
    """Its parameter grows by 1/64 in each step."""

    def step(key, state, rows, hp):
        return {"w": state["w"] + jnp.asarray(1 / 64, dtype)}, {"seen": Mean(state["w"].sum(), jnp.ones((), dtype))}

    return Learner(lambda key, rows, hp: {"w": jnp.ones(2, dtype)}, step, lambda state: state, {})


@pytest.mark.parametrize("dtype", [*HALF, jnp.float32])
def test_an_average_moves_whatever_it_is_an_average_of(dtype):
    learner, rows = ema(walking(dtype), 0.999), batch(x=[[0.0]])
    source = arrays(rows, 1)
    train, means, _ = training.advance(learner, source)(training.start(learner, source, 0), source.block(0, 1), jnp.int32(60))
    wanted = 1.0
    for i in range(1, 61):
        wanted = 0.999 * wanted + 0.001 * (1 + i / 64)
    np.testing.assert_allclose(train.state.average["w"], wanted, rtol=1e-6)
    assert learner.params(train.state)["w"].dtype == dtype, "What answers is of the parameters' type."
    assert learner.views["raw"](train.state)["w"].dtype == dtype
    assert means["seen"].total.dtype == jnp.float32
    np.testing.assert_allclose(means["seen"].weight, 60)


def test_sums_of_pieces_and_running_statistics_are_wide():
    def apply(variables, x, training=None):
        return x.astype(jnp.bfloat16) @ variables["params"], {"seen": {"rows": variables["seen"]["rows"] + jnp.bfloat16(1 / 8)}}

    model = Model(lambda key, x: {"params": jnp.ones((3, 1), jnp.bfloat16), "seen": {"rows": jnp.ones((), jnp.bfloat16)}}, apply)
    made = training.supervised(model, lambda outputs, y: outputs[:, 0], optim.sgd(0.0), parts=2)
    rows = batch(x=np.ones((300, 3), np.float32), y=np.zeros(300))
    hp = hyperparameters(made.hp)
    state = made.init(jax.random.key(0), rows, hp)
    after, means = jax.jit(made.step)(jax.random.key(0), state, rows, hp)
    assert means["loss"].total.dtype == jnp.float32
    assert after.variables["seen"]["rows"] == jnp.bfloat16(1.125), "300 rows are no bfloat16: their mean is exact all the same."
    assert after.variables["seen"]["rows"].dtype == jnp.bfloat16
