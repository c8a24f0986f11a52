"""Going on from prompts: a cache is filled by the prompt, then one compiled loop picks token after token.

A model that can is one with the methods `prefill` and `decode` of `transformer`. Holtzman et al., ICLR 2020 (1904.09751) for
top-p; Nguyen et al. 2024 (2407.01082) for min-p; Keskar et al. 2019 (1909.05858) for the penalty of repetition.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.random import fold_in

from arsenal.records import Batch, Model, row_keys


class Sampling(NamedTuple):
    """How the next token is picked, each a number for every row [n] or one for all; None: not at all. All are traced.

    They are applied in this order, as `transformers` does, the temperature after the penalties.
    """

    temperature: Any = 1.0
    """>= 0; 0 takes the likeliest."""
    repetition: Any = None
    """Logits of tokens that were there are divided by it where positive, multiplied where negative; 1 changes nothing."""
    presence: Any = None
    """Taken off the logits of tokens that were generated."""
    frequency: Any = None
    """Taken off for every time that a token was generated."""
    top_k: Any = None
    """The so many likeliest only."""
    top_p: Any = None
    """The likeliest only that together have at least this probability."""
    min_p: Any = None
    """Those only with at least this share of the likeliest one's probability."""


class Text(NamedTuple):
    """Rows on their way."""

    logits: jax.Array
    """[n, vocabulary] of the next token."""
    cache: Any
    position: jax.Array
    """[n] of the next token."""
    step: jax.Array
    """Tokens generated so far."""
    prompt: jax.Array | None
    """[n, vocabulary] int32: how often a token is in the prompt, where a penalty asks for it."""
    counts: jax.Array | None
    """The same of what was generated."""


def adjust_logits(logits: jax.Array, sampling: Sampling, prompt: Any = None, counts: Any = None) -> jax.Array:
    """Logits [n, vocabulary] as `sampling` changes them before a draw; tokens that are ruled out have -inf.

    The temperature divides, 0 as if it were 1. `prompt` and `counts` [n, vocabulary] say how often a token was there.
    """
    low = jnp.asarray(-jnp.inf, logits.dtype)

    def column(value):
        return jnp.broadcast_to(jnp.asarray(value, logits.dtype), logits.shape[:1])[:, None]

    if sampling.repetition is not None:
        penalty = column(sampling.repetition)
        logits = jnp.where(prompt + counts > 0, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)
    if sampling.presence is not None:
        logits = logits - column(sampling.presence) * (counts > 0).astype(logits.dtype)
    if sampling.frequency is not None:
        logits = logits - column(sampling.frequency) * counts.astype(logits.dtype)
    temperature = column(sampling.temperature)
    logits = logits / jnp.where(temperature > 0, temperature, 1)
    if sampling.top_k is not None or sampling.top_p is not None:
        ordered = jnp.sort(logits, descending=True)
        if sampling.top_k is not None:
            k = jnp.clip(jnp.broadcast_to(jnp.asarray(sampling.top_k, jnp.int32), logits.shape[:1]), 1, logits.shape[1])
            least = jnp.take_along_axis(ordered, k[:, None] - 1, 1)
            logits, ordered = (jnp.where(one >= least, one, low) for one in (logits, ordered))
        if sampling.top_p is not None:
            shares = jax.nn.softmax(ordered)
            kept = jnp.cumsum(shares, -1) - shares < column(sampling.top_p)  # the first always is
            least = jnp.where(kept, ordered, jnp.inf).min(-1, keepdims=True)
            logits = jnp.where(logits >= least, logits, low)
    if sampling.min_p is not None:
        shares = jax.nn.softmax(logits)
        logits = jnp.where(shares >= column(sampling.min_p) * shares.max(-1, keepdims=True), logits, low)
    return logits


