"""EfficientNet: inverted bottlenecks that are scaled in width and depth together. Tan & Le, ICML 2019 (1905.11946)."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
from annotated_types import Gt, Interval, MinLen

from arsenal.nn import BatchNorm, Convolution, Dropout, SqueezeExcite, StochasticDepth, linen
from arsenal.nn.convolution import with_channels
from arsenal.records import Model

PositiveInt = Annotated[int, Gt(0)]
PositiveInts = Annotated[Sequence[PositiveInt], MinLen(1)]
UNIT = 8
"""Channels come in multiples of it."""


class InvertedBlock(NamedTuple):
    """What a block of the network is."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expansion: int
    adds: bool
    """Whether it is added to what it reads: all but the first of a stage."""


def scale_width(channels: int, width: float) -> int:
    """Channels times `width`, to the nearest multiple of 8 that takes away at most a tenth.

    >>> scale_width(32, 1.1), scale_width(16, 1.1)
    (32, 16)
    """
    wanted = channels * width
    found = max(UNIT, int(wanted + UNIT / 2) // UNIT * UNIT)
    return found + UNIT if found < 0.9 * wanted else found


def plan_blocks(
    width: float, depth: float, stem_width: int, widths: Sequence[int], kernels: Sequence[int], strides: Sequence[int],
    repeats: Sequence[int], expansions: Sequence[int],
) -> list[InvertedBlock]:  # fmt: skip
    """All blocks, one after another."""
    found, inputs = [], scale_width(stem_width, width)
    for channels, kernel, stride, repeat, expansion in zip(widths, kernels, strides, repeats, expansions, strict=True):
        outputs = scale_width(channels, width)
        for number in range(math.ceil(depth * repeat)):
            found.append(InvertedBlock(inputs, outputs, kernel, 1 if number else stride, expansion, number > 0))
            inputs = outputs
    return found


def same_margins(x: Any, size: int, stride: int) -> Any:
    """Zeros around x for a kernel of `size` so that its last places are whole: TensorFlow's `same`, which looks at x's sides."""
    found = []
    for side in x.shape[1:3]:
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        found.append((total // 2, total - total // 2))
    return found


class MobileBlock(nn.Module):
    """x [n, h, w, c] made wider, a depthwise convolution, its channels weighed, narrower again, perhaps added to x."""

    block: InvertedBlock
    squeeze: float
    drop: Any

    @nn.compact
    def __call__(self, x, training=None):
        """[n, h / stride, w / stride, outputs]."""
        o, y = self.block, x
        wide = o.inputs * o.expansion
        if o.expansion > 1:
            y = jax.nn.silu(norm("expand_norm")(Convolution(wide, (1, 1), name="expand")(y), training))
        size = (o.kernel, o.kernel)
        pads = same_margins(y, o.kernel, o.stride)
        y = Convolution(wide, size, strides=o.stride, padding=pads, groups=wide, name="depthwise")(y)
        y = jax.nn.silu(norm("depthwise_norm")(y, training))
        y = SqueezeExcite(max(1, int(o.inputs * self.squeeze)), jax.nn.silu, name="squeeze_excite")(y)
        y = norm("project_norm")(Convolution(o.outputs, (1, 1), name="project")(y), training)
        return x + StochasticDepth(self.drop)(y, training) if o.adds else y


def norm(name: str) -> BatchNorm:
    """The norm of a convolution."""
    return BatchNorm(0.99, 1e-3, name=name)


class EfficientNet(nn.Module):
    """Images [n, h, w] or [n, h, w, c] to [n, output]."""

    output: int
    blocks: Sequence[InvertedBlock]
    stem: str
    stem_width: int
    head_width: int
    squeeze: float
    channels: int | None
    size: int | None
    dropout: Any
    drop: Any

    @nn.compact
    def __call__(self, x, training=None):
        """Stem, blocks, one more convolution, the mean over pixels, a linear layer."""
        x = with_channels("efficientnet", x, self.channels)
        if self.size is not None and x.shape[1:3] != (self.size, self.size):
            raise ValueError(f"`efficientnet` takes images of `size` {self.size}; got {list(x.shape[1:3])}.")
        stride = 2 if self.stem == "imagenet" else 1
        x = Convolution(self.stem_width, (3, 3), strides=stride, padding=same_margins(x, 3, stride), name="stem")(x)
        x = jax.nn.silu(norm("stem_norm")(x, training))
        for number, block in enumerate(self.blocks):
            drop = self.drop * (number / len(self.blocks))
            x = MobileBlock(block, self.squeeze, drop, name=f"block_{number}")(x, training)
        x = jax.nn.silu(norm("top_norm")(Convolution(self.head_width, (1, 1), name="top")(x), training))
        return nn.Dense(self.output, name="head")(Dropout(self.dropout)(x.mean((1, 2)), training))


def efficientnet(
    output: PositiveInt,
    width: Annotated[float, Gt(0)] = 1.0,
    depth: Annotated[float, Gt(0)] = 1.0,
    widths: PositiveInts = (16, 24, 40, 80, 112, 192, 320),
    kernels: PositiveInts = (3, 3, 5, 3, 5, 5, 3),
    strides: PositiveInts = (1, 2, 2, 2, 1, 2, 1),
    repeats: PositiveInts = (1, 2, 2, 3, 3, 4, 1),
    expansions: PositiveInts = (1, 6, 6, 6, 6, 6, 6),
    stem: Literal["imagenet", "small"] = "imagenet",
    stem_width: PositiveInt = 32,
    head_width: PositiveInt = 1280,
    squeeze: Annotated[float, Gt(0)] = 0.25,
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
    drop: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
    channels: PositiveInt | None = None,
    size: PositiveInt | None = None,
) -> Model:
    """An EfficientNet: stages of inverted bottlenecks with squeeze-excite, all channels times `width`, all repeats times `depth`.

    The defaults are EfficientNet-B0 (5,288,548 parameters for 1,000 outputs); B1 to B7 are width and depth (1.0, 1.1), (1.1,
    1.2), (1.2, 1.4), (1.4, 1.8), (1.6, 2.2), (1.8, 2.6), (2.0, 3.1). A stage has its number of `widths`, `kernels`, `strides`,
    `repeats` and `expansions`, how many times wider a block is inside. The `small` stem keeps the sides, for images of 64
    pixels or fewer. Padding is TensorFlow's, which the published weights were made with. `dropout`, before the last layer, and
    `drop`, with which blocks are left out of a row, growing from 0 to it, are traced.

    Inputs [n, h, w] or [n, h, w, c], of `channels` and of `size` where they are told; outputs [n, output].
    """
    lists = {"widths": widths, "kernels": kernels, "strides": strides, "repeats": repeats, "expansions": expansions}
    for name, given in lists.items():
        if len(given) != len(widths):
            raise ValueError(f"`{name}` of `efficientnet` must be as many as `widths`, {len(widths)}; got {len(given)}.")
    if stem not in ("imagenet", "small"):
        raise ValueError(f"`stem` of `efficientnet` must be imagenet or small; got {stem}.")
    blocks = tuple(plan_blocks(width, depth, stem_width, widths, kernels, strides, repeats, expansions))
    ends = (stem, scale_width(stem_width, width), scale_width(head_width, width), squeeze, channels, size)
    return linen(lambda dropout, drop: EfficientNet(output, blocks, *ends, dropout, drop), dropout=dropout, drop=drop)
