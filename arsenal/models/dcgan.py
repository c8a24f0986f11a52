"""Convolutional players of a game: a generator that draws pictures from noise, a discriminator that judges them.

Radford et al., ICLR 2016 (1511.06434), with group norms, which see one row alone, in place of batch norms.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Gt

from arsenal.nn import Convolution, Dense, GroupNorm, TransposedConvolution, linen
from arsenal.nn.convolution import with_channels
from arsenal.nn.kernels import KernelNorm
from arsenal.records import Model

PositiveInt = Annotated[int, Gt(0)]
GROUPS = 8
"""Of channels, in a norm, where they divide them."""
LEAK = 0.2


class DCGANGenerator(nn.Module):
    """Noise [n, latent], or {"x": noise, "label" [n]}, to pictures [n, *shape]."""

    shape: tuple[int, ...]
    width: int
    halvings: int
    classes: int | None
    low: float
    high: float

    @nn.compact
    def __call__(self, inputs):
        """A small picture by one layer, then twice as high and wide again and again."""
        z = inputs
        if self.classes:
            z = jnp.concatenate([inputs["x"], jax.nn.one_hot(inputs["label"], self.classes, dtype=inputs["x"].dtype)], -1)
        channels = self.shape[2] if len(self.shape) == 3 else 1
        h, w = (side >> self.halvings for side in self.shape[:2])
        features = self.width << (self.halvings - 1)
        x = nn.Dense(h * w * features, name="stem")(z).reshape(z.shape[0], h, w, features)
        for level in reversed(range(self.halvings)):
            x = jax.nn.relu(GroupNorm(math.gcd(GROUPS, x.shape[-1]), name=f"norm_{level}")(x))
            features = self.width << (level - 1) if level else channels
            x = TransposedConvolution(features, use_bias=True, name=f"up_{level}")(x)
        y = self.low + (self.high - self.low) * (jnp.tanh(x) + 1) / 2
        return y.reshape(y.shape[0], *self.shape)


class DCGANDiscriminator(nn.Module):
    """Pictures [n, h, w] or [n, h, w, c], or {"x", "label" [n]}, to [n, 1]."""

    width: int
    halvings: int
    classes: int | None
    kernel_norm: KernelNorm | None

    @nn.compact
    def __call__(self, inputs):
        """Half as high and wide again and again, then one number; of a label what its vector says of the features."""
        x = with_channels("dcgan_discriminator", inputs["x"] if self.classes else inputs)
        if any(side % 2**self.halvings for side in x.shape[1:3]):
            raise ValueError(
                f"`dcgan_discriminator` with {self.halvings} halvings takes sides of a multiple of {2**self.halvings}; got "
                f"{x.shape[1:3]}."
            )
        for level in range(self.halvings):
            cut = Convolution(
                self.width << level, (4, 4), use_bias=True, strides=2, padding=1, kernel_norm=self.kernel_norm,
                name=f"down_{level}",
            )  # fmt: skip
            x = jax.nn.leaky_relu(cut(x), LEAK)
        x = x.reshape(x.shape[0], math.prod(x.shape[1:]))
        y = Dense(1, kernel_norm=self.kernel_norm, name="head")(x)
        if self.classes:
            y = y + (nn.Embed(self.classes, x.shape[1], name="label")(inputs["label"]) * x).sum(-1, keepdims=True)
        return y


def dcgan_generator(
    shape: Annotated[Sequence[PositiveInt], "height, width and perhaps channels"],
    width: PositiveInt = 32,
    halvings: PositiveInt = 2,
    classes: PositiveInt | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> Model:
    """Noise [n, latent] to pictures [n, *shape], [h, w] or [h, w, c], in `low`..`high`: for `adversarial`.

    From h / 2^halvings by w / 2^halvings pixels of `width * 2^(halvings - 1)` channels on, transposed convolutions of 4 x 4
    double the sides and halve the channels, behind a group norm and ReLU each. With `classes` it reads {"x": noise, "label"
    [n]}, the label as further columns of the noise: Mirza & Osindero 2014 (1411.1784).
    """
    sides = tuple(shape)
    if len(sides) not in (2, 3) or any(side % 2**halvings for side in sides[:2]):
        raise ValueError(
            f"`shape` of `dcgan_generator` is height, width and perhaps channels, sides of a multiple of {2**halvings} with "
            f"{halvings} halvings; got {list(sides)}."
        )
    if low >= high:
        raise ValueError(f"`high` of `dcgan_generator` must be above `low`, {low}; got {high}.")
    return linen(DCGANGenerator(sides, width, halvings, classes, low, high))


def dcgan_discriminator(
    width: PositiveInt = 32, halvings: PositiveInt = 2, classes: PositiveInt | None = None,
    kernel_norm: Literal["spectral", "weight"] | None = None,
) -> Model:  # fmt: skip
    """Pictures [n, h, w] or [n, h, w, c] to one number each, [n, 1]: for `adversarial`.

    Convolutions of 4 x 4, stride 2, of `width`, twice and four times as many channels and so on, with leaky ReLUs and no norm, as
    gradient penalties ask for; then one layer. With `classes` it reads {"x", "label" [n]} and adds the product of the features
    with a learned vector of the label: Miyato & Koyama, ICLR 2018 (1802.05637). `kernel_norm` holds the kernels, as in
    `arsenal.nn.Dense`.
    """
    if kernel_norm not in (None, "spectral", "weight"):
        raise ValueError(f"`kernel_norm` of `dcgan_discriminator` must be spectral or weight; got {kernel_norm}.")
    return linen(DCGANDiscriminator(width, halvings, classes, kernel_norm))
