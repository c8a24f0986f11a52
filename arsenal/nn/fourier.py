"""Numbers as waves, so that a network tells near ones apart."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp


def waves(position: jax.Array, width: int, longest: float = 10_000.0) -> jax.Array:
    """Positions or times [...] to [..., width], width even: sines, then cosines, of `position * longest^(-i / (width / 2))`.

    Vaswani et al., NeurIPS 2017 (1706.03762), in the order of diffusion models.

    >>> waves(jnp.zeros(1), 4).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    if width % 2 or width < 2:
        raise ValueError(f"`width` of `waves` must be even; got {width}.")
    rate = jnp.exp(-math.log(longest) / (width // 2) * jnp.arange(width // 2, dtype=position.dtype))
    angle = position[..., None] * rate
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def time_waves(time: jax.Array, width: int, freq_shift: int = 0, flip_sin_to_cos: bool = False) -> jax.Array:
    """How much of something is noise, `time` [n] in 0..1, as the waves [n, width] of its step among 1,000, as diffusers has them.

    With `freq_shift` 1 the slowest wave has a rate of 1 / 10,000 whatever the width; `flip_sin_to_cos` puts cosines first.
    """
    half = width // 2
    told = waves(1000 * time - 1, width, 10_000 ** (half / (half - freq_shift)))  # the least noise, time 1/1,000, is step 0
    return jnp.roll(told, half, -1) if flip_sin_to_cos else told


def grid_waves(height: int, width: int, size: int) -> jax.Array:
    """Where each place of a grid lies, [height * width, size], row by row: the waves of its column, then those of its row.

    `size` is a multiple of 4. MAE (He et al. 2021, 2111.06377) and DiT (2212.09748) have them so.

    >>> [round(float(wave), 3) for wave in grid_waves(2, 3, 4)[5]]  # row 1, column 2
    [0.909, -0.416, 0.841, 0.54]
    """
    if size % 4:
        raise ValueError(f"`size` of `grid_waves` must be a multiple of 4; got {size}.")
    rows, columns = jnp.divmod(jnp.arange(height * width), width)
    return jnp.concatenate([waves(at.astype(float), size // 2) for at in (columns, rows)], -1)


class FourierFeatures(nn.Module):
    """x [..., d] to sines and cosines of `2 π x B` [..., 2 * features]: B is drawn from N(0, scale²) by `seed` and never learned.

    Tancik et al., NeurIPS 2020 (2006.10739).
    """

    features: int
    scale: float = 1.0
    seed: int = 0

    @nn.compact
    def __call__(self, x):
        """[..., d] to [..., 2 * features]."""
        directions = jax.random.normal(jax.random.key(self.seed), (x.shape[-1], self.features), x.dtype)
        angle = 2 * math.pi * self.scale * x @ directions
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)
