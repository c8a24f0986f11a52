"""Attention is the formula, on every platform's route, forwards and backwards; a cache changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal.nn import SelfAttention, attend, linen
from arsenal.nn.attention import by_cudnn, by_library, by_products
from arsenal.records import batch
from arsenal.testing import check


def drawn(*shape, seed=0, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


def heads(t=5, s=7, dtype=jnp.float32):
    """q, k and v."""
    return drawn(2, t, 3, 8, dtype=dtype), drawn(2, s, 3, 8, seed=1, dtype=dtype), drawn(2, s, 3, 8, seed=2, dtype=dtype)


def formula(q, k, v, seen):
    """Loops over rows, heads and positions, in float64."""
    q, k, v = (np.asarray(part, np.float64) for part in (q, k, v))
    out = np.zeros((*q.shape[:3], v.shape[3]))
    for b, i, h in np.ndindex(*q.shape[:3]):
        at = np.flatnonzero(seen[b, h, i])
        weight = np.exp(k[b, at, h] @ q[b, i, h] / np.sqrt(q.shape[3]))
        out[b, i, h] = weight @ v[b, at, h] / weight.sum()
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, (1, 1, 1, 7), (2, 3, 5, 7)], ids=str)
def test_it_is_the_formula(causal, mask):
    q, k, v = heads()
    allowed = None if mask is None else (jax.random.bernoulli(jax.random.key(5), 0.6, mask).at[..., 0].set(True))
    seen = np.broadcast_to(True if allowed is None else allowed, (2, 3, 5, 7))
    seen = seen & np.tril(np.ones((5, 7), bool)) if causal else seen
    wanted = formula(q, k, v, seen)
    np.testing.assert_allclose(jax.jit(attend, static_argnames="causal")(q, k, v, causal=causal, mask=allowed), wanted, atol=1e-5)
    extra = {} if allowed is None else {"mask": allowed}
    np.testing.assert_allclose(jax.jit(by_library, static_argnames="causal")(q, k, v, extra, causal=causal), wanted, atol=1e-5)


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-5), (jnp.bfloat16, 0.05)])
def test_both_routes_are_one_backwards_too(dtype, tolerance):
    q, k, v = heads(t=7, dtype=dtype)

    def slope(route):
        made = jax.jit(jax.grad(lambda *qkv: jnp.square(route(*qkv, causal=True).astype(jnp.float32)).sum(), (0, 1, 2)))
        with jax.numpy_dtype_promotion("standard"):  # JAX's own backward pass in half precision needs it
            return jax.tree.map(lambda g: np.asarray(g, np.float32), made(q, k, v))

    assert jax.eval_shape(lambda: attend(q, k, v, causal=True)).dtype == dtype
    for library in (by_products, by_library, by_cudnn):  # cuDNN's steps back where it is not installed

        def route(*qkv, causal, library=library):
            return library(*qkv, {}, causal=causal)

        for got, wanted in zip(slope(attend), slope(route), strict=True):
            np.testing.assert_allclose(got, wanted, atol=tolerance * np.abs(wanted).max())


def test_a_query_that_may_look_nowhere_gives_a_number():
    q, k, v = heads()
    nowhere = jnp.zeros((1, 1, 1, 7), bool)
    np.testing.assert_allclose(jax.jit(attend)(q, k, v, mask=nowhere)[:, 0], v.mean(1), atol=1e-5)


def test_shapes_that_do_not_fit_are_told():
    q, k, v = heads()
    with pytest.raises(ValueError, match=r"k and v \[b, s, kv_heads, d\], where kv_heads divides heads; got \(2, 5, 3, 8\), \(2, 7, 3, 8\), \(2, 6, 3, 8\)"):
        attend(q, k, v[:, 1:])
    with pytest.raises(ValueError, match="`heads` of `SelfAttention` must divide `width`, 6; got 4"):
        jax.eval_shape(SelfAttention(6, 4).init, jax.random.key(0), drawn(1, 2, 6))


@pytest.mark.slow
def test_the_layer_keeps_the_laws():
    check(linen(SelfAttention(6, 2, causal=True)), batch(x=drawn(4, 5, 6), y=jnp.zeros(4)))


@pytest.mark.parametrize("pieces", [[1] * 6, [3, 2, 1]])
def test_a_cache_gives_what_the_whole_row_gives(pieces):
    layer, x = SelfAttention(8, 2, True), drawn(3, 6, 8)
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    wanted = jax.jit(layer.apply)(variables, x)
    extend = jax.jit(lambda *given: layer.apply(variables, *given, method="extend"))
    cache, at = {name: jnp.zeros((3, 2, 9, 4)) for name in "kv"}, 0
    for size in pieces:
        y, cache = extend(x[:, at : at + size], cache, jnp.full(3, at))
        np.testing.assert_allclose(y, wanted[:, at : at + size], atol=1e-5)
        at += size
