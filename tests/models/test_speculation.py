"""Guessed tokens are the large model's text: the same at temperature 0, exactly its probabilities elsewhere."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal.models import Sampling, generate, transformer
from arsenal.models.generation import adjust_logits
from arsenal.models.speculation import begin_speculation, speculate
from arsenal.records import row_keys

V = 5


def pair(vocabulary=V, context=24):
    """A model and one that guesses: neither says what the other does, and both are far from even."""
    models = transformer(vocabulary, 2, 2, 16, context), transformer(vocabulary, 1, 2, 8, context, position="rotary")
    made = [jax.jit(model.init)(jax.random.key(at), jnp.zeros((1, 4), jnp.int32)) for at, model in enumerate(models)]
    return models, tuple(jax.tree.map(lambda leaf: leaf * 4, one) for one in made)


def go(models, variables, keys, prompt, length, ahead, sampling, room):
    """Tokens [n, length], and how many of the guesses were accepted."""
    n, t = prompt.shape
    told = {"tokens": prompt, "length": jnp.full(n, t, jnp.int32)}
    state = jax.jit(lambda variables, told: begin_speculation(models, variables, keys, told, sampling, room))(variables, told)
    step = jax.jit(lambda variables, state: speculate(models, variables, keys, state, ahead, sampling))
    rows, right, asked = [[int(token)] for token in state.token], 0, 0
    while min(map(len, rows)) < length:
        state, tokens, made = step(variables, state)
        for row, new, count in zip(rows, tokens.tolist(), made.tolist(), strict=True):
            row += new[:count]
        right, asked = right + int((made - 1).sum()), asked + ahead * n
    return np.array([row[:length] for row in rows]), right / asked


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("more", [{}, {"repetition": 1.3, "frequency": 0.2}])
def test_greedy_text_is_the_same(ahead, more):
    models, variables = pair(23, 40)
    prompt = jnp.array([[1, 2, 3], [4, 5, 6]])
    found, share = go(models, variables, row_keys(jax.random.key(0), jnp.arange(2)), prompt, 12, ahead, Sampling(0.0, **more), 40)
    wanted = generate(models[0], variables[0], jax.random.key(0), prompt, 12, 0.0, **more)
    assert (found == wanted).all()
    assert 0 <= share < 1


def test_a_model_that_guesses_as_itself_is_always_right():
    (model, _), (variables, _) = pair(23, 40)
    prompt = jnp.array([[1, 2, 3]])
    _, share = go((model, model), (variables, variables), jax.random.key(1)[None], prompt, 20, 4, Sampling(0.9, top_k=9), 40)
    assert share == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("asked", [{}, {"temperature": 0.7, "top_k": 3}, {"temperature": 1.2, "repetition": 1.6, "presence": 0.3}])
def test_probabilities_are_exactly_the_large_models(asked):
    """Texts of three tokens: how often each of the 125 comes against what the large model alone gives it."""
    models, variables = pair()
    sampling, n = Sampling(**asked), 40_000
    prompt = jnp.broadcast_to(jnp.array([[1, 2]]), (n, 2))
    found, share = go(models, variables, row_keys(jax.random.key(5), jnp.arange(n)), prompt, 3, 2, sampling, 12)
    texts = np.array(list(itertools.product(range(V), repeat=3)))
    logits = models[0].apply(variables[0], np.concatenate([np.tile([[1, 2]], (len(texts), 1)), texts], 1))[0][:, 1:4]
    before = np.zeros((len(texts), V), np.int32)
    before[:, [1, 2]] = 1
    counts, wanted = np.zeros((len(texts), V), np.int32), np.ones(len(texts))
    for at in range(3):
        table = jax.nn.softmax(adjust_logits(logits[:, at], sampling, before, jnp.asarray(counts)))
        wanted *= np.asarray(table)[np.arange(len(texts)), texts[:, at]]
        counts[np.arange(len(texts)), texts[:, at]] += 1
    seen = np.bincount(found @ [V * V, V, 1], minlength=V**3)
    assert (seen[wanted < 1e-9] == 0).all()
    likely = wanted * n >= 5
    chi = ((seen - n * wanted) ** 2 / (n * np.maximum(wanted, 1e-12)))[likely].sum()
    degrees = likely.sum() - 1
    assert chi < degrees + 4 * np.sqrt(2 * degrees), (chi, degrees)
    assert 0.05 < share < 0.95, "both what is accepted and what is drawn anew are tried"
