"""U-Nets: one that says what each pixel shows, and one that sees how much noise is in a picture, which diffusion learns with.

Ronneberger et al., MICCAI 2015 (1505.04597), with residual blocks, times and attention of Ho et al., NeurIPS 2020 (2006.11239).
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Interval, MinLen

from arsenal.nn import Convolution, Dropout, GroupNorm, attend, linen, upsample, waves
from arsenal.nn.convolution import with_channels
from arsenal.records import Model

PositiveInt = Annotated[int, Gt(0)]
GROUPS = 8
"""Of channels, in a norm, where they divide them."""
ZEROS = nn.initializers.zeros


def norm(x: jax.Array, name: str) -> jax.Array:
    """Group norm of x [n, h, w, c]."""
    return GroupNorm(math.gcd(GROUPS, x.shape[-1]), name=name)(x)


class TimedBlock(nn.Module):
    """x [n, h, w, c] and what two convolutions make of it and of `condition` [n, d] or None, added: [n, h, w, features]."""

    features: int
    dropout: Any

    @nn.compact
    def __call__(self, x, condition, training=None):
        """The block begins as its shortcut."""
        y = Convolution(self.features, use_bias=True, name="convolution_0")(jax.nn.silu(norm(x, "norm_0")))
        if condition is not None:
            y = y + nn.Dense(self.features, name="condition")(jax.nn.silu(condition))[:, None, None]
        y = Dropout(self.dropout)(jax.nn.silu(norm(y, "norm_1")), training)
        y = Convolution(self.features, use_bias=True, kernel_init=ZEROS, name="convolution_1")(y)
        return y + (x if x.shape[-1] == self.features else nn.Dense(self.features, name="shortcut")(x))


class PixelAttention(nn.Module):
    """Every pixel of x [n, h, w, c] reads all others, by `heads`; added, and nothing at first."""

    heads: int

    @nn.compact
    def __call__(self, x):
        """x of the same shape."""
        n, h, w, width = x.shape
        qkv = nn.Dense(3 * width, name="qkv")(norm(x, "norm")).reshape(n, h * w, 3, self.heads, width // self.heads)
        y = attend(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]).reshape(n, h, w, width)
        return x + nn.Dense(width, kernel_init=ZEROS, name="out")(y)


class UNet(nn.Module):
    """Pictures [n, h, w] or [n, h, w, c] to [n, h, w, output]; without it {"x", "time" [n], perhaps "label" [n]} to x's shape."""

    width: int
    multipliers: Sequence[int]
    blocks: int
    attention: Sequence[int]
    heads: int
    classes: int | None
    output: int | None
    dropout: Any

    @nn.compact
    def __call__(self, inputs, training=None):
        """Down, through the middle and up again, with what each level saw on the way down."""
        given = inputs["x"] if self.output is None else inputs
        x = with_channels("unet" if self.output is None else "segmentation_unet", given)
        channels, halvings = x.shape[-1], len(self.multipliers) - 1
        if any(size % 2**halvings for size in x.shape[1:3]):
            raise ValueError(
                f"A U-Net with {halvings + 1} levels takes sides of a multiple of {2**halvings}; got {x.shape[1:3]}."
            )
        condition = None if self.output else self.condition(inputs, x.dtype)

        def level(x, number, name, features):
            x = TimedBlock(features, self.dropout, name=name)(x, condition, training)
            return PixelAttention(self.heads, name=f"{name}_attention")(x) if number in self.attention else x

        x = Convolution(self.width, use_bias=True, name="stem")(x)
        seen = [x]
        for number, times in enumerate(self.multipliers):
            if number:
                x = Convolution(x.shape[-1], use_bias=True, strides=2, padding=1, name=f"down_{number}")(x)
                seen.append(x)
            for i in range(self.blocks):
                x = level(x, number, f"down_{number}_block_{i}", self.width * times)
                seen.append(x)
        x = TimedBlock(x.shape[-1], self.dropout, name="middle_0")(x, condition, training)
        x = PixelAttention(self.heads, name="middle_attention")(x)
        x = TimedBlock(x.shape[-1], self.dropout, name="middle_1")(x, condition, training)
        for number, times in reversed(list(enumerate(self.multipliers))):
            for i in range(self.blocks + 1):
                x = level(jnp.concatenate([x, seen.pop()], -1), number, f"up_{number}_block_{i}", self.width * times)
            if number:
                x = Convolution(x.shape[-1], use_bias=True, name=f"up_{number}")(upsample(x))
        y = Convolution(self.output or channels, use_bias=True, kernel_init=ZEROS, name="out")(jax.nn.silu(norm(x, "norm")))
        return y if self.output else y.reshape(given.shape)

    def condition(self, inputs, dtype):
        """What all blocks are told of the noise and the class. [n, 4 * width]."""
        wide = 4 * self.width
        told = waves(1000 * inputs["time"].astype(dtype), self.width)
        told = nn.Dense(wide, name="time_1")(jax.nn.silu(nn.Dense(wide, name="time_0")(told)))
        return told + nn.Embed(self.classes + 1, wide, name="label")(inputs["label"]) if self.classes else told


