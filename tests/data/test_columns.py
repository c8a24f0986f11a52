"""Columns read when asked: a split is a view, every epoch is every row once, and any cut gives the same rows."""

import threading

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arsenal.data import ahead, arrays, reading, stream
from arsenal.data.column import Column, columns, even_positions, gather, is_streamed, take
from arsenal.data.order import by_chunk
from arsenal.records import Batch, Source, batch

KEY = jax.random.key(3)


def rows(n: int, chunks=None, together: int = 1) -> Batch:
    """Rows whose values tell which row they are."""
    ids = np.arange(n, dtype=np.int32) * 7 + 3

    def read(at):
        return {"a": ids[at, None].astype(np.float64), "b": ids[at].astype(np.int64)}

    made = columns(read, read(np.zeros(1, int)), n, None if chunks is None else np.asarray(chunks), together)
    return Batch({"a": made["a"]}, made["b"], np.linspace(0.5, 2, n, dtype=np.float32), ids)


def served(source: Source, start: int, stop: int) -> list[list[int]]:
    """The ids of the living rows of every step."""
    found = []
    for step in range(start, stop):
        begin = step // source.window * source.window
        part = source.at(None, source.block(begin, begin + source.window), step)
        assert part.x["a"].dtype == np.float32 and part.y.dtype == np.int32
        assert np.array_equal(part.x["a"][:, 0], part.row) and np.array_equal(part.y, part.row), "A row's parts travel together."
        found.append(np.asarray(part.row)[np.asarray(part.weight) > 0].tolist())
    return found


