"""Rows as a table: which columns carry which inputs and outputs, and tables as CSV (RFC 4180).

A tensor [rows] is one column of its name. One whose columns have names is a column for each of them: `COLUMN`, or
`TENSOR.COLUMN` where another tensor has a column of that name. Any other is a column for each number of a row, in
row-major order: `TENSOR.0`, `TENSOR.1`, ... Methods without rows have no table, nor have inputs with a dimension that
varies.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from arsenal_serving.artifact.manifest import SINGLE
from arsenal_serving.model import Loaded, Port, ServedModel
from arsenal_serving.protocols import open_inference
from arsenal_serving.refused import Refused, show

CSV = "text/csv"


def columns(method: Loaded) -> list[str]:
    """The columns of a table of a method's inputs; none where it takes no table."""
    try:
        return [label for each in input_columns(method) for label in each]
    except Refused:
        return []


def widths(method: Loaded) -> list[int]:
    """How many columns carry each input; raises `Refused` for a method that takes no table."""
    if method.rows == SINGLE:
        raise Refused(f"method {method.name!r} has no rows, and so takes no table; JSON will do.")
    for port in method.inputs:
        if not all(isinstance(dim, int) for dim in port.shape[1:]):
            raise Refused(f"input {port.name!r} must be {port}: a dimension that varies has no columns; JSON will do.")
    return [math.prod(int(dim) for dim in port.shape[1:]) for port in method.inputs]


def labels(ports: Sequence[Port], widths: Sequence[int], ranks: Sequence[int]) -> list[list[str]]:
    """The names of the columns that carry each tensor; raises `Refused` where one would mean two things.

    ranks: the dimensions of each, rows included.
    """
    named = [port.columns if port.columns and len(port.columns) == width and rank == 2 else None
             for port, width, rank in zip(ports, widths, ranks, strict=True)]  # fmt: skip
    seen = Counter(column for columns in named for column in columns or ())
    seen.update(port.name for port, rank in zip(ports, ranks, strict=True) if rank == 1)
    found = []
    for port, width, rank, columns in zip(ports, widths, ranks, named, strict=True):
        if columns:
            found.append([column if seen[column] == 1 else f"{port.name}.{column}" for column in columns])
        else:
            found.append([port.name] if rank == 1 else [f"{port.name}.{at}" for at in range(width)])
    every = Counter(label for each in found for label in each)
    if twice := [label for label, times in every.items() if times > 1]:
        raise Refused(f"a table would have two columns {show(twice[0])}; JSON will do.")
    return found


def input_columns(method: Loaded) -> list[list[str]]:
    """The columns of a table of inputs, for each input; raises `Refused` for a method that takes none."""
    return labels(method.inputs, widths(method), [len(port.shape) for port in method.inputs])


def places(expected: Iterable[str], header: Sequence[Any]) -> dict[str, int]:
    """Where each expected column is in a header; raises `Refused` for one that is missing or there twice.

    Other columns are left alone, a target or an id, as `arsenal predict` leaves them: all that is needed must be there.
    """
    expected = list(expected)
    found: dict[str, int] = {}
    known = set(expected)
    for at, label in enumerate(header):
        if label not in known:
            continue
        if label in found:
            raise Refused(f"the column {show(label)} is there twice.")
        found[label] = at
    check_there(expected, found, header, "the table")
    return found


def check_there(expected: Sequence[str], found: Collection[Any], others: Iterable[Any], what: str) -> None:
    """Raise `Refused` for columns that are missing, with the name among the others that comes nearest to one."""
    if missing := [label for label in expected if label not in found]:
        unread = {other[:100].lower(): other for other in others if isinstance(other, str) and other not in expected}
        near = difflib.get_close_matches(missing[0][:100].lower(), list(unread)[:100], 1)
        hint = f" Is {show(unread[near[0]])} meant?" if near else ""
        raise Refused(f"{what} must have the columns {show(expected, 200)}; missing: {show(missing, 200)}.{hint}")


def parse(method: Loaded, body: bytes) -> dict[str, np.ndarray]:
    """The named arrays in a CSV with a header, cells typed by the signature; raises `Refused`.

    UTF-8. What a cell means, an empty one included, `codecs.cells` says.
    """
    expected = input_columns(method)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(f"the body is not UTF-8: {error.reason} at byte {error.start}.") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    try:
        header = next(reader, [])
        at = places((label for each in expected for label in each), header)
        ports = zip(method.inputs, expected, strict=True)
        most = min(port.limits.elements // max(1, len(each)) for port, each in ports)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                wanted = f"as many cells as the header, {len(header)}"
                raise Refused(f"line {reader.line_num} must have {wanted}; got {len(row)}.")
            rows.append(row)
            if len(rows) > most:
                break  # what `open_inference.read` refuses need not be split
    except csv.Error as error:
        raise Refused(f"the body is not CSV: line {reader.line_num}: {error}.") from error
    inputs = {}
    for port, each in zip(method.inputs, expected, strict=True):
        columns = [at[label] for label in each]
        values = [row[column] for row in rows for column in columns]
        shape = [len(rows), *port.shape[1:]]
        tensor = {"datatype": open_inference.datatype_name(port), "shape": shape, "data": values}
        inputs[port.name] = open_inference.read(port, tensor)
    return inputs


def output_columns(method: Loaded, answers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns of a table of answers by name, each [rows]."""
    arrays = [answers[port.name] for port in method.outputs]
    flat = [np.asarray(array).reshape(len(array), math.prod(np.shape(array)[1:])) for array in arrays]
    names = labels(method.outputs, [array.shape[1] for array in flat], [np.ndim(array) for array in arrays])
    return {label: array[:, at] for each, array in zip(names, flat, strict=True) for at, label in enumerate(each)}


def write(model: ServedModel, method: Loaded, name: str, answers: dict[str, np.ndarray]) -> bytes:
    """The answer as CSV with a header; the shortest text that gives each number again."""
    columns = output_columns(method, answers)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*map(_texts, columns.values()), strict=True))
    return text.getvalue().encode()


def _texts(column: np.ndarray) -> list[str]:
    plain = open_inference.to_json(column)
    if isinstance(plain, np.ndarray) and plain.dtype.kind != "b":
        return plain.astype(str).tolist()
    return [str(value).lower() if isinstance(value, bool | np.bool_) else str(value) for value in plain]
