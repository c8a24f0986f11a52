"""Attention as the platform runs it best: plain softmax attention on CPU, the library's own elsewhere.

On CPU the backward pass of `jax.nn.dot_product_attention` is three times slower than that of the plain products.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from arsenal.nn.dense import Dense
from arsenal.nn.position import Rotary, rotate
from arsenal.numerics.wide import HALF


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    causal: bool = False,
    mask: jax.Array | None = None,
    bias: jax.Array | None = None,
    scale: float | None = None,
) -> jax.Array:
    """`softmax(scale q kᵀ + bias) v`: q [b, t, heads, d] with k and v [b, s, kv_heads, d] to [b, t, heads, d].

    Heads of q share those of k and v in groups, in order: Ainslie et al. 2023 (2305.13245). `scale` None is `1 / sqrt(d)`.
    `causal`: position i of q sees positions 0..i of k. `mask` bool, [b or 1, heads or 1, t or 1, s]: True where q
    may look; a query that may look nowhere looks everywhere alike. `bias`, of the same shape, is added to what softmax
    takes. Vaswani et al., NeurIPS 2017 (1706.03762).
    """
    if k.shape != v.shape or (q.shape[0], q.shape[3]) != (k.shape[0], k.shape[3]) or q.shape[2] % k.shape[2]:
        raise ValueError(
            "`attend` takes q [b, t, heads, d], k and v [b, s, kv_heads, d], where kv_heads divides heads; got "
            f"{q.shape}, {k.shape}, {v.shape}."
        )
    extra = {name: value for name, value in (("mask", mask), ("bias", bias)) if value is not None}
    flash = q.dtype in HALF and q.shape[3] % 8 == 0 and q.shape[1] == k.shape[1] and not extra
    told: dict[str, Any] = {"causal": causal, "scale": scale}
    return lax.platform_dependent(
        q, k, v, extra,
        cpu=functools.partial(by_products, **told),
        default=functools.partial(by_library, **told),
        **({"cuda": functools.partial(by_cudnn, **told)} if flash else {}),
    )  # fmt: skip


def by_products(
    q: jax.Array, k: jax.Array, v: jax.Array, extra: dict[str, Any], *, causal: bool, scale: float | None = None
) -> jax.Array:
    """The formula, in [b, heads, t, d]; the softmax of half precision is taken in float32."""
    return by_heads(q, k.swapaxes(1, 2), v.swapaxes(1, 2), extra, causal=causal, scale=scale)


def by_heads(
    q: jax.Array, k: jax.Array, v: jax.Array, extra: dict[str, Any], *, causal: bool = False, scale: float | None = None
) -> jax.Array:
    """`by_products` of k and v [b, kv_heads, s, d]."""
    weights = weights_by_heads(q, k, causal=causal, scale=scale, **extra).astype(v.dtype)
    b, heads, t, s = weights.shape
    kv = v.shape[1]
    mixed = weights.reshape(b, kv, heads // kv * t, s) @ v
    return mixed.reshape(b, heads, t, v.shape[3]).swapaxes(1, 2)


def attend_cache(
    q: jax.Array, k: jax.Array, v: jax.Array, *, mask: jax.Array, bias: jax.Array | None = None, scale: float | None = None
) -> jax.Array:
    """`attend` of k and v [b, kv_heads, s, d], as a cache has them: on CPU none of them is moved."""
    extra = {"mask": mask} | ({} if bias is None else {"bias": bias})

    def moved(q, k, v, extra):
        return by_library(q, k.swapaxes(1, 2), v.swapaxes(1, 2), extra, causal=False, scale=scale)

    return lax.platform_dependent(q, k, v, extra, cpu=functools.partial(by_heads, scale=scale), default=moved)


def attention_weights(
    q: jax.Array,
    k: jax.Array,
    *,
    causal: bool = False,
    mask: jax.Array | None = None,
    bias: jax.Array | None = None,
    scale: float | None = None,
) -> jax.Array:
    """How much each position looks at each, [b, heads, t, s], as in `attend`; rows sum to 1."""
    return weights_by_heads(q, k.swapaxes(1, 2), causal=causal, mask=mask, bias=bias, scale=scale)


def weights_by_heads(
    q: jax.Array,
    k: jax.Array,
    *,
    causal: bool = False,
    mask: jax.Array | None = None,
    bias: jax.Array | None = None,
    scale: float | None = None,
) -> jax.Array:
    """`attention_weights` of k [b, kv_heads, s, d]."""
    b, t, heads, size = q.shape
    kv, s = k.shape[1:3]
    q = q.swapaxes(1, 2).reshape(b, kv, heads // kv * t, size)
    real = jnp.float32 if q.dtype in HALF else q.dtype
    scores = jnp.matmul(q, k.swapaxes(2, 3), preferred_element_type=real) * (size**-0.5 if scale is None else scale)
    scores = scores.reshape(b, heads, t, s)
    scores = scores if bias is None else scores + bias.astype(real)
    for seen in (*([] if mask is None else [mask]), *([lower_triangle(t, s)] if causal else [])):
        scores = jnp.where(seen, scores, jnp.finfo(real).min)
    return jax.nn.softmax(scores)


def by_library(
    q: jax.Array, k: jax.Array, v: jax.Array, extra: dict[str, Any], *, causal: bool, scale: float | None = None
) -> jax.Array:
    """JAX's own attention, in XLA."""
    with jax.numpy_dtype_promotion("standard"):  # strict promotion would refuse its float32 softmax of half precision
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal, scale=scale, implementation="xla", **extra)


