"""Recurrent networks over sequences of vectors or tokens."""

from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from annotated_types import Gt, Interval

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
