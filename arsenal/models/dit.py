"""A transformer that sees a picture's patches, how much noise is in it, and perhaps its class: what diffusion learns with.

Peebles & Xie, ICCV 2023 (2212.09748).
"""

from collections.abc import Sequence
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Gt, Interval

from arsenal.models.transformer import check_heads
from arsenal.models.unet import check_label
from arsenal.models.vit import NEAR_ZERO, to_patches
from arsenal.nn import Dense, Layers, Sight, Stack, grid_waves, linen, time_waves
from arsenal.records import Model

PositiveInt = Annotated[int, Gt(0)]
TIMES = 256
"""Waves that a time is told in."""
ZEROS = nn.initializers.zeros


class DiffusionTransformer(nn.Module):
    """{"x" [n, h, w] or [n, h, w, c], "time" [n], perhaps "label" [n]} to x's shape."""

    layers: Layers
    size: tuple[int, int]
    patch: int
    classes: int | None
    dropout: Any

    @nn.compact
    def __call__(self, inputs, training=None):
        """Patches as one product, the stack, one more norm that the condition moves, patches again."""
        given, o = inputs["x"], self.layers
        rows, columns = (side // self.patch for side in self.size)
        x = Dense(o.width, name="patch")(to_patches("dit", given, self.size, self.patch))
        x = x + grid_waves(rows, columns, o.width).astype(x.dtype)
        time = time_waves(inputs["time"].astype(x.dtype), TIMES, freq_shift=1, flip_sin_to_cos=True)
        time = Dense(o.width, kernel_init=NEAR_ZERO, name="time_0")(time)
        condition = Dense(o.width, kernel_init=NEAR_ZERO, name="time_1")(jax.nn.silu(time))
        check_label("dit", inputs, self.classes)
        if self.classes:
            condition = condition + nn.Embed(self.classes + 1, o.width, embedding_init=NEAR_ZERO, name="label")(inputs["label"])
        x, _ = Stack(o, self.dropout, name="stack")(x, Sight(condition=condition), None, training)
        said = Dense(2 * o.width, kernel_init=ZEROS, name="modulation")(jax.nn.silu(condition))
        shift, scale = jnp.split(said[:, None], 2, -1)
        x = o.make_norm("norm")(x) * (1 + scale) + shift
        channels = given.shape[3] if given.ndim == 4 else 1
        y = Dense(self.patch**2 * channels, kernel_init=ZEROS, name="out")(x)
        return from_patches(y, self.size, self.patch, channels).reshape(given.shape)


def from_patches(y: Any, size: tuple[int, int], patch: int, channels: int) -> Any:
    """The way back of `to_patches`: [n, patches, patch * patch * c] to images [n, h, w, c]."""
    n, (rows, columns) = y.shape[0], (side // patch for side in size)
    y = y.reshape(n, rows, columns, patch, patch, channels).swapaxes(2, 3)
    return y.reshape(n, rows * patch, columns * patch, channels)


def dit(
    size: PositiveInt | Sequence[PositiveInt],
    patch: PositiveInt = 2,
    layers: PositiveInt = 4,
    heads: PositiveInt = 4,
    width: PositiveInt = 64,
    hidden: PositiveInt | None = None,
    classes: PositiveInt | None = None,
    dropout: Annotated[float, Interval(ge=0, lt=1)] | None = None,
) -> Model:
    """A diffusion transformer: patches of `patch` x `patch` pixels that see each other, adaLN-zero in every layer.

    Inputs are a dict: `x` [n, h, w] or [n, h, w, c] of `size` (one number, or height and width), `time` [n] in 0..1, how much
    of x is noise, and with `classes` the `label` [n], 0..classes-1, or `classes` for none. The answer has x's shape and is 0 at
    first. x may be a picture or the latents of one. `width` is a multiple of 4; `dropout`, if any, is traced. DiT-XL is 28
    layers of 16 heads and width 1,152.
    """
    check_heads("dit", heads, width)
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or any(side % patch for side in sides):
        raise ValueError(f"`patch` of `dit` must divide `size`, height and width; got {patch} and {list(sides)}.")
    if width % 4:
        raise ValueError(f"`width` of `dit` must be a multiple of 4; got {width}.")
    stack = Layers(width, layers, heads, hidden=hidden, epsilon=1e-6, modulated=True, spread=None)

    def build(dropout=None):
        return DiffusionTransformer(stack, sides, patch, classes, dropout)

    return linen(build()) if dropout is None else linen(build, dropout=dropout)
