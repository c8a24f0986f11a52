"""A table as it comes: columns typed, gaps kept as gaps, the task found from the target; what was decided is kept and told."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from arsenal_serving.artifact import codecs
from arsenal_serving.artifact.codecs import cells
from arsenal_serving.export import Tensor
from arsenal_serving.refused import Refused

from arsenal.data.dataset import Dataset, Schema, dataset
from arsenal.data.delimited import Layout, find_files, read_text
from arsenal.data.frame import check_name
from arsenal.data.kinds import MISSING, WHOLE, ColumnKind, codec_state, find_format, find_kind, is_plain_number

Task = Literal["classes", "number", "count"]
Word = str | int | float
INPUTS: dict[str, str] = {
    "number": "numeric", "category": "categorical", "boolean": "categorical", "time": "time", "formatted": "formatted",
    "text": "text",
}  # fmt: skip
"""Which input a column of a kind becomes part of; the others are left out."""
TYPES = {"numeric": np.float32, "categorical": np.int32, "time": np.int32, "formatted": np.float32, "text": np.int32}
LONGEST_TEXT = 256
"""So many n-grams of a text are read where nobody says otherwise."""
MOST_CLASSES = 10
"""Whole numbers of so few different values are classes."""
MOST_COUNTED = 1000
"""Whole numbers from 0 to this are counts."""


class Target(NamedTuple):
    """What is to be learned of the target, and why."""

    task: Task
    why: str
    values: np.ndarray
    """[n]: codes of labels, or float32 numbers."""
    tensor: Tensor
    states: dict[str, dict]


def tabular(
    path: str, target: str | None = None, columns: Mapping[str, str] | None = None, task: Task | None = None,
    missing: Sequence[Word] | Mapping[str, Sequence[Word]] | None = None, separator: str | None = None,
    encoding: str | None = None,
    header: bool | None = None, comment: str | None = None, aux: Sequence[str] = (),
    unlabelled: Literal["error", "drop"] = "error", formats: Mapping[str, str] | None = None,
    text: Mapping[str, Any] | None = None,
) -> Dataset:  # fmt: skip
    """Any honest CSV or Parquet file as rows: x {"numeric", "categorical", "time", "formatted", "text"}, those that there are.

    `path` may be a pattern, compressed (.gz, .bz2, .xz, .zip) or inside a package, as in `arsenal:data/iris.csv`. `columns`
    says of a column what it is: number, category, boolean, time (or date), formatted, text, identifier or drop; the others are
    typed by their values. `missing` are further words for a missing value, of all columns or by column. `task` is found from the
    target unless given. Missing numbers are NaN, missing categories a code of their own. Columns `aux` are kept beside the
    inputs for a split by group or time. `formats` says of times how they are written, {when: "%d/%m/%Y"}, where their values
    leave it open. `text` says how texts become codes of n-grams [n, columns, length], as the codec of texts has it: analyzer
    (`char_wb` or `word`), ngrams, buckets or values, length, lowercase, strip_accents. `Schema.table` holds what was decided.
    """
    left_out = [name for name, kind in (columns or {}).items() if kind == "drop"]
    frame, told, files = read_tables(path, Layout(separator, encoding, header, comment), left_out)
    return as_table(frame, target, columns, task, missing or (), aux, unlabelled, formats, text, told, files)


def read_tables(path: str, layout: Layout, left_out: Sequence[str] = ()) -> tuple[Any, list[str], list[Path]]:
    """The files as one data frame of strings, what was found of how they are written, and the files.

    Columns that are left out may hold what is no cell; they are empty then.
    """
    import pandas as pd

    files, parts, told = find_files(path), [], []
    for file in files:
        part, found = (read_parquet(file, left_out), []) if file.suffix == ".parquet" else read_text(file, layout)
        if parts and list(part.columns) != list(parts[0].columns):
            raise ValueError(f"Data file {file} has the columns {list(part.columns)}; {files[0]} has {list(parts[0].columns)}.")
        parts.append(part)
        told += [line for line in found if line not in told]
    frame = parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)
    if frame.empty:
        raise ValueError(f"Data file {files[0]} has a header and no row.")
    return frame, told, files


def read_parquet(path: Path, left_out: Sequence[str] = ()) -> Any:
    """A Parquet file as strings, as a CSV file has them; what Arrow's types mean beyond that is said by `cells_of`."""
    import pandas as pd
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"Data file {path} cannot be read: {str(error).splitlines()[0]}") from error
    empty = [""] * len(table)
    return pd.DataFrame({name: empty if name in left_out else cells_of(name, table.column(name)) for name in table.column_names})


