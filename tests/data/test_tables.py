"""Tables from files: numbers and strings come out typed, what is wrong is said in one sentence."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from arsenal_serving.artifact import codecs
from hypothesis import given, settings
from hypothesis import strategies as st

from arsenal.data import by_row, csv, npz, parquet
from arsenal.data import frame as frames
from arsenal.data.files import read, write
from arsenal.data.frame import tensors

FRAME = pd.DataFrame(
    {
        "key": [11, 5, 7, 3],
        "height": [1.5, 2.0, 2.5, 3.0],
        "count": [1, 2, 3, 4],
        "colour": ["red", "blue", "red", "green"],
        "kind": ["oak", "elm", "oak", "oak"],
    }
)


def saved(tmp_path, frame=FRAME, name="table.csv") -> str:
    path = tmp_path / name
    frame.to_parquet(path, index=False) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return str(path)


def test_columns_become_numbers_and_codes(tmp_path):
    data = csv(saved(tmp_path), target="kind", id="key")
    assert data.rows.row.tolist() == [11, 5, 7, 3]
    assert data.rows.x["numeric"].tolist() == [[1.5, 1.0], [2.0, 2.0], [2.5, 3.0], [3.0, 4.0]]
    assert data.rows.x["numeric"].dtype == np.float32
    assert data.rows.x["categorical"].tolist() == [[2], [0], [2], [1]]  # blue, green, red
    assert data.rows.y.tolist() == [1, 0, 1, 1]
    assert list(data.schema.target.columns) == ["elm", "oak"]
    assert list(data.schema.inputs["numeric"].columns) == ["height", "count"]


def test_numbers_alone_are_one_array(tmp_path):
    data = csv(saved(tmp_path), target="height", features=["count"])
    assert data.rows.x.tolist() == [[1.0], [2.0], [3.0], [4.0]]
    assert data.rows.y.tolist() == [1.5, 2.0, 2.5, 3.0]
    assert data.rows.row.tolist() == [0, 1, 2, 3]


def test_csv_and_parquet_are_the_same_data(tmp_path):
    as_csv = csv(saved(tmp_path), target="kind", id="key")
    as_parquet = parquet(saved(tmp_path, name="table.parquet"), target="kind", id="key")
    assert as_csv.fingerprint == as_parquet.fingerprint
    other = csv(saved(tmp_path, FRAME.assign(count=[1, 2, 3, 5])), target="kind", id="key")
    assert other.fingerprint != as_csv.fingerprint


def test_with_ids_the_split_follows_the_row_and_not_its_place(tmp_path):
    frame = pd.DataFrame({"key": range(300), "x": np.arange(300) / 8, "y": range(300)})
    tests = []
    for table in (frame, frame.sample(frac=1, random_state=0), frame[frame.key % 3 > 0]):
        data = csv(saved(tmp_path, table), target="y", id="key")
        tests.append(set(data.rows.y[by_row().masks(data.rows, data.schema)["test"]].tolist()))
    assert tests[0] == tests[1]
    assert tests[2] == {y for y in tests[0] if y % 3}


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.tuples(st.floats(width=32, allow_nan=False, allow_infinity=False), st.text('abcé ß;,"', min_size=1)), min_size=1)
)
def test_what_was_written_is_read(tmp_path_factory, table):
    # A space at an end is kept by both formats; text of spaces only is text too.
    frame = pd.DataFrame({"number": [n for n, _ in table], "text": [t for _, t in table]})
    folder = tmp_path_factory.mktemp("written")
    for name, load in (("t.csv", csv), ("t.parquet", parquet)):
        data = load(saved(folder, frame, name))
        assert np.array_equal(data.rows.x["numeric"][:, 0], np.float32(frame["number"]))
        state = data.schema.codecs["text"]
        assert codecs.decode(state, data.rows.x["categorical"][:, 0]).tolist() == frame["text"].tolist()


def test_later_rows_are_read_by_the_same_codes(tmp_path):
    schema = csv(saved(tmp_path), target="kind", id="key").schema
    later = pd.DataFrame({"colour": ["green", "purple"], "unheard": [1, 2], "count": [7, 8], "height": [0.0, -1.0]})
    x = tensors(later, schema)
    assert x["categorical"].tolist() == [[1], [3]], "What was never seen gets the code after the last."
    assert x["numeric"].tolist() == [[0.0, 7.0], [-1.0, 8.0]]
    with pytest.raises(ValueError, match="There is no column `colour`"):
        tensors(later.drop(columns="colour"), schema)


def test_missing_values_are_an_error_or_dropped(tmp_path):
    holes = FRAME.assign(height=[1.5, None, 2.5, 3.0], colour=["red", "blue", None, "green"])
    path = saved(tmp_path, holes)
    with pytest.raises(ValueError, match=r"missing values: {'height': 1, 'colour': 1}. `missing=drop` leaves those rows out"):
        csv(path, target="kind")
    data = csv(path, target="kind", missing="drop")
    assert data.rows.row.tolist() == [0, 3], "The rows that are left keep their ids."
    assert csv(path, target="kind", features=["count"]).rows.x.shape == (4, 1), "Only the columns in use matter."
    with pytest.raises(ValueError, match="no row without missing values"):
        csv(saved(tmp_path, holes.assign(height=None)), target="kind", missing="drop")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"target": "knd"}, "There is no column `knd`. Did you mean `kind`?"),
        ({"features": ["hight"]}, "There is no column `hight`. Did you mean `height`?"),
        ({"id": "kee"}, "There is no column `kee`. Did you mean `key`?"),
        ({"features": []}, "needs at least one feature column"),
        ({"id": "count", "target": "kind", "features": ["zzzz"]}, "There are: key, height, count, colour, kind."),
    ],
)
def test_a_wrong_column_is_named_with_the_nearest(tmp_path, more, words):
    with pytest.raises(ValueError) as error:
        csv(saved(tmp_path), **more)
    assert words in str(error.value)


def test_text_among_numbers_is_shown(tmp_path):
    with pytest.raises(ValueError, match=r"Column `height` must hold numbers, as 3 of its values do; got 'tall' in row 3"):
        csv(saved(tmp_path, FRAME.assign(height=["1.5", "2", "tall", "3"])), target="kind")


def test_ids_must_be_whole_and_distinct(tmp_path):
    with pytest.raises(ValueError, match="must be distinct; got 1 repeated"):
        csv(saved(tmp_path, FRAME.assign(key=[1, 2, 2, 3])), target="kind", id="key")
    for key in ([1.25, 2.5, 3.0, 4.0], ["a", "b", "c", "d"], [1, 2, 3, 2**40]):
        with pytest.raises(ValueError, match=r"(?i)whole numbers"):
            csv(saved(tmp_path, FRAME.assign(key=key)), target="kind", id="key")
    gap = csv(saved(tmp_path, FRAME.assign(key=[9, None, 4, 2])), target="kind", id="key", missing="drop")
    assert gap.rows.row.tolist() == [9, 4, 2]


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match="must be finite"):
        csv(saved(tmp_path, FRAME.assign(height=[1.0, value, 2.0, 3.0])), target="kind")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_files_that_cannot_be_read_are_named(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    with pytest.raises(FileNotFoundError, match=f"rows{suffix} does not exist"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"rows{suffix} is empty"):
        read(path)
    path.write_bytes(b'\x00"\xff"\n1,2,3\n"' * 3)
    with pytest.raises(ValueError, match=f"rows{suffix}"):
        csv(str(path)) if suffix == ".csv" else read(path)


def test_a_header_alone_is_no_data(tmp_path):
    with pytest.raises(ValueError, match="no row"):
        csv(saved(tmp_path, FRAME[:0]), target="kind")


def test_arrays_by_name(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, x=np.ones((3, 2, 2)), y=np.arange(3), age=np.zeros(3), key=np.array([4, 5, 6]))
    data = npz(str(path), row="key")
    assert (data.rows.x.shape, data.rows.x.dtype, data.rows.y.dtype) == ((3, 2, 2), np.float32, np.int32)
    assert data.rows.row.tolist() == [4, 5, 6]
    assert set(npz(str(path), x=["x", "age"]).rows.x) == {"x", "age"}
    assert npz(str(path), y=None).rows.y is None
    with pytest.raises(ValueError, match=r"There is no array in .* `yy`. Did you mean `y`"):
        npz(str(path), y="yy")


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ({"x": np.array([[1.0], [np.nan]]), "y": np.arange(2)}, "`x` has NaN or infinity in 1 rows, the first at position 1"),
        ({"x": np.ones((3, 1)), "y": np.arange(2)}, "same number of rows, here 3"),
        ({"x": np.ones((0, 1)), "y": np.arange(0)}, "at least one row"),
        ({"x": np.array(["a", "b"]), "y": np.arange(2)}, "must be numbers"),
        ({"x": np.array([{}, []], object), "y": np.arange(2)}, "cannot be read"),
        ({"x": np.ones((2, 1)), "y": np.array([0, 2**40])}, "fit in 32 bits"),
    ],
)
def test_arrays_that_are_no_data(tmp_path, stored, words):
    path = tmp_path / "arrays.npz"
    np.savez(path, **stored)
    with pytest.raises((ValueError, TypeError), match=words):
        npz(str(path))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_answers_are_written_and_read_again(tmp_path, suffix):
    frame, path = pd.DataFrame({"predict": ["oak", "elm"], "p[0]": [0.25, 0.75]}), tmp_path / f"answers{suffix}"
    write(path, frame)
    again = read(path)
    assert list(again["predict"]) == ["oak", "elm"] and list(again["p[0]"]) == [0.25, 0.75]
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "No half-written file is left."


def test_an_unknown_ending_is_named(tmp_path):
    (tmp_path / "rows.xls").write_text("?")
    with pytest.raises(ValueError, match=r"ends in \.csv.*got rows\.xls"):
        read(tmp_path / "rows.xls")
    with pytest.raises(ValueError, match=r"ends in \.csv.*got rows\.xls"):
        write(tmp_path / "rows.xls", FRAME)


@pytest.mark.parametrize("gap", [None, float("nan"), ""])
def test_what_is_empty_is_missing_when_a_run_answers_too(gap):
    """As for the server, which says so of an empty category in every route."""
    frame = pd.DataFrame({"colour": ["red", "blue"], "height": [1.0, 2.0], "more": [1, 2]})
    schema = frames.table(frame[["colour", "height"]], None, None, None, "error").schema
    assert tensors(frame, schema)["categorical"].tolist() == [[1], [0]]  # another column is left alone
    with pytest.raises(ValueError, match="Column `colour` must have no missing values; got 1, the first in row 2"):
        tensors(frame.assign(colour=["red", gap]), schema)


@pytest.fixture(scope="module")
def folder() -> Path:
    if "ARSENAL_TEST_DATA" not in os.environ:
        pytest.skip(
            "The public tables are not here: ARSENAL_TEST_DATA names no folder with penguins.csv, titanic.csv and diamonds.csv."
        )
    return Path(os.environ["ARSENAL_TEST_DATA"])


def test_penguins(folder):
    with pytest.raises(ValueError, match="missing values"):
        csv(str(folder / "penguins.csv"), target="species")
    data = csv(str(folder / "penguins.csv"), target="species", missing="drop")
    assert list(data.schema.target.columns) == ["Adelie", "Chinstrap", "Gentoo"]
    assert np.bincount(data.rows.y).tolist() == [146, 68, 119]
    assert list(data.schema.inputs["categorical"].columns) == ["island", "sex"]
    assert data.schema.codecs["island"]["values"] == ["Biscoe", "Dream", "Torgersen"]
    assert data.rows.x["numeric"].shape == (333, 4)


def test_titanic(folder):
    columns = ["pclass", "sex", "age", "fare", "embarked"]
    data = csv(str(folder / "titanic.csv"), target="survived", features=columns, missing="drop")
    assert data.rows.x["numeric"].shape == (712, 3)
    assert data.schema.codecs["sex"]["values"] == ["female", "male"]
    assert data.rows.y.sum() == 288


def test_diamonds(folder):
    data = csv(str(folder / "diamonds.csv"), target="price")
    assert data.rows.x["categorical"].shape == (53940, 3)
    assert data.rows.y.mean() == pytest.approx(3932.8, abs=0.1)


@pytest.mark.parametrize(
    ("text", "settings", "error"),
    [
        ("a,b,y\n0,2,0,9\n1,3,1,9\n", {}, "the header names 3 columns, and row 1 has 4 cells"),
        ("a,a,y\n1,2,0\n2,3,1\n", {}, "two columns are called 'a'"),
        ("a,b,y\n1,2,0\n", {"features": ["a", "y"]}, "The target `y` is one of `features`"),
        ("a,b,y\n1,2,0\n", {"features": ["a", "a"]}, "The column `a` is in `features` twice"),
        ("a,b,y\n", {}, "The table has no row"),
        ("a,b,Y\n1,2,0\n", {}, "There is no column `y`. Did you mean `Y`"),
    ],
)
def test_a_table_that_would_be_read_otherwise_than_meant_is_refused(tmp_path, text, settings, error):
    (tmp_path / "one.csv").write_text(text)
    with pytest.raises(ValueError, match=error):
        csv(str(tmp_path / "one.csv"), target="y", **settings)
