"""Convolution as the platform runs it best: shifted slices and one matrix on CPU, the library's kernel elsewhere.

Inside a compiled loop or under vmap, XLA's CPU convolution is 7 to 50 times slower than the same matrix product.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [n, h, w, in] with kernel [kh, kw, in, out], stride 1, padded with zeros to [n, h, w, out]."""
    return lax.platform_dependent(x, kernel, cpu=by_slices, default=by_library)


def by_library(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """XLA's own convolution."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def by_slices(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same sum: every shift of x beside the others, [n, h, w, kh * kw * in], times one matrix."""
    height, width = x.shape[1:3]
    kh, kw, inputs, outputs = kernel.shape
    padded = jnp.pad(x, ((0, 0), ((kh - 1) // 2, kh // 2), ((kw - 1) // 2, kw // 2), (0, 0)))
    shifts = [padded[:, i : i + height, j : j + width] for i in range(kh) for j in range(kw)]
    return jnp.concatenate(shifts, -1) @ kernel.reshape(kh * kw * inputs, outputs)


def max_pool(x: jax.Array, size: int = 2) -> jax.Array:
    """The largest of every `size` x `size` window: [n, h, w, c] to [n, h // size, w // size, c]."""
    n, height, width, channels = x.shape
    x = x[:, : height // size * size, : width // size * size]
    return x.reshape(n, height // size, size, width // size, size, channels).max((2, 4))


class Convolution(nn.Module):
    """`convolve` with a kernel of its own; no bias unless asked, since a norm usually follows."""

    features: int
    kernel_size: Sequence[int] = (3, 3)
    use_bias: bool = False

    @nn.compact
    def __call__(self, x):
        """[n, h, w, in] to [n, h, w, features]."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        y = convolve(x, self.param("kernel", nn.initializers.he_normal(), shape, x.dtype))
        return y + self.param("bias", nn.initializers.zeros, (self.features,), x.dtype) if self.use_bias else y
