"""Where a token stands: rotations of queries and keys, waves, and biases of attention by distance."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.numerics.wide import HALF


class Rotary(NamedTuple):
    """Rotary positions. Su et al. 2021 (2104.09864), the halves of a head turned against each other, as GPT-NeoX has it."""

    theta: float = 10_000.0
    share: float = 1.0
    """Of a head, what is turned."""
    scaling: Literal["linear", "llama3"] | None = None
    """`linear`: positions divided by `factor`, Chen et al. 2023 (2306.15595); `llama3`: long waves only, Grattafiori et al.
    2024 (2407.21783)."""
    factor: float = 1.0
    low: float = 1.0
    """`llama3`: waves that turn fewer than so many times in the first context are divided by `factor`;"""
    high: float = 4.0
    """those that turn more often than this are left alone."""
    context: int = 8192
    """`llama3`: the first context, before it was made longer."""


def frequencies(rotary: Rotary, size: int) -> np.ndarray:
    """Radians per position of each pair of a head of `size`, [size * share / 2] float64."""
    turned = int(size * rotary.share)
    found = rotary.theta ** -(np.arange(0, turned, 2) / turned)
    if rotary.scaling == "linear":
        return found / rotary.factor
    if rotary.scaling == "llama3":
        turns = rotary.context * found / (2 * math.pi)
        smooth = np.clip((turns - rotary.low) / (rotary.high - rotary.low), 0, 1)
        return found * (smooth + (1 - smooth) / rotary.factor)
    return found


def rotate(x: jax.Array, positions: jax.Array, rotary: Rotary) -> jax.Array:
    """x [n, t, heads, d] turned by its positions [n or 1, t]; angles and their sines are float32 or wider."""
    real = jnp.float32 if x.dtype in HALF else x.dtype
    angle = positions.astype(real)[..., None, None] * jnp.asarray(frequencies(rotary, x.shape[3]), real)
    cos, sin = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
    half = angle.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin, rest], -1)


def sinusoids(context: int, width: int) -> np.ndarray:
    """Waves [context, width] float32: sines in even columns, cosines in odd ones. Vaswani et al. 2017, section 3.5."""
    angle = np.arange(context)[:, None] / 10_000 ** (np.arange(0, width, 2) / width)
    waves = np.zeros((context, width), np.float32)
    waves[:, 0::2], waves[:, 1::2] = np.sin(angle), np.cos(angle[:, : width // 2])
    return waves


def slopes(heads: int) -> np.ndarray:
    """How fast each head's attention falls with distance, [heads]. Press et al., ICLR 2022 (2108.12409)."""
    whole = 2 ** math.floor(math.log2(heads))
    found = 2.0 ** (-8 / whole * np.arange(1, whole + 1))
    between = 2.0 ** (-4 / whole * np.arange(1, 2 * (heads - whole), 2))
    return np.concatenate([found, between]).astype(np.float32)


def linear_biases(heads: int, here: jax.Array, there: jax.Array) -> jax.Array:
    """ALiBi: biases [n or 1, heads, t, s] of positions `here` [n or 1, t] that look at `there` [s] behind them."""
    distance = (there - here[..., None]).astype(jnp.float32)
    return jnp.asarray(slopes(heads))[None, :, None, None] * distance[:, None]


def relative_buckets(distance: jax.Array, buckets: int, furthest: int, causal: bool) -> jax.Array:
    """The bucket 0..buckets-1 of a distance (there less here): single steps first, then ever wider ones to `furthest`.

    Where not `causal`, half of the buckets are for what lies ahead. Raffel et al. 2020 (1910.10683), section 2.1.
    """
    ahead = jnp.zeros_like(distance)
    if causal:
        back = -jnp.minimum(distance, 0)
    else:
        buckets //= 2
        ahead = jnp.where(distance > 0, buckets, 0)
        back = jnp.abs(distance)
    single = buckets // 2
    wide = jnp.log(jnp.maximum(back, 1).astype(jnp.float32) / single) / math.log(furthest / single) * (buckets - single)
    far = jnp.minimum(single + wide.astype(jnp.int32), buckets - 1)
    return ahead + jnp.where(back < single, back, far)
