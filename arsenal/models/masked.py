"""A vision transformer that learns without labels, by restoring the patches of a picture that were hidden from it.

He et al., CVPR 2022 (2111.06377).
"""

from collections.abc import Sequence
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Gt, Interval

from arsenal.models.dit import from_patches
from arsenal.models.transformer import check_heads
from arsenal.models.vit import NEAR_ZERO, to_patches
from arsenal.nn import Dense, Layers, Sight, Stack, grid_waves
from arsenal.records import Model, row_keys

PositiveInt = Annotated[int, Gt(0)]
TINY = 1e-6
"""Added to the variance of a patch."""


class MaskedAutoencoder(nn.Module):
    """The encoder of some patches, and the decoder that restores the others."""

    encoder: Layers
    decoder: Layers
    size: tuple[int, int]
    patch: int
    channels: int

    def setup(self):
        """A token beside the patches, two stacks, and what stands where a patch is hidden."""
        narrow = self.decoder.width
        self.project = Dense(self.encoder.width, name="patch")
        self.token = self.param("class", NEAR_ZERO, (self.encoder.width,))
        self.encode_stack, self.encode_norm = Stack(self.encoder, name="stack"), self.encoder.make_norm("norm")
        self.narrow = Dense(narrow, name="decoder_embed")
        self.mask = self.param("mask", NEAR_ZERO, (narrow,))
        self.decode_stack, self.decode_norm = Stack(self.decoder, name="decoder"), self.decoder.make_norm("decoder_norm")
        self.say = Dense(self.patch**2 * self.channels, name="out")

    def places(self, width, dtype):
        """Where patches lie, [patches, width]."""
        return grid_waves(*(side // self.patch for side in self.size), width).astype(dtype)

    def encode(self, patches, keep=None):
        """The token and the patches [n, patches, d], of which `keep` [n, k] says those that are seen: [n, 1 + k, width]."""
        x = self.project(patches)
        x = x + self.places(x.shape[2], x.dtype)
        x = x if keep is None else jnp.take_along_axis(x, keep[..., None], 1)
        token = jnp.broadcast_to(self.token.astype(x.dtype), (x.shape[0], 1, x.shape[2]))
        x, _ = self.encode_stack(jnp.concatenate([token, x], 1), Sight())
        return self.encode_norm(x)

    def restore(self, patches, noise, share):
        """What the decoder says of all patches [n, patches, d], and which were hidden, a `share` with the most noise [n,
        patches]."""
        count = patches.shape[1]
        seen = int(count * (1 - share))
        order = jnp.argsort(noise, 1)
        rank = jnp.argsort(order, 1)
        x = self.narrow(self.encode(patches, order[:, :seen]))
        blank = jnp.broadcast_to(self.mask.astype(x.dtype), (x.shape[0], count - seen, x.shape[2]))
        whole = jnp.take_along_axis(jnp.concatenate([x[:, 1:], blank], 1), rank[..., None], 1)
        whole = jnp.concatenate([x[:, :1], whole + self.places(x.shape[2], x.dtype)], 1)
        y, _ = self.decode_stack(whole, Sight())
        return self.say(self.decode_norm(y))[:, 1:], rank >= seen


def masked_autoencoder(
    size: PositiveInt | Sequence[PositiveInt],
    patch: PositiveInt = 2,
    layers: PositiveInt = 4,
    heads: PositiveInt = 4,
    width: PositiveInt = 64,
    decoder_layers: PositiveInt = 1,
    decoder_heads: PositiveInt = 4,
    decoder_width: PositiveInt = 32,
    share: Annotated[float, Interval(gt=0, lt=1)] = 0.75,
    normalized: bool = False,
    channels: PositiveInt = 1,
    epsilon: Annotated[float, Gt(0)] = 1e-12,
) -> Model:
    """Pictures x [n, h, w] or [n, h, w, c] of one `size` to a dict of what was restored of hidden patches, and the `embedding`.

    A `share` of the patches of `patch` x `patch` is hidden, drawn by row id in training and the same for all rows when it
    answers. `layers` see the others and a token; `decoder_layers` say of all patches [n, patches, patch * patch * c] what is
    there: `said`, beside the true ones, `target`, and which were hidden, `hidden` [n, patches]. With `normalized` a target is
    its patch less its mean, over its deviation. `restored` is x with what was said in the hidden places. `embedding` [n, width]
    is the mean of what the encoder makes of all patches. The loss is `hidden_error`. Widths are multiples of 4.
    """
    for name, count, wide in (("heads", heads, width), ("decoder_heads", decoder_heads, decoder_width)):
        check_heads("masked_autoencoder", count, wide)
        if wide % 4:
            raise ValueError(f"Widths of `masked_autoencoder` must be multiples of 4; got {wide}, of `{name}`.")
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or any(side % patch for side in sides):
        raise ValueError(f"`patch` of `masked_autoencoder` must divide `size`, height and width; got {patch} and {list(sides)}.")
    count = sides[0] * sides[1] // patch**2
    if not 0 < int(count * (1 - share)) < count:
        raise ValueError(f"`share` of `masked_autoencoder` must hide some of {count} patches and show one; got {share}.")
    if normalized and patch**2 * channels < 2:
        raise ValueError("`normalized` of `masked_autoencoder` needs patches of two numbers or more; got one.")
    encoder = Layers(width, layers, heads, activation="gelu", epsilon=epsilon)
    decoder = Layers(decoder_width, decoder_layers, decoder_heads, activation="gelu", epsilon=epsilon)
    module = MaskedAutoencoder(encoder, decoder, sides, patch, channels)

    def cut(x):
        patches = to_patches("masked_autoencoder", x, sides, patch)
        if patches.shape[2] != patch**2 * channels:
            raise ValueError(f"`masked_autoencoder` takes pictures of {channels} `channels`; got {x.shape}.")
        return patches

    def init(key, x):
        patches = cut(x)
        noise = jnp.zeros(patches.shape[:2], patches.dtype)
        return module.init(key, patches, noise, share, method="restore")

    def restore(variables, inputs):
        """What is said of all patches of {"x", "noise" [n, patches]}, and which were hidden."""
        said, hidden = module.apply(variables, cut(inputs["x"]), inputs["noise"], share, method="restore")
        return {"said": said, "hidden": hidden.astype(said.dtype)}

    def apply(variables, x, training=None):
        patches = cut(x)
        draw = lambda key: jax.random.uniform(key, (count,))  # noqa: E731
        if training is None:
            noise = jnp.broadcast_to(draw(jax.random.key(0)), patches.shape[:2])
        else:
            noise = jax.vmap(draw)(row_keys(training.key, training.row))
        found = restore(variables, {"x": x, "noise": noise})
        mean = patches.mean(-1, keepdims=True)
        spread = jnp.sqrt(patches.var(-1, keepdims=True, ddof=1) + TINY) if normalized else jnp.ones_like(mean)
        mean = mean if normalized else jnp.zeros_like(mean)
        whole = jnp.where(found["hidden"][..., None] > 0, found["said"] * spread + mean, patches)
        embedding = module.apply(variables, patches, method="encode")[:, 1:].mean(1)
        restored = from_patches(whole, sides, patch, channels).reshape(x.shape)
        return found | {"target": (patches - mean) / spread, "restored": restored, "embedding": embedding}, {}

    return Model(init, apply, {"restore": restore})
