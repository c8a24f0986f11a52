"""Dropout drawn by row id: padding, accumulation and folds leave every row's mask as it was."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from arsenal.records import row_keys


class Dropout(nn.Module):
    """Zero each entry of x [n, ...] with probability `rate` in [0, 1), scale the others; `rate` may be traced.

    Srivastava et al., JMLR 15 (2014).
    """

    rate: Any = 0.5

    @nn.compact
    def __call__(self, x, training=None):
        """x itself unless training."""
        if training is None:
            return x
        keep = 1 - jnp.asarray(self.rate, x.dtype)
        draw = jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:], x.dtype))
        kept = draw(row_keys(self.make_rng("dropout"), training.row)) < keep
        return jnp.where(kept, x / keep, jnp.zeros_like(x))


class StochasticDepth(nn.Module):
    """Leave a row of x [n, ...] out with probability `rate` in [0, 1), scale the others; `rate` may be traced.

    x is what a residual block adds, so the block is as if it were not there. Huang et al., ECCV 2016 (1603.09382).
    """

    rate: Any = 0.5

    @nn.compact
    def __call__(self, x, training=None):
        """x itself unless training."""
        if training is None:
            return x
        keep = 1 - jnp.asarray(self.rate, x.dtype)
        draw = jax.vmap(lambda key: jax.random.uniform(key, (), x.dtype))
        kept = draw(row_keys(self.make_rng("dropout"), training.row)).reshape(-1, *(1,) * (x.ndim - 1)) < keep
        return jnp.where(kept, x / keep, jnp.zeros_like(x))