def by_cudnn(
    q: jax.Array, k: jax.Array, v: jax.Array, extra: dict[str, Any], *, causal: bool, scale: float | None = None
) -> jax.Array:
    """cuDNN's flash attention, or XLA's where cuDNN is not there or refuses: it says so when the call is traced."""
    try:
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal, scale=scale, implementation="cudnn")
    except (NotImplementedError, RuntimeError):
        return by_library(q, k, v, extra, causal=causal, scale=scale)


def lower_triangle(t: int, s: int) -> jax.Array:
    """[t, s] bool: row i is True up to and including column i."""
    return jnp.arange(s) <= jnp.arange(t)[:, None]


def init_queries(init: Callable, columns: int, size: int, scale: float | None) -> Callable:
    """`init` of a kernel whose first `columns` make queries, those such that scores begin as wide as with 1 / sqrt(size).

    Where scores are multiplied by 1 the first ones would be sqrt(size) as wide, and one place would take all attention: T5's
    code divides its first queries so.
    """
    if scale is None:
        return init

    def begin(key, shape, dtype=jnp.float32):
        kernel = init(key, shape, dtype)
        return kernel.at[:, :columns].multiply(jnp.asarray(1 / (scale * size**0.5), dtype))

    return begin


class SelfAttention(nn.Module):
    """Every position of x [n, t, width] reads the others, or with `causal` those up to itself.

    `heads` of `head_size` (None: `width / heads`) share keys and values in `kv_heads` groups (None: one each). `window`:
    no position reads one that lies `window` or more away. `rotary` turns queries and keys by their positions.
    `qk_norm`: a norm over each head of queries and keys, made by this function of a name.
    """

    width: int
    heads: int
    causal: bool = False
    kernel_init: Callable = nn.initializers.lecun_normal()
    out_init: Callable = nn.initializers.lecun_normal()
    kv_heads: int | None = None
    head_size: int | None = None
    bias: bool = True
    out_bias: bool = True
    window: int | None = None
    scale: float | None = None
    rotary: Rotary | None = None
    qk_norm: Callable | None = None

    def setup(self):
        """One matrix to queries, keys and values, one back."""
        if self.head_size is None and self.width % self.heads:
            raise ValueError(f"`heads` of `SelfAttention` must divide `width`, {self.width}; got {self.heads}.")
        self.kv = self.kv_heads or self.heads
        if self.heads % self.kv:
            raise ValueError(f"`kv_heads` of `SelfAttention` must divide `heads`, {self.heads}; got {self.kv}.")
        self.size = self.head_size or self.width // self.heads
        first = init_queries(self.kernel_init, self.heads * self.size, self.size, self.scale)
        self.qkv = Dense((self.heads + 2 * self.kv) * self.size, self.bias, kernel_init=first)
        self.out = Dense(self.width, self.out_bias, kernel_init=self.out_init)
        if self.qk_norm is not None:
            self.q_norm, self.k_norm = self.qk_norm("q_norm"), self.qk_norm("k_norm")

    def __call__(self, x, mask=None, bias=None, positions=None):
        """[n, t, width] to the same; `mask` and `bias` as in `attend`, `positions` [n or 1, t] for `rotary`, 0.. if None."""
        t = x.shape[1]
        q, k, v = self.split_heads(x, jnp.arange(t)[None] if positions is None else positions)
        if self.window is not None and self.window < t:
            near = jnp.abs(jnp.arange(t) - jnp.arange(t)[:, None]) < self.window
            mask = near[None, None] if mask is None else mask & near
        if self.is_mutable_collection("intermediates"):  # only where somebody asks what it looked at
            weights = attention_weights(q, k, causal=self.causal, mask=mask, bias=bias, scale=self.scale)
            self.sow("intermediates", "weights", weights)
            self.sow("intermediates", "keys", k)
            self.sow("intermediates", "values", v)
        return self.merge_heads(attend(q, k, v, causal=self.causal, mask=mask, bias=bias, scale=self.scale))

    def extend(self, x, cache, position, bias=None):
        """The same for positions `position` [n] onwards of longer rows, whose earlier ones are in the cache.

        `cache` {"k", "v"} [n, kv_heads, room, d] -> (answers [n, t, width], the cache with these positions); always causal.
        What lies beyond the room is not kept.
        """
        here = position.astype(jnp.int32)[:, None] + jnp.arange(x.shape[1], dtype=jnp.int32)
        q, *new = self.split_heads(x, here)
        rows = jnp.arange(x.shape[0], dtype=jnp.int32)[:, None]
        cache = {name: cache[name].at[rows, :, here].set(part) for name, part in zip("kv", new, strict=True)}
        there, at = jnp.arange(cache["k"].shape[2], dtype=jnp.int32), here[:, None, :, None]
        seen = there <= at
        if self.window is not None:
            seen = seen & (at - there < self.window)
        return self.merge_heads(attend_cache(q, cache["k"], cache["v"], mask=seen, bias=bias, scale=self.scale)), cache

    def split_heads(self, x, positions):
        """Queries [n, t, heads, d], keys and values [n, t, kv_heads, d]."""
        cuts = (self.heads * self.size, (self.heads + self.kv) * self.size)
        q, k, v = (part.reshape(*x.shape[:2], -1, self.size) for part in jnp.split(self.qkv(x), cuts, -1))
        if self.qk_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rotary is not None:
            q, k = rotate(q, positions, self.rotary), rotate(k, positions, self.rotary)
        return q, k, v

    def merge_heads(self, y):
        """[n, t, heads, d] to [n, t, width]."""
        return self.out(y.reshape(*y.shape[:2], self.heads * self.size))