def cells_of(name: str, column: Any) -> list[str]:
    """A column of Arrow's as strings, a null as the empty one. Raises ValueError for what is no cell: lists, structs, bytes."""
    import pyarrow

    kind = column.type
    types = pyarrow.types
    if types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        raise ValueError(f"Column `{name}` holds {kind}, which is no value of a cell; `+data.columns.{name}=drop` leaves it out.")
    if types.is_timestamp(kind) and kind.tz is not None:
        column = column.cast(pyarrow.timestamp("us", "UTC"))
    if types.is_timestamp(kind):
        column = pyarrow.compute.strftime(column.cast(pyarrow.timestamp("s"), safe=False), format="%Y-%m-%dT%H:%M:%S")
    if types.is_date64(kind):
        column = column.cast(pyarrow.date32())
    return [cells.text(value) or "" for value in column.to_pylist()]


def as_table(
    frame: Any, target: str | None, columns: Mapping[str, str] | None = None, task: Task | None = None,
    missing: Sequence[Word] | Mapping[str, Sequence[Word]] = (), aux: Sequence[str] = (),
    unlabelled: Literal["error", "drop"] = "error", formats: Mapping[str, str] | None = None,
    text: Mapping[str, Any] | None = None, told: Sequence[str] = (), files: Sequence[Path] = (),
) -> Dataset:  # fmt: skip
    """A data frame of strings as rows; see `tabular`."""
    formats = dict(formats or {})
    told_kinds = {name: "time" if kind == "date" else kind for name, kind in (columns or {}).items()}
    columns = dict.fromkeys(formats, "time") | told_kinds
    for name in [*columns, *([target] if target else []), *aux, *(missing if isinstance(missing, Mapping) else ())]:
        check_name(name, frame.columns, "column")
    words = {name: words_of(missing, name) for name in frame.columns}
    goal, notes = None, list(told)
    if target is not None:
        frame, note = drop_unlabelled(frame, target, words[target], unlabelled)
        notes += note
        goal = find_target(frame[target].tolist(), target, task)
        refuse_copies(frame.drop(columns=[name for name, kind in columns.items() if kind == "drop"]), target)
    read = [name for name in frame.columns if name not in (target, *aux)]
    found = {
        name: decide_kind(name, frame[name].tolist(), words[name], columns.get(name), formats.get(name), text) for name in read
    }
    found, cut = with_lengths(found, frame)
    notes += cut
    beside, states = aux_values(frame, aux, words)
    schema = table_schema(found, goal, words, notes, states)
    if not schema.inputs:
        kinds = ", ".join(f"{name} is {one.kind}" for name, one in found.items())
        raise ValueError(f"No column of the table is an input: {kinds or 'there is none but the target'}.")
    x = table_inputs(frame, schema)
    return dataset(x, None if goal is None else goal.values, aux=beside, schema=schema, files=files)


def words_of(missing: Sequence[Word] | Mapping[str, Sequence[Word]], name: str) -> tuple[str, ...]:
    """The words for a missing value of a column."""
    more = missing.get(name, ()) if isinstance(missing, Mapping) else missing
    return tuple(dict.fromkeys((*MISSING, *map(str, more))))


def decide_kind(
    name: str, values: list[str], words: Sequence[str], told: str | None = None, format: str | None = None,
    text: Mapping[str, Any] | None = None,
) -> ColumnKind:  # fmt: skip
    """What a column is, as it is told or by its values, and how its strings are read."""
    if told not in (None, *INPUTS, "identifier", "drop"):
        kinds = ", ".join((*INPUTS, "date", "identifier", "drop"))
        raise ValueError(f"`data.columns.{name}` must be one of {kinds}; got {told!r}.")
    there = [cell.strip() for cell in values if cell not in words]
    if told == "number":
        wrong = next((at for at, cell in enumerate(values, 1) if cell not in words and not is_plain_number(cell.strip())), None)
        if wrong:
            raise ValueError(f"Column `{name}` must hold numbers; got {values[wrong - 1]!r} in row {wrong}.")
    if format is not None and told != "time":
        raise ValueError(f"`data.formats.{name}` is of times; `data.columns.{name}` says {told}.")
    if told == "time" and format is None:
        format = find_format(name, dict.fromkeys(there), told=True)
    as_told = ColumnKind(told, "as told", len(values) - len(there), format=format)  # type: ignore[arg-type]
    found = find_kind(name, values, words) if told is None else as_told
    state = codec_state(found.kind, there, words, text, found.format)
    try:
        codecs.codec(state | ({"length": 1} if found.kind == "text" else {})) if state else None
    except Refused as error:
        raise ValueError(f"Column `{name}`: {error}") from error
    return found._replace(state=state)