def test_the_order_is_that_of_rows_in_memory():
    here = batch(x=np.arange(50, dtype=np.float32)[:, None])
    away = Batch(Column((50, 1), np.dtype(np.float32), lambda at: np.asarray(here.x)[at]), None, *map(np.asarray, here[2:4]))
    known, source = arrays(here, 8), reading(away, 8, KEY, window=5)
    at = jax.jit(known.at)
    for step in (0, 6, 7, 40):
        begin = step // 5 * 5
        theirs, ours = at(KEY, known.block(0, 1), step), source.at(None, source.block(begin, begin + 5), step)
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 60), data=st.data(), sizes=st.none() | st.lists(st.integers(1, 20), min_size=1, max_size=6),
    together=st.integers(1, 3), seed=st.integers(0, 5),
)  # fmt: skip
@pytest.mark.slow
def test_an_epoch_is_every_row_once_and_any_cut_gives_the_same(n, data, sizes, together, seed):
    n = sum(sizes) if sizes else n
    size, window = data.draw(st.integers(1, n)), data.draw(st.integers(1, 7))
    all_rows = rows(n, None if sizes is None else np.concatenate([[0], np.cumsum(sizes)]), together)
    key, per_epoch = jax.random.key(seed), -(-n // size)
    source = reading(all_rows, size, key, window=window)
    for epoch in (0, 3):
        seen = [i for step in served(source, epoch * per_epoch, (epoch + 1) * per_epoch) for i in step]
        assert sorted(seen) == all_rows.row.tolist()
    other = reading(all_rows, size, key, window=data.draw(st.integers(1, 9)))
    cut = data.draw(st.integers(0, 2 * per_epoch))
    assert served(other, cut, 2 * per_epoch) == served(source, cut, 2 * per_epoch)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(own=st.integers(1, 5), parts=st.integers(1, 4), more=st.integers(0, 30), chunked=st.booleans())
@pytest.mark.slow
def test_the_parts_of_every_host_are_the_whole_batch(own, parts, more, chunked):
    n, size = own * parts + more, own * parts
    all_rows = rows(n, np.linspace(0, n, 4).astype(int) if chunked else None)
    whole = reading(all_rows, size, KEY, window=3, part=0, parts=1)
    each = [reading(all_rows, size, KEY, window=3, part=i, parts=parts) for i in range(parts)]
    assert {source.batch_size for source in each} == {size}
    for step in (0, 2, 5):
        begin = step // 3 * 3
        blocks = [source.block(begin, begin + 3) for source in (whole, *each)]
        assert all(block.row.shape == (3, own) for block in blocks[1:])
        np.testing.assert_array_equal(np.concatenate([block.row for block in blocks[1:]], 1), blocks[0].row)
        np.testing.assert_array_equal(np.concatenate([block.weight for block in blocks[1:]], 1), blocks[0].weight)


def test_chunks_are_fetched_together():
    n, size = 64, 8
    fetched = []

    def read(at):
        fetched.append(np.unique(at // 8).tolist())
        return at.astype(np.float32)

    column = Column((n,), np.dtype(np.float32), read, np.arange(0, 65, 8), together=2)
    source = reading(Batch(column, None, np.ones(n, np.float32), np.arange(n, dtype=np.int32)), size, KEY, window=1)
    orders = []
    for epoch in range(2):
        fetched.clear()
        for step in range(epoch * 8, epoch * 8 + 8):
            source.block(step, step + 1)
        # Of every two chunks come the two batches that they hold, and no other chunk meanwhile.
        pairs = [set(fetched[i]) | set(fetched[i + 1]) for i in range(0, 8, 2)]
        assert [len(pair) for pair in pairs] == [2, 2, 2, 2] and set().union(*pairs) == set(range(8))
        orders.append(fetched[:])
    assert orders[0] != orders[1]


def test_shuffling_by_chunks_is_even():
    chunks = np.arange(0, 101, 10)
    orders = np.stack([by_chunk(jax.random.key(seed), chunks, 3, np.arange(100)) for seed in range(150)])
    assert np.array_equal(np.sort(orders, 1), np.broadcast_to(np.arange(100), (150, 100)))
    assert np.abs(orders.mean(0) - 49.5).max() < 5 * 100 / np.sqrt(12 * 150)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(mask=st.lists(st.booleans(), min_size=1, max_size=40), cut=st.integers(0, 40))
def test_a_split_is_a_view(mask, cut):
    mask = np.array(mask)
    n = len(mask)
    part = take(rows(n, np.unique([0, min(cut, n), n])), mask)
    chosen = np.flatnonzero(mask)
    assert is_streamed(part) and part.y.shape == (len(chosen),) and part.x["a"].shape == (len(chosen), 1)
    ids = rows(n).row[mask]
    assert gather(part).x["a"][:, 0].tolist() == gather(part).y.tolist() == part.row.tolist() == ids.tolist()
    if len(chosen):
        assert part.y.chunks[0] == 0 and part.y.chunks[-1] == len(chosen) and (np.diff(part.y.chunks) > 0).all()
        again = take(part, np.arange(len(chosen)) % 2 == 0)
        assert gather(again).y.tolist() == ids[::2].tolist()


def test_rows_of_a_memory_map_are_not_copied(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(12.0).reshape(6, 2))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    part = take(Batch(mapped, None, np.ones(6, np.float32), np.arange(6)), np.arange(6) > 2)
    assert isinstance(part.x, Column) and part.x.shape == (3, 2)
    assert gather(part).x.tolist() == mapped[3:].tolist() and gather(part).x.dtype == np.float32


def test_values_are_checked_when_they_are_read():
    bad = Column((4,), np.dtype(np.float64), lambda at: np.where(at == 2, np.nan, 1.0))
    data = Batch(bad, None, np.ones(4, np.float32), np.array([5, 6, 7, 8]))
    assert gather(data, np.array([0, 3])).x.tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"must be finite; `x` has NaN or infinity in the row with id 7\."):
        gather(data, np.array([1, 2]))
    wide = data._replace(x=Column((4,), np.dtype(np.int64), lambda at: at + 2**31))
    with pytest.raises(ValueError, match="must fit in 32 bits"):
        gather(wide)


def test_columns_of_one_read_share_it():
    calls = []

    def read(at):
        calls.append(len(at))
        return {"x": at, "y": -at}

    made = columns(read, read(np.zeros(1, int)), 9)
    calls.clear()
    assert made["x"][np.array([3, 1])].tolist() == [3, 1] and made["y"][np.array([3, 1])].tolist() == [-3, -1]
    assert calls == [2]
    assert made["x"][np.array([3, 1])].tolist() == [3, 1] and calls == [2, 2]


def test_blocks_are_about_32_megabytes_and_an_epoch_or_a_hundred_steps_at_most():
    wide = Batch(Column((10_000, 1024, 64), np.dtype(np.float64), None), None, np.ones(10_000), np.arange(10_000))
    assert reading(wide, 8, KEY).window == 15  # 8 rows of 256 KB, and 16 bytes more
    assert reading(rows(50), 8, KEY).window == 100 and reading(rows(50), 8, KEY, shuffle=False).window == 7
    assert reading(rows(5000), 8, KEY).window == 625


@pytest.mark.parametrize(
    ("size", "more", "said"),
    [
        (None, {}, "takes all rows at once, and this data is read as it goes"),
        (11, {}, r"must be in 1\.\.10, the number of training rows; got 11"),
        (5, {"parts": 2}, "a multiple of 2 hosts"),
        (4, {"part": 2, "parts": 2}, "`part` one of them; got 4, 2"),
        (4, {"window": 0}, "must be >= 1; got 0"),
    ],
)
def test_what_cannot_be_read_is_refused(size, more, said):
    with pytest.raises(ValueError, match=said):
        reading(rows(10), size, KEY, **more)


def test_positions_evenly_spaced():
    assert even_positions(1_000_000, 4).tolist() == [0, 250_000, 500_000, 750_000] and even_positions(0, 5).tolist() == []


# Reading ahead.


def ticks(read):
    return stream(lambda step: batch(x=[[float(read(step))]]), 1, window=2)


def reader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("read ahead")]


def test_blocks_are_read_ahead_and_the_thread_ends():
    read, five = [], threading.Event()

    def one(step):
        read.append(step)
        if step == 5:
            five.set()
        return step

    with ahead(ticks(one), depth=2) as source:
        assert source.block(0, 2).x.ravel().tolist() == [0, 1]
        assert five.wait(10) and reader_threads()
        assert source.block(2, 4).x.ravel().tolist() == [2, 3]
        assert source.block(0, 2).x.ravel().tolist() == [0, 1]
        assert source.block(20, 22).x.ravel().tolist() == [20, 21]
    assert not reader_threads()
    assert read[:6] == [0, 1, 2, 3, 4, 5]


def test_no_more_is_read_than_the_depth():
    read = []
    with ahead(ticks(lambda step: read.append(step) or step), depth=1) as source:
        source.block(0, 2)
        source.block(0, 2)
    assert read == [0, 1, 2, 3] or read == [0, 1]
    read.clear()
    with ahead(ticks(lambda step: read.append(step) or step), end=4, depth=9) as source:
        source.block(0, 2)
        source.block(2, 4)
    assert read == [0, 1, 2, 3]


def test_an_error_while_reading_is_raised_where_the_block_is_asked_for():
    def one(step):
        if step == 3:
            raise ValueError("Row 3 is torn.")
        return step

    with pytest.raises(ValueError, match=r"Row 3 is torn\."), ahead(ticks(one)) as source:
        source.block(0, 2)
        source.block(2, 4)
    assert not reader_threads()


def test_what_is_in_memory_needs_no_thread():
    source = arrays(batch(x=[[1.0]]), 1)
    with ahead(source) as same:
        assert same is source
