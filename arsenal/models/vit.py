"""Vision transformer: an image as a row of patches, and what a token beside them gathers. ViT and DeiT.

Dosovitskiy et al., ICLR 2021 (2010.11929); Touvron et al., ICML 2021 (2012.12877, DeiT).
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from annotated_types import Gt, Interval

from arsenal.models.transformer import check_heads
from arsenal.nn import Dense, Dropout, Layers, Sight, Stack, linen
from arsenal.nn.stack import Activation, Remat
from arsenal.records import Model

PositiveInt = Annotated[int, Gt(0)]
NEAR_ZERO = nn.initializers.normal(0.02)


class VisionTransformer(nn.Module):
    """Images [n, h, w] or [n, h, w, c] to [n, output], or to [n, width] where there are no output."""

    output: int | None
    layers: Layers
    size: tuple[int, int]
    patch: int
    pool: Literal["token", "mean"]
    distilled: bool
    dropout: Any

    @nn.compact
    def __call__(self, x, training=None):
        """Patches as one product, then the stack."""
        x = x[..., None] if x.ndim == 3 else x
        if x.shape[1:3] != self.size:
            raise ValueError(f"`vit` takes images of `size` {list(self.size)}; got {list(x.shape[1:3])}.")
        width, (rows, columns) = self.layers.width, (side // self.patch for side in self.size)
        x = x.reshape(x.shape[0], rows, self.patch, columns, self.patch, x.shape[-1])
        x = x.swapaxes(2, 3).reshape(x.shape[0], rows * columns, self.patch * self.patch * x.shape[-1])
        x = Dense(width, kernel_init=nn.initializers.lecun_normal(), name="patch")(x)
        extra = [name for name, there in (("class", self.pool == "token"), ("distillation", self.distilled)) if there]
        own = [self.param(name, NEAR_ZERO, (width,), x.dtype) for name in extra]
        x = jnp.concatenate([jnp.broadcast_to(one, (x.shape[0], 1, width)) for one in own] + [x], 1)
        x = x + self.param("position", NEAR_ZERO, x.shape[1:], x.dtype)
        x = x if self.dropout is None else Dropout(self.dropout)(x, training)
        x, _ = Stack(self.layers, self.dropout, name="stack")(x, Sight(), None, training)
        x = self.layers.make_norm("norm")(x)
        x, second = x[:, 0] if self.pool == "token" else x[:, self.distilled :].mean(1), x[:, 1]
        if self.output is None:
            return x
        y = Dense(self.output, kernel_init=NEAR_ZERO, name="head")(x)
        # Both heads of DeiT are trained apart by its recipe; the answer is the mean of theirs.
        return (y + Dense(self.output, kernel_init=NEAR_ZERO, name="distillation_head")(second)) / 2 if self.distilled else y


def vit(
    output: PositiveInt | None,
    size: PositiveInt | Sequence[PositiveInt],
    patch: PositiveInt,
    layers: PositiveInt = 4,
    heads: PositiveInt = 4,
    width: PositiveInt = 128,
    hidden: PositiveInt | None = None,
    pool: Literal["token", "mean"] = "token",
    distilled: bool = False,
    activation: Activation = "gelu",
    epsilon: Annotated[float, Gt(0)] = 1e-12,
    qkv_bias: bool = True,
    dropout: Annotated[float, Interval(ge=0, lt=1)] | None = None,
    remat: Remat = "nothing",
) -> Model:
    """Logits [n, output], or features [n, width] with `output` None, of images [n, h, w] or [n, h, w, c] of one `size`.

    An image is cut into patches of `patch` x `patch`, which must divide its `size` (one number, or height and width). What
    they say is read from a token of its own or their mean (`pool`). `distilled`: DeiT's second token, whose head the answer
    is the mean with. `dropout`, if any, is traced.
    """
    check_heads("vit", heads, width)
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or any(side % patch for side in sides):
        raise ValueError(f"`patch` of `vit` must divide `size`, height and width; got {patch} and {list(sides)}.")
    if distilled and pool != "token":
        raise ValueError("`distilled` of `vit` is a second token beside the first; `pool` must be token.")
    stack = Layers(
        width, layers, heads, hidden=hidden, activation=activation, epsilon=epsilon, qkv_bias=qkv_bias, remat=remat
    )

    def build(dropout=None):
        return VisionTransformer(output, stack, sides, patch, pool, distilled, dropout)

    def attention(variables, images):
        _, kept = build().apply(variables, images, mutable=["intermediates"])
        return kept["intermediates"]["stack"]["blocks"]["attention"]["weights"][0].swapaxes(0, 1)

    model = linen(build()) if dropout is None else linen(build, dropout=dropout)
    return model._replace(methods={"attention": attention})
