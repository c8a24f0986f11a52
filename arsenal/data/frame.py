"""Data frames and arrays as inputs, and answers as data frames."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from arsenal_serving.artifact import codecs
from arsenal_serving.export import Tensor

from arsenal.data.codec import category
from arsenal.data.dataset import Dataset, Schema, dataset
from arsenal.nearest import nearest


def table(
    frame: Any, target: str | None, features: Sequence[str] | None, id: str | None, missing: str, files: Iterable[Path] = (),
    aux: Sequence[str] = (),
) -> Dataset:  # fmt: skip
    """A data frame as rows: numeric columns as x [n, d]; with string columns too, x is {"numeric", "categorical"}.

    A target of strings becomes labels; a column that holds both numbers and other text is an error. Columns `aux` are kept
    beside the inputs, for a split or a loss of one's own.
    """
    names, used = choose_columns(frame.columns, target, features, id, aux)
    kept = frame[used]
    gaps = kept.isna()
    if gaps.to_numpy().any():
        refuse_gaps(gaps.sum().to_dict(), missing)
        kept = kept[~gaps.any(axis=1)]
    if kept.empty:
        raise ValueError("The table has no row" + (" without missing values." if len(frame) else "."))
    text = [name for name in used if name != id and not is_number(kept[name])]
    schema = table_schema(names, target, {name: category().fit(kept[name].to_numpy(dtype=object)) for name in text})
    row = kept[id].to_numpy() if id else kept.index.to_numpy()
    beside = aux_columns(kept, aux, schema)
    return dataset(tensors(kept, schema), target_column(kept, target, schema), row, aux=beside, schema=schema, files=files)


def choose_columns(
    columns: Any, target: str | None, features: Sequence[str] | None, id: str | None, aux: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """The feature columns, and all columns that are read; ValueError where one is not there."""
    names = list(features) if features is not None else [c for c in columns if c not in (target, id, *aux)]
    if not names:
        raise ValueError(f"A table needs at least one feature column; the columns are {list(columns)}.")
    used = [*dict.fromkeys([*names, *([target] if target else []), *([id] if id else []), *aux])]
    for name in used:
        check_name(name, columns, "column")
    if target in names:
        raise ValueError(f"The target `{target}` is one of `features`: a model would read its answer.")
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise ValueError(f"The column `{twice[0]}` is in `features` twice.")
    return names, used


def refuse_gaps(counts: dict[str, int], missing: str) -> None:
    """Raise ValueError for missing values, counted by column, unless their rows are to be dropped."""
    counts = {name: int(n) for name, n in counts.items() if n}
    if counts and missing == "error":
        raise ValueError(f"Columns have missing values: {counts}. `missing=drop` leaves those rows out.")


def table_schema(names: Sequence[str], target: str | None, states: dict[str, dict]) -> Schema:
    """The schema of a table: `states` are the codecs of its columns of text, the target's among them."""
    numeric, text = ([name for name in names if (name in states) == coded] for coded in (False, True))
    inputs = {"x": Tensor(columns=numeric)} if not text else {}
    if text:
        inputs = {"numeric": Tensor(columns=numeric)} if numeric else {}
        inputs["categorical"] = Tensor(columns=text, codec=list(text))
    label = Tensor(columns=states[target]["values"], codec=target) if target in states else Tensor()
    return Schema(inputs, label, states)


def target_column(frame: Any, target: str | None, schema: Schema) -> np.ndarray | None:
    """The target column [n]: codes of labels, or numbers."""
    if target is None:
        return None
    if schema.target.codec:
        return category().encode(schema.codecs[target], frame[target].to_numpy(dtype=object))
    return frame[target].to_numpy()


def aux_columns(frame: Any, aux: Sequence[str], schema: Schema) -> Any:
    """The further columns [n] by name, codes of strings and numbers; () where there are none."""

    def one(name):
        values = frame[name].to_numpy(dtype=object if name in schema.codecs else None)
        return category().encode(schema.codecs[name], values) if name in schema.codecs else values

    return {name: one(name) for name in aux} or ()