def with_lengths(found: dict[str, ColumnKind], frame: Any) -> tuple[dict[str, ColumnKind], list[str]]:
    """The columns with the length of all texts in their states, and notes of how many texts are longer and cut."""
    texts = {name: one for name, one in found.items() if one.kind == "text"}
    counts, most, told = {}, LONGEST_TEXT, None
    for name, one in texts.items():
        told = one.state.get("length")
        most = told or LONGEST_TEXT
        # One more than will be read shows which are longer.
        codes = codecs.encode(one.state | {"length": most + 1}, frame[name].to_numpy(dtype=object))
        counts[name] = (codes >= 0).sum(1)
    length = told or max((min(most, int(count.max())) for count in counts.values()), default=0) or 1
    sized = {name: one._replace(state=one.state | {"length": length}) for name, one in texts.items()}
    notes = [
        f"Of column `{name}`, {int((count > length).sum())} of {len(count)} texts have more than {length} n-grams and are cut; "
        "`data.text.length` says otherwise"
        for name, count in counts.items()
        if (count > length).any()
    ]
    return found | sized, notes


def find_target(values: list[str], name: str, task: Task | None) -> Target:
    """What is to be learned: labels of strings, truth values and few whole numbers; counts; other numbers."""
    given = [cell.strip() for cell in values]
    distinct = dict.fromkeys(given)
    plain = all(map(is_plain_number, distinct))
    numbers = np.array([float(cell) for cell in given]) if plain else np.zeros(0)
    whole = plain and bool((numbers == np.round(numbers)).all())
    if task is None and not plain:
        task, why = "classes", f"{len(distinct)} labels"
    elif task is None and whole and len(distinct) <= MOST_CLASSES:
        task, why = "classes", f"whole numbers of {len(distinct)} different values; `data.task=number` takes them as numbers"
    elif task is None and whole and numbers.min() == 0 and numbers.max() <= MOST_COUNTED:
        task, why = "count", "whole numbers from 0; `data.task=number` takes them as numbers"
    elif task is None:
        task, why = "number", "numbers"
    else:
        why = "as told"
    if len(distinct) < 2:
        raise ValueError(f"The target `{name}` has one value only, {next(iter(distinct))!r}: there is nothing to learn.")
    if task == "classes":
        if len(distinct) == len(given) > MOST_CLASSES:
            raise ValueError(f"The target `{name}` has another label in every row: there is nothing to learn.")
        ordered = sorted(distinct, key=float) if plain else sorted(distinct)
        state = {"kind": "category", "values": ordered}
        codes = codecs.encode(state, np.array(given, dtype=object))
        return Target(task, why, codes, Tensor(columns=ordered, codec=name), {name: state})
    if not plain:
        wrong = next(at for at, cell in enumerate(given, 1) if not is_plain_number(cell))
        got = f"{given[wrong - 1]!r} in row {wrong}"
        raise ValueError(f"The target `{name}` must hold numbers where `data.task` is {task}; got {got}.")
    if task == "count" and (not whole or numbers.min() < 0):
        raise ValueError(f"The target `{name}` must hold whole numbers of at least 0 where `data.task` is count.")
    return Target(task, why, numbers.astype(np.float32), Tensor(), {})


def drop_unlabelled(frame: Any, target: str, words: Sequence[str], unlabelled: str) -> tuple[Any, list[str]]:
    """The rows that have a target, and a note of the others; ValueError for those unless they are to be dropped."""
    gone = frame[target].isin(list(words)).to_numpy()
    if not gone.any():
        return frame, []
    if unlabelled == "error":
        raise ValueError(
            f"The target `{target}` is missing in {int(gone.sum())} rows, the first row {int(gone.argmax()) + 1}. "
            "`data.unlabelled=drop` leaves those rows out."
        )
    return frame[~gone].reset_index(drop=True), [f"{int(gone.sum())} rows without a target were left out"]


