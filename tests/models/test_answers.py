"""Likelihoods and losses of answers are trl's; the reference is what learned at first, and stays."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import losses, models, optim, training
from arsenal.data import preferences
from arsenal.huggingface import read_folder
from arsenal.models.adapted import FROZEN
from arsenal.models.aside import ASIDE, without_aside
from arsenal.records import Model, batch, hyperparameters
from arsenal.training.precision import cast_model, policy

pytest.importorskip("tokenizers")
KEPT = Path(__file__).parents[1] / "kept"
FOUND = json.loads((KEPT / "preferences" / "trl.json").read_text())


@pytest.fixture
def rows(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in FOUND["pairs"]))
    return batch(x=preferences(str(tmp_path / "a.jsonl"), str(KEPT / "preferences" / "tokenizer.json"), 32).rows.x)


def read(name):
    found = read_folder(f"hf:{KEPT / 'checkpoints' / name}")
    return models.transformer(**found.arguments), found.variables()


@pytest.mark.parametrize("variant", FOUND["losses"])
def test_the_losses_are_trls(rows, variant):
    """`scripts/kept_preferences.py` asked it: the policy is the reference with every parameter times 1.05."""
    model, plain = read("gpt2")
    pair = models.answer_likelihoods(model)
    variables = jax.tree.map(lambda leaf: 1.05 * leaf, plain) | {ASIDE: {"reference": plain["params"]}}
    loss = losses.dpo(0.3, variant, 0.2 if variant == "robust" else 0.0)
    outputs = jax.jit(lambda v, x: pair.apply(v, x)[0])(variables, rows.x)
    np.testing.assert_allclose(loss.value(outputs, rows, hyperparameters(loss.hp)), FOUND["losses"][variant], rtol=2e-4)


def test_the_reward_models_loss_is_trls(rows):
    model, variables = read("llama_sequence")
    pair, loss = models.answer_scores(model), losses.bradley_terry(0.1)
    outputs = jax.jit(lambda v, x: pair.apply(v, x)[0])(variables, rows.x)
    np.testing.assert_allclose(loss.value(outputs, rows, hyperparameters(loss.hp)), FOUND["reward"], rtol=1e-4)
    texts = {"tokens": rows.x["rejected"], "length": rows.x["end"][:, 1]}
    np.testing.assert_allclose(pair.methods["score"](variables, texts), outputs["rejected"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("around", [lambda m: m, lambda m: models.lora(m, ".*/qkv", 2)], ids=["whole", "lora"])
def test_the_reference_is_what_learned_at_first(rows, around):
    model = models.answer_likelihoods(around(read("gpt2")[0]))
    learner = training.supervised(model, losses.dpo(), optim.adamw(0.01))
    hp = hyperparameters(learner.hp)
    first = state = jax.jit(learner.init)(jax.random.key(0), rows, hp)
    outputs = model.apply(state.variables, rows.x)[0]
    np.testing.assert_array_equal(outputs["chosen"], outputs["reference_chosen"])
    run = jax.jit(learner.step)
    for number in range(5):
        state, _ = run(jax.random.key(number), state, rows, hp)
    reference = state.variables[ASIDE]["reference"]
    assert jax.tree.all(jax.tree.map(jnp.array_equal, reference, first.variables["params"]))
    kept = sum(leaf.size for leaf in jax.tree.leaves(reference))
    assert kept == sum(leaf.size for leaf in jax.tree.leaves(first.variables["params"]))
    if FROZEN in state.variables:  # of adapters they alone are kept twice
        assert 20 * kept < sum(leaf.size for leaf in jax.tree.leaves(state.variables[FROZEN])) * 3
    outputs = model.apply(state.variables, rows.x)[0]
    assert (outputs["chosen"] - outputs["reference_chosen"] > outputs["rejected"] - outputs["reference_rejected"]).all()
    asked = model.inputs["generate"](rows)
    made = model.methods["generate"](without_aside(state.variables), asked)
    assert made.shape == (3, 32 - asked["tokens"].shape[1])


def test_half_precision_casts_what_is_frozen_and_what_lies_aside():
    seen = {}

    def apply(variables, inputs, training=None):
        seen.update({name: leaf.dtype for name, leaf in variables.items()})
        return inputs, {}

    one = jnp.ones(())
    cast_model(Model(None, apply), policy("bfloat16")).apply({"params": one, FROZEN: one, ASIDE: one, "batch_stats": one}, one)
    assert seen == {"params": jnp.bfloat16, FROZEN: jnp.bfloat16, ASIDE: jnp.bfloat16, "batch_stats": jnp.float32}
