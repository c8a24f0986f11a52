"""Sources: a batch is a function of key and step, whatever was asked before."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.random import fold_in

from arsenal.data.column import gather, is_streamed, row_bytes, shares_of
from arsenal.data.order import by_chunk, by_share, shuffle_positions
from arsenal.records import Batch, Source, anything, batch

BLOCK = 32 * 2**20
"""Bytes of a block that is read at once, about."""
AT_LEAST = 100
"""Steps of a block whose rows are small: each block is a dispatch of its own."""


def arrays(rows: Batch, batch_size: int | None, shuffle: bool = True) -> Source:
    """Rows that fit in memory, an epoch at a time; the ragged last batch is filled up with rows of weight 0.

    `batch_size` None serves all rows at once, in their order.
    """
    n = len(rows.weight)
    size = n if batch_size is None else batch_size
    check_batch_size(size, n)
    rows = jax.tree.map(jnp.asarray, rows)
    per_epoch = -(-n // size)

    def at(key, block, step):
        if batch_size is None:
            return block
        position = step % per_epoch * size + jnp.arange(size, dtype=jnp.int32)
        rows = jnp.minimum(position, n - 1)
        if shuffle:
            rows = shuffle_positions(fold_in(key, step // per_epoch), n, rows)
        taken = jax.tree.map(lambda v: v[rows], block)
        return taken._replace(weight=jnp.where(position < n, taken.weight, jnp.zeros_like(taken.weight)))

    return Source(lambda start, stop: rows, at, n, size)


def check_batch_size(size: int, n: int) -> None:
    """Raise ValueError unless batches of this size can be made of n rows."""
    if not 0 < size <= n:
        raise ValueError(f"`batch_size` must be in 1..{n}, the number of training rows; got {size}.")


def reading(
    rows: Batch, batch_size: int | None, key: jax.Array, shuffle: bool = True, window: int | None = None,
    part: int | None = None, parts: int | None = None, check: Callable[[Batch], None] = anything,
) -> Source:  # fmt: skip
    """Rows of columns that are read when asked, in the order that `arrays` gives them for the same key.

    A block holds `window` steps, by default as many as 32 MB do. Which rows a step reads is a function of key and step
    alone, so a resumed run goes on at the very row. Columns in chunks (row groups of a Parquet file) come in an order of
    their own: chunks in random order, rows shuffled among the chunks that are at hand together; those of a mixture by weights,
    see `by_share`. Of every batch this source
    reads the rows of one of `parts` equal parts, by default those of this process among all. `check` sees every block, as
    rows [m, ...], and raises ValueError where they do not fit.
    """
    n = len(rows.weight)
    if batch_size is None:
        raise ValueError("`batch_size` null takes all rows at once, and this data is read as it goes; give the rows of a batch.")
    check_batch_size(batch_size, n)
    part, parts = (jax.process_index() if part is None else part), (jax.process_count() if parts is None else parts)
    if batch_size % parts or not 0 <= part < parts:
        raise ValueError(f"`batch_size` must be a multiple of {parts} hosts, and `part` one of them; got {batch_size}, {part}.")
    own, per_epoch = batch_size // parts, -(-n // batch_size)
    if window is None:
        # Of a small set several epochs make a block, unless its end is the end of what is asked for.
        window = min(max(per_epoch, AT_LEAST) if shuffle else per_epoch, max(1, BLOCK // max(1, own * row_bytes(rows))))
    if window < 1:
        raise ValueError(f"`window` of `reading` must be >= 1; got {window}.")
    shares = shares_of(rows)
    if shares is not None and shuffle and (empty := np.flatnonzero((np.diff(shares.begins) == 0) & (shares.weights > 0))).size:
        raise ValueError(f"Every part of a mixture must have a row to train on; part {empty[0] + 1} has none.")
    chunked = next((v for v in jax.tree.leaves(rows) if getattr(v, "chunks", None) is not None), None)

    def place(epoch: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The rows [steps, own] at these positions of each step's epoch."""
        if not shuffle:
            return position
        if shares is not None:
            places = (epoch.astype(np.int64)[:, None] * n + position).reshape(-1)
            return by_share(key, shares.begins, shares.weights, places).reshape(position.shape)
        if chunked is None:
            return np.asarray(shuffle_epochs(key, n, epoch.astype(np.int32), position.astype(np.int32)))
        found = np.empty_like(position)
        for one in np.unique(epoch):
            here = epoch == one
            order = by_chunk(fold_in(key, one), chunked.chunks, chunked.together, position[here].reshape(-1))
            found[here] = order.reshape(-1, own)
        return found

    def block(start, stop):
        step = np.arange(start, stop)
        position = (step % per_epoch * batch_size + part * own)[:, None] + np.arange(own)
        with on_host(), jax.ensure_compile_time_eval():  # this is the host, also where a program asks for shapes
            at = place(step // per_epoch, np.minimum(position, n - 1)).reshape(-1).astype(np.int64)
        taken = gather(rows, at)
        taken = taken._replace(weight=np.where(position.reshape(-1) < n, taken.weight, np.zeros_like(taken.weight)))
        check(taken)
        return jax.tree.map(lambda v: jnp.asarray(v.reshape(len(step), own, *v.shape[1:])), taken)

    return Source(block, lambda key, block, step: jax.tree.map(lambda v: v[step % window], block), n, batch_size, window)


@functools.partial(jax.jit, static_argnums=1)
def shuffle_epochs(key: jax.Array, n: int, epoch: jax.Array, position: jax.Array) -> jax.Array:
    """`shuffle_positions` with each epoch's key. epoch [steps], position [steps, m] -> rows [steps, m]."""
    return jax.vmap(lambda one, at: shuffle_positions(fold_in(key, one), n, at))(epoch, position)


def on_host() -> contextlib.AbstractContextManager:
    """Small sums are done by the host's processor, where it can: the device is busy with the last block."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        return contextlib.nullcontext()


def feed(rows: Batch, batch_size: int | None, key: jax.Array | None, shuffle: bool = True, **more: Any) -> Source:
    """`arrays` of rows that are in memory, `reading` of others; without shuffling there need be no key."""
    if not is_streamed(rows):
        return arrays(rows, batch_size, shuffle)
    return reading(rows, batch_size, key, shuffle, **more)  # type: ignore[arg-type]


def through(source: Source, apply: Callable, state: Any) -> Source:
    """The source with `apply(state, x)` in place of x, inside the program; the state travels in the block."""

    def at(key, block, step):
        rows = source.at(key, block["rows"], step)
        return rows._replace(x=apply(block["state"], rows.x))

    return source._replace(block=lambda start, stop: {"rows": source.block(start, stop), "state": state}, at=at)


def nothing() -> Source:
    """No data: for learners whose state holds the world they learn from."""
    empty = batch(weight=[1.0])
    return Source(lambda start, stop: empty, lambda key, block, step: block, None, 1)


def stream(read: Callable[[int], Batch], batch_size: int, window: int = 8) -> Source:
    """Batches read on the host as they come: `read(step)` gives that step's batch, always of `batch_size` rows.

    A block holds `window` steps.
    """
    if window < 1:
        raise ValueError(f"`window` of `stream` must be >= 1; got {window}.")

    def block(start, stop):
        return jax.tree.map(lambda *parts: jnp.stack(parts), *(read(step) for step in range(start, stop)))

    return Source(block, lambda key, block, step: jax.tree.map(lambda v: v[step % window], block), None, batch_size, window)


@contextlib.contextmanager
def ahead(source: Source, end: int | None = None, depth: int = 2) -> Iterator[Source]:
    """The source, its next `depth` blocks up to step `end` read by a thread of their own while the device works on this one.

    An error there is raised where the block is asked for. The thread ends with the context.
    """
    if source.window is None:
        yield source
        return
    coming: dict[tuple[int, int], Future] = {}
    worker = ThreadPoolExecutor(1, thread_name_prefix="read ahead")

    def block(start, stop):
        wanted = [(start + i * (stop - start), stop + i * (stop - start)) for i in range(depth + 1)]
        wanted = [span for span in wanted if span == (start, stop) or end is None or span[0] < end]
        for span in [span for span in coming if span not in wanted]:
            coming.pop(span).cancel()
        for span in wanted:
            if span not in coming:
                coming[span] = worker.submit(source.block, *span)
        return coming[wanted[0]].result()

    try:
        yield source._replace(block=block)
    finally:
        worker.shutdown(wait=True, cancel_futures=True)
