"""Recurrent networks: over sequences of vectors or tokens, and from one text to another."""

from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from annotated_types import Gt, Interval, MultipleOf

from arsenal.models.t5 import answer_questions, check_questions, questions
from arsenal.nn import GRU, LSTM, Dropout, linen
from arsenal.records import Model

PositiveInt = Annotated[int, Gt(0)]
Cell = Literal["lstm", "gru"]
CELLS = {"lstm": LSTM, "gru": GRU}


class Recurrent(nn.Module):
    """Sequences [n, t, d], or tokens [n, t], to [n, output] or [n, t, output]."""

    output: int
    vocabulary: int | None
    cell: str
    layers: int
    width: int
    bidirectional: bool
    pool: str
    padding: int | None
    dropout: Any

    @nn.compact
    def __call__(self, x, training=None):
        """Layer upon layer, then one linear layer of what `pool` takes."""
        lengths = None
        if self.vocabulary:
            if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.integer):
                raise ValueError(f"`recurrent` with a `vocabulary` takes whole tokens [n, t]; got {x.dtype} of shape {x.shape}.")
            lengths = None if self.padding is None else (x != self.padding).sum(1)
            x = nn.Embed(self.vocabulary, self.width, name="token")(x)
        elif x.ndim != 3:
            raise ValueError(f"`recurrent` takes sequences [n, t, d], or tokens with a `vocabulary`; got shape {x.shape}.")
        for i in range(self.layers):
            x = Dropout(self.dropout)(x, training) if i else x
            ways = [CELLS[self.cell](self.width, reverse, name=f"layer_{i}{'_back' * reverse}") for reverse in self.ways()]
            x = jnp.concatenate([way(x, lengths) for way in ways], -1)
        x = Dropout(self.dropout)(self.pooled(x, lengths), training)
        return nn.Dense(self.output, name="head")(x)

    def ways(self):
        """Whether each of a layer's ways through time is from the end."""
        return (False, True) if self.bidirectional else (False,)

    def pooled(self, x, lengths):
        """What the head reads of the layers' outputs x [n, t, ways * width]."""
        if self.pool == "each":
            return x
        if self.pool == "mean":
            if lengths is None:
                return x.mean(1)
            there = (jnp.arange(x.shape[1]) < lengths[:, None])[..., None]
            return jnp.where(there, x, 0).sum(1) / jnp.maximum(lengths, 1).astype(x.dtype)[:, None]
        at = jnp.full(x.shape[0], x.shape[1] - 1) if lengths is None else jnp.maximum(lengths - 1, 0)
        last = jnp.take_along_axis(x, at[:, None, None], 1)[:, 0]
        return jnp.concatenate([last[:, : self.width], x[:, 0, self.width :]], -1)  # the way back ends at the first


def recurrent(
    output: PositiveInt,
    vocabulary: PositiveInt | None = None,
    cell: Cell = "lstm",
    layers: PositiveInt = 1,
    width: PositiveInt = 64,
    bidirectional: bool = False,
    pool: Literal["last", "mean", "each"] = "last",
    padding: int | None = None,
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
) -> Model:
    """`layers` of LSTM or GRU, `width` wide, and one linear layer: [n, output] of sequences [n, t, d].

    With `vocabulary` inputs are tokens [n, t], each a vector `width` long; those of the code `padding` stand at the end of a row
    and are not read. `bidirectional` layers also read from the end. `pool` is what the linear layer sees: the `last` state of
    each way, the `mean` of all, or `each`, which gives [n, t, output] (with `bidirectional` a label of each token knows what
    follows it). `dropout`, between layers and before the head, is traced.
    """
    for name, value, allowed in (("cell", cell, tuple(CELLS)), ("pool", pool, ("last", "mean", "each"))):
        if value not in allowed:
            raise ValueError(f"`{name}` of `recurrent` must be {', '.join(allowed[:-1])} or {allowed[-1]}; got {value}.")
    if padding is not None and not vocabulary:
        raise ValueError("`padding` of `recurrent` is a token's code: it needs a `vocabulary`.")
    shape = (output, vocabulary, cell, layers, width, bidirectional, pool, padding)
    return linen(lambda dropout: Recurrent(*shape, dropout), dropout=dropout)