def refuse_copies(frame: Any, target: str) -> None:
    """Raise ValueError where a feature is the target itself, or a word for each of its values."""
    wanted = frame[target].str.strip()
    distinct = wanted.nunique()
    for name in frame.columns:
        if name == target:
            continue
        given = frame[name].str.strip()
        if given.equals(wanted):
            raise ValueError(f"Column `{name}` is the target `{target}` again; `+data.columns.{name}=drop` leaves it out.")
        if given.nunique() == distinct < len(frame) and len(set(zip(given, wanted, strict=True))) == distinct:
            raise ValueError(
                f"Column `{name}` says the target `{target}` in other words; `+data.columns.{name}=drop` leaves it out."
            )


def table_schema(
    found: dict[str, ColumnKind], goal: Target | None, words: dict[str, tuple[str, ...]], notes: list[str],
    beside: dict[str, dict],
) -> Schema:  # fmt: skip
    """The schema of a table's inputs and target; `beside` are the codecs of the columns of `aux`."""
    inputs = {}
    for part in dict.fromkeys(INPUTS.values()):
        names = [name for name, one in found.items() if INPUTS.get(one.kind) == part]
        if names and part == "numeric":
            inputs[part] = Tensor(columns=names, gaps=list(dict.fromkeys(word for name in names for word in words[name])))
        elif names:
            inputs[part] = Tensor(columns=names, codec=names)
    states = beside | {name: one.state for name, one in found.items() if INPUTS.get(one.kind, "numeric") != "numeric"}
    decided: dict[str, Any] = {
        name: {"kind": one.kind, "why": one.why, "missing": one.missing} for name, one in found.items()
    }
    told = {"columns": decided, "notes": notes}
    if goal is None:
        return Schema(inputs, Tensor(), states, table=told)
    return Schema(inputs, goal.tensor, states | goal.states, table=told | {"task": goal.task, "why": goal.why})


def table_inputs(frame: Any, schema: Schema) -> dict[str, np.ndarray]:
    """The inputs that a schema names, from a data frame of strings or of values; ValueError names column and row."""
    made = {}
    for name, tensor in schema.inputs.items():
        parts = []
        names = tensor.columns or ()
        for column in names:
            check_name(column, frame.columns, "column")
        for column in names:
            given = frame[column].to_numpy(dtype=object)
            try:
                if tensor.codec is None:
                    parts.append(read_numbers(given, tensor.gaps or ()))
                else:
                    parts.append(codecs.encode(schema.codecs[column], given))
            except ValueError as error:
                raise ValueError(f"Column `{column}`: {error}") from error
        made[name] = np.stack(parts, 1).astype(TYPES[name])
    return made


def read_numbers(given: np.ndarray, words: Sequence[str]) -> np.ndarray:
    """Numbers [n] of cells, NaN for words of missing values; ValueError, which names the row, for others."""
    values = np.array(cells.read_numbers(cells.flatten(given)[0], "f", cells.missing_words(list(words))), float)
    if np.isinf(values).any():
        raise ValueError(f"row {int(np.isinf(values).argmax()) + 1} must be finite; got infinity.")
    return values.astype(np.float32)


def aux_values(frame: Any, aux: Sequence[str], words: dict[str, tuple[str, ...]]) -> tuple[Any, dict[str, dict]]:
    """Further columns by name, () where there are none, and the codecs of those that hold no fractions.

    Whole numbers are identifiers as strings are: those beyond 32 bits would run into each other as numbers.
    """
    made: dict[str, np.ndarray] = {}
    states: dict[str, dict] = {}
    for name in aux:
        given = [cell.strip() for cell in frame[name]]
        if any(cell in words[name] for cell in given):
            at = next(i for i, cell in enumerate(given, 1) if cell in words[name])
            raise ValueError(f"Column `{name}` of `aux` must have no missing values; row {at} has one.")
        numbers = all(map(is_plain_number, given))
        if numbers and any(not WHOLE.fullmatch(cell) for cell in given):
            made[name] = np.array([float(cell) for cell in given])
        else:
            # In their order, so that a split by time may go by them.
            ordered = sorted(set(given), key=int) if numbers else sorted(set(given))
            states[name] = {"kind": "category", "values": ordered}
            made[name] = codecs.encode(states[name], np.array(given, dtype=object))
    return made or (), states
