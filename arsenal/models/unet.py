"""U-Nets: one that says what each pixel shows, and one that sees how much noise is in a picture, which diffusion learns with.

Ronneberger et al., MICCAI 2015 (1505.04597), with residual blocks, times and attention of Ho et al., NeurIPS 2020 (2006.11239).
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Interval, MinLen

from arsenal.nn import Convolution, Dropout, GroupNorm, attend, linen, time_waves, upsample
from arsenal.nn.convolution import with_channels
from arsenal.records import Model

PositiveInt = Annotated[int, Gt(0)]
ZEROS = nn.initializers.zeros


class Grouped(NamedTuple):
    """Group norm of x [n, h, w, c]: `groups` of channels where they divide them, else as many as do."""

    groups: int = 8
    epsilon: float = 1e-6

    def __call__(self, x: jax.Array, name: str) -> jax.Array:
        """x of the same shape."""
        return GroupNorm(math.gcd(self.groups, x.shape[-1]), epsilon=self.epsilon, name=name)(x)


EIGHT = Grouped()


class TimedBlock(nn.Module):
    """x [n, h, w, c] and what two convolutions make of it and of `condition` [n, d] or None, added: [n, h, w, features]."""

    features: int
    norm: Grouped
    dropout: Any

    @nn.compact
    def __call__(self, x, condition, training=None):
        """The block begins as its shortcut."""
        y = Convolution(self.features, use_bias=True, name="convolution_0")(jax.nn.silu(self.norm(x, "norm_0")))
        if condition is not None:
            y = y + nn.Dense(self.features, name="condition")(jax.nn.silu(condition))[:, None, None]
        y = Dropout(self.dropout)(jax.nn.silu(self.norm(y, "norm_1")), training)
        y = Convolution(self.features, use_bias=True, kernel_init=ZEROS, name="convolution_1")(y)
        return y + (x if x.shape[-1] == self.features else nn.Dense(self.features, name="shortcut")(x))


class PixelAttention(nn.Module):
    """Every pixel of x [n, h, w, c] reads all others, by `heads`; added, and nothing at first."""

    heads: int
    norm: Grouped

    @nn.compact
    def __call__(self, x):
        """x of the same shape."""
        n, h, w, width = x.shape
        qkv = nn.Dense(3 * width, name="qkv")(self.norm(x, "norm")).reshape(n, h * w, 3, self.heads, width // self.heads)
        y = attend(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]).reshape(n, h, w, width)
        return x + nn.Dense(width, kernel_init=ZEROS, name="out")(y)


def check_label(name: str, inputs: Any, classes: int | None) -> None:
    """ValueError for a label that nothing would read."""
    if "label" in inputs and not classes:
        raise ValueError(f"`{name}` must have `classes` to read a label; give it and its learner the same, or null.")


class UNet(nn.Module):
    """Pictures [n, h, w] or [n, h, w, c] to [n, h, w, output]; without it {"x", "time" [n], perhaps "label" [n]} to x's shape."""

    width: int
    multipliers: Sequence[int]
    blocks: int
    attention: Sequence[int]
    heads: int | None
    head_size: int | None
    classes: int | None
    output: int | None
    norm: Grouped
    downsample_padding: int
    freq_shift: int
    flip_sin_to_cos: bool
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

        def block(x, name, features):
            return TimedBlock(features, self.norm, self.dropout, name=name)(x, condition, training)

        def attention(x, name):
            return PixelAttention(self.heads or x.shape[-1] // self.head_size, self.norm, name=name)(x)

        def level(x, number, name, features):
            x = block(x, name, features)
            return attention(x, f"{name}_attention") if number in self.attention else x

        # Without padding one pixel is missing below and at the right, as in Ho et al.'s own code.
        padding: Any = self.downsample_padding or ((0, 1), (0, 1))

        x = Convolution(self.width, use_bias=True, name="stem")(x)
        seen = [x]
        for number, times in enumerate(self.multipliers):
            if number:
                x = Convolution(x.shape[-1], use_bias=True, strides=2, padding=padding, name=f"down_{number}")(x)
                seen.append(x)
            for i in range(self.blocks):
                x = level(x, number, f"down_{number}_block_{i}", self.width * times)
                seen.append(x)
        x = attention(block(x, "middle_0", x.shape[-1]), "middle_attention")
        x = block(x, "middle_1", x.shape[-1])
        for number, times in reversed(list(enumerate(self.multipliers))):
            for i in range(self.blocks + 1):
                x = level(jnp.concatenate([x, seen.pop()], -1), number, f"up_{number}_block_{i}", self.width * times)
            if number:
                x = Convolution(x.shape[-1], use_bias=True, name=f"up_{number}")(upsample(x))
        y = Convolution(self.output or channels, use_bias=True, kernel_init=ZEROS, name="out")(jax.nn.silu(self.norm(x, "norm")))
        return y if self.output else y.reshape(given.shape)

    def condition(self, inputs, dtype):
        """What all blocks are told of the noise and the class. [n, 4 * width]."""
        wide = 4 * self.width
        told = time_waves(inputs["time"].astype(dtype), self.width, self.freq_shift, self.flip_sin_to_cos)
        told = nn.Dense(wide, name="time_1")(jax.nn.silu(nn.Dense(wide, name="time_0")(told)))
        check_label("unet", inputs, self.classes)
        return told + nn.Embed(self.classes + 1, wide, name="label")(inputs["label"]) if self.classes else told


def unet(
    width: PositiveInt = 32,
    multipliers: Annotated[Sequence[PositiveInt], MinLen(1)] = (1, 2),
    blocks: PositiveInt = 1,
    attention: Sequence[Annotated[int, Ge(0)]] = (1,),
    heads: PositiveInt | None = 2,
    head_size: PositiveInt | None = None,
    classes: PositiveInt | None = None,
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    groups: PositiveInt = 8,
    epsilon: Annotated[float, Gt(0)] = 1e-6,
    downsample_padding: Annotated[int, Interval(ge=0, le=1)] = 1,
    freq_shift: Annotated[int, Interval(ge=0, le=1)] = 0,
    flip_sin_to_cos: bool = False,
) -> Model:
    """A U-Net: levels of `width * multiplier` channels, each half as high and wide, `blocks` residual blocks in each.

    Inputs are a dict: `x` [n, h, w] or [n, h, w, c] with sides of a multiple of `2 ** (levels - 1)`, `time` [n] in 0..1, how much
    of x is noise, and with `classes` the `label` [n], 0..classes-1, or `classes` for none. The answer has x's shape. Pixels read
    each other by `heads`, which divides their channels, or by heads of `head_size` channels each, in the middle and at the levels
    in `attention`, from 0; `dropout` is traced.

    Norms are of `groups` of channels. The last three are as `UNet2DModel` of diffusers calls them: one pixel of zeros around what
    is halved, or with 0 one below and at the right; how times are told, as in `nn.time_waves`.
    """
    if width % 2 or width == 2 * freq_shift:
        raise ValueError(f"`width` of `unet` must be even{' and 4 or more' if freq_shift else ''}; got {width}.")
    if (heads is None) == (head_size is None):
        raise ValueError(f"`unet` takes `heads` or `head_size`, and null for the other; got {heads} and {head_size}.")
    shape = (width, multipliers, blocks, attention, heads, head_size, classes)
    return of_levels("unet", *shape, None, dropout, Grouped(groups, epsilon), downsample_padding, freq_shift, flip_sin_to_cos)


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
    return of_levels("segmentation_unet", width, multipliers, blocks, attention, heads, None, None, output, dropout)


def of_levels(
    name: str, width, multipliers, blocks, attention, heads, head_size, classes, output, dropout, norm=EIGHT,
    downsample_padding=1, freq_shift=0, flip_sin_to_cos=False,
):  # fmt: skip
    """The model of these levels; ValueError where they do not fit each other."""
    wrong = [level for level in attention if level >= len(multipliers)]
    if wrong:
        raise ValueError(f"`attention` of `{name}` names levels 0..{len(multipliers) - 1}; got {wrong[0]}.")
    for level in {*attention, len(multipliers) - 1}:
        channels = width * multipliers[level]
        if channels % (heads or head_size):
            word = "heads" if heads else "head_size"
            got = heads or head_size
            raise ValueError(f"`{word}` of `{name}` must divide {channels}, the channels of level {level}; got {got}.")
    shape = (width, tuple(multipliers), blocks, tuple(attention), heads, head_size, classes, output, norm)
    told = (downsample_padding, freq_shift, bool(flip_sin_to_cos))
    return linen(lambda dropout: UNet(*shape, *told, dropout), dropout=dropout)
