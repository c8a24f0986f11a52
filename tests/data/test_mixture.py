"""Rows of a mixture come by weights, each part's all before one comes again, whoever asks from where; splits cut each part."""

import jax
import numpy as np
import pytest

from arsenal.data import by_position, mixture, reading, text
from arsenal.data.column import gather, take
from arsenal.data.dataset import Schema, dataset
from arsenal.data.order import CYCLE, by_share

KEY = jax.random.key(0)


def part(n, first, **more):
    x = np.arange(first, first + n, dtype=np.float32)[:, None]
    return dataset(x, x[:, 0], **more)


def blocks(source, *spans):
    made = []
    for start, stop in spans:
        block = source.block(start, stop)
        made += [jax.tree.map(np.asarray, source.at(KEY, block, step)) for step in range(start, stop)]
    return made


def test_shares_are_exact_and_parts_go_through_their_rows():
    begins, weights = np.array([0, 30, 130, 1130]), np.array([0.5, 0.25, 0.25])
    rows = by_share(KEY, begins, weights, np.arange(3 * CYCLE))
    of = np.searchsorted(begins, rows, side="right") - 1
    for i in range(3):
        assert np.bincount(of[i * CYCLE : (i + 1) * CYCLE]).tolist() == [2048, 1024, 1024]
    for i, size in enumerate(np.diff(begins)):
        mine = (rows[of == i] - begins[i])[: 3 * 1024 // size * size].reshape(-1, size)
        assert (np.sort(mine, 1) == np.arange(size)).all()
        assert len(mine) < 2 or (mine[0] != mine[1]).any()
    longest = np.diff(np.flatnonzero(np.diff(of, prepend=-1))).max()
    assert longest < 25  # mixed, and not one part after another
    shuffled = np.random.default_rng(0).permutation(3 * CYCLE)
    np.testing.assert_array_equal(by_share(KEY, begins, weights, shuffled), rows[shuffled])
    assert (by_share(jax.random.key(1), begins, weights, np.arange(99)) != rows[:99]).any()


def test_a_resumed_run_goes_on_at_the_very_row():
    data = mixture([part(40, 0), part(200, 1000)], [3, 1])
    whole = blocks(reading(data.rows, 8, KEY, window=5), (0, 5), (5, 10), (10, 15), (15, 20), (20, 25), (25, 30), (30, 35), (35, 40))
    again = blocks(reading(data.rows, 8, KEY, window=5), (20, 25), (25, 30))
    for one, other in zip(whole[20:30], again, strict=True):
        np.testing.assert_array_equal(one.x, other.x)
    met = np.concatenate([one.x[one.weight > 0, 0] for one in whole])
    assert len(met) == 320 and (met < 1000).mean() == pytest.approx(0.75, abs=0.08)
    assert all(np.array_equal(one.x[:, 0], one.y) for one in whole)
    assert set(met[met < 1000].astype(int)) == set(range(40))


@pytest.mark.slow
def test_each_row_is_there_once_and_a_split_cuts_each_part():
    parts = [part(40, 0), part(200, 1000, weight=np.full(200, 2.0))]
    data = mixture(parts, [1, 1])
    rows = gather(data.rows)
    assert rows.x[:, 0].tolist() == [*range(40), *range(1000, 1200)] and rows.weight.tolist() == [1] * 40 + [2] * 200
    assert gather(data.rows, np.array([239, 3, 40, 3])).y.tolist() == [1199, 3, 1000, 3]
    masks = by_position(0.1, 0.1, gap=2).masks(data.rows, data.schema)
    alone = [by_position(0.1, 0.1, gap=2).masks(one.rows, one.schema) for one in parts]
    for side, mask in masks.items():
        np.testing.assert_array_equal(mask, np.concatenate([one[side] for one in alone]))
    train = take(data.rows, masks["train"])
    met = np.concatenate([one.x[:, 0] for one in blocks(reading(train, 8, KEY, window=30), (0, 30))])
    assert set(met) <= set(rows.x[masks["train"], 0]) and (met < 1000).mean() == pytest.approx(0.5, abs=0.06)


def test_a_mixture_of_texts_is_text(tmp_path):
    for name, letter in (("a", b"ab"), ("b", b"xyz")):
        (tmp_path / name).write_bytes(letter * 100)
    parts = [text(str(tmp_path / name), 8, 8) for name in "ab"]
    data = mixture(parts, [1, 2])
    assert set(data.files) == {tmp_path / "a", tmp_path / "b"} and data.rows.x.shape == (24 + 37, 8)
    same = mixture([text(str(tmp_path / name), 8, 8) for name in "ab"], [2, 4])
    assert data.fingerprint == same.fingerprint != mixture(parts, [1, 1]).fingerprint
    assert gather(data.rows).x.dtype == np.int32


@pytest.mark.parametrize(("made", "said"), [
    (lambda: mixture([part(4, 0)], [1]), "takes two parts or more and a weight for each; got 1 parts, 1 weights"),
    (lambda: mixture([part(4, 0)] * 2, [1]), "got 2 parts, 1 weights"),
    (lambda: mixture([part(4, 0)] * 2, [1, 0]), r"`weights` of `mixture` must be above 0; got \[1, 0\]"),
    (lambda: mixture([part(4, 0), text(context=8)], [1, 1]), r"part 1 has x float32\[1\], y float32\[\], part 2 x int32\[8\], y int32\[8\]"),
    (lambda: mixture([part(4, 0), part(4, 0, schema=Schema(tokenizer={"a": 1}))], [1, 1]), "must have one schema; `tokenizer` of part 2 is not"),
    (lambda: mixture([part(4, 0), part(4, 0, aux={"g": np.arange(4)})], [1, 1]), "a part has further columns, `aux`"),
])  # fmt: skip
def test_parts_that_do_not_fit_together_are_told(made, said):
    with pytest.raises(ValueError, match=said):
        made()


def test_a_part_without_a_row_to_train_on_is_told():
    data = mixture([part(4, 0), part(40, 1000)], [1, 1])
    with pytest.raises(ValueError, match="Every part of a mixture must have a row to train on; part 1 has none"):
        reading(take(data.rows, np.arange(44) >= 4), 8, KEY)
