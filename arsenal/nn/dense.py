"""A dense layer that low-rank adapters may join: Hu et al., ICLR 2022 (2106.09685)."""

import contextlib
import contextvars
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from arsenal.nn.kernels import KernelNorm, hold


class Adapters(NamedTuple):
    """Which dense layers are adapted, and how."""

    pattern: str
    """A regular expression for all of a layer's path, such as `.*/qkv`."""
    rank: int
    alpha: float
    """What is added is `alpha / rank` times the product of both matrices."""


ADAPTERS: contextvars.ContextVar[Adapters | None] = contextvars.ContextVar("ADAPTERS", default=None)


@contextlib.contextmanager
def adapt(adapters: Adapters) -> Iterator[None]:
    """While this lasts, layers whose path fits are initialised and applied with adapters."""
    before = ADAPTERS.set(adapters)
    try:
        yield
    finally:
        ADAPTERS.reset(before)


class Dense(nn.Module):
    """`x kernel + bias` over the last axis; where it is adapted, `alpha / rank (x lora_a) lora_b` more, lora_b 0 at first."""

    features: int
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    kernel_norm: KernelNorm | None = None

    @nn.compact
    def __call__(self, x):
        """[n, …, in] to [n, …, features]."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), x.dtype)
        y = x @ hold(self, kernel, self.kernel_norm)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,), x.dtype)
        adapters = ADAPTERS.get()
        if adapters is None or not re.fullmatch(adapters.pattern, "/".join(self.path)):
            return y
        first = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # as PEFT's: uniform within 1 / sqrt(in)
        a = self.param("lora_a", first, (x.shape[-1], adapters.rank), x.dtype)
        b = self.param("lora_b", nn.initializers.zeros, (adapters.rank, self.features), x.dtype)
        return y + (x @ a) @ b * jnp.asarray(adapters.alpha / adapters.rank, x.dtype)
