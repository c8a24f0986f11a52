"""Multilayer perceptron: dense layers with a nonlinearity between them."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import flax.linen as nn
import jax
from annotated_types import Gt, Interval

from arsenal.nn import BatchNorm, Dropout, linen
from arsenal.records import Model

PositiveInt = Annotated[int, Gt(0)]
ACTIVATIONS = {"relu": jax.nn.relu, "leaky_relu": jax.nn.leaky_relu, "tanh": jax.numpy.tanh, "gelu": jax.nn.gelu}


class Perceptron(nn.Module):
    """Rows of any shape, flattened, to [n, *output]."""

    hidden: Sequence[int]
    output: Sequence[int]
    activation: str
    norm: str | None = None
    dropout: float | None = None

    @nn.compact
    def __call__(self, x, training=None):
        """x [n, ...] to [n, *output]."""
        x = x.reshape(x.shape[0], math.prod(x.shape[1:]))
        for width in self.hidden:
            x = nn.Dense(width)(x)
            x = x if self.norm is None else BatchNorm()(x, training)
            x = ACTIVATIONS[self.activation](x)
            x = x if self.dropout is None else Dropout(self.dropout)(x, training)
        x = nn.Dense(math.prod(self.output))(x)
        return x.reshape(x.shape[0], *self.output)


def perceptron(
    output: PositiveInt | Sequence[PositiveInt],
    hidden: Sequence[PositiveInt] = (128, 128),
    activation: Literal["relu", "leaky_relu", "tanh", "gelu"] = "relu",
    dropout: Annotated[float, Interval(ge=0, lt=1)] | None = None,
    norm: Literal["batch"] | None = None,
) -> Model:
    """Dense layers of widths `hidden`, then one to `output` (a count or a shape); `dropout`, if any, is traced.

    With `norm` batch, a batch norm by weight stands before each activation. Inputs [n, ...] are flattened;
    outputs are [n, *output].
    """
    if norm not in (None, "batch"):
        raise ValueError(f"`norm` of `perceptron` must be batch or none; got {norm}.")
    shape = (output,) if isinstance(output, int) else tuple(output)
    fixed = (tuple(hidden), shape, activation, norm)
    if dropout is None:
        return linen(Perceptron(*fixed))
    return linen(lambda dropout: Perceptron(*fixed, dropout), dropout=dropout)
