"""The transformer is GPT-2's, looks back only, and answers token by token what it answers for the whole."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal.models import generate, transformer
from arsenal.records import Training, batch, hyperparameters

SMALL = {"vocabulary": 11, "layers": 2, "heads": 2, "width": 8, "context": 10}
TOKENS = jax.random.randint(jax.random.key(1), (4, 7), 0, 11)


@pytest.fixture(scope="module")
def made():
    """A model, and variables far from their first values, where every part shows."""
    model = transformer(**SMALL)
    variables = jax.jit(model.init)(jax.random.key(0), TOKENS)
    rng = np.random.default_rng(2)
    return model, jax.tree.map(lambda v: jnp.asarray(v + rng.normal(0, 0.3, v.shape).astype(np.float32)), variables)


def answer(model, variables, tokens):
    """The model's logits, compiled."""
    return jax.jit(lambda v, x: model.apply(v, x)[0])(variables, tokens)


def test_gpt2_has_as_many_parameters():
    # Radford et al. 2019 and the published checkpoint: 124,439,808 with the smallest of their four sizes.
    model = transformer(vocabulary=50257, layers=12, heads=12, width=768, context=1024)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8), jnp.int32))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables)) == 124_439_808


def by_hand(p, tokens):
    """The paper's forward pass for one row, in numpy and float64."""
    p = jax.tree.map(lambda v: np.asarray(v, np.float64), p)

    def norm(x, q):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * q["scale"] + q["bias"]

    def dense(x, q):
        return x @ q["kernel"] + q["bias"]

    x = p["token"]["embedding"][tokens] + p["position"][: len(tokens)]
    for i in range(SMALL["layers"]):
        b = jax.tree.map(lambda v, i=i: v[i], p["stack"]["blocks"])
        q, k, v = np.split(dense(norm(x, b["attention_norm"]), b["attention"]["qkv"]), 3, -1)
        mixed = []
        for head in np.split(np.arange(SMALL["width"]), SMALL["heads"]):
            scores = q[:, head] @ k[:, head].T / math.sqrt(len(head))
            scores = np.where(np.tril(np.ones_like(scores)) > 0, scores, -np.inf)
            weight = np.exp(scores - scores.max(-1, keepdims=True))
            mixed.append(weight / weight.sum(-1, keepdims=True) @ v[:, head])
        x = x + dense(np.concatenate(mixed, -1), b["attention"]["out"])
        y = dense(norm(x, b["mlp_norm"]), b["mlp"]["up"])
        y = 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
        x = x + dense(y, b["mlp"]["down"])
    return norm(x, p["norm"]) @ p["token"]["embedding"].T


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8])
def test_it_is_the_papers_forward_pass(made, dtype):
    model, variables = made
    logits = answer(model, variables, TOKENS.astype(dtype))
    for row, tokens in zip(logits, np.asarray(TOKENS), strict=True):
        np.testing.assert_allclose(row, by_hand(variables["params"], tokens), atol=2e-4)


def test_first_values_are_gpt2s():
    p = jax.jit(transformer(vocabulary=97, layers=8, width=64, context=80).init)(jax.random.key(0), TOKENS)["params"]
    for part, wanted in [
        (p["token"]["embedding"], 0.02), (p["position"], 0.02), (p["stack"]["blocks"]["attention"]["qkv"]["kernel"], 0.02),
        (p["stack"]["blocks"]["mlp"]["up"]["kernel"], 0.02), (p["stack"]["blocks"]["attention"]["out"]["kernel"], 0.005), (p["stack"]["blocks"]["mlp"]["down"]["kernel"], 0.005),
    ]:  # fmt: skip
        assert float(part.std()) == pytest.approx(wanted, rel=0.1)
    up = p["stack"]["blocks"]["mlp"]["up"]["kernel"]
    assert not np.allclose(up[0], up[1]), "Every layer draws its own."


def test_a_token_changes_nothing_before_it(made):
    model, variables = made
    both = answer(model, variables, jnp.concatenate([TOKENS, TOKENS.at[:, 4].set((TOKENS[:, 4] + 1) % 11)]))
    before, after = np.split(np.asarray(both), 2)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (np.abs(before[:, 4:] - after[:, 4:]).max(-1) > 1e-3).all()


def test_decoding_from_a_cache_is_the_whole_sequence(made):
    model, variables = made
    wanted = answer(model, variables, TOKENS)
    length = jnp.array([1, 3, 4, 2])
    # What stands behind a prompt's length is not read.
    prompt = jnp.where(jnp.arange(4) < length[:, None], TOKENS[:, :4], 9)
    made = jax.jit(model.methods["prefill"])(variables, {"tokens": prompt, "length": length})
    decode = jax.jit(model.methods["decode"])
    rows = jnp.arange(4)
    for ahead in range(3):
        np.testing.assert_allclose(made["logits"], wanted[rows, length - 1 + ahead], atol=1e-5)
        position = length + ahead
        made = decode(variables, {"token": TOKENS[rows, position], "position": position, "cache": made["cache"]})
    np.testing.assert_allclose(made["logits"], wanted[rows, length + 2], atol=1e-5)
    assert len(made["cache"]) == 2 and made["cache"][0]["k"].shape == (4, 2, 10, 4)


