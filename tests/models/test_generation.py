"""Tokens are picked as `transformers` picks them; tests/kept/sampling.npz holds what its processors leave of logits."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal.huggingface import read_folder
from arsenal.models import Sampling, beam_search, generate, transformer
from arsenal.models.generation import adjust_logits, go_on, read_prompts
from arsenal.records import row_keys

KEPT = Path(__file__).resolve().parents[1] / "kept"
TOLD = {"repetition": 1.7, "temperature": 0.6, "top_k": 4, "top_p": 0.8, "min_p": 0.1}


@pytest.fixture(scope="module")
def small():
    """A model of few tokens with parameters that are not near zero."""
    model = transformer(11, layers=1, heads=2, width=8, context=16)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
    return model, jax.tree.map(lambda leaf: leaf * 5, variables)


@pytest.mark.parametrize("name", [*TOLD, "all"])
def test_logits_are_those_of_transformers(name):
    kept = np.load(KEPT / "sampling.npz")
    counts = np.stack([np.bincount(row, minlength=kept["logits"].shape[1]) for row in kept["before"]])
    told = TOLD if name == "all" else {name: TOLD[name]}
    found = adjust_logits(jnp.asarray(kept["logits"]), Sampling(**told), jnp.asarray(counts), jnp.zeros_like(counts))
    assert (np.isinf(found) == np.isinf(kept[name])).all()
    np.testing.assert_allclose(found, kept[name], rtol=1e-5)


def test_what_was_generated_is_held_against_it():
    logits, counts = jnp.zeros((1, 3)), jnp.array([[2, 1, 0]])
    found = adjust_logits(logits, Sampling(presence=0.5, frequency=0.25), jnp.zeros_like(counts), counts)
    np.testing.assert_allclose(found, [[-1.0, -0.75, 0.0]])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "qwen3"])
def test_beams_are_those_of_transformers(name):
    checkpoint = read_folder(f"hf:{KEPT / 'checkpoints' / name}")
    model, kept = transformer(**checkpoint.arguments), np.load(KEPT / "checkpoints" / name / "answers.npz")
    tokens, score = beam_search(model, checkpoint.variables(), kept["tokens"][:, :7], 8)
    assert (tokens == kept["beams"]).all()
    greedy, text = checkpoint.variables(), np.concatenate([kept["tokens"][:, :7], kept["greedy"]], 1)
    log_p = jax.nn.log_softmax(model.apply(greedy, text)[0][:, 6:-1])
    assert (score >= np.take_along_axis(log_p, text[:, 7:, None], 2)[..., 0].sum(1) - 1e-4).all()


@pytest.mark.slow
def test_pieces_give_the_same_text(small):
    model, variables = small
    prompt, keys = jnp.array([[1, 2, 3], [4, 5, 6]]), row_keys(jax.random.key(3), jnp.arange(2))
    sampling = Sampling(jnp.full(2, 1.0), repetition=1.2, top_p=0.9)
    whole = {"tokens": prompt, "length": jnp.full(2, 3, jnp.int32)}
    text, found = read_prompts(model, variables, whole, sampling), []
    for size in (1, 4, 3):
        text, tokens, log_p = go_on(model, variables, keys, text, size, sampling)
        found.append(tokens)
        assert (log_p <= 0).all()
    wanted = generate(model, variables, jax.random.key(3), prompt, 8, 1.0, repetition=1.2, top_p=0.9)
    assert (jnp.concatenate(found, 1) == wanted).all()


@pytest.mark.slow
def test_draws_follow_the_probabilities_that_are_left(small):
    model, variables = small
    n = 4000
    prompt = jnp.broadcast_to(jnp.array([[1, 2, 3]]), (n, 3))
    found = generate(model, variables, jax.random.key(0), prompt, 1, 0.7, top_k=3)[:, 0]
    logits = model.apply(variables, prompt[:1])[0][0, -1]
    wanted = jax.nn.softmax(adjust_logits(logits[None], Sampling(0.7, top_k=3)))[0]
    share = np.bincount(found, minlength=11) / n
    assert (share > 0).sum() == 3
    np.testing.assert_allclose(share, wanted, atol=4 * 0.5 / np.sqrt(n))


@pytest.mark.parametrize("beams", [0, 12])
def test_beams_that_cannot_be_are_refused(small, beams):
    with pytest.raises(ValueError, match=f"`beams` of `beam_search` must be 1 to 11, the vocabulary; got {beams}"):
        beam_search(*small, jnp.zeros((1, 3), jnp.int32), 2, beams)
