"""Sources: a batch is a function of key and step, whatever was asked before."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.random import fold_in

from arsenal.data.order import shuffled
from arsenal.records import Batch, Source, batch


def arrays(rows: Batch, batch_size: int | None, shuffle: bool = True) -> Source:
    """Rows that fit in memory, an epoch at a time; the ragged last batch is filled up with rows of weight 0.

    `batch_size` None serves all rows at once, in their order.
    """
    n = len(rows.weight)
    size = n if batch_size is None else batch_size
    if not 0 < size <= n:
        raise ValueError(f"`batch_size` must be in 1..{n}, the number of training rows; got {size}.")
    rows = jax.tree.map(jnp.asarray, rows)
    per_epoch = -(-n // size)

    def at(key, block, step):
        if batch_size is None:
            return block
        position = step % per_epoch * size + jnp.arange(size, dtype=jnp.int32)
        rows = jnp.minimum(position, n - 1)
        if shuffle:
            rows = shuffled(fold_in(key, step // per_epoch), n, rows)
        taken = jax.tree.map(lambda v: v[rows], block)
        return taken._replace(weight=jnp.where(position < n, taken.weight, jnp.zeros_like(taken.weight)))

    return Source(lambda start, stop: rows, at, n, size)


def nothing() -> Source:
    """No data: for learners whose state holds the world they learn from."""
    empty = batch(weight=[1.0])
    return Source(lambda start, stop: empty, lambda key, block, step: block, None, 1)


def stream(read: Callable[[int], Batch], batch_size: int, window: int = 8) -> Source:
    """Batches read on the host as they come: `read(step)` gives that step's batch, always of `batch_size` rows.

    A block holds `window` steps; the driver asks for the next one while the device is busy with this one.
    """
    if window < 1:
        raise ValueError(f"`window` of `stream` must be >= 1; got {window}.")

    def block(start, stop):
        return jax.tree.map(lambda *parts: jnp.stack(parts), *(read(step) for step in range(start, stop)))

    return Source(block, lambda key, block, step: jax.tree.map(lambda v: v[step % window], block), None, batch_size, window)