def tensors(frame: Any, schema: Schema) -> Any:
    """The inputs that the schema names, from the frame's columns: an array if there is one called x, else a dict."""
    made = {}
    for name, field in schema.inputs.items():
        if field.columns is None and isinstance(field.codec, str):  # texts, whose column the codec is called by
            check_name(field.codec, frame.columns, "column")
            refuse_missing(frame[field.codec], "")
            made[name] = codecs.encode(schema.codecs[field.codec], frame[field.codec].to_numpy(dtype=object))
            continue
        if field.columns is None:
            raise ValueError(f"Input `{name}` has no column names: give its values as an array in an .npz file.")
        for column in field.columns:
            check_name(column, frame.columns, "column")
        part = frame[field.columns]
        if field.codec:
            names = [field.codec] * len(field.columns) if isinstance(field.codec, str) else field.codec
            coded = []
            for codec, column in zip(names, field.columns, strict=True):
                state = schema.codecs[codec]
                # An empty text is a missing value here as for the server, unless the data had it as a category.
                refuse_missing(part[column], "" if "" not in state.get("values", ("",)) else None)
                coded.append(category().encode(state, part[column].to_numpy(dtype=object)))
            made[name] = np.stack(coded, 1)
            continue
        for column in field.columns:
            if not is_number(part[column]):
                raise ValueError(f"Column `{column}` must hold numbers; got {part[column].iloc[0]!r}.")
            refuse_missing(part[column])
        made[name] = part.to_numpy(dtype=np.float32)
    return made["x"] if list(made) == ["x"] else made


def refuse_missing(column: Any, empty: str | None = None) -> None:
    """Raise ValueError for a column with a missing value, or with a text that stands for one."""
    gaps = (column.isna() | (column == empty)).to_numpy()
    if gaps.any():
        found = f"{int(gaps.sum())}, the first in row {int(gaps.argmax()) + 1}"
        raise ValueError(f"Column `{column.name}` must have no missing values; got {found}.")


def is_number(column: Any) -> bool:
    """Whether a column holds numbers; one that holds numbers and other text is an error that shows the text."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return True
    refuse_numbers_as_text(column.dropna())
    return False


def refuse_numbers_as_text(values: Any, counts: np.ndarray | None = None) -> None:
    """Raise ValueError where most of a column's values of text, each there `counts` times, read as numbers."""
    import pandas as pd

    counts = np.ones(len(values), int) if counts is None else counts
    parsed = pd.to_numeric(values, errors="coerce").notna().to_numpy()
    numbers, others = int(counts[parsed].sum()), int(counts[~parsed].sum())
    if numbers > others:
        bad = values[~parsed]
        raise ValueError(
            f"Column `{values.name}` must hold numbers, as {numbers} of its values do; "
            f"got {bad.iloc[0]!r} in row {int(bad.index[0]) + 1}, and {others - 1} more."
            if len(bad)
            else f"Column `{values.name}` holds numbers as text; convert it."
        )


def check_name(name: str, names: Any, what: str) -> None:
    """Raise ValueError, with the nearest name, unless `name` is one of `names`."""
    names = [str(n) for n in names]
    if name not in names:
        raise ValueError(f"There is no {what} `{name}`.{nearest(name, names)} There are: {', '.join(names[:20])}.")


def as_inputs(x: Any, like: Any) -> Any:
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
        return {name: as_inputs(x[name], value) for name, value in like.items()}
    array = np.asarray(x)
    if not np.issubdtype(array.dtype, np.number) and array.dtype != bool:
        raise ValueError(f"Inputs must be numbers; got {array.dtype}.")
    if array.shape[1:] != like.shape[1:]:
        raise ValueError(f"Inputs must have shape [n, {', '.join(map(str, like.shape[1:]))}]; got {list(array.shape)}.")
    if not np.isfinite(array).all():
        raise ValueError(f"Inputs must be finite; got NaN or infinity in {int((~np.isfinite(array)).sum())} places.")
    return array.astype(like.dtype)


def answer_frame(given: dict[str, np.ndarray], schema: Schema) -> Any:
    """Answers [n] and [n, k] as columns; labels decoded."""
    import pandas as pd

    columns = {}
    for name, values in given.items():
        if name == "predict" and isinstance(schema.target.codec, str) and np.issubdtype(values.dtype, np.integer):
            columns[name] = codecs.decode(schema.codecs[schema.target.codec], values)
        elif values.ndim == 1:
            columns[name] = values
        else:
            flat = values.reshape(len(values), -1)
            labels = schema.target.columns
            labelled = labels if labels and name == "predict_proba" and len(labels) == flat.shape[1] else range(flat.shape[1])
            columns |= {f"{name}[{label}]": flat[:, i] for i, label in enumerate(labelled)}
    return pd.DataFrame(columns)
