"""Attention as the platform runs it best: plain softmax attention on CPU, the library's own elsewhere.

On CPU the backward pass of `jax.nn.dot_product_attention` is three times slower than that of the plain products.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from arsenal.numerics.wide import HALF


def attend(q: jax.Array, k: jax.Array, v: jax.Array, *, causal: bool = False, mask: jax.Array | None = None) -> jax.Array:
    """`softmax(q kᵀ / sqrt(d)) v`: q [b, t, heads, d] with k and v [b, s, heads, d] to [b, t, heads, d].

    `causal`: position i of q sees positions 0..i of k. `mask` bool, [b or 1, heads or 1, t or 1, s]: True where q
    may look; a query that may look nowhere looks everywhere alike. Vaswani et al., NeurIPS 2017 (1706.03762).
    """
    if k.shape != v.shape or (q.shape[0], *q.shape[2:]) != (k.shape[0], *k.shape[2:]):
        raise ValueError(f"`attend` takes q [b, t, heads, d], k and v [b, s, heads, d]; got {q.shape}, {k.shape}, {v.shape}.")
    masks = () if mask is None else (mask,)
    flash = q.dtype in HALF and q.shape[3] % 8 == 0 and q.shape[1] == k.shape[1] and mask is None
    return lax.platform_dependent(
        q, k, v, *masks,
        cpu=functools.partial(by_products, causal=causal),
        default=functools.partial(by_library, causal=causal),
        **({"cuda": functools.partial(by_cudnn, causal=causal)} if flash else {}),
    )  # fmt: skip


def by_products(q: jax.Array, k: jax.Array, v: jax.Array, *mask: jax.Array, causal: bool) -> jax.Array:
    """The formula, in [b, heads, t, d]; the softmax of half precision is taken in float32."""
    weights = attention_weights(q, k, causal=causal, mask=mask[0] if mask else None)
    return (weights.astype(v.dtype) @ v.swapaxes(1, 2)).swapaxes(1, 2)


def attention_weights(q: jax.Array, k: jax.Array, *, causal: bool = False, mask: jax.Array | None = None) -> jax.Array:
    """How much each position looks at each, `softmax(q kᵀ / sqrt(d))` [b, heads, t, s], as in `attend`; rows sum to 1."""
    q, k = q.swapaxes(1, 2), k.swapaxes(1, 2)
    real = jnp.float32 if q.dtype in HALF else q.dtype
    scores = jnp.matmul(q, k.swapaxes(2, 3), preferred_element_type=real) * q.shape[3] ** -0.5
    for seen in (*([] if mask is None else [mask]), *([lower_triangle(q.shape[2], k.shape[2])] if causal else [])):
        scores = jnp.where(seen, scores, jnp.finfo(real).min)
    return jax.nn.softmax(scores)


def by_library(q: jax.Array, k: jax.Array, v: jax.Array, *mask: jax.Array, causal: bool) -> jax.Array:
    """JAX's own attention, in XLA."""
    seen = mask[0] if mask else None
    with jax.numpy_dtype_promotion("standard"):  # strict promotion would refuse its float32 softmax of half precision
        return jax.nn.dot_product_attention(q, k, v, mask=seen, is_causal=causal, implementation="xla")


def by_cudnn(q: jax.Array, k: jax.Array, v: jax.Array, *, causal: bool) -> jax.Array:
    """cuDNN's flash attention, or XLA's where cuDNN is not there or refuses: it says so when the call is traced."""
    try:
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation="cudnn")
    except (NotImplementedError, RuntimeError):
        return by_library(q, k, v, causal=causal)


def lower_triangle(t: int, s: int) -> jax.Array:
    """[t, s] bool: row i is True up to and including column i."""
    return jnp.arange(s) <= jnp.arange(t)[:, None]


class SelfAttention(nn.Module):
    """Every position of x [n, t, width] reads the others, or with `causal` those up to itself; `heads` divides `width`."""

    width: int
    heads: int
    causal: bool = False
    kernel_init: Callable = nn.initializers.lecun_normal()
    out_init: Callable = nn.initializers.lecun_normal()

    def setup(self):
        """One matrix to queries, keys and values, one back."""
        if self.width % self.heads:
            raise ValueError(f"`heads` of `SelfAttention` must divide `width`, {self.width}; got {self.heads}.")
        self.qkv = nn.Dense(3 * self.width, kernel_init=self.kernel_init)
        self.out = nn.Dense(self.width, kernel_init=self.out_init)

    def __call__(self, x, mask=None):
        """[n, t, width] to the same; `mask` as in `attend`."""
        q, k, v = self.split_heads(x)
        if self.is_mutable_collection("intermediates"):  # only where somebody asks what it looked at
            self.sow("intermediates", "weights", attention_weights(q, k, causal=self.causal, mask=mask))
        return self.merge_heads(attend(q, k, v, causal=self.causal, mask=mask))

    def extend(self, x, cache, position):
        """The same for positions `position` [n] onwards of longer rows, whose earlier ones are in the cache.

        `cache` {"k", "v"} [n, context, heads, d] -> (answers [n, t, width], the cache with these positions); always
        causal. `position + t <= context` is the caller's affair: XLA would move the write without a word.
        """
        q, *new = self.split_heads(x)
        position = position.astype(jnp.int32)
        put = jax.vmap(lambda old, part, at: lax.dynamic_update_slice_in_dim(old, part, at, 0))
        cache = {name: put(cache[name], part, position) for name, part in zip("kv", new, strict=True)}
        here = position[:, None] + jnp.arange(x.shape[1], dtype=jnp.int32)
        seen = jnp.arange(cache["k"].shape[1], dtype=jnp.int32) <= here[:, None, :, None]
        return self.merge_heads(attend(q, cache["k"], cache["v"], mask=seen)), cache

    def split_heads(self, x):
        """Queries, keys and values, each [n, t, heads, d]."""
        parts = jnp.split(self.qkv(x), 3, -1)
        return [part.reshape(*x.shape[:2], self.heads, self.width // self.heads) for part in parts]

    def merge_heads(self, y):
        """[n, t, heads, d] to [n, t, width]."""
        return self.out(y.reshape(*y.shape[:2], self.width))
