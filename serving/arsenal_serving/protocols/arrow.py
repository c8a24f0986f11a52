"""Tables as Arrow's IPC stream, https://arrow.apache.org/docs/format/Columnar.html; columns as in `tables`.

An input with further dimensions may also be one column of lists, `TENSOR`, and so may one whose dimensions vary. Which
types a column may have depends on what it is read as, see `TAKEN`; what a cell means, `codecs.cells` says.

What a stranger sends is validated before it is looked at, and bounded before that, since few bytes can mean many: no
compressed buffers, which say themselves how long they become; no dictionaries that grow; no columns and no types but
those that the inputs have, others are left unread; no views of the same letters without end.
"""

from __future__ import annotations

import importlib.util
import math
import struct
from typing import Any

import numpy as np

from arsenal_serving.artifact.codecs import cells, times
from arsenal_serving.artifact.manifest import SINGLE
from arsenal_serving.model import Loaded, Port, ServedModel, no_rows, refuse
from arsenal_serving.protocols import open_inference, tables
from arsenal_serving.refused import Refused, show

STREAM = "application/vnd.apache.arrow.stream"
MAX_MESSAGES, MAX_LETTERS = 4096, 1 << 26
HALF = {np.dtype("float16"), *open_inference.HALF}
MOST_SCALE = 76  # of a decimal: the digits of the widest

# What a column may hold that is read by a codec of this kind, or as numbers of numpy's kind.
TAKEN = {
    "category": ("text", "whole", "float", "decimal", "truth", "date"),
    "boolean": ("truth", "text", "whole", "float", "decimal"),
    "text": ("text", "whole", "float", "decimal", "truth", "date"),
    "tokens": ("text", "whole", "float", "decimal", "truth", "date"),
    "date": ("date", "text"),
    "time": ("date", "time", "text"),
    "number": ("text", "whole", "float", "decimal"),
    "f": ("float", "whole", "decimal", "text"),
    "i": ("whole", "text"),
    "u": ("whole", "text"),
    "b": ("truth", "text"),
}
WORDS = {
    "text": "text",
    "whole": "whole numbers",
    "float": "numbers",
    "decimal": "decimals",
    "truth": "truth values",
    "date": "dates",
    "time": "timestamps",
}


def is_installed() -> bool:
    """Whether pyarrow is installed."""
    return importlib.util.find_spec("pyarrow") is not None


def parse(method: Loaded, body: bytes) -> dict[str, np.ndarray]:
    """The named arrays in an Arrow stream, typed by the signature; raises `Refused`."""
    if method.rows == SINGLE:
        raise Refused(f"method {method.name!r} has no rows, and so takes no table; JSON will do.")
    import pyarrow

    try:
        return _inputs(pyarrow, method, body)
    except Refused:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError, struct.error) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise Refused(f"the body is not an Arrow stream: {show(first, 200)}.") from error


def _inputs(pyarrow: Any, method: Loaded, body: bytes) -> dict[str, np.ndarray]:
    _check_messages(pyarrow, body)
    names = pyarrow.ipc.open_stream(body).schema.names
    expected = _columns(method, names)
    wanted = sorted(tables.places((label for each in expected for label in each), names).values())
    reader = pyarrow.ipc.open_stream(body, options=pyarrow.ipc.IpcReadOptions(included_fields=wanted))
    at = {label: place for place, label in enumerate(reader.schema.names)}
    table = _read(pyarrow, method, reader)
    if not table.num_rows:
        return {port.name: no_rows(port) for port in method.inputs}
    inputs = {}
    for port, each in zip(method.inputs, expected, strict=True):
        # Before they are unfolded: a row of truth values or of nothing takes a bit or less of what was sent.
        if table.num_rows * len(each) > port.limits.elements:
            got = [table.num_rows, len(each)]
            raise Refused(f"input {port.name!r} must hold at most {port.limits.elements} elements; got {got}.")
        whole = each == [port.name]
        parts = []
        for place, label in enumerate(each):
            column = table.column(at[label]).combine_chunks()
            kind = port.kinds[place if len(port.kinds) > 1 and not whole else 0] if port.kinds else port.dtype.kind
            try:
                deep = len(port.shape) if whole else 1
                parts.append(_values(pyarrow, column, port, label, "f" if kind == "V" else kind, deep))
            except cells.WrongCell as error:
                wrong = error if whole else cells.WrongCell(error.at * len(each) + place, error.must, error.value)
                shape = (table.num_rows, *port.shape[1:]) if whole else (table.num_rows, len(each))
                raise refuse(port, [int(dim) for dim in shape if isinstance(dim, int)], wrong) from error
        array = parts[0] if whole else np.stack(parts, 1)
        if not whole:
            array = array.reshape(table.num_rows, *(int(dim) for dim in port.shape[1:]))
        inputs[port.name] = _as(port, array)
    return inputs


