"""Slots of a decoder that goes on with many texts at once: a text enters between two steps, a step is a token for each slot.

What a server needs to decode, as pure functions of a state. A text's tokens depend on its own prompt, seed and settings alone,
whoever is in the other slots: Yu et al., OSDI 2022 (Orca), for texts that come and go between steps.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from arsenal.models.generation import Sampling, adjust_logits, draw_tokens
from arsenal.records import Model

NO_TOP_P = 2.0
"""No bound on probabilities, whose sums may round to a little more than 1."""
RANKS = 20
"""How many of the likeliest tokens a step can name."""


class Slots(NamedTuple):
    """What texts have come to, one in each of n slots."""

    logits: jax.Array
    """[n, vocabulary] of the next token."""
    cache: Any
    """Of the model, for as many rows as there are slots: leaves [n, kv_heads, room, head_size]."""
    position: jax.Array
    """[n] of the next token."""
    step: jax.Array
    """[n] tokens generated so far."""
    seed: jax.Array
    """[n] uint32."""
    prompt: jax.Array
    """[n, vocabulary] int32: how often a token is in the prompt."""
    counts: jax.Array
    """The same of what was generated."""
    sampling: Sampling
    """Of [n] each; `neutral_sampling` where nothing is asked, a `top_k` and a `top_p` of 0 among it."""


def neutral_sampling(n: int | None = None) -> Sampling:
    """Settings, of n slots or of one text, that change nothing."""
    values = Sampling(1.0, 1.0, 0.0, 0.0, 0, 0.0, 0.0)
    shape = () if n is None else (n,)
    return Sampling(*(jnp.full(shape, value, jnp.int32 if type(value) is int else jnp.float32) for value in values))


def empty_slots(model: Model, variables: Any, n: int, room: int) -> Slots:
    """n slots for texts of up to `room` tokens."""
    prompt = {"tokens": jnp.zeros((n, 1), jnp.int32), "length": jnp.ones(n, jnp.int32)}
    made = jax.eval_shape(lambda variables: model.methods["prefill"](variables, prompt, room=room), variables)
    cache = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), made["cache"])
    logits = made["logits"]

    def none(dtype, *shape):  # each has a buffer of its own, which a step may take over
        return jnp.zeros((n, *shape), dtype)

    vocabulary = logits.shape[1]
    return Slots(
        none(logits.dtype, vocabulary), cache, none(jnp.int32), none(jnp.int32), none(jnp.uint32), none(jnp.int32, vocabulary),
        none(jnp.int32, vocabulary), neutral_sampling(n),
    )  # fmt: skip


def enter_slot(model: Model, variables: Any, slots: Slots, text: dict[str, Any]) -> Slots:
    """The slots with a text in one of them, whatever was there.

    `text` {"tokens" [1, t], "length" [], "slot" [], "seed" [] uint32, "sampling" of []}: its first `length` tokens count, and t
    is at most the room of the slots.
    """
    tokens, length, slot = text["tokens"], text["length"].astype(jnp.int32), text["slot"].astype(jnp.int32)
    made = model.methods["prefill"](variables, {"tokens": tokens, "length": length[None]}, room=tokens.shape[1])

    def put_cache(old, new):
        # All of the room is written: what an earlier text left there, times a weight of 0, may still be NaN.
        row = lax.dynamic_update_slice(jnp.zeros((1, *old.shape[1:]), old.dtype), new, (0,) * old.ndim)
        return lax.dynamic_update_slice_in_dim(old, row, slot, 0)

    def put(old, new):
        return lax.dynamic_update_slice_in_dim(old, new[None].astype(old.dtype), slot, 0)

    there = (jnp.arange(tokens.shape[1]) < length).astype(jnp.int32)
    prompt = jnp.zeros(slots.prompt.shape[1], jnp.int32).at[tokens[0].astype(jnp.int32)].add(there)
    return Slots(
        put(slots.logits, made["logits"][0]), jax.tree.map(put_cache, slots.cache, made["cache"]), put(slots.position, length),
        put(slots.step, jnp.int32(0)), put(slots.seed, text["seed"]), put(slots.prompt, prompt),
        put(slots.counts, jnp.zeros_like(prompt)), jax.tree.map(put, slots.sampling, text["sampling"]),
    )  # fmt: skip


def unpack_bits(allowed: jax.Array, logits: jax.Array) -> jax.Array:
    """Bits [n, ceil(vocabulary / 32)] uint32, of a token each, as bool [n, vocabulary] of logits."""
    bits = allowed[:, :, None] >> jnp.arange(32, dtype=jnp.uint32)
    return (bits & jnp.uint32(1)).reshape(logits.shape[0], 32 * allowed.shape[1])[:, : logits.shape[1]] > 0


def step_slots(
    model: Model, variables: Any, slots: Slots, allowed: jax.Array, ranked: jax.Array
) -> tuple[Slots, dict[str, jax.Array]]:
    """A token more in every slot: the slots, and {"token" [n], "log_p" [n], "ranks" [n, r], "rank_log_p" [n, r]}.

    `allowed` [n, ceil(vocabulary / 32)] uint32: bit b of word w says whether token 32 w + b may be drawn. Log-probabilities are
    the model's. `ranks` are the r = min(20, vocabulary) likeliest tokens where `ranked` [] is true, else zeros. A slot of which
    no token is allowed is empty: it costs no draw, and what it makes means nothing. At the end of its room a slot stays there.
    """
    n, vocabulary = slots.logits.shape
    may = unpack_bits(allowed, slots.logits)
    logits, asked, there = jnp.where(may, slots.logits, -jnp.inf), slots.sampling, may.any(1)
    sampling = asked._replace(
        temperature=jnp.where(there, asked.temperature, 0.0), top_k=jnp.where(there & (asked.top_k > 0), asked.top_k, vocabulary),
        top_p=jnp.where(there & (asked.top_p > 0), asked.top_p, NO_TOP_P),
    )  # fmt: skip
    narrow = jnp.any((sampling.top_k < vocabulary) | (sampling.top_p < NO_TOP_P))

    def adjust(sampling):
        return adjust_logits(logits, sampling, slots.prompt, slots.counts)

    # Sorting a vocabulary takes longer than a small model, and most texts ask for none.
    adjusted = lax.cond(narrow, lambda: adjust(sampling), lambda: adjust(sampling._replace(top_k=None, top_p=None)))
    token = draw_tokens(adjusted, jax.vmap(jax.random.key)(slots.seed), slots.step, sampling.temperature)
    log_p = jax.nn.log_softmax(slots.logits)
    own = jnp.take_along_axis(log_p, token[:, None], 1)[:, 0]
    count = min(RANKS, vocabulary)

    def rank():
        order = jnp.argsort(log_p, descending=True)[:, :count].astype(jnp.int32)
        return order, jnp.take_along_axis(log_p, order, 1)

    none = jnp.zeros((n, count), jnp.int32), jnp.zeros((n, count), log_p.dtype)
    ranks, rank_log_p = lax.cond(ranked, rank, lambda: none)
    made = model.methods["decode"](variables, {"token": token, "position": slots.position, "cache": slots.cache})
    room = jax.tree.leaves(slots.cache)[0].shape[2]
    slots = slots._replace(
        logits=made["logits"], cache=made["cache"], position=jnp.minimum(slots.position + 1, room - 1), step=slots.step + 1,
        counts=slots.counts.at[jnp.arange(n), token].add(1),
    )  # fmt: skip
    return slots, {"token": token, "log_p": own, "ranks": ranks, "rank_log_p": rank_log_p}
