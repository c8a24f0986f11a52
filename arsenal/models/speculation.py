"""A small model guesses some tokens ahead and a large one judges them at once: its own text, in fewer of its steps.

Leviathan, Kalman & Matias, ICML 2023 (2211.17192); Chen et al. 2023 (2302.01318). Tokens are accepted and drawn anew so that
they have exactly the large model's probabilities, as `Sampling` leaves them; at temperature 0 they are its likeliest.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.random import fold_in

from arsenal.models.generation import Sampling, adjust_logits, draw_tokens, read_prompts
from arsenal.records import Model


class Speculation(NamedTuple):
    """Rows on their way, of two models: both caches hold what stands before `position`."""

    token: jax.Array
    """[n] the last one, which no cache holds yet."""
    position: jax.Array
    """[n] of that token."""
    step: jax.Array
    """[n] number of the next token."""
    cache: Any
    draft_cache: Any
    prompt: jax.Array | None
    """[n, vocabulary] int32: how often a token is in the prompt, where a penalty asks for it."""
    counts: jax.Array | None
    """The same of what was generated."""


def begin_speculation(
    models: tuple[Model, Model], variables: tuple[Any, Any], keys: jax.Array, prompt: dict, sampling: Sampling, room: int
) -> Speculation:
    """The first token after prompts {"tokens" [n, t], "length" [n]}, which the first of two models draws; it is `token`.

    `models` are the one whose text it is and the one that guesses. Of the room `speculate` needs one place for each guess beyond
    the text.
    """
    text = read_prompts(models[0], variables[0], prompt, sampling, room)
    draft = models[1].methods["prefill"](variables[1], prompt, room=room)
    adjusted = adjust_logits(text.logits, sampling, text.prompt, text.counts)
    token = draw_tokens(adjusted, keys, text.step, sampling.temperature)
    counts = None if text.counts is None else text.counts.at[jnp.arange(len(token)), token].add(1)
    return Speculation(token, text.position, jnp.ones_like(token), text.cache, draft["cache"], text.prompt, counts)


def speculate(
    models: tuple[Model, Model], variables: tuple[Any, Any], keys: jax.Array, state: Speculation, ahead: int, sampling: Sampling
) -> tuple[Speculation, jax.Array, jax.Array]:
    """Up to `ahead` + 1 tokens more: the state, tokens [n, ahead + 1] int32, and how many of them are there, [n].

    Those that the second model guessed and the first accepts, then one of the first's own. The tokens of a row depend on its key
    and their numbers. `position + ahead` must lie within the rooms of both caches, which is the caller's affair.
    """
    n = len(state.token)
    cold = jnp.broadcast_to(jnp.asarray(sampling.temperature, jnp.float32), (n,)) <= 0

    def numbered(number, use):
        return jax.vmap(lambda key, at: fold_in(fold_in(key, at), use))(keys, state.step + number)

    def shares(logits, counts):
        """What a token is drawn by, [n, vocabulary]: the whole of it on the likeliest where the temperature is 0."""
        adjusted = adjust_logits(logits, sampling, state.prompt, counts)
        one = jax.nn.one_hot(jnp.argmax(adjusted, -1), adjusted.shape[1], dtype=adjusted.dtype)
        return jnp.where(cold[:, None], one, jax.nn.softmax(adjusted))

    def count(counts, token):
        return None if counts is None else counts.at[jnp.arange(n), token].add(1)

    def guess(carry, i):
        token, cache, counts = carry
        made = models[1].methods["decode"](variables[1], {"token": token, "position": state.position + i, "cache": cache})
        guessed = shares(made["logits"], counts)
        token = jax.vmap(jax.random.categorical)(numbered(i, 0), jnp.log(guessed)).astype(jnp.int32)
        return (token, made["cache"], count(counts, token)), (token, guessed)

    (last, draft_cache, _), (tokens, guessed) = lax.scan(
        guess, (state.token, state.draft_cache, state.counts), jnp.arange(ahead, dtype=jnp.int32)
    )
    # The last guess is read too: where all are accepted the next ones follow it.
    read = {"token": last, "position": state.position + ahead, "cache": draft_cache}
    draft_cache = models[1].methods["decode"](variables[1], read)["cache"]
    tokens, guessed = tokens.T, guessed.swapaxes(0, 1)
    asked = {"tokens": jnp.concatenate([state.token[:, None], tokens], 1), "position": state.position, "cache": state.cache}
    made = models[0].methods["extend"](variables[0], asked)
    counts, judged = state.counts, []
    for i in range(ahead + 1):
        judged.append(shares(made["logits"][:, i], counts))
        counts = count(counts, tokens[:, i]) if i < ahead else counts
    own = jnp.stack(judged, 1)  # [n, ahead + 1, vocabulary]

    def of_tokens(table):
        return jnp.take_along_axis(table, tokens[:, :, None], 2)[..., 0]

    chances = jax.vmap(lambda i: jax.vmap(jax.random.uniform)(numbered(i, 1)), out_axes=1)(jnp.arange(ahead, dtype=jnp.int32))
    accepted = chances * of_tokens(guessed) < of_tokens(own[:, :ahead])
    right = jnp.cumprod(accepted.astype(jnp.int32), 1).sum(1)  # of the guesses, those before the first that is refused
    here = jnp.take_along_axis(own, right[:, None, None], 1)[:, 0]
    wrong = jnp.pad(guessed, ((0, 0), (0, 1), (0, 0)))  # where all were accepted nothing was guessed
    left = jnp.maximum(here - jnp.take_along_axis(wrong, right[:, None, None], 1)[:, 0], 0)
    left = jnp.where(left.sum(-1, keepdims=True) > 0, left, here)  # equal tables differ by rounding only
    final = jax.vmap(jax.random.categorical)(numbered(right, 2), jnp.log(left)).astype(jnp.int32)
    places = jnp.arange(ahead + 1)
    tokens = jnp.where(places < right[:, None], jnp.pad(tokens, ((0, 0), (0, 1))), final[:, None])
    counts = state.counts
    if counts is not None:
        there = (places <= right[:, None]).astype(counts.dtype)
        counts = counts.at[jnp.arange(n)[:, None], tokens].add(there)
    made_now = right + 1
    state = Speculation(
        final, state.position + made_now, state.step + made_now, made["cache"], draft_cache, state.prompt, counts
    )
    return state, tokens, made_now
