"""A row's side of the split follows from its id alone: new rows, other order, no leak."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arsenal.data import Schema, as_split, by_group, by_position, by_row, by_time, csv, parquet, stratified
from arsenal.records import Batch, batch
from arsenal.testing import check

IDS = st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=200, unique=True)
FRACTIONS = st.tuples(st.floats(0, 0.49), st.floats(0, 0.49))


def ids_of(ids) -> Batch:
    """Rows of which nothing but the ids is known."""
    return Batch(None, None, np.ones(len(ids), np.float32), np.asarray(ids))


def side(split, ids) -> dict[int, str]:
    masks = split.masks(ids_of(np.array(ids, np.int32)), Schema())
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
    masks = by_row(0.1, 0.3).masks(ids_of(ids), Schema())
    assert masks["validation"].mean() == pytest.approx(0.1, abs=0.01)
    assert masks["test"].mean() == pytest.approx(0.3, abs=0.015)


def test_another_seed_splits_otherwise():
    ids = np.arange(1000)
    one, other = by_row(seed=0).masks(ids_of(ids), Schema())["test"], by_row(seed=1).masks(ids_of(ids), Schema())["test"]
    assert (one & other).mean() == pytest.approx(0.15**2, abs=0.02)


def test_nothing_left_for_training_is_refused():
    with pytest.raises(ValueError, match=r"must be < 1; got 0\.6 \+ 0\.5"):
        by_row(0.6, 0.5)


@settings(max_examples=50, deadline=None)
@given(ids=IDS, fractions=FRACTIONS, gap=st.integers(0, 50))
def test_a_sequence_is_cut_in_order(ids, fractions, gap):
    """Train before validation before test, no row twice, and none of the `gap` ids before a cut."""
    masks = by_position(*fractions, gap).masks(ids_of(np.array(ids, np.int32)), Schema())
    together = sum(mask.astype(int) for mask in masks.values())
    assert together.max() <= 1, "No row is on two sides."
    if gap == 0:
        assert together.min() == 1, "Without a gap every row has a side."
    sides = [np.array(ids, np.int64)[masks[name]] for name in ("train", "validation", "test")]
    for before, after in ((sides[0], sides[1]), (sides[1], sides[2]), (sides[0], sides[2])):
        if len(before) and len(after):
            assert before.max() + gap < after.min()
    assert len(sides[2]) == round(len(ids) * fractions[1]), "The test has its share of the rows."


# By what rows hold.

TABLE = "age,patient,day,ill\n" + "".join(
    f"{20 + i % 50},{'p' + str(i % 37)},2024-{1 + i % 12:02}-{1 + i % 28:02},{'yes' if i % 10 == 0 else 'no'}\n" for i in range(400)
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_text(TABLE)
    return csv(str(path), target="ill", aux=["patient", "day"])


def test_each_class_has_its_share_on_every_side(table):
    from sklearn.model_selection import StratifiedShuffleSplit

    masks, y = stratified(0.2, 0.1).masks(table.rows, table.schema), table.rows.y
    for name, share in (("validation", 0.2), ("test", 0.1)):
        peer = StratifiedShuffleSplit(1, test_size=share, random_state=0).split(y, y)
        _, theirs = next(peer)
        assert np.bincount(y[masks[name]]).tolist() == np.bincount(y[theirs]).tolist()
    other = stratified(0.2, 0.1, seed=1).masks(table.rows, table.schema)
    assert (other["test"] != masks["test"]).any()
    check(stratified(0.2, 0.1), (table.rows, table.schema))


def test_a_group_is_on_one_side_whatever_joins(table):
    split, group = by_group("patient", 0.3, 0.3), table.rows.aux["patient"]
    masks = split.masks(table.rows, table.schema)
    sides = {name: set(group[mask]) for name, mask in masks.items()}
    assert all(sides.values()) and sum(map(len, sides.values())) == 37
    # Codes move when a name joins that sorts before the others; sides do not.
    names = ["a", *table.schema.codecs["patient"]["values"]]
    more = table.schema._replace(codecs=table.schema.codecs | {"patient": {"kind": "category", "values": names}})
    rows = table.rows._replace(aux=table.rows.aux | {"patient": group + 1})
    again = split.masks(rows, more)
    assert all((again[name] == mask).all() for name, mask in masks.items())
    check(split, (table.rows, table.schema))


def test_later_rows_are_held_out(table):
    split, day = by_time("day", 0.2, 0.1, gap=3), table.rows.aux["day"]
    masks = split.masks(table.rows, table.schema)
    dates = np.array(table.schema.codecs["day"]["values"], object)[day]
    assert dates[masks["train"]].max() < dates[masks["validation"]].min() <= dates[masks["validation"]].max() < dates[masks["test"]].min()
    assert day[masks["train"]].max() + 3 <= day[masks["validation"]].min()
    assert masks["test"].mean() == pytest.approx(0.1, abs=0.03)
    by_age = by_time("age", 0.2, 0.1).masks(table.rows, table.schema)
    age = table.rows.x[:, 0] if not isinstance(table.rows.x, dict) else table.rows.x["numeric"][:, 0]
    assert age[by_age["train"]].max() < age[by_age["validation"]].min()
    check(split, (table.rows, table.schema))


@pytest.mark.parametrize(
    ("split", "said"),
    [
        (by_group("doctor"), "The split reads the column `doctor`; there are y, age, day, patient"),
        (by_group("age"), "`column` of `by_group` must hold whole numbers or strings; `age` holds float32"),
    ],
)
def test_columns_that_do_not_fit_are_refused(table, split, said):
    with pytest.raises(ValueError, match=said):
        split.masks(table.rows, table.schema)


def test_columns_that_are_read_as_they_go_split_alike(tmp_path):
    import io

    import pandas as pd

    frame = pd.read_csv(io.StringIO(TABLE))
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=64)
    here, away = (parquet(str(tmp_path / "t.parquet"), "ill", aux=["patient", "day"], stream=stream) for stream in (False, True))
    for split in (stratified(), by_group("patient"), by_time("day"), by_time("age")):
        wanted, found = (split.masks(data.rows, data.schema) for data in (here, away))
        assert all((wanted[name] == found[name]).all() for name in wanted)


def test_a_function_of_ids_is_a_split(table):
    split = as_split(lambda row: {"train": row > 3, "validation": row < 2, "test": (row >= 2) & (row <= 3)})
    assert split.masks(table.rows, table.schema)["test"].sum() == 2
    check(split, (table.rows, table.schema))
    with pytest.raises(TypeError, match="`split` must be a Split or a function of row ids; got int"):
        as_split(3)


def test_the_laws_hold_for_those_by_id(table):
    for split in (by_row(), by_position(gap=2)):
        check(split, (table.rows, table.schema))


def test_numbers_are_stratified_by_tenths():
    rows = batch(x=np.zeros((1000, 1)), y=np.random.default_rng(0).exponential(size=1000).astype(np.float32))
    masks = stratified(0.2, 0.2).masks(rows, Schema())
    tenth = np.argsort(np.argsort(np.asarray(rows.y))) // 100
    for mask in (masks["validation"], masks["test"]):
        assert np.bincount(tenth[mask]).tolist() == [20] * 10
