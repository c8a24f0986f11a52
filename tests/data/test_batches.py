"""An epoch is every row once: batches of one shape, ragged ends filled with rows that are not there."""

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from arsenal.data import arrays, stream
from arsenal.records import batch


def rows(n: int):
    ids = np.arange(n) * 7 + 3
    return batch(x=np.float32(ids)[:, None], y=ids.astype(np.int32), weight=np.linspace(0.5, 2, n), row=ids)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(n=st.integers(1, 60), data=st.data(), seed=st.integers(0, 9))
@example(n=10, data=None, seed=0)
@pytest.mark.slow
def test_an_epoch_is_every_row_once(n, data, seed):
    size = data.draw(st.integers(1, n)) if data else 4
    source, all_rows = arrays(rows(n), size), rows(n)
    at, per_epoch = jax.jit(source.at), -(-n // size)
    assert (source.size, source.batch_size) == (n, size)
    for epoch in (0, 1, 5):
        seen = {}
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            part = at(jax.random.key(seed), source.block(0, 1), step)
            assert part.x.shape == (size, 1)
            for x, y, weight, row in zip(part.x[:, 0], part.y, part.weight, part.row, strict=True):
                if weight > 0:
                    assert int(row) not in seen
                    assert int(x) == int(y) == int(row), "A row's parts travel together."
                    seen[int(row)] = float(weight)
        assert seen == pytest.approx(dict(zip(all_rows.row.tolist(), all_rows.weight.tolist(), strict=True)))


def test_a_batch_is_a_function_of_key_and_step():
    source = arrays(rows(50), 8)
    at = jax.jit(source.at)
    later_first = [at(jax.random.key(1), source.block(0, 1), step).row.tolist() for step in (9, 3, 9, 0)]
    again = arrays(rows(50), 8)
    assert later_first == [jax.jit(again.at)(jax.random.key(1), again.block(0, 1), step).row.tolist() for step in (9, 3, 9, 0)]
    assert later_first[0] == later_first[2] != later_first[1]
    assert at(jax.random.key(2), source.block(0, 1), 9).row.tolist() != later_first[0]


def test_epochs_come_in_different_orders():
    source = arrays(rows(40), 40)
    first, second = (jax.jit(source.at)(jax.random.key(0), source.block(0, 1), step).row.tolist() for step in (0, 1))
    assert first != second and sorted(first) == sorted(second)


def test_no_batch_size_serves_all_rows_in_their_order():
    source = arrays(rows(9), None)
    for step in (0, 4):
        assert source.at(jax.random.key(0), source.block(0, 1), step).row.tolist() == rows(9).row.tolist()


@pytest.mark.parametrize("size", [11, 0, -1])
def test_a_batch_size_that_cannot_be_is_refused(size):
    with pytest.raises(ValueError, match=rf"must be in 1\.\.10, the number of training rows; got {size}"):
        arrays(rows(10), size)


def test_a_stream_reads_each_step_once_and_in_blocks():
    read = []

    def ticks(step):
        read.append(step)
        return batch(x=[[float(step)]])

    source = stream(ticks, 1, window=4)
    block = source.block(4, 8)
    assert read == [4, 5, 6, 7]
    assert [float(source.at(None, block, step).x[0, 0]) for step in (4, 7, 5)] == [4.0, 7.0, 5.0]
