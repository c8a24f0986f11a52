"""ConvNeXt: convolutional networks in the manner of transformers. Liu et al., CVPR 2022 (2201.03545)."""

import functools
from collections.abc import Sequence
from typing import Annotated, Any

import flax.linen as nn
import jax
from annotated_types import Ge, Gt, Interval, MinLen

from arsenal.nn import Convolution, LayerNorm, StochasticDepth, linen
from arsenal.nn.convolution import with_channels
from arsenal.records import Model

PositiveInt = Annotated[int, Gt(0)]


class ConvNeXtBlock(nn.Module):
    """x [n, h, w, c] and a depthwise 7 x 7 convolution of it behind a layer norm and two linear layers, added."""

    layer_scale: float
    drop: Any

    @nn.compact
    def __call__(self, x, training=None):
        """x of the same shape."""
        width = x.shape[-1]
        y = Convolution(width, (7, 7), use_bias=True, groups=width, name="depthwise")(x)
        y = jax.nn.gelu(nn.Dense(4 * width, name="up")(LayerNorm(name="norm")(y)), approximate=False)
        y = nn.Dense(width, name="down")(y)
        if self.layer_scale > 0:
            y = y * self.param("layer_scale", nn.initializers.constant(self.layer_scale), (width,), x.dtype)
        return x + StochasticDepth(self.drop)(y, training)


class ConvNeXt(nn.Module):
    """Images [n, h, w] or [n, h, w, c] to [n, output]."""

    output: int
    depths: Sequence[int]
    widths: Sequence[int]
    patch: int
    layer_scale: float
    drop: Any
    channels: int | None
    epsilon: float

    @nn.compact
    def __call__(self, x, training=None):
        """Patches, stages of blocks with a halving between them, the mean over pixels, a linear layer."""
        x = with_channels("convnext", x, self.channels)
        if min(x.shape[1:3]) < self.patch * 2 ** (len(self.depths) - 1):
            least = self.patch * 2 ** (len(self.depths) - 1)
            stages = len(self.depths)
            raise ValueError(f"`convnext` with {stages} stages needs images of {least} pixels a side; got {x.shape[1:3]}.")
        cut = functools.partial(Convolution, use_bias=True, padding="valid")
        x = LayerNorm(name="stem_norm")(cut(self.widths[0], (self.patch, self.patch), strides=self.patch, name="stem")(x))
        number, last = 0, max(1, sum(self.depths) - 1)
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            if stage:
                x = LayerNorm(name=f"halving_{stage}_norm")(x)
                x = cut(width, (2, 2), strides=2, name=f"halving_{stage}")(x)
            for i in range(depth):
                x = ConvNeXtBlock(self.layer_scale, self.drop * (number / last), name=f"stage_{stage}_block_{i}")(x, training)
                number += 1
        return nn.Dense(self.output, name="head")(LayerNorm(self.epsilon, name="norm")(x.mean((1, 2))))


def convnext(
    output: PositiveInt,
    depths: Annotated[Sequence[PositiveInt], MinLen(1)] = (3, 3, 9, 3),
    widths: Annotated[Sequence[PositiveInt], MinLen(1)] = (96, 192, 384, 768),
    patch: PositiveInt = 4,
    layer_scale: Annotated[float, Ge(0)] = 1e-6,
    drop: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    channels: PositiveInt | None = None,
    epsilon: Annotated[float, Gt(0)] = 1e-6,
) -> Model:
    """A ConvNeXt: `depths` blocks of `widths` channels in each stage, every stage but the first half as high and wide.

    The defaults are ConvNeXt-T (28,589,128 parameters for 1,000 outputs). Images are cut into patches of `patch` x `patch` first;
    1 or 2 suits small ones. What a block adds is scaled by a learned number for each channel, which begins as `layer_scale`
    (0: none), and left out of a row with a probability that grows from 0 to `drop`, traced, from the first block to the last.

    `epsilon` is that of the last norm. Inputs [n, h, w] or [n, h, w, c], of `channels` where that is told, at least
    `patch * 2 ** (stages - 1)` pixels a side; outputs [n, output].
    """
    if len(depths) != len(widths):
        raise ValueError(f"`widths` of `convnext` must be as many as `depths`, {len(depths)}; got {len(widths)}.")
    shape = (output, tuple(depths), tuple(widths), patch, layer_scale)
    return linen(lambda drop: ConvNeXt(*shape, drop, channels, epsilon), drop=drop)
