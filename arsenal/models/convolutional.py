"""Small convolutional classifier: convolution, batch normalisation, nonlinearity and pooling, then a dense head.

LeCun et al., Proc. IEEE 86 (1998), with batch normalisation of Ioffe & Szegedy (1502.03167).
"""

from collections.abc import Sequence
from typing import Annotated

import flax.linen as nn
import jax
from annotated_types import Gt, Interval

from arsenal.nn import BatchNorm, Convolution, Dropout, linen, max_pool
from arsenal.records import Model

PositiveInt = Annotated[int, Gt(0)]


class Convolutional(nn.Module):
    """Images [n, h, w] or [n, h, w, c] to [n, output]."""

    output: int
    channels: Sequence[int]
    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, x, training=None):
        """Every stage halves height and width."""
        x = x[..., None] if x.ndim == 3 else x
        for features in self.channels:
            x = max_pool(jax.nn.relu(BatchNorm()(Convolution(features)(x), training)))
        x = x.reshape(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3])
        x = Dropout(self.dropout)(jax.nn.relu(nn.Dense(self.hidden)(x)), training)
        return nn.Dense(self.output)(x)


def convolutional(
    output: PositiveInt,
    channels: Sequence[PositiveInt] = (16, 32),
    hidden: PositiveInt = 64,
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.25,
) -> Model:
    """A stage of 3 x 3 filters for each of `channels`, a dense layer of width `hidden`; `dropout` is traced.

    Inputs [n, h, w] or [n, h, w, c] with h and w at least `2 ** len(channels)`; outputs [n, output].
    """
    return linen(lambda dropout: Convolutional(output, tuple(channels), hidden, dropout), dropout=dropout)
