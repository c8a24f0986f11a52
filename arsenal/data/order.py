"""Shuffling without a permutation: a bijection of 0..n-1 that costs as much as the rows it is asked for.

A Feistel network over two mixed-radix digits (Black & Rogaway, CT-RSA 2002), walked until it lands below n.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

ROUNDS = 8


def shuffled(key: jax.Array, n: int, position: jax.Array) -> jax.Array:
    """Where each position in 0..n-1 goes, int32 of the same shape: over all positions, a permutation.

    >>> sorted(shuffled(jax.random.key(0), 5, jnp.arange(5)).tolist())
    [0, 1, 2, 3, 4]
    """
    if not 0 < n < 2**31:
        raise ValueError(f"`n` of `shuffled` must be in 1..2**31 - 1; got {n}.")
    low = math.isqrt(n - 1) + 1
    radices = (jnp.uint32(low), jnp.uint32(-(-n // low)))
    keys = jax.random.bits(key, (ROUNDS,), jnp.uint32)

    def walk(value):
        digits = [value % radices[0], value // radices[0]]
        for i in range(ROUNDS):
            this, other = i % 2, 1 - i % 2
            digits[this] = (digits[this] + mixed(digits[other] ^ keys[i]) % radices[this]) % radices[this]
        return digits[0] + digits[1] * radices[0]

    def again(value):
        return jnp.where(value < n, value, walk(value))

    value = lax.while_loop(lambda v: jnp.any(v >= n), again, walk(position.astype(jnp.uint32)))
    return value.astype(jnp.int32)


def mixed(value: jax.Array) -> jax.Array:
    """MurmurHash3's finaliser: every bit of a uint32 depends on every other."""
    value = (value ^ (value >> 16)) * jnp.uint32(0x85EBCA6B)
    value = (value ^ (value >> 13)) * jnp.uint32(0xC2B2AE35)
    return value ^ (value >> 16)
