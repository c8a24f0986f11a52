"""A row's side of the split follows from its id alone: new rows, other order, no leak."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arsenal.data import by_position, by_row

IDS = st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=200, unique=True)
FRACTIONS = st.tuples(st.floats(0, 0.49), st.floats(0, 0.49))


def side(split, ids) -> dict[int, str]:
    masks = split(np.array(ids, np.int32))
    assert sum(mask.sum() for mask in masks.values()) == len(ids), "Every row is on exactly one side."
    return {int(row): name for name, mask in masks.items() for row in np.array(ids)[mask]}


@settings(max_examples=50, deadline=None)
@given(ids=IDS, fractions=FRACTIONS, seed=st.integers(0, 2**40), data=st.data())
def test_a_row_stays_on_its_side(ids, fractions, seed, data):
    split = by_row(*fractions, seed)
    sides = side(split, ids)
    assert side(split, data.draw(st.permutations(ids))) == sides
    some = data.draw(st.lists(st.sampled_from(ids), unique=True))
    assert side(split, some) == {row: sides[row] for row in some}


@pytest.mark.parametrize("ids", [np.arange(20_000), np.arange(20_000) * 1024, np.arange(-10_000, 10_000)])
def test_sizes_are_the_fractions_asked_for(ids):
    masks = by_row(0.1, 0.3)(ids)
    assert masks["validation"].mean() == pytest.approx(0.1, abs=0.01)
    assert masks["test"].mean() == pytest.approx(0.3, abs=0.015)


def test_another_seed_splits_otherwise():
    ids = np.arange(1000)
    one, other = by_row(seed=0)(ids)["test"], by_row(seed=1)(ids)["test"]
    assert (one & other).mean() == pytest.approx(0.15**2, abs=0.02)


def test_nothing_left_for_training_is_refused():
    with pytest.raises(ValueError, match=r"must be < 1; got 0\.6 \+ 0\.5"):
        by_row(0.6, 0.5)


@settings(max_examples=50, deadline=None)
@given(ids=IDS, fractions=FRACTIONS, gap=st.integers(0, 50))
def test_a_sequence_is_cut_in_order(ids, fractions, gap):
    """Train before validation before test, no row twice, and none of the `gap` ids before a cut."""
    masks = by_position(*fractions, gap)(np.array(ids, np.int32))
    together = sum(mask.astype(int) for mask in masks.values())
    assert together.max() <= 1, "No row is on two sides."
    if gap == 0:
        assert together.min() == 1, "Without a gap every row has a side."
    sides = [np.array(ids, np.int64)[masks[name]] for name in ("train", "validation", "test")]
    for before, after in ((sides[0], sides[1]), (sides[1], sides[2]), (sides[0], sides[2])):
        if len(before) and len(after):
            assert before.max() + gap < after.min()
    assert len(sides[2]) == round(len(ids) * fractions[1]), "The test has its share of the rows."
