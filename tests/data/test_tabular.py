"""A table as it comes: what is decided of it, and what is refused before anything trains."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from arsenal.data import by_group, tabular
from arsenal.data.tabular import table_inputs

ROWS = 60
DRAW = np.random.default_rng(0)
FRAME = pd.DataFrame({
    "id": np.arange(1, ROWS + 1),
    "age": np.where(DRAW.random(ROWS) < 0.1, "", DRAW.integers(18, 80, ROWS).astype(str)),
    "price": [f"${n:,.2f}" for n in DRAW.integers(100, 9000, ROWS)],
    "when": pd.date_range("2024-01-01", periods=ROWS).strftime("%Y-%m-%d"),
    "member": DRAW.choice(["yes", "No", ""], ROWS),
    "town": DRAW.choice(["Bern", "Chur", "NA"], ROWS),
    "zip": DRAW.choice(["01067", "80331"], ROWS),
    "same": ["x"] * ROWS,
    "label": DRAW.choice(["cat", "dog"], ROWS),
})  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def write(frame=FRAME, name="one.csv", **settings):
        path = tmp_path / name
        frame.to_parquet(path) if name.endswith(".parquet") else frame.to_csv(path, index=False, **settings)
        return str(path)

    return write


def kinds(data):
    return {name: one["kind"] for name, one in data.schema.table["columns"].items()}


def test_columns_are_typed_and_gaps_are_kept(write):
    data = tabular(write(), "label")
    assert kinds(data) == {
        "id": "identifier", "age": "number", "price": "formatted", "when": "time", "member": "boolean", "town": "category",
        "zip": "category", "same": "constant",
    }  # fmt: skip
    x = data.rows.x
    np.testing.assert_array_equal(np.isnan(x["numeric"][:, 0]), FRAME["age"] == "")
    np.testing.assert_allclose(x["formatted"][:, 0], pd.to_numeric(FRAME["price"].str.replace("[$,]", "", regex=True)))
    days = (pd.to_datetime(FRAME["when"]) - pd.Timestamp(0)).dt.days
    np.testing.assert_array_equal(x["time"][:, 0], days)
    names = list(data.schema.inputs["categorical"].columns)
    codes = dict(zip(names, x["categorical"].T, strict=True))
    np.testing.assert_array_equal(codes["member"], FRAME["member"].map({"No": 0, "yes": 1, "": 3}))
    np.testing.assert_array_equal(codes["town"], FRAME["town"].map({"Bern": 0, "Chur": 1, "NA": 3}))
    assert data.schema.table["task"] == "classes" and list(data.schema.target.columns) == ["cat", "dog"]


def test_parquet_and_csv_of_one_table_are_the_same_rows(write):
    typed = FRAME.assign(age=pd.to_numeric(FRAME["age"]), when=pd.to_datetime(FRAME["when"]))
    one, other = tabular(write(), "label"), tabular(write(typed, "one.parquet"), "label", {"when": "time"})
    for name in ("numeric", "categorical", "formatted"):
        np.testing.assert_array_equal(one.rows.x[name], other.rows.x[name])
    state = other.schema.codecs["when"]
    np.testing.assert_array_equal(one.rows.x["time"] * (86400 if state["unit"] == "s" else 1), other.rows.x["time"])


def test_the_order_of_columns_and_how_the_file_is_written_change_nothing(write):
    wanted = tabular(write(), "label").rows
    turned = tabular(write(FRAME, "two.csv.gz", sep=";"), "label").rows
    for name, value in wanted.x.items():
        np.testing.assert_array_equal(value, turned.x[name])


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b"] * 30, "classes"),
        (["1", "0"] * 30, "classes"),
        (["true", "false"] * 30, "classes"),
        ([str(i % 40) for i in range(60)], "count"),
        ([str(i + 0.5) for i in range(60)], "number"),
        ([str(i * 100 + 7) for i in range(60)], "number"),
    ],
)
def test_the_task_is_found_from_the_target(write, values, task):
    assert tabular(write(FRAME.assign(label=values)), "label").schema.table["task"] == task


def test_what_is_told_of_a_column_holds(write):
    data = tabular(write(), "label", {"age": "category", "id": "number", "town": "drop"})
    assert kinds(data)["age"] == "category" and kinds(data)["town"] == "drop"
    assert "id" in data.schema.inputs["numeric"].columns
    assert all("town" not in (one.columns or ()) for one in data.schema.inputs.values())


@pytest.mark.parametrize(
    ("change", "settings", "error"),
    [
        ({"label": ["a"] * ROWS}, {}, "The target `label` has one value only, 'a'"),
        ({"label": ["", *["a", "b"] * 29, "a"]}, {}, "The target `label` is missing in 1 rows, the first row 1"),
        ({"copy": FRAME["label"]}, {}, "Column `copy` is the target `label` again"),
        ({"copy": FRAME["label"].str.upper()}, {}, "Column `copy` says the target `label` in other words"),
        ({"age": ["old", *["1", "2"] * 29, "3"]}, {}, "Column `age` must hold numbers, as 59 of its values do; got 'old' in row 1"),
        ({}, {"columns": {"aeg": "number"}}, "There is no column `aeg`. Did you mean `age`"),
        ({}, {"columns": {"age": "numbr"}}, "`data.columns.age` must be one of number"),
        ({"when": ["01/02/2024", "03/04/2024"] * 30}, {}, "Column `when` holds dates such as '01/02/2024', written as %m/%d/%Y or %d/%m/%Y: `.data.formats.when"),
        ({"when": ["31.12.2024"] * 59 + ["32.12.2024"]}, {"columns": {"when": "date"}}, "Column `when`: row 60 must be a date or time, as 2024-02-29 or 29.02.2024, that exists; got '32.12.2024'"),
        ({}, {"formats": {"when": "%d/%m"}}, "Column `when`: `format` of a time codec must say year, month and day"),
        ({}, {"formats": {"town": "%d/%m/%Y"}, "columns": {"town": "category"}}, "`data.formats.town` is of times; `data.columns.town` says category"),
        ({}, {"columns": {"town": "text"}, "text": {"buckets": -1}}, "Column `town`: `buckets` of a text codec must be"),
        ({}, {"columns": {"town": "text"}, "text": {"bucket": 8}}, "Column `town`: a codec of kind 'text' takes"),
        ({}, {"columns": {"town": "number"}}, "Column `town` must hold numbers; got"),
        ({}, {"task": "number"}, "The target `label` must hold numbers where `data.task` is number"),
        ({"label": [f"l{i}" for i in range(ROWS)]}, {}, "has another label in every row"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_a_line(write, change, settings, error):
    with pytest.raises(ValueError, match=error):
        tabular(write(FRAME.assign(**change)), "label", **settings)


def test_a_header_without_rows_is_refused(write):
    with pytest.raises(ValueError, match="has a header and no row"):
        tabular(write(FRAME[:0]), "label")


@pytest.mark.skipif("ARSENAL_TEST_DATA" not in os.environ, reason="The public tables are not here.")
@pytest.mark.parametrize(("name", "target", "task"), [("titanic", "survived", "classes"), ("penguins", "species", "classes"), ("diamonds", "price", "number")])
def test_public_tables_need_nothing_said(name, target, task):
    data = tabular(str(Path(os.environ["ARSENAL_TEST_DATA"]) / f"{name}.csv"), target)
    assert data.schema.table["task"] == task
    frame = pd.read_csv(Path(os.environ["ARSENAL_TEST_DATA"]) / f"{name}.csv")
    assert len(data.rows.weight) == len(frame)
    for column, one in data.schema.table["columns"].items():
        assert one["missing"] == frame[column].isna().sum(), column


def test_texts_are_codes_of_n_grams_and_what_is_cut_is_said(write):
    notes = [f"{'a ' * (i % 7)}note of {i}" for i in range(ROWS - 1)] + [""]
    told = {"analyzer": "word", "ngrams": [1, 1], "buckets": 16}
    data = tabular(write(FRAME.assign(note=notes)), "label", {"town": "text"}, text=told)
    codes, tensor = data.rows.x["text"], data.schema.inputs["text"]
    assert list(tensor.columns) == ["town", "note"] and codes.shape == (ROWS, 2, 3)
    assert ((codes[:, 1] >= 0).sum(1) == [2 + (i > 9) for i in range(ROWS - 1)] + [0]).all()
    assert data.schema.table["notes"] == []
    cut = tabular(write(FRAME.assign(note=notes)), "label", {"note": "text"}, text=told | {"length": 2})
    (note,) = cut.schema.table["notes"]
    assert note.startswith("Of column `note`, 49 of 60 texts have more than 2 n-grams and are cut")


def test_dates_as_people_write_them_are_read_by_the_state_that_is_kept(write):
    german = FRAME.assign(when=[f"{day[8:]}.{day[5:7]}.{day[:4]}" for day in FRAME["when"]])
    data, iso = tabular(write(german, "two.csv"), "label"), tabular(write(), "label")
    np.testing.assert_array_equal(data.rows.x["time"], iso.rows.x["time"])
    np.testing.assert_array_equal(table_inputs(FRAME, data.schema)["time"], iso.rows.x["time"])
    assert data.schema.codecs["when"]["format"] == "%d.%m.%Y" and data.schema.codecs["when"]["unit"] == "D"
    open_ = FRAME.assign(when=["01/02/2024"] * ROWS)
    assert tabular(write(open_, "three.csv"), "label", formats={"when": "%d/%m/%Y"}).rows.x["time"][0, 0] == 19754


def test_identifiers_beside_the_rows_are_groups_whatever_their_size(write):
    many = FRAME.assign(patient=[str(2**60 + i % 7) for i in range(ROWS)])
    data = tabular(write(many), "label", aux=["patient"])
    masks = by_group("patient", 0.3, 0.3).masks(data.rows, data.schema)
    sides = [set(np.asarray(many["patient"])[mask]) for mask in masks.values()]
    assert sum(map(len, sides)) == 7 and len(set().union(*sides)) == 7


def test_what_is_no_cell_can_be_left_out(write):
    listed = FRAME.assign(listed=[[1]] * ROWS)
    with pytest.raises(ValueError, match="Column `listed` holds list"):
        tabular(write(listed, "one.parquet"), "label")
    assert kinds(tabular(write(listed, "one.parquet"), "label", {"listed": "drop"}))["listed"] == "drop"


@pytest.mark.parametrize("missing", [["-9"], {"age": [-9]}, [-9]])
def test_words_for_missing_values_are_of_all_columns_or_of_one(write, missing):
    data = tabular(write(FRAME.assign(age=["-9", *FRAME["age"][1:]])), "label", missing=missing)
    assert np.isnan(data.rows.x["numeric"][0, 0])
