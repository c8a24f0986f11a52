"""Optimizers take Optax's own steps, and clipping cuts as Optax does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arsenal.optim import adam, adamw, clipped, lamb, lion, rmsprop, sgd
from arsenal.records import hyperparameters

PARAMS = {"w": np.array([[1.0, -2.0], [0.5, 3.0]], np.float32), "b": np.array([0.1, -0.2], np.float32)}


def begin():
    """The parameters in the precision that now holds."""
    return jax.tree.map(lambda p: jnp.asarray(p, dtype=float), PARAMS)


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def gradient_at(params, step):
    """A gradient that turns: its sign and size change from step to step."""
    return jax.tree.map(lambda p: p**3 - 0.7 * step * p, params)


def ours(optimizer, hp=None, steps=12):
    hp = hyperparameters(optimizer.hp if hp is None else hp)
    state, params = optimizer.init(begin(), hp), begin()
    update = jax.jit(optimizer.update)
    for step in range(steps):
        state, params = update(state, params, gradient_at(params, step), hp, None)
    return params


def theirs(transformation, steps=12):
    state, params = transformation.init(begin()), begin()
    with jax.numpy_dtype_promotion("standard"):
        update = jax.jit(transformation.update)
        for step in range(steps):
            updates, state = update(gradient_at(params, step), state, params)
            params = optax.apply_updates(params, updates)
    return params


def equal(a, b, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), a, b)


PEERS = {
    "sgd": (sgd(0.03, 0.9), optax.sgd(0.03, 0.9)),
    "adamw": (adamw(0.03, weight_decay=0.2), optax.adamw(0.03, weight_decay=0.2)),
    "rmsprop": (rmsprop(0.03, 0.8, 1e-6, 0.5), optax.rmsprop(0.03, 0.8, 1e-6, momentum=0.5)),
    "rmsprop, no momentum": (rmsprop(0.03), optax.rmsprop(0.03)),
    "lion": (lion(0.03, 0.8, 0.95, 0.2), optax.lion(0.03, 0.8, 0.95, weight_decay=0.2)),
    "lamb": (lamb(0.03, weight_decay=0.2), optax.lamb(0.03, weight_decay=0.2)),
    "clipped": (clipped(sgd(0.03), 0.5), optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.03))),
    "clipped, seldom": (clipped(adam(0.03), 20.0), optax.chain(optax.clip_by_global_norm(20.0), optax.adam(0.03))),
}


@pytest.mark.parametrize("name", PEERS)
def test_steps_are_optaxs(name):
    with jax.enable_x64(True):  # in float32, 1 - b2 of a traced b2 is off by 1e-4 of itself
        equal(ours(PEERS[name][0]), theirs(PEERS[name][1]), atol=1e-12)


@pytest.mark.parametrize("norm", [1e-3, 1.0, 5.0, 100.0])
def test_clipping_is_optaxs(norm):
    gradient = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[-4.0]])}
    zero = jax.tree.map(jnp.zeros_like, gradient)
    optimizer = clipped(sgd(1.0), norm)
    hp = hyperparameters(optimizer.hp)
    _, moved = jax.jit(optimizer.update)(optimizer.init(zero, hp), zero, gradient, hp, None)
    wanted, _ = jax.jit(optax.clip_by_global_norm(norm).update)(gradient, optax.EmptyState())
    equal(jax.tree.map(jnp.negative, moved), wanted)
    assert np.hypot(*(np.linalg.norm(leaf) for leaf in moved.values())) == pytest.approx(min(norm, 5.0))


def test_an_infinite_norm_and_a_gradient_of_zero_are_left_alone():
    optimizer = clipped(sgd(0.1), float("inf"))
    equal(ours(optimizer), ours(sgd(0.1)), atol=0)
    optimizer, hp = clipped(sgd(0.1), 1.0), hyperparameters(clipped(sgd(0.1), 1.0).hp)
    _, moved = optimizer.update(optimizer.init(begin(), hp), begin(), jax.tree.map(jnp.zeros_like, begin()), hp, None)
    equal(moved, begin(), atol=0)


def test_norms_are_lanes_of_one_program():
    optimizer, norms = clipped(sgd(0.1), 1.0), jnp.array([0.1, 1.0, 10.0])

    def one(norm):
        hp = hyperparameters(optimizer.hp) | {"norm": norm}
        return optimizer.update(optimizer.init(begin(), hp), begin(), begin(), hp, None)[1]

    lanes, alone = jax.jit(jax.vmap(one))(norms), jax.jit(one)
    for number, norm in enumerate(norms):
        equal(jax.tree.map(lambda v, i=number: np.asarray(v)[i], lanes), alone(norm))
    assert alone._cache_size() == 1


def test_short_floats_are_measured_in_long_ones():
    """In bfloat16, 65536 + 240 is 65536, however often it is added."""
    gradient = [jnp.ones(65536, jnp.bfloat16)] + [jnp.ones(240, jnp.bfloat16)] * 32
    zero = jax.tree.map(jnp.zeros_like, gradient)
    optimizer = clipped(sgd(1.0), 27.0)
    hp = hyperparameters(optimizer.hp)
    with jax.numpy_dtype_promotion("standard"):
        _, moved = jax.jit(optimizer.update)(optimizer.init(zero, hp), zero, gradient, hp, None)
    assert {leaf.dtype for leaf in moved} == {jnp.dtype(jnp.bfloat16)}
    assert np.linalg.norm(np.concatenate(moved).astype(np.float32)) == pytest.approx(27.0, rel=1e-2)