def write(model: ServedModel, method: Loaded, name: str, answers: dict[str, np.ndarray]) -> bytes:
    """The answer as an Arrow stream; the schema's metadata names the model and its version."""
    import pyarrow

    arrays = []
    columns = tables.output_columns(method, answers)
    for column in columns.values():
        # Half precision is the same number in single, and more readers know that.
        arrays.append(pyarrow.array(column.astype(np.float32) if column.dtype in HALF else column))
    table = pyarrow.table(arrays, names=list(columns))
    table = table.replace_schema_metadata({"model": name, "version": str(model.version)})
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def _columns(method: Loaded, names: list[str]) -> list[list[str]]:
    """The columns that carry each input: one of lists where there is one of the input's name, else as in `tables`."""
    whole = [port.name in names for port in method.inputs]
    if all(whole):
        return [[port.name] for port in method.inputs]
    expected = tables.input_columns(method)
    return [[port.name] if one else each for port, one, each in zip(method.inputs, whole, expected, strict=True)]


def _check_messages(pyarrow: Any, body: bytes) -> None:
    """Raise `Refused` for what pyarrow would unfold before anything could be asked."""
    messages = pyarrow.ipc.MessageReader.open_stream(body)
    for _ in range(MAX_MESSAGES):
        try:
            message = messages.read_next_message()
        except StopIteration:
            return
        if message.type not in ("record batch", "dictionary"):
            continue
        try:
            grows, compressed = _head(bytearray(message.metadata), message.type == "dictionary")
        except (struct.error, TypeError, ValueError, IndexError) as error:
            raise Refused("the body is not an Arrow stream: the head of a message is not sound.") from error
        if grows:
            raise Refused("Arrow dictionaries that grow are not taken.")
        if compressed:
            raise Refused("compressed Arrow buffers are not taken; Content-Encoding: gzip is.")
    raise Refused(f"an Arrow stream must be at most {MAX_MESSAGES} messages; got more.")


def _head(content: bytearray, dictionary: bool) -> tuple[bool, bool]:
    """Whether a message adds to a dictionary, and whether its buffers are compressed: Message.fbs."""
    from flatbuffers import encode, packer
    from flatbuffers.number_types import BoolFlags
    from flatbuffers.table import Table

    root = Table(content, encode.Get(packer.uoffset, content, 0))
    batch, grows = Table(content, root.Indirect(root.Pos + root.Offset(8))), False  # Message.header
    if dictionary:
        at = batch.Offset(8)  # DictionaryBatch.isDelta
        grows = bool(at and batch.Get(BoolFlags, batch.Pos + at))
        batch = Table(content, batch.Indirect(batch.Pos + batch.Offset(6)))  # DictionaryBatch.data
    return grows, batch.Offset(10) != 0  # RecordBatch.compression


def _read(pyarrow: Any, method: Loaded, reader: Any) -> Any:
    for field in reader.schema:
        if not _holds(pyarrow.types, field.type):
            allowed = "numbers, truth values, text, dates, timestamps or lists of them"
            raise Refused(f"the column {show(field.name)} must be {allowed}; got {show(str(field.type))}.")
    most = min(port.limits.elements for port in method.inputs)
    batches, rows, proven = [], 0, set[tuple]()
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            break
        rows += batch.num_rows
        if rows > most:
            raise Refused(f"a table must have at most {most} rows; got more.")
        for column in batch.columns:
            _validate(pyarrow.types, column, proven)
        batches.append(batch)
    return pyarrow.Table.from_batches(batches, reader.schema)


def _validate(types: Any, column: Any, proven: set[tuple]) -> None:
    """Raise pyarrow's error for a column that is not sound, or `Refused`; a dictionary is looked at once."""
    column.validate()  # its buffers are as long as they must be
    if not types.is_dictionary(column.type):
        _check_views(types, column)
        column.validate(full=True)
        return
    words, codes = column.dictionary, column.indices
    parts = [(0, 0) if buffer is None else (buffer.address, buffer.size) for buffer in words.buffers()]
    which = (len(words), words.offset, *parts)
    if which not in proven:
        _check_views(types, words)
        words.validate(full=True)
        proven.add(which)
    codes.validate(full=True)
    numbers = codes.drop_null().to_numpy(zero_copy_only=False)
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(words)):
        raise Refused("a column means a value that its dictionary does not hold.")


def _check_views(types: Any, column: Any) -> None:
    if types.is_string_view(column.type) and len(column):
        views = np.frombuffer(column.buffers()[1], np.int32)[4 * column.offset : 4 * (column.offset + len(column)) : 4]
        # They may all show the same letters, and each would be read for itself.
        if int(views.sum(dtype=np.int64)) > MAX_LETTERS or views.min() < 0:
            raise Refused(f"the strings of a column must be at most {MAX_LETTERS} bytes together; got more.")


def _holds(types: Any, kind: Any) -> bool:
    listed = False
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind, listed = kind.value_type, True
    if listed and (types.is_dictionary(kind) or types.is_string_view(kind)):
        return False
    if types.is_dictionary(kind):
        kind = kind.value_type
    return _class(types, kind) in WORDS or (types.is_null(kind) and not listed)


