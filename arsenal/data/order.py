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


CYCLE = 4096
"""Places in which the parts of a mixture come exactly by their weights, as near as this many places can be shared out."""


def by_share(key: jax.Array, begins: np.ndarray, weights: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The row at each place [m] of a stream without end, in which the rows begins[i]..begins[i + 1] - 1 come by weights[i].

    Of every `CYCLE` places each part has its share, evenly spread but for a draw within each stretch; a part goes through all of
    its rows, shuffled anew, before one comes again. On the host; a function of key and place alone. int64.
    """
    counts = share_out(weights, CYCLE)
    seed = int(jax.random.bits(jax.random.fold_in(key, 0), (), jnp.uint32))
    cycle, slot = np.divmod(np.asarray(place, np.int64), CYCLE)
    part, visit = np.empty((2, len(cycle)), np.int64)
    for one in np.unique(cycle).tolist():
        here = cycle == one
        parts, visits = spread_parts(seed, one, tuple(counts.tolist()))
        part[here], visit[here] = parts[slot[here]], one * counts[parts[slot[here]]] + visits[slot[here]]
    row = np.empty(len(visit), np.int64)
    for i, size in enumerate(np.diff(begins).tolist()):
        if counts[i]:
            epoch, at = np.divmod(visit, size)  # of all places, so that the program has one shape; those of the part are taken
            row = np.where(part == i, begins[i] + shuffle_each(jax.random.fold_in(key, i + 1), size, epoch, at), row)
    return row


@functools.lru_cache(8)
def spread_parts(seed: int, cycle: int, counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The part at each place of a cycle, and which of the part's places in it that is, one in each of the part's stretches."""
    part, visit = np.repeat(np.arange(len(counts)), counts), np.concatenate([np.arange(count) for count in counts])
    drawn = uniform(cycle * len(part) + np.arange(len(part)), seed)
    order = np.argsort((visit + drawn) / np.array(counts)[part], kind="stable")
    return part[order], visit[order]


def share_out(weights: np.ndarray, places: int) -> np.ndarray:
    """Whole numbers by weights that sum to `places`: what they round down to, and one more for the largest remainders.

    >>> share_out(np.array([0.5, 0.3, 0.2]), 4).tolist()
    [2, 1, 1]
    """
    exact = np.asarray(weights, np.float64) / np.sum(weights) * places
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: places - counts.sum()]] += 1
    return counts


def shuffle_each(key: jax.Array, n: int, epoch: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Where each position in 0..n-1 goes in its epoch, all [m]. int64."""
    return np.asarray(shuffle_pairs(key, n, epoch.astype(np.int32), position.astype(np.int32))).astype(np.int64)


@functools.partial(jax.jit, static_argnums=1)
def shuffle_pairs(key: jax.Array, n: int, epoch: jax.Array, position: jax.Array) -> jax.Array:
    """`shuffle_positions` of each position [m] by the key of its epoch [m]."""
    return jax.vmap(lambda one, at: shuffle_positions(jax.random.fold_in(key, one), n, at))(epoch, position)


@functools.lru_cache(2)  # one block after another asks for the same
def shuffle_spans(seed: int, spans: tuple[tuple[int, int], ...]) -> np.ndarray:
    """The rows of these spans [begin, end), shuffled."""
    rows = np.concatenate([np.arange(begin, end) for begin, end in spans])
    return rows[np.argsort(uniform(rows, seed), kind="stable")]
