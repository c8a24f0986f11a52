"""Data frames and arrays as inputs, and answers as data frames."""

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np
from arsenal_serving import codecs
from arsenal_serving.export import Tensor

from arsenal.data.codec import category
from arsenal.data.dataset import Dataset, Schema, dataset


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


def shaped(x: Any, like: Any) -> Any:
    """Arrays for inputs as the run knows them; a dict of one array may name the only input."""
    if isinstance(x, dict) and not isinstance(like, dict):
        if "x" not in x:
            raise ValueError(f"The input is called `x`; got {', '.join(x)}.")
        x = x["x"]
    if isinstance(like, dict):
        if not isinstance(x, dict) or set(like) - set(x):
            raise ValueError(
                f"Inputs must be a dict of {', '.join(like)}; got {sorted(x) if isinstance(x, dict) else type(x).__name__}."
            )
        return {name: shaped(x[name], value) for name, value in like.items()}
    array = np.asarray(x)
    if not np.issubdtype(array.dtype, np.number) and array.dtype != bool:
        raise ValueError(f"Inputs must be numbers; got {array.dtype}.")
    if array.shape[1:] != like.shape[1:]:
        raise ValueError(f"Inputs must have shape [n, {', '.join(map(str, like.shape[1:]))}]; got {list(array.shape)}.")
    if not np.isfinite(array).all():
        raise ValueError(f"Inputs must be finite; got NaN or infinity in {int((~np.isfinite(array)).sum())} places.")
    return array.astype(like.dtype)


def framed(given: dict[str, np.ndarray], schema: Schema) -> Any:
    """Answers [n] and [n, k] as columns; labels decoded."""
    import pandas as pd

    columns = {}
    for name, values in given.items():
        if name == "predict" and schema.target.codec:
            columns[name] = codecs.decode(schema.codecs[schema.target.codec], values)
        elif values.ndim == 1:
            columns[name] = values
        else:
            flat = values.reshape(len(values), -1)
            labels = schema.target.columns
            labels = labels if labels and name == "predict_proba" and len(labels) == flat.shape[1] else range(flat.shape[1])
            columns |= {f"{name}[{label}]": flat[:, i] for i, label in enumerate(labels)}
    return pd.DataFrame(columns)
