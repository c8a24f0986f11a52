"""Decoder-only transformer: attention that looks back. GPT-2, Llama, Mistral, Qwen and Gemma are settings of it.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2); Touvron et al. 2023 (2302.13971, Llama);
Jiang et al. 2023 (2310.06825, Mistral); Bai et al. 2023 (2309.16609, Qwen); Gemma Team 2024 (2403.08295).
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Interval

from arsenal.models.generation import Sampling, continue_prompts, prompts
from arsenal.nn import Dense, Dropout, Layers, Rotary, Sight, Stack, linen, same_segment, segment_positions, sinusoids
from arsenal.nn.stack import Activation, Norm, Remat
from arsenal.records import Model

PositiveInt = Annotated[int, Gt(0)]
NEAR_ZERO = nn.initializers.normal(0.02)
Position = Literal["learned", "sinusoidal", "rotary", "alibi", "relative"]
Reading = Literal["next", "sequence"]


class Transformer(nn.Module):
    """Tokens [n, t] to logits [n, t, vocabulary], or with the head `sequence` to [n, output]."""

    vocabulary: int
    layers: Layers
    context: int
    position: Position
    tied: bool
    scaled: bool
    output: int | None
    dropout: Any
    factors: Any = None

    def setup(self):
        """Embeddings, the stack, a last norm and, where it is not the embedding, a head."""
        width = self.layers.width
        self.token = nn.Embed(self.vocabulary, width, embedding_init=NEAR_ZERO)
        if self.position == "learned":
            self.places = self.param("position", NEAR_ZERO, (self.context, width))
        elif self.position == "sinusoidal":
            self.places = sinusoids(self.context, width)
        self.drop = None if self.dropout is None else Dropout(self.dropout)
        self.stack = Stack(self.layers, self.dropout, self.factors)
        self.norm = self.layers.make_norm(None)
        if self.output is not None or not self.tied:
            self.head = Dense(self.output or self.vocabulary, False, kernel_init=NEAR_ZERO)

    def __call__(self, inputs, training=None):
        """Logits of the token after each, or what the head makes of the last."""
        given = inputs if isinstance(inputs, Mapping) else {"tokens": inputs}
        tokens, segments = given["tokens"], given.get("segments")
        self.check_tokens(tokens)
        positions = None if segments is None else segment_positions(segments)
        x = self.embed(tokens, jnp.arange(tokens.shape[1])[None] if positions is None else positions)
        x = x if self.drop is None else self.drop(x, training)
        mask = None if segments is None else same_segment(segments)
        x, _ = self.stack(x, Sight(mask=mask, positions=positions), None, training)
        if self.output is None:
            return self.logits(self.norm(x))
        last = given["length"].astype(jnp.int32) - 1 if "length" in given else jnp.full(tokens.shape[0], tokens.shape[1] - 1)
        return self.head(self.norm(jnp.take_along_axis(x, last[:, None, None], 1)[:, 0]))

    def read(self, tokens, last):
        """Tokens [n, t] -> logits [n, vocabulary] after the one at `last` [n]."""
        self.check_tokens(tokens)
        x, _ = self.stack(self.embed(tokens, jnp.arange(tokens.shape[1])[None]))
        x = jnp.take_along_axis(x, last[:, None, None], 1)[:, 0]
        return self.logits(self.norm(x))

    def extend(self, tokens, cache, position, last):
        """Tokens [n, t] at `position` [n] onwards -> logits [n, vocabulary] after the one at `last` [n], and the cache.

        `last` None: after each, [n, t, vocabulary].
        """
        self.check_tokens(tokens)
        x = self.embed(tokens, position[:, None] + jnp.arange(tokens.shape[1], dtype=jnp.int32))
        x, cache = self.stack(x, Sight(start=position), cache, None)
        x = x if last is None else jnp.take_along_axis(x, last[:, None, None], 1)[:, 0]
        return self.logits(self.norm(x)), cache

    def embed(self, tokens, positions):
        """Tokens [n, t] at positions [n or 1, t] as [n, t, width]."""
        x = self.token(tokens.astype(jnp.int32))
        x = x * jnp.asarray(self.layers.width**0.5, x.dtype) if self.scaled else x
        return x + jnp.asarray(self.places, x.dtype)[positions] if self.position in ("learned", "sinusoidal") else x

    def logits(self, x):
        """[n, …, width] to [n, …, vocabulary]."""
        return self.token.attend(x) if self.tied else self.head(x)

    def check_tokens(self, tokens):
        """Raise ValueError unless the tokens are whole numbers [n, t], no more than `context` in a row."""
        if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise ValueError(f"`transformer` takes whole numbers [n, t]; got {tokens.dtype} of shape {tokens.shape}.")
        if tokens.shape[1] > self.context:
            raise ValueError(f"`transformer` reads at most {self.context} tokens, its `context`; got {tokens.shape[1]}.")


def transformer(
    vocabulary: PositiveInt,
    layers: PositiveInt = 4,
    heads: PositiveInt = 4,
    width: PositiveInt = 128,
    context: PositiveInt = 64,
    dropout: Annotated[float, Interval(ge=0, lt=1)] | None = None,
    generated: PositiveInt | None = None,
    kv_heads: PositiveInt | None = None,
    head_size: PositiveInt | None = None,
    hidden: PositiveInt | None = None,
    activation: Activation = "gelu_tanh",
    gated: bool = False,
    norm: Norm = "layer",
    epsilon: Annotated[float, Gt(0)] = 1e-5,
    position: Position = "learned",
    theta: Annotated[float, Gt(0)] = 10_000.0,
    scaling: Mapping[str, Any] | None = None,
    window: PositiveInt | None = None,
    bias: bool = True,
    qkv_bias: bool | None = None,
    qk_norm: bool = False,
    parallel: bool = False,
    tied: bool = True,
    scaled: bool = False,
    remat: Remat = "nothing",
    head: Reading = "next",
    output: PositiveInt | None = None,
    experts: PositiveInt | None = None,
    chosen: PositiveInt = 2,
    normalized: bool = True,
    capacity: Annotated[float, Gt(0)] | None = None,
    balance: Annotated[float, Ge(0)] = 0.01,
    router_z: Annotated[float, Ge(0)] = 0.001,
) -> Model:
    """Logits [n, t, vocabulary] of the next token from tokens [n, t] in 0..vocabulary-1, t at most `context`.

    Tokens come alone or as {"tokens", "segments"}: segments [n, t] are numbers of what is packed into a row; no position
    looks into another segment, and each segment's positions begin at 0.

    As it comes it is GPT-2. `kv_heads` that groups of `heads` of `head_size` share; an MLP of width `hidden` (four times
    `width`), of `activation` and perhaps `gated`; `position` with `theta` and `scaling` of rotary ones (`scaling` {"kind":
    linear or llama3, "factor", "low", "high", "context"} as `arsenal.nn.Rotary` says); `window`: how far back a token sees;
    `bias` of all matrices, `qkv_bias` of those to queries, keys and values alone; `qk_norm` over each of their heads;
    `parallel` attention and MLP; a head `tied` to the embedding; embeddings `scaled` by sqrt(width). `remat`: what of a
    layer training computes again in place of keeping it: `nothing`, all but matrix `products`, or `everything`.

    With `head` sequence the answer is [n, output], what a head of its own makes of the last token, that before `length` [n] of
    {"tokens", "length"}: classes of a text, or a score. Of the methods there is `attention` alone then.

    With `experts` each layer has so many MLPs, without biases, of which a router lets the `chosen` likeliest read a token; see
    `arsenal.nn.MixtureOfExperts` for `normalized` and `capacity`. Training adds `balance` times how unequally they are used and
    `router_z` times the square of the router's logits, both traced, both a mean over layers, to the loss.

    `dropout`, if any, is traced; it falls on embeddings and on what attention and MLP add, not on attention weights.
    A code outside the vocabulary answers NaN. The method `generate`, an answer of a learner too, goes on from a prompt:
    {"tokens" [n, t], "length" [n], "seed" [n] uint32, "temperature" [n]} -> tokens [n, generated] int32 after the first
    `length` tokens, see the function of that name; `generated` None is what t leaves of the context. Of a batch the
    prompts are the first halves of the rows, the seeds their ids, the temperatures 1.

    `flops` of a step is `(6 N + 12 layers width t)` per token, with N the number of parameters without those of the
    positions: Chowdhery et al. 2022 (2204.02311, PaLM), appendix B, with N as nanoGPT's `estimate_mfu` counts it.

    Three methods answer by tokens, their cache for each layer {"k", "v"}, each [n, kv_heads, room, head_size], where
    `prefill` may be told less `room` than the context:

    `prefill`: {"tokens" [n, t], "length" [n]} -> {"logits" [n, vocabulary] after the first `length` tokens, "cache"}.
    `decode`: {"token" [n], "position" [n], "cache"} -> {"logits" [n, vocabulary] after that token, "cache"}.
    `extend`: {"tokens" [n, t], "position" [n], "cache"} -> {"logits" [n, t, vocabulary] after each of them, "cache"}.

    `attention`: tokens [n, t] -> how much each position looks at each, [n, layers, heads, t, t]; rows sum to 1.
    """
    check_heads("transformer", heads, width, kv_heads, head_size)
    rotary = make_rotary("transformer", theta, scaling) if position == "rotary" else None
    if (head == "sequence") != (output is not None):
        raise ValueError(f"`head` sequence of `transformer`, and no other, needs `output`; got {head} and {output}.")
    if experts is not None and chosen > experts:
        raise ValueError(f"`chosen` of `transformer` must be at most `experts`, {experts}; got {chosen}.")
    if capacity is not None and experts is None:
        raise ValueError(f"`capacity` of `transformer` is of `experts`, and there are none; got {capacity}.")
    if scaling and rotary is None:
        raise ValueError(f"`scaling` of `transformer` is of rotary positions; `position` is {position}.")
    stack = Layers(
        width, layers, heads, kv_heads, head_size, hidden, activation, gated, norm, epsilon, parallel=parallel, bias=bias,
        qkv_bias=qkv_bias, causal=True, window=window, rotary=rotary, alibi=position == "alibi",
        buckets=32 if position == "relative" else None, qk_norm=qk_norm, experts=experts, chosen=chosen, normalized=normalized,
        capacity=capacity, remat=remat,
    )  # fmt: skip

    def build(dropout=None, **factors):
        return Transformer(vocabulary, stack, context, position, tied, scaled, output, dropout, factors or None)

    def extend(variables, tokens, cache, position, last):
        logits, cache = build().apply(variables, tokens, cache, position, last, method="extend")
        return {"logits": logits, "cache": cache}

    def prefill(variables, inputs, room=context):
        tokens, last = inputs["tokens"], inputs["length"].astype(jnp.int32) - 1
        if room > context:
            raise ValueError(f"`transformer` reads at most {context} tokens, its `context`; got a text of {room}.")
        logits, kept = build().apply(variables, tokens, last, method="read", mutable=["intermediates"])
        held = kept["intermediates"]["stack"]["blocks"]["attention"]
        return {"logits": logits, "cache": stack.fill_cache(held["keys"][0], held["values"][0], room)}

    def decode(variables, inputs):
        position = inputs["position"].astype(jnp.int32)
        return extend(variables, inputs["token"][:, None], inputs["cache"], position, jnp.zeros_like(position))

    def extend_by(variables, inputs):
        return extend(variables, inputs["tokens"], inputs["cache"], inputs["position"].astype(jnp.int32), None)

    def attention(variables, tokens):
        _, kept = build().apply(variables, tokens, mutable=["intermediates"])
        return kept["intermediates"]["stack"]["blocks"]["attention"]["weights"][0].swapaxes(0, 1)

    def flops(variables, inputs):
        counted = [part for name, part in variables["params"].items() if name != "position"]
        size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(counted))
        if experts:  # of them those that read a token
            own = variables["params"]["stack"]["blocks"]["mlp"]["experts"]
            many = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(own))
            size -= many - many * chosen // experts
        n, t = (inputs["tokens"] if isinstance(inputs, Mapping) else inputs).shape
        return n * t * (6 * size + 12 * layers * width * t)

    def from_inputs(variables, inputs):
        keys, count = jax.vmap(jax.random.key)(inputs["seed"]), generated or context - inputs["tokens"].shape[1]
        prompt = {name: inputs[name] for name in ("tokens", "length")}
        sampling = Sampling(inputs["temperature"])
        return continue_prompts(model, variables, keys, prompt, count, sampling)

    hp = ({} if dropout is None else {"dropout": dropout}) | ({"balance": balance, "router_z": router_z} if experts else {})
    model = linen(build, **hp) if hp else linen(build())
    if experts:
        model = model._replace(exempt={"batch-coupled": "experts are to be used equally by all rows of a batch"})
    if head == "sequence":
        return model._replace(methods={"attention": attention}, flops=flops)
    methods = {"prefill": prefill, "decode": decode, "extend": extend_by, "attention": attention}
    model = model._replace(methods=methods, flops=flops)
    return model._replace(methods=model.methods | {"generate": from_inputs}, inputs={"generate": prompts})


def check_heads(name: str, heads: int, width: int, kv_heads: int | None = None, head_size: int | None = None) -> None:
    """Raise ValueError where the heads of a model of this name do not fit its width."""
    if head_size is None and width % heads:
        raise ValueError(f"`heads` of `{name}` must divide `width`, {width}; got {heads}.")
    if kv_heads and heads % kv_heads:
        raise ValueError(f"`kv_heads` of `{name}` must divide `heads`, {heads}; got {kv_heads}.")


def make_rotary(name: str, theta: float, scaling: Mapping[str, Any] | None) -> Rotary:
    """Rotary positions as a config says them; ValueError for a scaling that is none."""
    if not scaling:
        return Rotary(theta)
    told = dict(scaling)
    kind = told.pop("kind", None)
    allowed = {"linear": {"factor"}, "llama3": {"factor", "low", "high", "context"}}
    if kind not in allowed or told.keys() != allowed[kind]:
        raise ValueError(
            f"`scaling` of `{name}` is {{kind: linear, factor}} or {{kind: llama3, factor, low, high, context}}; got "
            f"{dict(scaling)}."
        )
    return Rotary(theta, scaling=kind, **told)