class CrossAttention(nn.Module):
    """Every position of x [n, t, width] reads a memory [n, s, any width]."""

    width: int
    heads: int
    head_size: int | None = None
    bias: bool = True
    scale: float | None = None
    kernel_init: Callable = nn.initializers.lecun_normal()
    out_init: Callable = nn.initializers.lecun_normal()

    def setup(self):
        """Queries of x; keys and values of the memory."""
        self.size = self.head_size or self.width // self.heads
        inner = self.heads * self.size
        self.query = Dense(inner, self.bias, kernel_init=init_queries(self.kernel_init, inner, self.size, self.scale))
        self.key_value = Dense(2 * inner, self.bias, kernel_init=self.kernel_init)
        self.out = Dense(self.width, self.bias, kernel_init=self.out_init)

    def read(self, memory) -> dict[str, Any]:
        """Keys and values of a memory, {"k", "v"} [n, s, heads, d]."""
        parts = jnp.split(self.key_value(memory), 2, -1)
        return {name: part.reshape(*memory.shape[:2], self.heads, self.size) for name, part in zip("kv", parts, strict=True)}

    def __call__(self, x, read, mask=None):
        """x [n, t, width] to the same; `read` as `read` gives it, `mask` [n or 1, 1, 1, s] as in `attend`."""
        q = self.query(x).reshape(*x.shape[:2], self.heads, self.size)
        y = attend(q, read["k"], read["v"], mask=mask, scale=self.scale)
        return self.out(y.reshape(*y.shape[:2], self.heads * self.size))
