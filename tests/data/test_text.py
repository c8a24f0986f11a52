"""Text becomes windows and what follows them; parts of a split share not one letter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arsenal.data import Schema, by_position, text
from arsenal.records import Batch


def ids_of(ids) -> Batch:
    """Rows of which nothing but the ids is known."""
    return Batch(None, None, np.ones(len(ids), np.float32), np.asarray(ids))


def saved(tmp_path, content: bytes, name="some.txt") -> str:
    path = tmp_path / name
    path.write_bytes(content)
    return str(path)


def test_bytes_and_what_follows_them(tmp_path):
    data = text(saved(tmp_path, b"abcdefghi\xff"), context=3, stride=2)
    assert [bytes(row.astype(np.uint8)) for row in data.rows.x] == [b"abc", b"cde", b"efg", b"ghi"]
    assert [bytes(row.astype(np.uint8)) for row in data.rows.y] == [b"bcd", b"def", b"fgh", b"hi\xff"]
    assert data.rows.x.dtype == data.rows.y.dtype == np.int32
    assert data.rows.row.tolist() == [0, 1, 2, 3]
    assert data.schema.target.columns is None


def test_characters_are_numbered_in_order_and_named(tmp_path):
    data = text(saved(tmp_path, "naïve 🐍a".encode()), context=2, stride=3, units="characters")
    assert data.schema.target.columns == [" ", "a", "e", "n", "v", "ï", "🐍"]
    labels = np.array(data.schema.target.columns)
    assert ["".join(labels[row]) for row in data.rows.x] == ["na", "ve"]
    assert ["".join(labels[row]) for row in data.rows.y] == ["aï", "e "]


def test_without_a_path_it_is_pythons_help():
    data = text(context=64, stride=64)
    whole = b"".join(row.astype(np.uint8).tobytes() for row in data.rows.x).decode()
    assert len(whole) > 300_000
    assert '"assert"' in whole and "statement" in whole
    assert whole.index('The "assert" statement') < whole.index('The "while" statement')
    assert data.fingerprint == text(context=64, stride=64).fingerprint


def test_another_text_is_another_fingerprint(tmp_path):
    first, other = (text(saved(tmp_path, content, name), 4) for content, name in ((b"a" * 40, "1"), (b"a" * 39 + b"b", "2")))
    assert first.fingerprint == text(saved(tmp_path, b"a" * 40, "3"), 4).fingerprint
    assert text(saved(tmp_path, b"a" * 36 + b"b", "4"), 4).fingerprint != first.fingerprint
    assert len(other.rows.x) == 3


@pytest.mark.parametrize(
    "content, more, said",
    [
        (b"", {}, r"Text file .*some\.txt is empty\."),
        (b"abcd", {"context": 4}, r"must have at least 5 bytes, one window and its target; got 4\."),
        ("äöü".encode(), {"context": 3, "units": "characters"}, r"at least 4 characters, .*; got 3\."),
        (b"ab\xffcd", {"context": 2, "units": "characters"}, r"read from UTF-8; byte 2 of .*some\.txt is not\. `units=bytes`"),
    ],
)
def test_a_text_that_cannot_be_read_is_told(tmp_path, content, more, said):
    with pytest.raises(ValueError, match=said):
        text(saved(tmp_path, content), **more)


def test_a_file_that_is_not_there_is_told(tmp_path):
    for path, said in ((tmp_path / "none.txt", r"Text file .* does not exist\."), (tmp_path, r"No file of documents .* is at")):
        with pytest.raises(FileNotFoundError, match=said):
            text(str(path))


@settings(max_examples=60, deadline=None)
@given(
    context=st.integers(1, 20), stride=st.integers(1, 25), length=st.integers(60, 400),
    shares=st.tuples(st.floats(0, 0.49), st.floats(0, 0.49)),
)  # fmt: skip
def test_parts_share_no_letter(tmp_path_factory, context, stride, length, shares):
    # Letters are numbered by their place, so a letter in two parts would be seen.
    content = "".join(chr(0x4E00 + i) for i in range(length))
    data = text(saved(tmp_path_factory.mktemp("text"), content.encode()), context, stride, "characters")
    masks = by_position(*shares, gap=context // stride).masks(data.rows, data.schema)
    letters = [set(np.unique([data.rows.x[mask], data.rows.y[mask]])) for mask in masks.values()]
    assert sum(map(len, letters)) == len(set().union(*letters))
    ids = [data.rows.row[mask] for mask in masks.values()]
    assert [i for part in ids for i in part] == sorted(i for part in ids for i in part)


def test_a_smaller_gap_would_leak(tmp_path):
    data = text(saved(tmp_path, bytes(range(200))), 16, 4)
    masks = by_position(0.2, 0.2, gap=3).masks(data.rows, data.schema)
    parts = [set(np.unique([data.rows.x[mask], data.rows.y[mask]])) for mask in masks.values()]
    assert parts[0] & parts[1] and parts[1] & parts[2]


def test_parts_are_in_the_order_of_ids_whatever_the_order_of_rows():
    ids = np.random.default_rng(0).permutation(np.arange(100) * 3 - 50)
    masks = by_position(0.2, 0.1, gap=6).masks(ids_of(ids), Schema())
    train, validation, held_out = (np.sort(ids[masks[name]]) for name in ("train", "validation", "test"))
    assert (len(train), len(validation), len(held_out)) == (68, 18, 10)
    assert train[-1] + 6 < validation[0] and validation[-1] + 6 < held_out[0]


def test_a_part_of_size_zero_is_empty():
    masks = by_position(0.0, 0.0, gap=5).masks(ids_of(np.arange(20)), Schema())
    assert masks["train"].all() and not masks["validation"].any() and not masks["test"].any()
    masks = by_position(0.0, 0.25, gap=2).masks(ids_of(np.arange(20)), Schema())
    assert masks["train"].sum() == 13 and masks["test"].sum() == 5 and not masks["validation"].any()
    masks = by_position(0.25, 0.0, gap=2).masks(ids_of(np.arange(20)), Schema())
    assert masks["train"].sum() == 13 and masks["validation"].sum() == 5 and not masks["test"].any()


def test_nothing_left_for_training_is_refused():
    with pytest.raises(ValueError, match=r"`by_position` must be < 1; got 0\.6 \+ 0\.5"):
        by_position(0.6, 0.5)
