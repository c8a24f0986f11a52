"""Optimizers of Optax's, taken as they are: the steps are Optax's own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arsenal.config import compose
from arsenal.experiment import build
from arsenal.losses import squared_error
from arsenal.models import perceptron
from arsenal.optim import as_optimizer, clipped
from arsenal.records import batch
from arsenal.training import supervised

CHAIN = optax.chain(optax.clip_by_global_norm(0.5), optax.nadam(1e-2))
PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(3)}


def test_a_chain_takes_optaxs_steps():
    # Optax raises decays to whole powers, which strict promotion would refuse.
    made, params, theirs = as_optimizer(CHAIN), PARAMS, PARAMS
    state, their_state = made.init(params, made.hp), CHAIN.init(theirs)
    for _ in range(4):
        gradient = jax.tree.map(jnp.sin, params)
        state, params = made.update(state, params, gradient, made.hp, jnp.zeros(()))
        with jax.numpy_dtype_promotion("standard"):
            updates, their_state = CHAIN.update(jax.tree.map(jnp.sin, theirs), their_state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, theirs)


def test_one_that_searches_along_a_line_is_refused():
    rows = batch(x=jnp.ones((4, 2)), y=jnp.ones(4))
    learner = supervised(perceptron(1, (2,)), squared_error(), optax.lbfgs())
    with pytest.raises(ValueError, match="gets the gradient, the parameters and the loss; Optax's wants more: .*value_fn"):
        learner.init(jax.random.key(0), rows, learner.hp)


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(TypeError, match="must be an Optimizer or an Optax GradientTransformation; got adamw"):
        clipped(optax.adamw, 1.0)


@pytest.mark.parametrize("node", [
    "{_target_: optax.nadam, learning_rate: 0.01}",
    "{_target_: optax.chain, _args_: [{_target_: optax.clip_by_global_norm, max_norm: 1.0}, {_target_: optax.adamw, learning_rate: 0.01}]}",
])  # fmt: skip
def test_a_config_names_them(node, tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    parts = "/data: digits, /learner: supervised, /metrics: classification, /model: perceptron, /loss: cross_entropy, _self_"
    text = f"# @package _global_\ndefaults: [{parts}]\nname: own\nlength: 1\nmodel: {{output: 10}}\noptimizer: {node}\n"
    (folder / "own.yaml").write_text(text)
    assert build(compose("own", config_dir=tmp_path)).parts.learner.hp["optimizer"] == {}