def unet(
    width: PositiveInt = 32,
    multipliers: Annotated[Sequence[PositiveInt], MinLen(1)] = (1, 2),
    blocks: PositiveInt = 1,
    attention: Sequence[Annotated[int, Ge(0)]] = (1,),
    heads: PositiveInt = 2,
    classes: PositiveInt | None = None,
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
) -> Model:
    """A U-Net: levels of `width * multiplier` channels, each half as high and wide, `blocks` residual blocks in each.

    Inputs are a dict: `x` [n, h, w] or [n, h, w, c] with sides of a multiple of `2 ** (levels - 1)`, `time` [n] in 0..1, how much
    of x is noise, and with `classes` the `label` [n], 0..classes-1, or `classes` for none. The answer has x's shape. Pixels read
    each other by `heads`, which divides their channels, in the middle and at the levels in `attention`, from 0; `dropout` is
    traced.
    """
    if width % 2:
        raise ValueError(f"`width` of `unet` must be even; got {width}.")
    return of_levels("unet", width, multipliers, blocks, attention, heads, classes, None, dropout)


def segmentation_unet(
    output: Annotated[int, Ge(2)],
    width: PositiveInt = 16,
    multipliers: Annotated[Sequence[PositiveInt], MinLen(1)] = (1, 2, 4),
    blocks: PositiveInt = 1,
    attention: Sequence[Annotated[int, Ge(0)]] = (),
    heads: PositiveInt = 2,
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
) -> Model:
    """A U-Net that says of each pixel what it shows: logits [n, h, w, output] of pictures [n, h, w] or [n, h, w, c].

    The levels are those of `unet`; in the middle pixels read each other. y [n, h, w] holds classes 0..output-1, or -1 where a
    pixel does not count, for `cross_entropy` and `focal`; `iou` and `dice` measure it.
    """
    return of_levels("segmentation_unet", width, multipliers, blocks, attention, heads, None, output, dropout)


def of_levels(name: str, width, multipliers, blocks, attention, heads, classes, output, dropout):
    """The model of these levels; ValueError where they do not fit each other."""
    wrong = [level for level in attention if level >= len(multipliers)]
    if wrong:
        raise ValueError(f"`attention` of `{name}` names levels 0..{len(multipliers) - 1}; got {wrong[0]}.")
    for level in {*attention, len(multipliers) - 1}:
        channels = width * multipliers[level]
        if channels % heads:
            raise ValueError(f"`heads` of `{name}` must divide {channels}, the channels of level {level}; got {heads}.")
    shape = (width, tuple(multipliers), blocks, tuple(attention), heads, classes, output)
    return linen(lambda dropout: UNet(*shape, dropout), dropout=dropout)
