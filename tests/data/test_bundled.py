"""Data that ships: plain files inside packages, and seeds."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, load_wine

from arsenal.data import csv, digits, seeds, wine
from arsenal.data.files import resolve_path


def test_iris_is_scikit_learns():
    data, theirs = csv("arsenal:data/iris.csv", target="species"), load_iris()
    np.testing.assert_array_equal(data.rows.x, theirs.data.astype(np.float32))
    assert [data.schema.target.columns[code] for code in data.rows.y] == [theirs.target_names[code] for code in theirs.target]
    assert data.schema.inputs["x"].columns == ["sepal_length", "sepal_width", "petal_length", "petal_width"]


def test_digits_are_scikit_learns():
    data, theirs = digits(), load_digits()
    np.testing.assert_array_equal(data.rows.x, theirs.images.astype(np.float32))
    np.testing.assert_array_equal(data.rows.y, theirs.target)
    assert data.schema.target.columns == [str(name) for name in theirs.target_names]


def test_wine_is_scikit_learns():
    data, theirs = wine(), load_wine()
    np.testing.assert_array_equal(data.rows.x, theirs.data.astype(np.float32))
    np.testing.assert_array_equal(data.rows.y, theirs.target)
    assert data.schema.inputs["x"].columns == theirs.feature_names and len(data.schema.target.columns) == 3


def test_a_path_into_a_package(tmp_path, monkeypatch):
    assert resolve_path("arsenal:data/iris.csv").is_file()
    for plain in ("some/file.csv", "C:/data.csv", "s3://bucket/file.csv"):
        assert str(resolve_path(plain)) in (plain, plain.replace("//", "/"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:name.csv").write_text("a,b\n1,2\n")
    assert len(csv("odd:name.csv").rows.x) == 1
    with pytest.raises(FileNotFoundError, match="There is no package `nowhere`"):
        csv("nowhere:data.csv")
    with pytest.raises(FileNotFoundError, match=r"iris\.txt does not exist"):
        csv("arsenal:data/iris.txt")


def test_seeds_are_episodes():
    data = seeds(5)
    assert data.rows.x.dtype == np.uint32 and data.rows.x.tolist() == data.rows.row.tolist() == [0, 1, 2, 3, 4]
    assert data.rows.y is None and data.fingerprint == seeds(5).fingerprint != seeds(6).fingerprint
