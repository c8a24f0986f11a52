"""Normalisations that Flax has not: of batches by weight, which padding does not move, and Gemma's."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from arsenal.numerics.weighted import over_rows
from arsenal.numerics.wide import HALF


class BatchNorm(nn.Module):
    """`(x - mean) / sqrt(variance + epsilon) * scale + bias` over all but the last axis of x [n, ..., features].

    In training the moments are the whole batch's, rows on other devices included, weighted by row, and the running ones
    move towards them by `1 - momentum`; otherwise the running ones serve. Moments are float32 or wider, whatever x is;
    the answer is of x's type. Ioffe & Szegedy, ICML 2015 (1502.03167).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: Callable = nn.initializers.ones

    @nn.compact
    def __call__(self, x, training=None):
        """Normalised x, of the same shape."""
        features, given = x.shape[-1:], x.dtype
        x = x.astype(jnp.float32) if given in HALF else x
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features, x.dtype)
        running_variance = self.variable("batch_stats", "variance", jnp.ones, features, x.dtype)
        if training is None:
            mean, variance = running_mean.value, running_variance.value
        else:
            axes = tuple(range(x.ndim - 1))
            weight = training.weight.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
            count = over_rows(weight.sum()) * (x.size // (x.shape[0] * x.shape[-1]))
            total = jnp.maximum(count, jnp.finfo(x.dtype).tiny)
            mean = over_rows((x * weight).sum(axes)) / total
            variance = over_rows((jnp.square(x - mean) * weight).sum(axes)) / total
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
            running_variance.value = self.momentum * running_variance.value + (1 - self.momentum) * variance
        scale = self.param("scale", self.scale_init, features, x.dtype).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, features, x.dtype).astype(x.dtype)
        return ((x - mean) * (lax.rsqrt(variance + self.epsilon) * scale) + bias).astype(given)


class OffsetRMSNorm(nn.Module):
    """`x / rms(x) * (1 + scale)` over the last axis, in float32 or wider. Gemma Team 2024 (2403.08295)."""

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x):
        """x normalised, of its type."""
        scale = self.param("scale", nn.initializers.zeros, x.shape[-1:], x.dtype)
        wide = x.astype(jnp.float32 if x.dtype in HALF else x.dtype)
        wide = wide * lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + self.epsilon)
        return (wide * (1 + scale.astype(wide.dtype))).astype(x.dtype)