def prompts(batch: Batch) -> dict[str, jax.Array]:
    """The inputs of `generate` that a batch stands for: the first half of each row's tokens x [n, t]."""
    tokens = batch.x["tokens"] if isinstance(batch.x, Mapping) else batch.x
    n, t = tokens.shape
    half = max(1, t // 2)
    seed, length = batch.row.astype(jnp.uint32), jnp.full(n, half, jnp.int32)
    return {"tokens": tokens[:, :half], "length": length, "seed": seed, "temperature": jnp.ones(n)}


def generate(
    model: Model, variables: Any, key: jax.Array, prompt: jax.Array, length: int, temperature: Any = 1.0, **more: Any
) -> jax.Array:
    """`length` tokens [n, length] int32 that go on from prompts [n, t], drawn from `softmax(logits / temperature)`.

    `temperature` >= 0 is traced; 0 takes the likeliest. `more` are further fields of `Sampling`. Row i draws by
    `fold_in(key, i)`, whatever its neighbours. Raises ValueError where prompt and answer exceed the model's context.
    """
    n, t = prompt.shape
    whole = {"tokens": prompt, "length": jnp.full(n, t, jnp.int32)}
    sampling = Sampling(jnp.broadcast_to(jnp.asarray(temperature, dtype=float), (n,)), **more)
    return continue_prompts(model, variables, row_keys(key, jnp.arange(n)), whole, length, sampling)


def continue_prompts(
    model: Model, variables: Any, keys: jax.Array, prompt: dict, length: int, sampling: Sampling
) -> jax.Array:
    """`length` tokens [n, length] int32 after prompts as in `prefill`, drawn by keys [n]."""
    if length < 1:
        raise ValueError(f"`length` of `generate` must be at least 1; got {length}.")
    # No more of a cache than the text takes: each token looks over all of it.
    text = read_prompts(model, variables, prompt, sampling, prompt["tokens"].shape[1] + length)
    return go_on(model, variables, keys, text, length, sampling)[1]


def read_prompts(model: Model, variables: Any, prompt: dict, sampling: Sampling, room: int | None = None) -> Text:
    """What prompts {"tokens" [n, t], "length" [n]} leave behind, of which the first `length` tokens count.

    `room` is how long the text may get; None: as long as the model reads.
    """
    told = {} if room is None else {"room": room}
    start, length = model.methods["prefill"](variables, prompt, **told), prompt["length"].astype(jnp.int32)
    n, vocabulary = start["logits"].shape
    before = counts = None
    if any(value is not None for value in (sampling.repetition, sampling.presence, sampling.frequency)):
        there = (jnp.arange(prompt["tokens"].shape[1]) < length[:, None]).astype(jnp.int32)
        rows = jnp.arange(n)[:, None]
        before = jnp.zeros((n, vocabulary), jnp.int32).at[rows, prompt["tokens"].astype(jnp.int32)].add(there)
        counts = jnp.zeros_like(before)
    return Text(start["logits"], start["cache"], length, jnp.int32(0), before, counts)


def go_on(
    model: Model, variables: Any, keys: jax.Array, text: Text, length: int, sampling: Sampling
) -> tuple[Text, jax.Array, jax.Array]:
    """`length` tokens more: the text, the tokens [n, length] int32 and their log-probabilities under the model [n, length].

    The draw of a token depends on its row's key and its number alone, so pieces of any length give the same text.
    """

    def one(text, _):
        adjusted = adjust_logits(text.logits, sampling, text.prompt, text.counts)
        token = draw_tokens(adjusted, keys, text.step, sampling.temperature)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(text.logits), token[:, None], 1)[:, 0]
        made = model.methods["decode"](variables, {"token": token, "position": text.position, "cache": text.cache})
        counts = None if text.counts is None else text.counts.at[jnp.arange(len(token)), token].add(1)
        return Text(made["logits"], made["cache"], text.position + 1, text.step + 1, text.prompt, counts), (token, log_p)

    text, (tokens, log_p) = lax.scan(one, text, length=length)
    return text, tokens.T, log_p.T


def draw_tokens(adjusted: jax.Array, keys: jax.Array, step: jax.Array, temperature: Any) -> jax.Array:
    """Tokens [n] int32 of `adjust_logits`' [n, vocabulary]: row i by `fold_in(keys[i], step[i])`, the likeliest at temperature 0.

    `step`, the token's number, is [n] or one for all.
    """
    cold = jnp.broadcast_to(jnp.asarray(temperature, adjusted.dtype), adjusted.shape[:1]) <= 0
    likeliest, numbers = jnp.argmax(adjusted, -1).astype(jnp.int32), jnp.broadcast_to(step, adjusted.shape[:1])

    def draw():
        each = jax.vmap(lambda key, number, z: jax.random.categorical(fold_in(key, number), z))
        return jnp.where(cold, likeliest, each(keys, numbers, adjusted).astype(jnp.int32))

    return lax.cond(jnp.all(cold), lambda: likeliest, draw)


def beam_search(
    model: Model, variables: Any, prompt: jax.Array, length: int, beams: int = 4
) -> tuple[jax.Array, jax.Array]:
    """The likeliest of `beams` continuations held at a time: tokens [n, length] int32 and their log-probability [n].

    Prompts [n, t]. At every step all continuations of what is held compete, the best `beams` of each row stay.
    """
    n, t = prompt.shape
    if length < 1:
        raise ValueError(f"`length` of `beam_search` must be at least 1; got {length}.")
    start = model.methods["prefill"](variables, {"tokens": prompt, "length": jnp.full(n, t, jnp.int32)}, room=t + length)
    if not 1 <= beams <= start["logits"].shape[1]:
        raise ValueError(f"`beams` of `beam_search` must be 1 to {start['logits'].shape[1]}, the vocabulary; got {beams}.")
    vocabulary = start["logits"].shape[1]
    wide = jax.tree.map(lambda leaf: jnp.repeat(leaf, beams, 0), start)
    # All beams begin alike: but for the first they are out, so that the first step takes different tokens.
    score = jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf)[None].repeat(n, 0).astype(start["logits"].dtype)
    tokens = jnp.zeros((n, beams, length), jnp.int32)

    def one(carry, i):
        made, score, tokens = carry
        each = score[:, :, None] + jax.nn.log_softmax(made["logits"]).reshape(n, beams, vocabulary)
        score, best = lax.top_k(each.reshape(n, beams * vocabulary), beams)
        origin, token = best // vocabulary, (best % vocabulary).astype(jnp.int32)
        tokens = jnp.take_along_axis(tokens, origin[:, :, None], 1).at[:, :, i].set(token)
        rows = (jnp.arange(n)[:, None] * beams + origin).reshape(-1)
        cache = jax.tree.map(lambda leaf: leaf[rows], made["cache"])
        inputs = {"token": token.reshape(-1), "position": jnp.full(n * beams, t + i, jnp.int32), "cache": cache}
        return (model.methods["decode"](variables, inputs), score, tokens), None

    (_, score, tokens), _ = lax.scan(one, (wide, score, tokens), jnp.arange(length, dtype=jnp.int32))
    return tokens[:, 0], score[:, 0]