def test_generating_takes_the_likeliest_at_temperature_zero(made):
    model, variables = made
    got = jax.jit(lambda t: generate(model, variables, jax.random.key(0), TOKENS[:, :3], 7, t))(0.0)
    whole = np.concatenate([TOKENS[:, :3], got], 1)
    np.testing.assert_array_equal(got, answer(model, variables, whole)[:, 2:-1].argmax(-1))


@pytest.mark.slow
def test_generating_draws_from_the_answers_distribution(made):
    model, variables = made
    n = 4000
    prompt = jnp.tile(TOKENS[:1, :3], (n, 1))
    draw = jax.jit(lambda key, t: generate(model, variables, key, prompt, 1, t)[:, 0])
    logits = answer(model, variables, TOKENS[:1, :3])[0, -1]
    for temperature in (1.0, 0.5):
        share = np.bincount(draw(jax.random.key(3), temperature), minlength=11) / n
        wanted = jax.nn.softmax(logits / temperature)
        np.testing.assert_allclose(share, wanted, atol=4 * 0.5 / math.sqrt(n))


def test_a_prompts_answer_does_not_depend_on_its_neighbours(made):
    model, variables = made
    drawn = jax.jit(lambda prompt: generate(model, variables, jax.random.key(4), prompt, 6))
    together = drawn(TOKENS[:, :3])
    np.testing.assert_array_equal(drawn(TOKENS[:, :3].at[2:].set(5))[:2], together[:2])
    assert len({tuple(row) for row in np.asarray(drawn(jnp.tile(TOKENS[:1, :3], (4, 1))))}) > 1


@pytest.mark.slow
def test_the_method_generates_by_each_rows_seed_and_temperature(made):
    model, variables = made
    rows = batch(x=TOKENS, row=[5, 6, 5, 8])
    inputs = model.inputs["generate"](rows)
    assert inputs["tokens"].shape == (4, 3) and inputs["seed"].tolist() == [5, 6, 5, 8]
    inputs |= {"temperature": jnp.array([0.0, 0.0, 1.0, 1.0])}
    got = jax.jit(model.methods["generate"])(variables, inputs)
    greedy = generate(model, variables, jax.random.key(0), TOKENS[:, :3], 7, 0.0)
    assert got.dtype == jnp.int32 and np.array_equal(got[:2], greedy[:2])
    alone = jax.tree.map(lambda v: jnp.stack([v[2]] * 4), inputs)
    again = jax.jit(model.methods["generate"])(variables, alone)
    assert (again == got[2]).all(), "The same seed and prompt draw the same, wherever they stand."
    shorter = inputs | {"tokens": inputs["tokens"].at[:, 2].set(0), "length": jnp.full(4, 2)}
    two = inputs | {"tokens": inputs["tokens"][:, :2], "length": jnp.full(4, 2)}
    same = [jax.jit(model.methods["generate"])(variables, given) for given in (shorter, two)]
    assert np.array_equal(same[0], same[1][:, :7]), "What stands behind a prompt's length is not read."
    short = transformer(**SMALL, generated=2)
    assert np.array_equal(short.methods["generate"](variables, inputs), got[:, :2])


def test_operations_are_nanogpts():
    """nanoGPT's estimate_mfu for GPT-2: N = 123,653,376 without positions, T = 1024."""
    model = transformer(vocabulary=50257, layers=12, heads=12, width=768, context=1024)
    tokens = jax.ShapeDtypeStruct((2, 1024), jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), tokens)
    assert model.flops(variables, tokens) == 2 * 1024 * (6 * 123_653_376 + 12 * 12 * 12 * 64 * 1024)


def test_dropout_is_for_training_only():
    model = transformer(**SMALL, dropout=0.4)
    variables = jax.jit(model.init)(jax.random.key(0), TOKENS)
    plain = answer(transformer(**SMALL), variables, TOKENS)
    np.testing.assert_array_equal(answer(model, variables, TOKENS), plain)
    apply = jax.jit(lambda training: model.apply(variables, TOKENS, training)[0])

    def trained(rate, key=0):
        return apply(Training(jax.random.key(key), jnp.ones(4), jnp.arange(4), hyperparameters({"dropout": rate})))

    np.testing.assert_allclose(trained(0.0), plain, atol=1e-6)
    assert np.abs(trained(0.4) - plain).max() > 1e-2 and np.abs(trained(0.4) - trained(0.4, 1)).max() > 1e-2


def test_what_does_not_fit_is_told(made):
    model, variables = made
    with pytest.raises(ValueError, match="`heads` of `transformer` must divide `width`, 10; got 4"):
        transformer(5, heads=4, width=10)
    with pytest.raises(ValueError, match="reads at most 10 tokens, its `context`; got 11"):
        answer(model, variables, jnp.zeros((1, 11), jnp.int32))
    with pytest.raises(ValueError, match=r"takes whole numbers \[n, t\]; got float32 of shape \(2, 3\)"):
        answer(model, variables, jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="reads at most 10 tokens, its `context`; got a text of 11"):
        jax.eval_shape(lambda key: generate(model, variables, key, TOKENS, 4), jax.random.key(0))
