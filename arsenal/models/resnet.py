"""Residual networks. He et al., CVPR 2016 (1512.03385); with the norm in front, He et al., ECCV 2016 (1603.05027)."""

from collections.abc import Sequence
from typing import Annotated, Literal

import flax.linen as nn
import jax
from annotated_types import Gt, MinLen

from arsenal.nn import BatchNorm, Convolution, linen, max_pool
from arsenal.nn.convolution import with_channels
from arsenal.records import Model

PositiveInt = Annotated[int, Gt(0)]
EXPANSION = 4
"""How many times wider a bottleneck's ends are than its middle."""


class ResidualBlock(nn.Module):
    """x [n, h, w, c] and what two or three convolutions make of it, added: [n, h / stride, w / stride, features]."""

    features: int
    stride: int
    bottleneck: bool
    version: int
    zero_init: bool

    @nn.compact
    def __call__(self, x, training=None):
        """The stride is in the first 3 x 3 convolution, as in PyTorch."""
        middle = self.features // EXPANSION if self.bottleneck else self.features
        plan = [(middle, 1, 1), (middle, 3, self.stride), (self.features, 1, 1)] if self.bottleneck else [
            (middle, 3, self.stride), (self.features, 3, 1)]  # fmt: skip
        projects = self.stride > 1 or x.shape[-1] != self.features
        shortcut, y = x, x
        for i, (features, size, stride) in enumerate(plan):
            convolution = Convolution(features, (size, size), strides=stride, name=f"convolution_{i}")
            if self.version == 1:
                last = i == len(plan) - 1
                y = norm(f"norm_{i}", self.zero_init and last)(convolution(y), training)
                y = y if last else jax.nn.relu(y)
            else:
                y = jax.nn.relu(norm(f"norm_{i}")(y, training))
                shortcut = y if projects and not i else shortcut
                y = convolution(y)
        if projects:
            shortcut = Convolution(self.features, (1, 1), strides=self.stride, name="shortcut")(shortcut)
            shortcut = norm("shortcut_norm")(shortcut, training) if self.version == 1 else shortcut
        return jax.nn.relu(y + shortcut) if self.version == 1 else y + shortcut


def norm(name: str, zero: bool = False) -> BatchNorm:
    """The norm of a convolution; the last of a block may begin as nothing."""
    return BatchNorm(scale_init=nn.initializers.zeros if zero else nn.initializers.ones, name=name)


class ResNet(nn.Module):
    """Images [n, h, w] or [n, h, w, c] to [n, output]."""

    output: int
    depths: Sequence[int]
    widths: Sequence[int]
    bottleneck: bool
    version: int
    stem: str
    stem_width: int
    zero_init: bool
    channels: int | None

    @nn.compact
    def __call__(self, x, training=None):
        """Stem, stages of blocks, the mean over pixels, a linear layer."""
        x = with_channels("resnet", x, self.channels)
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = Convolution(self.stem_width, (size, size), strides=stride, name="stem")(x)
        if self.version == 1:
            x = jax.nn.relu(norm("stem_norm")(x, training))
        if self.stem == "imagenet":
            x = max_pool(x, 3, 2, 1)
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            for i in range(depth):
                block = ResidualBlock(
                    width, 2 if stage and not i else 1, self.bottleneck, self.version, self.zero_init,
                    name=f"stage_{stage}_block_{i}",
                )  # fmt: skip
                x = block(x, training)
        if self.version == 2:
            x = jax.nn.relu(norm("norm")(x, training))
        return nn.Dense(self.output, name="head")(x.mean((1, 2)))


def resnet(
    output: PositiveInt,
    depths: Annotated[Sequence[PositiveInt], MinLen(1)] = (2, 2, 2, 2),
    widths: Annotated[Sequence[PositiveInt], MinLen(1)] = (64, 128, 256, 512),
    block: Literal["basic", "bottleneck"] = "basic",
    version: Literal[1, 2] = 1,
    stem: Literal["imagenet", "small"] = "imagenet",
    stem_width: PositiveInt | None = None,
    zero_init: bool = False,
    channels: PositiveInt | None = None,
) -> Model:
    """A residual network: `depths` blocks of `widths` channels in each stage, every stage but the first half as high and wide.

    The defaults are ResNet-18 (11,689,512 parameters for 1,000 outputs); depths [3, 4, 6, 3] are ResNet-34, with `bottleneck` and
    widths [256, 512, 1024, 2048] ResNet-50. The `imagenet` stem is 7 x 7 of stride 2 and a pool, the `small` one 3 x 3 for
    images of 64 pixels or fewer. `version` 2 has norm and ReLU in front of convolutions. `zero_init` begins every block of
    version 1 as nothing: the scale of its last norm is 0. `stem_width` is that of the first middle unless given.

    Inputs [n, h, w] or [n, h, w, c], of `channels` where that is told; outputs [n, output]. Batch norm counts rows by weight.
    """
    if len(depths) != len(widths):
        raise ValueError(f"`widths` of `resnet` must be as many as `depths`, {len(depths)}; got {len(widths)}.")
    for name, value, allowed in (
        ("block", block, ("basic", "bottleneck")), ("version", version, (1, 2)), ("stem", stem, ("imagenet", "small")),
    ):  # fmt: skip
        if value not in allowed:
            raise ValueError(f"`{name}` of `resnet` must be {allowed[0]} or {allowed[1]}; got {value}.")
    if block == "bottleneck" and any(width % EXPANSION for width in widths):
        raise ValueError(f"`widths` of `resnet` with bottlenecks must be multiples of {EXPANSION}; got {list(widths)}.")
    if zero_init and version == 2:
        raise ValueError("`zero_init` of `resnet` is of version 1: a block of version 2 has no norm at its end.")
    bottleneck = block == "bottleneck"
    stem_width = stem_width or widths[0] // (EXPANSION if bottleneck else 1)
    return linen(ResNet(output, tuple(depths), tuple(widths), bottleneck, version, stem, stem_width, zero_init, channels))