def _is_text(types: Any, kind: Any) -> bool:
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _class(types: Any, kind: Any) -> str:
    """What a plain type holds, a key of `WORDS`; "" for what is not read here."""
    if types.is_decimal(kind):
        return "decimal" if 0 <= kind.scale <= MOST_SCALE else ""
    if _is_text(types, kind):
        return "text"
    for known, holds in (("truth", types.is_boolean), ("whole", types.is_integer), ("float", types.is_floating)):
        if holds(kind):
            return known
    return "date" if types.is_date(kind) else "time" if types.is_timestamp(kind) else ""


def _values(pyarrow: Any, column: Any, port: Port, label: str, read_as: str, deep: int) -> np.ndarray:
    """A column as an array [rows, ...] of at most so many dimensions; raises `WrongCell` for a cell, or `Refused`."""
    types, shape = pyarrow.types, [len(column)]
    while True:
        kind = column.type
        if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
            break
        if absent := column.null_count:
            raise Refused(f"the column {show(label)} has {absent} nulls for lists; input {port.name!r} takes none.")
        if len(shape) >= deep:
            raise Refused(f"the column {show(label)} is deeper than input {port.name!r}, {port}; got {kind}.")
        fixed = types.is_fixed_size_list(kind)
        sizes = [kind.list_size] if fixed else np.unique(column.value_lengths().to_numpy()).tolist()
        if len(sizes) != 1 or 0 in sizes:
            raise Refused(f"the lists of column {show(label)} must be equally long, not empty; got {show(sizes)}.")
        shape.append(sizes[0])
        if math.prod(shape) > port.limits.elements:
            raise Refused(f"input {port.name!r} must hold at most {port.limits.elements} elements; got {show(shape)}.")
        column = column.flatten()
    inner = column.type.value_type if types.is_dictionary(column.type) else column.type
    if not types.is_null(inner) and _class(types, inner) not in TAKEN[read_as]:
        allowed = ", ".join(WORDS[one] for one in TAKEN[read_as])
        raise Refused(f"the column {show(label)} of input {port.name!r} must hold {allowed}; got {column.type}.")
    if port.code:
        return _cells(pyarrow, column, read_as).reshape(shape)
    return _numbers(pyarrow, column, read_as, port.words).reshape(shape)


def _numbers(pyarrow: Any, column: Any, kind: str, missing: frozenset[str] | None) -> np.ndarray:
    """A column as numbers of numpy's kind; raises `WrongCell` for text that is none, or a null where NaN is refused."""
    holds = _class(pyarrow.types, column.type)
    if holds in ("whole", "float", "truth") and not column.null_count:
        return column.to_numpy(zero_copy_only=False)
    if holds in ("whole", "float") and missing is not None and kind == "f":
        return column.cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)  # nulls are NaN
    found = cells.read_numbers(_cells(pyarrow, column, kind).tolist(), kind, missing)
    return np.array(found, {"f": np.float64, "b": np.bool_}.get(kind, object)).reshape(len(found))


def _cells(pyarrow: Any, column: Any, kind: str) -> np.ndarray:
    """A column as cells for a codec of this kind, None for nulls."""
    types = pyarrow.types
    if types.is_dictionary(column.type):
        # Each of its values once, however often it is meant.
        known = np.append(_cells(pyarrow, column.dictionary, kind), [None])
        found = known[column.indices.fill_null(0).to_numpy(zero_copy_only=False)]
        found[column.indices.is_null().to_numpy(zero_copy_only=False)] = None
        return found
    holds = _class(types, column.type)
    if holds in ("date", "time"):
        moments = column.cast(pyarrow.date32()) if holds == "date" else column  # a zone is no matter: it is kept in UTC
        return times.spell(moments.to_numpy(zero_copy_only=False))
    made = np.empty(len(column), object)
    if types.is_float32(column.type) or types.is_float16(column.type):
        found = column.to_numpy(zero_copy_only=False)
        made[:] = [None if gone else cell for cell, gone in zip(found, column.is_null().to_pylist(), strict=True)]
    else:
        made[:] = column.to_pylist()
    if holds == "decimal":  # JSON has no such type, for a log of what was asked
        plain = float if kind in ("number", "f") else cells.text
        made[:] = [cell if cell is None else plain(cell) for cell in made]
    return made


def _as(port: Port, array: np.ndarray) -> np.ndarray:
    open_inference.check_shape(port, open_inference.datatype_name(port), list(array.shape))
    if port.code or array.dtype == port.dtype:
        return array
    if port.dtype.kind in "iu":
        limits = np.iinfo(port.dtype)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            wrong = array[(array < limits.min) | (array > limits.max)][0]
            raise Refused(f"input {port.name!r} must lie in {limits.min} to {limits.max}; got {wrong}.")
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, which the engine names
        return array.astype(port.dtype)
