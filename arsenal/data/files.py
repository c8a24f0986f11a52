"""Tables and arrays in files: CSV, Parquet and NPZ, typed by a schema."""

import importlib.util
from collections.abc import Sequence
from csv import reader as csv_rows
from pathlib import Path
from typing import Any, Literal

import numpy as np
from arsenal_serving.export import Tensor

from arsenal.data.dataset import Dataset, Schema, dataset
from arsenal.data.frame import check_name, table
from arsenal.data.groups import row_groups


def csv(
    path: str, target: str | None = None, features: Sequence[str] | None = None, id: str | None = None,
    missing: Literal["error", "drop"] = "error", separator: str = ",", aux: Sequence[str] = (),
) -> Dataset:  # fmt: skip
    """A CSV file with a header: numbers in one input, strings in another, coded; see `table`.

    `path` may name data that a package brings, as in `arsenal:data/iris.csv`.
    """
    return table(read(path, separator), target, features, id, missing, [resolve_path(path)], aux)


def parquet(
    path: str, target: str | None = None, features: Sequence[str] | None = None, id: str | None = None,
    missing: Literal["error", "drop"] = "error", stream: bool = False, aux: Sequence[str] = (),
) -> Dataset:  # fmt: skip
    """A Parquet file; see `table`. `stream` reads its row groups when their rows are asked for; see `row_groups`."""
    if stream:
        return row_groups(find_file(path), target, features, id, missing, aux)
    return table(read(path), target, features, id, missing, [resolve_path(path)], aux)


def npz(path: str, x: str | Sequence[str] = "x", y: str | None = "y", row: str | None = None) -> Dataset:
    """Arrays of a NumPy archive by name: `x` is one array, or several that become named inputs. Nothing is unpickled."""
    stored = read(path)
    names = [x] if isinstance(x, str) else list(x)
    for name in [*names, *([y] if y else []), *([row] if row else [])]:
        check_name(name, stored, f"array in {path}")
    inputs = stored[x] if isinstance(x, str) else {name: stored[name] for name in names}
    fields = {"x" if isinstance(x, str) else name: Tensor() for name in names}
    files = [resolve_path(path)]
    return dataset(inputs, stored[y] if y else None, stored[row] if row else None, schema=Schema(fields), files=files)


def read(path: str | Path, separator: str = ",") -> Any:
    """A data frame from .csv or .parquet, a dict of arrays from .npz; one clear error where that cannot be."""
    import pandas as pd

    path = find_file(path)
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                return dict(stored)
        if path.suffix in (".csv", ".tsv", ".txt"):
            return read_csv(path, "\t" if path.suffix == ".tsv" else separator)
    except Exception as error:
        raise ValueError(f"Data file {path} cannot be read: {str(error).splitlines()[0]}") from error
    raise ValueError(f"A data file ends in .csv, .tsv, .parquet or .npz; got {path.name}.")


def read_csv(path: Path, separator: str) -> Any:
    """A data frame from text with a header; ValueError where pandas would take cells for labels of rows, or make up names."""
    import pandas as pd

    frame = pd.read_csv(path, sep=separator)
    if len(separator) == 1:
        with open(path, newline="", encoding="utf-8-sig", errors="replace") as stream:
            rows = csv_rows(stream, delimiter=separator)
            names = next(rows)
            first = next(rows, names)
        if len(first) > len(names):
            raise ValueError(f"the header names {len(names)} columns, and row 1 has {len(first)} cells.")
        if twice := [name for i, name in enumerate(names) if name in names[:i]]:
            raise ValueError(f"two columns are called {twice[0]!r}.")
    return frame


def find_file(path: str | Path) -> Path:
    """The file; one clear error where there is none, or nothing in it."""
    path = resolve_path(path)
    if path.is_dir():
        raise FileNotFoundError(f"Data file {path} is a folder.")
    if not path.is_file():
        raise FileNotFoundError(f"Data file {path} does not exist.")
    if path.stat().st_size == 0:
        raise ValueError(f"Data file {path} is empty.")
    return path


def resolve_path(path: str | Path) -> Path:
    """The file at a path, or the one that `package:relative/path` names inside an installed package.

    >>> resolve_path("arsenal:data/iris.csv").name
    'iris.csv'
    """
    package, colon, inside = str(path).partition(":")
    # Two letters or more: C:/ is a drive.
    if not (colon and len(package) > 1 and package.isidentifier()) or inside.startswith("//") or Path(path).exists():
        return Path(path)
    found = importlib.util.find_spec(package)  # which runs none of the package's code, as importlib.resources would
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(f"There is no package `{package}` to find {path} in.")
    return Path(found.submodule_search_locations[0]) / inside


def write(path: Path, frame: Any) -> None:
    """A data frame as .csv, .parquet or .npz (one array for each column)."""
    if path.suffix not in (".csv", ".parquet", ".npz"):
        raise ValueError(f"An output file ends in .csv, .parquet or .npz; got {path.name}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The output's directory '{path.parent}' does not exist.")
    partial = path.with_name(f".{path.name}.partial{path.suffix}")
    try:
        if path.suffix == ".csv":
            frame.to_csv(partial, index=False)
        elif path.suffix == ".parquet":
            frame.to_parquet(partial, index=False)
        else:
            arrays: dict[str, Any] = {name: np.asarray(frame[name].tolist()) for name in frame}
            np.savez(partial, **arrays)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
