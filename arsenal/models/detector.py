"""Detection without anchors: an object is a point, its box what is said there. Zhou et al., 2019 (1904.07850)."""

import math
from collections.abc import Sequence
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, MinLen

from arsenal.models.resnet import ResidualBlock, norm
from arsenal.nn import Convolution, linen, upsample
from arsenal.nn.convolution import with_channels
from arsenal.records import Model

PositiveInt = Annotated[int, Gt(0)]
RARE = 0.1
"""How probable an object's centre is taken to be at first. Lin et al., ICCV 2017 (1708.02002), 4.1."""


class CenterNet(nn.Module):
    """Pictures [n, h, w] or [n, h, w, c] to what each cell of 4 x 4 pixels says."""

    classes: int
    widths: Sequence[int]
    depth: int

    @nn.compact
    def __call__(self, x, training=None):
        """Down by halves, up again to a quarter of the picture with what was seen there, and two heads."""
        x = with_channels("center_net", x)
        least = 2 ** len(self.widths)
        if any(size % least for size in x.shape[1:3]):
            raise ValueError(
                f"`center_net` of {len(self.widths)} `widths` takes sides of a multiple of {least}; got {x.shape[1:3]}."
            )
        x = Convolution(self.widths[0], strides=2, padding=1, name="stem")(x)
        x = jax.nn.relu(norm("stem_norm")(x, training))
        seen = []
        for level, width in enumerate(self.widths[1:]):
            for i in range(self.depth):
                x = ResidualBlock(width, 1 if i else 2, False, 1, False, name=f"down_{level}_block_{i}")(x, training)
            seen.append(x)
        x = seen.pop()
        while seen:  # the first of `seen` is at a quarter of the picture
            level = len(seen)
            x = jnp.concatenate([upsample(x), seen.pop()], -1)
            x = ResidualBlock(self.widths[level], 1, False, 1, False, name=f"up_{level}")(x, training)
        y = jax.nn.relu(Convolution(x.shape[-1], use_bias=True, name="head")(x))
        start = nn.initializers.constant(-math.log((1 - RARE) / RARE))
        heat = nn.Dense(self.classes, bias_init=start, name="heat")(y)
        distances = 4 * jnp.exp(nn.Dense(4, name="distances")(y))  # in pixels
        return {"heat": heat, "boxes": around_cells(distances)}


def around_cells(distances: jax.Array) -> jax.Array:
    """Boxes [n, h, w, 4] in pixels whose sides are so far left, above, right and below of the cells' centres."""
    across, along = (4 * jnp.arange(size, dtype=distances.dtype) + 2 for size in (distances.shape[2], distances.shape[1]))
    across, along = jnp.broadcast_to(across, distances.shape[1:3]), jnp.broadcast_to(along[:, None], distances.shape[1:3])
    return jnp.stack([across, along, across, along], -1) + distances * jnp.array([-1, -1, 1, 1], distances.dtype)


def center_net(
    classes: PositiveInt,
    widths: Annotated[Sequence[PositiveInt], MinLen(2)] = (16, 32, 64, 64),
    depth: Annotated[int, Ge(1)] = 1,
) -> Model:
    """A detector that says of each cell of 4 x 4 pixels whether an object's centre is there and where its box is.

    Pictures [n, h, w] or [n, h, w, c], sides a multiple of `2 ** len(widths)`, go down by halves through residual blocks, `depth`
    at each of `widths`, the first of which is at half the picture, and up to a quarter again. Outputs, for `center_points`: a
    dict of `heat` [n, h / 4, w / 4, classes], logits of an object's centre, and `boxes` [n, h / 4, w / 4, 4], left, top, right
    and bottom in pixels.
    """
    return linen(CenterNet(classes, tuple(widths), depth))
