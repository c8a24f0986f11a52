"""Decoder-only transformer: attention that looks back, normalisation before each part, learned positions, tied head.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2); Vaswani et al. 2017 (1706.03762).
"""

import math
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Gt, Interval
from jax import lax
from jax.random import fold_in

from arsenal.nn import Dropout, LayerNorm, SelfAttention, linen
from arsenal.records import Batch, Model, row_keys

PositiveInt = Annotated[int, Gt(0)]
NEAR_ZERO = nn.initializers.normal(0.02)
UNROLLED = 4
"""Layers in one turn of the loop: on CPU four in a turn train 1.4 times as fast as one, and compile as quickly."""


class Block(nn.Module):
    """`x + attention(norm(x))`, then `x + mlp(norm(x))` on x [n, t, width]."""

    width: int
    heads: int
    layers: int
    dropout: Any

    @nn.compact
    def __call__(self, x, cache, position, training):
        """Returns x and the layer's cache, which is None where none was given."""
        # A sum over 2 * layers parts keeps the variance of one.
        last = nn.initializers.normal(0.02 / math.sqrt(2 * self.layers))

        def drop(y):
            return y if self.dropout is None else Dropout(self.dropout)(y, training)

        attention = SelfAttention(self.width, self.heads, True, NEAR_ZERO, last, name="attention")
        y = LayerNorm(1e-5, name="attention_norm")(x)
        y, cache = (attention(y), None) if cache is None else attention.extend(y, cache, position)
        x = x + drop(y)
        y = LayerNorm(1e-5, name="mlp_norm")(x)
        y = jax.nn.gelu(nn.Dense(4 * self.width, kernel_init=NEAR_ZERO, name="up")(y))
        return x + drop(nn.Dense(self.width, kernel_init=last, name="down")(y)), cache


class Transformer(nn.Module):
    """Tokens [n, t] to logits [n, t, vocabulary]."""

    vocabulary: int
    layers: int
    heads: int
    width: int
    context: int
    dropout: Any

    def setup(self):
        """Parameters of the blocks have a leading axis of `layers`: one program serves them all."""
        self.token = nn.Embed(self.vocabulary, self.width, embedding_init=NEAR_ZERO)
        self.position = self.param("position", NEAR_ZERO, (self.context, self.width))
        self.drop = None if self.dropout is None else Dropout(self.dropout)
        blocks = nn.scan(
            Block, variable_axes={"params": 0, "intermediates": 0}, split_rngs={"params": True, "dropout": True},
            in_axes=(1, nn.broadcast, nn.broadcast), out_axes=1, length=self.layers, unroll=min(self.layers, UNROLLED),
        )  # fmt: skip
        self.blocks = blocks(self.width, self.heads, self.layers, self.dropout)
        self.norm = LayerNorm(1e-5)

    def __call__(self, tokens, training=None):
        """Logits of the token after each."""
        self.check_tokens(tokens)
        x = self.token(tokens.astype(jnp.int32)) + self.position[: tokens.shape[1]]
        x = x if self.drop is None else self.drop(x, training)
        x, _ = self.blocks(x, None, None, training)
        return self.token.attend(self.norm(x))

    def extend(self, tokens, cache, position, last):
        """Tokens [n, t] at `position` [n] onwards -> logits [n, vocabulary] after the one at `last` [n], and the cache."""
        self.check_tokens(tokens)
        here = position[:, None] + jnp.arange(tokens.shape[1], dtype=jnp.int32)
        x = self.token(tokens.astype(jnp.int32)) + self.position[here]
        x, cache = self.blocks(x, cache, position, None)
        x = jnp.take_along_axis(x, last[:, None, None], 1)[:, 0]
        return self.token.attend(self.norm(x)), cache

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
) -> Model:
    """Logits [n, t, vocabulary] of the next token from tokens [n, t] in 0..vocabulary-1, t at most `context`.

    `dropout`, if any, is traced; it falls on embeddings and on what attention and MLP add, not on attention weights.
    A code outside the vocabulary answers NaN. The method `generate`, an answer of a learner too, goes on from a prompt:
    {"tokens" [n, t], "length" [n], "seed" [n] uint32, "temperature" [n]} -> tokens [n, generated] int32 after the first
    `length` tokens, see the function of that name; `generated` None is what t leaves of the context. Of a batch the
    prompts are the first halves of the rows, the seeds their ids, the temperatures 1.

    `flops` of a step is `(6 N + 12 layers width t)` per token, with N the number of parameters without those of the
    positions: Chowdhery et al. 2022 (2204.02311, PaLM), appendix B, with N as nanoGPT's `estimate_mfu` counts it.

    Two methods answer token by token, their cache {"k", "v"} each [n, layers, context, heads, width / heads]:

    `prefill`: {"tokens" [n, t], "length" [n]} -> {"logits" [n, vocabulary] after the first `length` tokens, "cache"}.
    `decode`: {"token" [n], "position" [n], "cache"} -> {"logits" [n, vocabulary] after that token, "cache"}.

    `attention`: tokens [n, t] -> how much each position looks at each, [n, layers, heads, t, t]; rows sum to 1.
    """
    if width % heads:
        raise ValueError(f"`heads` of `transformer` must divide `width`, {width}; got {heads}.")

    def build(dropout=None):
        return Transformer(vocabulary, layers, heads, width, context, dropout)

    def extend(variables, tokens, cache, position, last):
        logits, cache = build().apply(variables, tokens, cache, position, last, method="extend")
        return {"logits": logits, "cache": cache}

    def prefill(variables, inputs):
        tokens, last = inputs["tokens"], inputs["length"].astype(jnp.int32) - 1
        shape, dtype = (tokens.shape[0], layers, context, heads, width // heads), variables["params"]["position"].dtype
        empty = {"k": jnp.zeros(shape, dtype), "v": jnp.zeros(shape, dtype)}
        return extend(variables, tokens, empty, jnp.zeros_like(last), last)

    def decode(variables, inputs):
        position = inputs["position"].astype(jnp.int32)
        return extend(variables, inputs["token"][:, None], inputs["cache"], position, jnp.zeros_like(position))

    def attention(variables, tokens):
        _, kept = build().apply(variables, tokens, mutable=["intermediates"])
        return kept["intermediates"]["blocks"]["attention"]["weights"][0].swapaxes(0, 1)

    def flops(variables, tokens):
        counted = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) - context * width
        n, t = tokens.shape
        return n * t * (6 * counted + 12 * layers * width * t)

    def from_inputs(variables, inputs):
        keys, count = jax.vmap(jax.random.key)(inputs["seed"]), generated or context - inputs["tokens"].shape[1]
        prompt = {name: inputs[name] for name in ("tokens", "length")}
        return continue_prompts(model, variables, keys, prompt, count, inputs["temperature"])

    model = linen(build()) if dropout is None else linen(build, dropout=dropout)
    model = model._replace(methods={"prefill": prefill, "decode": decode, "attention": attention}, flops=flops)
    return model._replace(methods=model.methods | {"generate": from_inputs}, inputs={"generate": prompts})


