"""Tables as Arrow's IPC stream, https://arrow.apache.org/docs/format/Columnar.html; columns as in `tables`.

An input with further dimensions may also be one column of lists, `TENSOR`, and so may one whose dimensions vary.

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

from arsenal_serving.artifact.manifest import SINGLE
from arsenal_serving.model import Loaded, Model, Port, no_rows
from arsenal_serving.protocols import open_inference, tables
from arsenal_serving.refused import Refused, show

STREAM = "application/vnd.apache.arrow.stream"
MAX_MESSAGES, MAX_LETTERS = 4096, 1 << 26
HALF = {np.dtype("float16"), *open_inference.HALF}


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
        parts = [_values(pyarrow, table.column(at[label]).combine_chunks(), port, label) for label in each]
        if each == [port.name]:
            array = parts[0]
        else:
            array = np.stack(parts, 1).reshape(table.num_rows, *(int(dim) for dim in port.shape[1:]))
        inputs[port.name] = _as(port, array)
    return inputs


def write(model: Model, method: Loaded, name: str, answers: dict[str, np.ndarray]) -> bytes:
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
            allowed = "numbers, truth values, strings, dates or lists of them"
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
    if codes.null_count:
        raise Refused(f"a column of strings has {codes.null_count} nulls; it may have none.")
    numbers = codes.to_numpy(zero_copy_only=False)
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(words)):
        raise Refused("a column means a string that its dictionary does not hold.")


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
        return _is_text(types, kind.value_type)
    numbers = types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)
    return numbers or types.is_date32(kind) or _is_text(types, kind)


def _is_text(types: Any, kind: Any) -> bool:
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _values(pyarrow: Any, column: Any, port: Port, label: str) -> np.ndarray:
    """A column as an array [rows, ...]; raises `Refused` for nulls, unequal lists and too many elements."""
    types, shape = pyarrow.types, [len(column)]
    while True:
        absent = column.null_count
        if absent and (port.finite or port.code or not types.is_floating(column.type)):
            raise Refused(f"the column {show(label)} has {absent} nulls; input {port.name!r} takes none.")
        kind = column.type
        if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
            break
        if len(shape) >= len(port.shape):
            raise Refused(f"the column {show(label)} is deeper than input {port.name!r}, {port}; got {kind}.")
        fixed = types.is_fixed_size_list(kind)
        sizes = [kind.list_size] if fixed else np.unique(column.value_lengths().to_numpy()).tolist()
        if len(sizes) != 1 or 0 in sizes:
            raise Refused(f"the lists of column {show(label)} must be equally long, not empty; got {show(sizes)}.")
        shape.append(sizes[0])
        if math.prod(shape) > port.limits.elements:
            raise Refused(f"input {port.name!r} must hold at most {port.limits.elements} elements; got {show(shape)}.")
        column = column.flatten()
    return _plain(pyarrow, column, port, label).reshape(shape)


def _plain(pyarrow: Any, column: Any, port: Port, label: str) -> np.ndarray:
    types, kind = pyarrow.types, column.type
    text = types.is_dictionary(kind) or _is_text(types, kind) or types.is_date32(kind)
    wanted = "O" if port.code else {"V": "f"}.get(port.dtype.kind, port.dtype.kind)
    got = "O" if text else "b" if types.is_boolean(kind) else "f" if types.is_floating(kind) else "i"
    fits = got == wanted or (got == "i" and wanted in "uf")
    if not fits:
        words = open_inference.JSON_WORDS[wanted]
        raise Refused(f"the column {show(label)} of input {port.name!r} must be {words}; got {kind}.")
    if types.is_dictionary(kind):
        # Each of its strings once, however often it is meant.
        known = np.array(_strings(pyarrow, column.dictionary), object)
        return known[column.indices.to_numpy(zero_copy_only=False)] if len(known) else np.empty(0, object)
    if text:
        return np.array(_strings(pyarrow, column), object)
    return column.to_numpy(zero_copy_only=False)


def _strings(pyarrow: Any, column: Any) -> list[str]:
    if column.null_count:
        raise Refused("a dictionary of strings has a null; it may have none.")
    if pyarrow.types.is_date32(column.type):
        column = column.cast(pyarrow.string())
    return column.to_pylist()


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
