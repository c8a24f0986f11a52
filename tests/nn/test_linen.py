"""A Flax linen module trains as Flax itself would train it, whatever fills up a batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arsenal import optim, training
from arsenal.data import arrays
from arsenal.nn import linen
from arsenal.numerics.weighted import ROWS
from arsenal.records import Training, batch

RNG = np.random.default_rng(0)
X = (5 + RNG.normal(size=(10, 3))).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5]) + 3).astype(np.float32)


class Normal(nn.Module):
    """Flax's own normalisation before a linear layer."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        return nn.Dense(1)(x)[:, 0]


def by_flax(steps: int, size: int):
    """Plain Flax and Optax, with a last batch of its own size."""
    model = Normal()
    variables = model.init(jax.random.fold_in(jax.random.key(0), 1), jnp.asarray(X[:1]))
    params, stats, optimizer = variables["params"], variables["batch_stats"], optax.sgd(0.05)
    state, per_epoch = optimizer.init(params), -(-len(X) // size)

    def loss(params, stats, x, y):
        outputs, changed = model.apply({"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"])
        return jnp.mean((outputs - y) ** 2), changed["batch_stats"]

    slope_of = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for step in range(steps):
        at = slice(step % per_epoch * size, (step % per_epoch + 1) * size)
        (_, stats), slope = slope_of(params, stats, jnp.asarray(X[at]), jnp.asarray(Y[at]))
        updates, state = optimizer.update(slope, state)
        params = optax.apply_updates(params, updates)
    return params, stats


@pytest.mark.parametrize("size", [4, 10])
def test_rows_that_fill_up_a_batch_do_not_enter_flaxs_batch_normalisation(size):
    learner = training.supervised(Normal(), lambda outputs, y: jnp.square(outputs - y), optim.sgd(0.05))
    source = arrays(batch(x=X, y=Y), size, shuffle=False)
    train = training.start(learner, source, 0)
    train = train._replace(state=train.state._replace(variables=jax.tree.map(
        jnp.asarray, dict(Normal().init(jax.random.fold_in(jax.random.key(0), 1), jnp.asarray(X[:1])))
    )))  # fmt: skip
    train, _, _ = training.advance(learner, source)(train, source.block(0, 1), jnp.int32(9))
    params, stats = by_flax(9, size)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5), train.state.variables["params"], params)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-4), train.state.variables["batch_stats"], stats)


def test_a_batch_of_dead_rows_leaves_numbers():
    model = linen(Normal())
    variables = model.init(jax.random.key(0), jnp.asarray(X))
    outputs, changed = model.apply(variables, jnp.zeros((4, 3)), Training(jax.random.key(0), jnp.zeros(4), jnp.arange(4)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((outputs, changed)))


class Merged(nn.Module):
    """Normalisation of two rows in one."""

    @nn.compact
    def __call__(self, x, train=False):
        return nn.BatchNorm(use_running_average=not train)(x.reshape(len(x) // 2, -1)).reshape(len(x), -1)


def test_what_cannot_be_told_apart_is_refused():
    model, told = linen(Merged()), Training(jax.random.key(0), jnp.ones(10), jnp.arange(10))
    with pytest.raises(ValueError, match=r"rows along the first axis, here 10.*; got x of shape \(5, 6\)"):
        model.apply(model.init(jax.random.key(0), jnp.asarray(X)), jnp.asarray(X), told)
    model = linen(Normal())
    variables = model.init(jax.random.key(0), jnp.asarray(X))
    with pytest.raises(ValueError, match="sees the rows of one device only"):
        jax.vmap(lambda x, t: model.apply(variables, x, t)[0], axis_name=ROWS)(
            jnp.asarray(X)[None], jax.tree.map(lambda v: v[None], told)
        )


def test_the_place_of_a_nan_is_the_modules_line_also_where_rows_are_masked():
    from arsenal.training.replay import replay

    learner = training.supervised(Normal(), lambda outputs, y: jnp.square(outputs - y), optim.sgd(0.05))
    source = arrays(batch(x=X, y=Y), 4, shuffle=False)
    train = training.start(learner, source, 0)
    broken = jax.tree.map(lambda v: v * jnp.inf, train.state.variables["params"])
    train = train._replace(state=train.state._replace(variables=train.state.variables | {"params": broken}))
    assert "test_linen.py:" in replay(learner, source, train, source.block(0, 1))