def prompts(batch: Batch) -> dict[str, jax.Array]:
    """The inputs of `generate` that a batch stands for: the first half of each row's tokens x [n, t]."""
    n, t = batch.x.shape
    half = max(1, t // 2)
    seed, length = batch.row.astype(jnp.uint32), jnp.full(n, half, jnp.int32)
    return {"tokens": batch.x[:, :half], "length": length, "seed": seed, "temperature": jnp.ones(n)}


def generate(model: Model, variables: Any, key: jax.Array, prompt: jax.Array, length: int, temperature: Any = 1.0) -> jax.Array:
    """`length` tokens [n, length] int32 that go on from prompts [n, t], drawn from `softmax(logits / temperature)`.

    `temperature` >= 0 is traced; 0 takes the likeliest. Row i draws by `fold_in(key, i)`, whatever its neighbours.
    Raises ValueError where prompt and answer together exceed the model's context.
    """
    n, t = prompt.shape
    temperature = jnp.broadcast_to(jnp.asarray(temperature, dtype=float), (n,))
    whole = {"tokens": prompt, "length": jnp.full(n, t, jnp.int32)}
    return continue_prompts(model, variables, row_keys(key, jnp.arange(n)), whole, length, temperature)


def continue_prompts(
    model: Model, variables: Any, keys: jax.Array, prompt: dict, length: int, temperature: jax.Array
) -> jax.Array:
    """`length` tokens [n, length] int32 after prompts as in `prefill`, drawn by keys [n] at temperatures [n]."""
    start, t = model.methods["prefill"](variables, prompt), prompt["tokens"].shape[1]
    context = start["cache"]["k"].shape[2]
    if length < 1 or t + length > context:
        raise ValueError(f"`prompt` and `length` of `generate` must fit in {context} tokens; got {t} + {length}.")
    temperature = temperature.astype(start["logits"].dtype)

    def pick(logits, i):
        scaled = logits / jnp.where(temperature > 0, temperature, 1)[:, None]
        drawn = jax.vmap(lambda k, z: jax.random.categorical(fold_in(k, i), z))(keys, scaled)
        return jnp.where(temperature > 0, drawn, jnp.argmax(logits, -1)).astype(jnp.int32)

    def one(made, i):
        token = pick(made["logits"], i)
        inputs = {"token": token, "position": prompt["length"].astype(jnp.int32) + i, "cache": made["cache"]}
        return model.methods["decode"](variables, inputs), token

    _, tokens = lax.scan(one, start, jnp.arange(length, dtype=jnp.int32))
    return tokens.T
