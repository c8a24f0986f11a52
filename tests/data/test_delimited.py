"""Delimited files as they come: what is found of how they are written, and what is refused."""

import bz2
import gzip
import lzma
import zipfile

import pandas as pd
import pytest

from arsenal.data.delimited import Layout, find_files, find_separator, read_text

TEXT = 'name,size,city\n"Müller, A.",1.5,Köln\nB,2,"a\nb"\n'
ROWS = [["Müller, A.", "1.5", "Köln"], ["B", "2", "a\nb"]]


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("utf-8", []), ("utf-8-sig", []), ("utf-16", ["encoding utf-16"]), ("cp1252", ["encoding cp1252"])],
)
def test_encodings_are_found_and_told(tmp_path, encoding, told):
    path = tmp_path / "one.csv"
    path.write_bytes(TEXT.encode(encoding))
    frame, found = read_text(path, Layout())
    assert frame.to_numpy().tolist() == ROWS and list(frame.columns) == ["name", "size", "city"] and found == told


@pytest.mark.parametrize(("ending", "opened"), [(".gz", gzip.open), (".bz2", bz2.open), (".xz", lzma.open)])
def test_compressed_files_are_read(tmp_path, ending, opened):
    path = tmp_path / f"one.csv{ending}"
    with opened(path, "wb") as stream:
        stream.write(TEXT.encode())
    assert read_text(path, Layout())[0].to_numpy().tolist() == ROWS


def test_a_zip_of_one_file_is_read_and_one_of_two_refused(tmp_path):
    path = tmp_path / "one.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", TEXT)
    assert read_text(path, Layout())[0].to_numpy().tolist() == ROWS
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("b.csv", TEXT)
    with pytest.raises(ValueError, match=r"one.zip cannot be read: it holds 2 files, not one"):
        read_text(path, Layout())


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_that_pandas_wrote_is_found(separator):
    frame = pd.DataFrame({"a": ["x, y", "z; w", "t\tu | v"], "b": ["1,5", "2,5", "3,5"], "c": [1, 2, 3]})
    assert find_separator(frame.to_csv(index=False, sep=separator)) == separator


def test_without_a_header_columns_are_numbered_and_comments_left_out(tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("# made by hand\n1;2\n3;4\n")
    frame, found = read_text(path, Layout(comment="#"))
    assert list(frame.columns) == ["column_1", "column_2"] and len(frame) == 2
    assert found == ["separator ';'", "no header, since the first line holds numbers only: columns are column_1, column_2, …"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "is empty"),
        ("a,a\n1,2\n", "two columns are called `a`"),
        ("a,,c\n1,2,3\n", "column 2 has no name"),
        ("a,b\n1,2\n3\n", "cannot be read: .*Row #3: Expected 2 columns, got 1"),
        ("a,b\n1,2\n3,4,5\n", "cannot be read: .*Row #3: Expected 2 columns, got 3"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, error):
    path = tmp_path / "one.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=error):
        read_text(path, Layout())


def test_a_pattern_names_files_in_order(tmp_path, monkeypatch):
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).write_text("x\n1\n")
    assert [path.name for path in find_files(str(tmp_path / "*.csv"))] == ["a.csv", "b.csv"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_files("~/a.csv")[0].samefile(tmp_path / "a.csv")
    with pytest.raises(FileNotFoundError, match="No file matches"):
        find_files(str(tmp_path / "*.json"))
