"""Tables and arrays in files: CSV, Parquet and NPZ, typed by a schema."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from arsenal_serving.export import Tensor

from arsenal.data.codec import category
from arsenal.data.dataset import Dataset, Schema, dataset


def csv(
    path: str, target: str | None = None, features: Sequence[str] | None = None, id: str | None = None,
    missing: Literal["error", "drop"] = "error", separator: str = ",",
) -> Dataset:  # fmt: skip
    """A CSV file with a header: numbers in one input, strings in another, coded; see `table`."""
    return table(read(path, separator), target, features, id, missing)


def parquet(
    path: str, target: str | None = None, features: Sequence[str] | None = None, id: str | None = None,
    missing: Literal["error", "drop"] = "error",
) -> Dataset:  # fmt: skip
    """A Parquet file; see `table`."""
    return table(read(path), target, features, id, missing)


def npz(path: str, x: str | Sequence[str] = "x", y: str | None = "y", row: str | None = None) -> Dataset:
    """Arrays of a NumPy archive by name: `x` is one array, or several that become named inputs. Nothing is unpickled."""
    stored = read(path)
    names = [x] if isinstance(x, str) else list(x)
    for name in [*names, *([y] if y else []), *([row] if row else [])]:
        known(name, stored, f"array in {path}")
    inputs = stored[x] if isinstance(x, str) else {name: stored[name] for name in names}
    fields = {"x" if isinstance(x, str) else name: Tensor() for name in names}
    return dataset(inputs, stored[y] if y else None, stored[row] if row else None, schema=Schema(fields))


def read(path: str | Path, separator: str = ",") -> Any:
    """A data frame from .csv or .parquet, a dict of arrays from .npz; one clear error where that cannot be."""
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Data file {path} does not exist.")
    if path.stat().st_size == 0:
        raise ValueError(f"Data file {path} is empty.")
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                return dict(stored)
        if path.suffix in (".csv", ".tsv", ".txt"):
            return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else separator)
    except Exception as error:
        raise ValueError(f"Data file {path} cannot be read: {str(error).splitlines()[0]}") from error
    raise ValueError(f"A data file ends in .csv, .tsv, .parquet or .npz; got {path.name}.")


def table(frame: Any, target: str | None, features: Sequence[str] | None, id: str | None, missing: str) -> Dataset:
    """A data frame as rows: numeric columns as x [n, d]; with string columns too, x is {"numeric", "categorical"}.

    A target of strings becomes labels; a column that holds both numbers and other text is an error.
    """
    names = list(features) if features is not None else [c for c in frame.columns if c not in (target, id)]
    if not names:
        raise ValueError(f"A table needs at least one feature column; the columns are {list(frame.columns)}.")
    for name in [*names, *([target] if target else []), *([id] if id else [])]:
        known(name, frame.columns, "column")
    used = frame[[*dict.fromkeys([*names, *([target] if target else []), *([id] if id else [])])]]
    gaps = used.isna()
    if gaps.to_numpy().any():
        if missing == "error":
            counts = {name: int(n) for name, n in gaps.sum().items() if n}
            raise ValueError(f"Columns have missing values: {counts}. `missing=drop` leaves those rows out.")
        used = used[~gaps.any(axis=1)]
    if used.empty:
        raise ValueError("The table has no row" + (" without missing values." if len(frame) else "."))
    numeric = [name for name in names if is_number(used[name])]
    text = [name for name in names if name not in numeric]
    states = {name: category().fit(used[name].to_numpy(dtype=object)) for name in text}
    inputs = {"x": Tensor(columns=numeric)} if not text else {}
    if text:
        inputs = {"numeric": Tensor(columns=numeric)} if numeric else {}
        inputs["categorical"] = Tensor(columns=text, codec=list(text))
    y, label = None, Tensor()
    if target and is_number(used[target]):
        y = used[target].to_numpy()
    elif target:
        states[target] = category().fit(used[target].to_numpy(dtype=object))
        y = category().encode(states[target], used[target].to_numpy(dtype=object))
        label = Tensor(columns=states[target]["values"], codec=target)
    schema = Schema(inputs, label, states)
    row = used[id].to_numpy() if id else used.index.to_numpy()
    return dataset(tensors(used, schema), y, row, schema=schema)


def tensors(frame: Any, schema: Schema) -> Any:
    """The inputs that the schema names, from the frame's columns: an array if there is one called x, else a dict."""
    made = {}
    for name, field in schema.inputs.items():
        if field.columns is None:
            raise ValueError(f"Input `{name}` has no column names: give its values as an array in an .npz file.")
        for column in field.columns:
            known(column, frame.columns, "column")
        part = frame[field.columns]
        if field.codec:
            names = [field.codec] * len(field.columns) if isinstance(field.codec, str) else field.codec
            columns = zip(names, field.columns, strict=True)
            coded = [category().encode(schema.codecs[codec], part[column].to_numpy(dtype=object)) for codec, column in columns]
            made[name] = np.stack(coded, 1)
            continue
        for column in field.columns:
            if not is_number(part[column]):
                raise ValueError(f"Column `{column}` must hold numbers; got {part[column].iloc[0]!r}.")
            if part[column].isna().any():
                raise ValueError(f"Column `{column}` must have no missing values; got {int(part[column].isna().sum())}.")
        made[name] = part.to_numpy(dtype=np.float32)
    return made["x"] if list(made) == ["x"] else made


def is_number(column: Any) -> bool:
    """Whether a column holds numbers; one that holds numbers and other text is an error that shows the text."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return True
    values = column.dropna()
    parsed = pd.to_numeric(values, errors="coerce")
    if parsed.notna().sum() > len(values) / 2:
        bad = values[parsed.isna()]
        raise ValueError(
            f"Column `{column.name}` must hold numbers, as {int(parsed.notna().sum())} of its values do; "
            f"got {bad.iloc[0]!r} in row {bad.index[0]}, and {len(bad) - 1} more."
            if len(bad)
            else f"Column `{column.name}` holds numbers as text; convert it."
        )
    return False


def known(name: str, names: Any, what: str) -> None:
    """Raise ValueError, with the nearest name, unless `name` is one of `names`."""
    names = [str(n) for n in names]
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        raise ValueError(f"There is no {what} `{name}`.{hint} There are: {', '.join(names[:20])}.")
