"""Bidirectional encoder of tokens. BERT, RoBERTa and DistilBERT are settings of it.

Devlin et al., NAACL 2019 (1810.04805); Liu et al. 2019 (1907.11692, RoBERTa); Sanh et al. 2019 (1910.01108, DistilBERT).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Interval

from arsenal.models.transformer import check_heads
from arsenal.nn import Dense, Dropout, Layers, Sight, Stack, linen, same_segment
from arsenal.nn.stack import ACTIVATIONS, Activation, Remat
from arsenal.records import Model

PositiveInt = Annotated[int, Gt(0)]
NEAR_ZERO = nn.initializers.normal(0.02)
Head = Literal["masked", "sequence", "token", "embedding"]


class Bert(nn.Module):
    """Tokens [n, t] to what the head makes of them."""

    vocabulary: int
    layers: Layers
    context: int
    types: int
    head: Head
    output: int | None
    padding: int | None
    offset: int
    pooler: Literal["tanh", "relu"]
    dropout: Any

    @nn.compact
    def __call__(self, inputs, training=None):
        """`masked` [n, t, vocabulary], `sequence` [n, output], `token` [n, t, output], `embedding` [n, width]."""
        given = inputs if isinstance(inputs, Mapping) else {"tokens": inputs}
        tokens = given["tokens"]
        check_tokens(tokens, self.context - self.offset)
        there = given["mask"] > 0 if "mask" in given else jnp.ones(tokens.shape, bool)
        if "mask" not in given and self.padding is not None:
            there = tokens != self.padding
        width, epsilon = self.layers.width, self.layers.epsilon

        def drop(x):
            return x if self.dropout is None else Dropout(self.dropout)(x, training)

        token = nn.Embed(self.vocabulary, width, embedding_init=NEAR_ZERO, name="token")
        x = token(tokens.astype(jnp.int32))
        if self.types:
            kind = given.get("types", jnp.zeros_like(tokens)).astype(jnp.int32)
            x = x + nn.Embed(self.types, width, embedding_init=NEAR_ZERO, name="type")(kind)
        # RoBERTa counts what is there, from its padding code on; padding itself is nowhere that counts.
        at = jnp.cumsum(there, 1) - 1 + self.offset if self.offset else jnp.arange(tokens.shape[1])[None]
        x = x + self.param("position", NEAR_ZERO, (self.context, width))[jnp.maximum(at, 0)]
        x = drop(nn.LayerNorm(epsilon, name="embedding_norm")(x))
        mask = there[:, None, None, :]
        if "segments" in given:
            mask = mask & same_segment(given["segments"])
        x, _ = Stack(self.layers, self.dropout, name="stack")(x, Sight(mask=mask), None, training)
        if self.head == "embedding":
            weight = there.astype(x.dtype)[..., None]
            return (x * weight).sum(1) / jnp.maximum(weight.sum(1), 1)
        if self.head == "token":
            return Dense(self.output, kernel_init=NEAR_ZERO, name="head")(drop(x))
        if self.head == "sequence":
            pooled = Dense(width, kernel_init=NEAR_ZERO, name="pooler")(x[:, 0])
            pooled = jnp.tanh(pooled) if self.pooler == "tanh" else jax.nn.relu(pooled)
            return Dense(self.output, kernel_init=NEAR_ZERO, name="head")(drop(pooled))
        x = ACTIVATIONS[self.layers.activation](Dense(width, kernel_init=NEAR_ZERO, name="transform")(x))
        x = token.attend(nn.LayerNorm(epsilon, name="transform_norm")(x))
        return x + self.param("bias", nn.initializers.zeros, (self.vocabulary,), x.dtype)


def check_tokens(tokens: Any, context: int) -> None:
    """Raise ValueError unless the tokens are whole numbers [n, t], no more than `context` in a row."""
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(f"`bert` takes whole numbers [n, t]; got {tokens.dtype} of shape {tokens.shape}.")
    if tokens.shape[1] > context:
        raise ValueError(f"`bert` reads at most {context} tokens, its `context`; got {tokens.shape[1]}.")


def bert(
    vocabulary: PositiveInt,
    head: Head = "masked",
    output: PositiveInt | None = None,
    layers: PositiveInt = 4,
    heads: PositiveInt = 4,
    width: PositiveInt = 128,
    hidden: PositiveInt | None = None,
    context: PositiveInt = 64,
    types: Annotated[int, Ge(0)] = 2,
    padding: Annotated[int, Ge(0)] | None = None,
    offset: Annotated[int, Ge(0)] = 0,
    activation: Activation = "gelu",
    epsilon: Annotated[float, Gt(0)] = 1e-12,
    pooler: Literal["tanh", "relu"] = "tanh",
    dropout: Annotated[float, Interval(ge=0, lt=1)] | None = None,
    remat: Remat = "nothing",
) -> Model:
    """What a `head` makes of tokens [n, t] that all see each other, t at most `context` less `offset`.

    `masked`: logits [n, t, vocabulary] of the token at each place, see `arsenal.data.cloze`; `sequence`: [n, output] of
    the first token; `token`: [n, t, output]; `embedding`: the mean of the last layer [n, width] over what is there.

    Inputs are tokens alone, of which the code `padding` is not there (None: all are), or a dict of `tokens` and perhaps `mask`
    [n, t] (0: not there), `types` [n, t] in 0..types-1 and `segments` [n, t], which do not see each other. As it comes it
    is BERT; RoBERTa's positions begin at `offset` 2 and count what is there; DistilBERT has no `types` and `pooler` relu.
    `dropout`, if any, is traced, and falls as in `transformer`.
    """
    check_heads("bert", heads, width)
    if (head in ("sequence", "token")) != (output is not None):
        raise ValueError(f"`head` sequence or token of `bert`, and no other, needs `output`; got {head} and {output}.")
    stack = Layers(
        width, layers, heads, hidden=hidden, activation=activation, epsilon=epsilon, order="post", spread=0.02, remat=remat
    )

    def build(dropout=None):
        return Bert(vocabulary, stack, context, types, head, output, padding, offset, pooler, dropout)

    def attention(variables, inputs):
        _, kept = build().apply(variables, inputs, mutable=["intermediates"])
        return kept["intermediates"]["stack"]["blocks"]["attention"]["weights"][0].swapaxes(0, 1)

    model = linen(build()) if dropout is None else linen(build, dropout=dropout)
    return model._replace(methods={"attention": attention})
