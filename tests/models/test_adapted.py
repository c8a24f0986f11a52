"""Adapters are LoRA's formula, and what is frozen has no gradient, no optimizer's state, and stays as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from arsenal import losses, optim, training
from arsenal.models import bert, frozen, lora, merge_adapters, transformer
from arsenal.models.adapted import FROZEN, join_frozen
from arsenal.records import batch, hyperparameters

SMALL = {"vocabulary": 11, "layers": 2, "heads": 2, "width": 8, "context": 10}
TOKENS = jax.random.randint(jax.random.key(1), (4, 7), 0, 11)
ROWS = batch(x=TOKENS, y=TOKENS[:, ::-1])


def answer(model, variables):
    return jax.jit(lambda v: model.apply(v, TOKENS)[0])(variables)


def step(model, rounds=3):
    """A learner's variables before and after some steps, and its state."""
    learner = training.supervised(model, losses.cross_entropy(), optim.adamw(0.1))
    hp = hyperparameters(learner.hp)
    state = first = jax.jit(learner.init)(jax.random.key(0), ROWS, hp)
    run = jax.jit(learner.step)
    for number in range(rounds):
        state, _ = run(jax.random.key(number), state, ROWS, hp)
    return first, state


def test_at_first_nothing_is_added_and_later_loras_product():
    model, adapted = transformer(**SMALL), lora(transformer(**SMALL), ".*/(qkv|down)", rank=3, alpha=6.0)
    variables = jax.jit(adapted.init)(jax.random.key(0), TOKENS)
    plain = join_frozen(variables)
    np.testing.assert_allclose(answer(adapted, variables), answer(model, plain), atol=1e-6)
    assert set(flatten_dict(variables["params"], sep="/")) == {
        f"stack/blocks/{layer}/lora_{part}" for layer in ("attention/qkv", "mlp/down") for part in "ab"
    }
    _, state = step(adapted)
    learned = jax.tree.map(np.asarray, state.variables)
    merged = merge_adapters(learned, 6.0, 3)
    assert jax.tree.structure(merged) == jax.tree.structure(jax.eval_shape(model.init, jax.random.key(0), TOKENS))
    np.testing.assert_allclose(answer(adapted, learned), answer(model, merged), atol=1e-5)
    # Hu et al., equation 3, with alpha / rank = 2, of the second layer.
    layer = jax.tree.map(lambda leaf: leaf[1], {"old": learned[FROZEN]["stack"]["blocks"]["mlp"]["down"], **learned["params"]["stack"]["blocks"]["mlp"]["down"]})
    wanted = layer["old"]["kernel"] + 2 * np.einsum("ir,ro->io", layer["lora_a"].astype(np.float64), layer["lora_b"])
    np.testing.assert_allclose(merged["params"]["stack"]["blocks"]["mlp"]["down"]["kernel"][1], wanted, rtol=1e-5)


AROUND = {
    "lora": lambda model: lora(model),
    "frozen": lambda model: frozen(model, [".*token.*", "stack/.*"]),
    "both": lambda model: lora(frozen(model, ".*token.*")),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_the_rest_stays_and_has_no_optimizers_state(around):
    first, last = step(around(transformer(**SMALL)))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, first.variables[FROZEN], last.variables[FROZEN]))
    moved = jax.tree.map(jnp.array_equal, first.variables["params"], last.variables["params"])
    assert not any(jax.tree.leaves(moved))
    of_moments = sum(leaf.size for leaf in jax.tree.leaves(last.optimizer))
    assert of_moments <= 2 * sum(leaf.size for leaf in jax.tree.leaves(last.variables["params"])) + 5


def test_what_fits_nothing_is_told():
    with pytest.raises(ValueError, match=r"fit no dense layer of arsenal.nn; there are .*`stack/blocks/attention/qkv`"):
        jax.eval_shape(lora(transformer(**SMALL), "qvk").init, jax.random.key(0), TOKENS)
    with pytest.raises(ValueError, match=r"pattern stak/\.\* of `frozen` fits no parameter"):
        jax.eval_shape(frozen(bert(11), ["stak/.*"]).init, jax.random.key(0), TOKENS)
    with pytest.raises(ValueError, match="leave nothing to learn"):
        jax.eval_shape(frozen(bert(11), ".*").init, jax.random.key(0), TOKENS)


def test_of_gpt2_a_hundredth_moves():
    """Gradients and AdamW's state of adapters of rank 8 beside every matrix of its layers, against all of the model's 124 M."""
    gpt2 = transformer(vocabulary=50257, layers=12, heads=12, width=768, context=1024)

    def size(model):
        learned = jax.eval_shape(model.init, jax.random.key(0), TOKENS)["params"]
        hp = hyperparameters(optim.adamw().hp)
        state = jax.eval_shape(lambda p: optim.adamw().init(p, hp), learned)
        return [sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)) for tree in (learned, state)]

    whole, part = size(gpt2), size(lora(gpt2, ".*/(qkv|out|up|down)"))
    assert whole[0] == 4 * 124_439_808
    assert all(0.009 < few / all_of < 0.0096 for few, all_of in zip(part, whole, strict=True))
