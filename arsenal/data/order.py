"""Shuffling without a permutation: a bijection of 0..n-1 that costs as much as the rows it is asked for.

A Feistel network over two mixed-radix digits (Black & Rogaway, CT-RSA 2002), walked until it lands below n. And shuffling
of rows that lie in chunks, where a permutation of everything would fetch a chunk for every row.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from arsenal.data.splits import uniform

ROUNDS = 8


def shuffle_positions(key: jax.Array, n: int, position: jax.Array) -> jax.Array:
    """Where each position in 0..n-1 goes, int32 of the same shape: over all positions, a permutation.

    >>> sorted(shuffle_positions(jax.random.key(0), 5, jnp.arange(5)).tolist())
    [0, 1, 2, 3, 4]
    """
    if not 0 < n < 2**31:
        raise ValueError(f"`n` of `shuffle_positions` must be in 1..2**31 - 1; got {n}.")
    low = math.isqrt(n - 1) + 1
    radices = (jnp.uint32(low), jnp.uint32(-(-n // low)))
    keys = jax.random.bits(key, (ROUNDS,), jnp.uint32)

    def walk(value):
        digits = [value % radices[0], value // radices[0]]
        for i in range(ROUNDS):
            this, other = i % 2, 1 - i % 2
            digits[this] = (digits[this] + mix_bits(digits[other] ^ keys[i]) % radices[this]) % radices[this]
        return digits[0] + digits[1] * radices[0]

    def again(value):
        return jnp.where(value < n, value, walk(value))

    value = lax.while_loop(lambda v: jnp.any(v >= n), again, walk(position.astype(jnp.uint32)))
    return value.astype(jnp.int32)


def mix_bits(value: jax.Array) -> jax.Array:
    """MurmurHash3's finaliser: every bit of a uint32 depends on every other."""
    value = (value ^ (value >> 16)) * jnp.uint32(0x85EBCA6B)
    value = (value ^ (value >> 13)) * jnp.uint32(0xC2B2AE35)
    return value ^ (value >> 16)


def by_chunk(key: jax.Array, chunks: np.ndarray, together: int, position: np.ndarray) -> np.ndarray:
    """Where each position [m] goes when chunks come in random order and rows are shuffled among `together` of them.

    Chunk i holds the rows chunks[i]..chunks[i + 1] - 1, the first begins at 0. On the host; costs as much as the chunks and
    the rows that are at hand together, whatever is asked. int64; over all positions, a permutation.
    """
    first, second = (int(bits) for bits in np.asarray(jax.random.bits(key, (2,), jnp.uint32)))
    order = np.argsort(uniform(np.arange(len(chunks) - 1), first), kind="stable")
    begins, ends = chunks[order], chunks[order + 1]
    # Where in the epoch each group of chunks begins, and the end.
    after = np.concatenate([[0], np.cumsum(ends - begins)])
    starts = after[np.append(np.arange(0, len(order), together), len(order))]
    group = np.searchsorted(starts, position, side="right") - 1
    placed = np.empty(len(position), np.int64)
    for one in np.unique(group):
        inside = slice(one * together, (one + 1) * together)
        spans = tuple(zip(begins[inside].tolist(), ends[inside].tolist(), strict=True))
        here = group == one
        placed[here] = shuffle_spans(second, spans)[position[here] - starts[one]]
    return placed


@functools.lru_cache(2)  # one block after another asks for the same
def shuffle_spans(seed: int, spans: tuple[tuple[int, int], ...]) -> np.ndarray:
    """The rows of these spans [begin, end), shuffled."""
    rows = np.concatenate([np.arange(begin, end) for begin, end in spans])
    return rows[np.argsort(uniform(rows, seed), kind="stable")]
