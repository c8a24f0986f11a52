"""Kernels whose size is held: by their largest singular value, or apart from their direction.

Miyato et al., ICLR 2018 (1802.05957); Salimans & Kingma, NeurIPS 2016 (1602.07868).
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

KernelNorm = Literal["spectral", "weight"]
SPECTRAL = "spectral"
"""The collection of the directions that a kernel stretches most."""


def hold(module: nn.Module, kernel: jax.Array, how: KernelNorm | None) -> jax.Array:
    """The kernel [..., out] of a layer that is being called, held as told; what that takes lies beside it.

    `spectral`: over its largest singular value as a matrix [..., out], by a power iteration in each step of training; their
    vectors are the collection `spectral` and have no gradient. `weight`: each column's direction times the parameter `gain`
    [out], which begins as the column's length. Both are PyTorch's.
    """
    if how is None:
        return kernel
    if how == "spectral":
        return kernel / largest_stretch(module, kernel)
    if how == "weight":
        axes = tuple(range(kernel.ndim - 1))
        length = jnp.sqrt(jnp.square(kernel).sum(axes))
        gain = module.param("gain", lambda key, *_: length, length.shape, kernel.dtype)
        return kernel * (gain / length)
    raise ValueError(f"`kernel_norm` must be spectral or weight; got {how}.")


def largest_stretch(module: nn.Module, kernel: jax.Array) -> jax.Array:
    """The largest singular value [] of a layer's kernel [..., out], as far as the iterations have come."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    shapes = {"u": matrix.shape[1:], "v": matrix.shape[:1]}

    def begin(shape):
        return to_length_one(jax.random.normal(module.make_rng("params"), shape, kernel.dtype))

    u, v = (module.variable(SPECTRAL, name, begin, shape) for name, shape in shapes.items())
    if module.is_mutable_collection(SPECTRAL) and not module.is_initializing():
        still = lax.stop_gradient(matrix)
        v.value = to_length_one(still @ u.value.astype(matrix.dtype))
        u.value = to_length_one(v.value @ still)
    first, second = (lax.stop_gradient(part.value).astype(matrix.dtype) for part in (v, u))
    return first @ matrix @ second


def to_length_one(x: jax.Array) -> jax.Array:
    """x [d] at length 1; of zeros, zeros."""
    return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)