class SequenceToSequence(nn.Module):
    """{"tokens" [n, s], "decoder" [n, t]} to logits [n, t, vocabulary]."""

    vocabulary: int
    width: int
    padding: int
    dropout: Any

    def setup(self):
        """A bidirectional LSTM that reads, one that writes, and a look at what was read before each token."""
        half = self.width // 2
        self.token = nn.Embed(self.vocabulary, self.width)
        self.forth, self.back = LSTM(half), LSTM(half, reverse=True)
        self.start_c, self.start_h = nn.Dense(self.width), nn.Dense(self.width)
        self.writer = nn.RNN(nn.OptimizedLSTMCell(self.width))
        self.query = nn.Dense(self.width, use_bias=False)
        self.mix, self.head = nn.Dense(self.width), nn.Dense(self.vocabulary)
        self.drop = Dropout(self.dropout)

    def __call__(self, inputs, training=None):
        """Logits of the decoder's token after each."""
        check_questions("sequence_to_sequence", inputs)
        memory, seen, carry = self.encode(inputs, training)
        x = self.drop(self.token(inputs["decoder"].astype(jnp.int32)), training)
        return self.attend(self.writer(x, initial_carry=carry), memory, seen, training)

    def encode(self, inputs, training=None):
        """What was read of tokens [n, s]: [n, s, width], which of it is there [n, s], and the state that writing begins with."""
        tokens = inputs["tokens"].astype(jnp.int32)
        seen = inputs["mask"] > 0 if "mask" in inputs else (tokens != self.padding) & (tokens >= 0)
        lengths = seen.sum(1)
        x = self.drop(self.token(jnp.maximum(tokens, 0)), training)
        forth, back = self.forth(x, lengths), self.back(x, lengths)
        last = jnp.take_along_axis(forth, jnp.maximum(lengths - 1, 0)[:, None, None], 1)[:, 0]
        state = jnp.concatenate([last, back[:, 0]], -1)
        return jnp.concatenate([forth, back], -1), seen, (self.start_c(state), jnp.tanh(self.start_h(state)))

    def attend(self, states, memory, seen, training=None):
        """Logits of states [n, t, width] that look at the memory: Luong's general score and attentional vector."""
        scores = jnp.where(seen[:, None], jnp.einsum("ntd,nsd->nts", self.query(states), memory), jnp.finfo(memory.dtype).min)
        context = jnp.einsum("nts,nsd->ntd", nn.softmax(scores), memory)
        mixed = jnp.tanh(self.mix(jnp.concatenate([context, states], -1)))
        return self.head(self.drop(mixed, training))

    def extend(self, tokens, cache, lengths):
        """Tokens [n, t], of which `lengths` [n] count, -> logits after the last of them [n, vocabulary], and the cache."""
        x = self.token(tokens.astype(jnp.int32))
        carry, states = self.writer(x, initial_carry=cache["carry"], seq_lengths=lengths, return_carry=True)
        last = jnp.take_along_axis(states, lengths[:, None, None] - 1, 1)
        return self.attend(last, cache["memory"], cache["seen"])[:, 0], cache | {"carry": carry}


def sequence_to_sequence(
    vocabulary: PositiveInt,
    width: Annotated[int, Gt(0), MultipleOf(2)] = 128,
    padding: int = -1,
    start: int = 0,
    generated: PositiveInt = 32,
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
) -> Model:
    """Logits [n, t, vocabulary] of the next token of an answer `decoder` [n, t] to `tokens` [n, s], {"tokens", "decoder"}.

    An LSTM reads both ways; another writes, from what was read, and looks back at all of it before each token. Tokens of the code
    `padding`, or below 0, stand at the end of a row and are not there. Inputs, `start` and the methods `prefill`, `decode` and
    `generate` are those of `t5`; `dropout` is traced. Sutskever et al., NIPS 2014 (1409.3215); Luong et al., EMNLP 2015
    (1508.04025): global attention, score `general`, without input feeding, so that all of an answer is learned at once.
    """
    if width % 2:
        raise ValueError(f"`width` of `sequence_to_sequence` must be even, for two ways of reading; got {width}.")

    def build(dropout=0.0):
        return SequenceToSequence(vocabulary, width, padding, dropout)

    def run(variables, *inputs, method):
        return build().apply(variables, *inputs, method=method)

    def prefill(variables, inputs, room=None):
        memory, seen, carry = run(variables, inputs, method="encode")
        cache = {"memory": memory, "seen": seen, "carry": carry}
        logits, cache = run(variables, inputs["decoder"], cache, inputs["length"].astype(jnp.int32), method="extend")
        return {"logits": logits, "cache": cache}

    def decode(variables, inputs):
        one = jnp.ones_like(inputs["token"])
        logits, cache = run(variables, inputs["token"][:, None], inputs["cache"], one, method="extend")
        return {"logits": logits, "cache": cache}

    def from_inputs(variables, inputs):
        return answer_questions(prefill, decode, variables, inputs, start, generated)

    methods = {"prefill": prefill, "decode": decode, "generate": from_inputs}
    return linen(build, dropout=dropout)._replace(methods=methods, inputs={"generate": questions})
