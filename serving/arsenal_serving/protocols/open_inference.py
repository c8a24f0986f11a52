"""Requests and answers of the Open Inference Protocol, version 2, as JSON, binary tensors and metadata.

https://github.com/kserve/open-inference-protocol  (specification/protocol/inference_rest.md), with Triton's extension
of binary tensors, https://github.com/triton-inference-server/server  (docs/protocol/extension_binary_data.md).

JSON has no word for NaN and the infinities; where a signature allows them they travel as the strings "NaN",
"Infinity" and "-Infinity", in both directions, as in protobuf's JSON mapping: an answer that exists is not a server
error. What a cell of JSON means, null and texts among numbers included, `codecs.cells` says.
"""

from __future__ import annotations

import math
from array import array
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson

from arsenal_serving.artifact.codecs import cells
from arsenal_serving.artifact.golden import is_finite
from arsenal_serving.artifact.manifest import SINGLE
from arsenal_serving.artifact.program import BATCH
from arsenal_serving.model import EMPTY, Loaded, Port, ServedModel, refuse
from arsenal_serving.refused import Refused, show, unknown_name

DATATYPES = {"bool": "BOOL", "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64"} | {
    f"{word.lower()}{bits}": f"{word}{bits}" for word in ("INT", "UINT") for bits in (8, 16, 32, 64)
}
DTYPES = {datatype: np.dtype(name) for name, datatype in DATATYPES.items()} | {"BYTES": np.dtype(object)}
WORDS = {dtype: datatype for datatype, dtype in DTYPES.items()}  # a dtype's own `name` is slow to ask for
HALF = {DTYPES["FP16"], DTYPES["BF16"]}
JSON_TYPES: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}
JSON_TYPES["O"] = {str, int, float, bool, type(None)}
JSON_TYPES["V"] = JSON_TYPES["f"]  # bfloat16, for numpy a kind of its own
JSON_WORDS = {"b": "true or false", "i": "whole numbers", "u": "whole numbers", "f": "numbers"}
JSON_WORDS["O"] = "strings, numbers, true, false or null"
JSON_WORDS["V"] = JSON_WORDS["f"]
BODY = {"id", "outputs", "parameters", "model_name", "model_version"}
TENSOR = {"name", "shape", "datatype", "data"}


class Request(NamedTuple):
    """A parsed inference request.

    inputs: named arrays. outputs: those wanted, in their order; none means all. binary: the outputs that travel as
    bytes. id: to be echoed. seconds: how long the client waits, if it said.
    """

    inputs: dict[str, np.ndarray]
    outputs: list[str]
    binary: frozenset[str]
    id: str | None
    seconds: float | None


def parse(method: Loaded, body: bytes, header: int | None = None, name: str | None = None) -> Request:
    """The request in a body, typed by the method's signature; raises `Refused`.

    header: how many bytes of the body are JSON, where binary tensors follow. name: the model's in the path; kserve's
    client repeats it in the body.
    """
    if header is not None and header > len(body):
        raise Refused(f"Inference-Header-Content-Length must be at most {len(body)}, the body's; got {header}.")
    rest = memoryview(body)[len(body) if header is None else header :]
    try:
        parsed = orjson.loads(body if header is None else memoryview(body)[:header])
    except orjson.JSONDecodeError as error:
        raise Refused(f"the body is not JSON: {error}.") from error
    if type(parsed) is not dict or len(parsed) != 1 or "inputs" not in parsed:  # most have nothing else
        check_object(parsed, "the body", {"inputs"}, BODY)
    if name is not None and parsed.get("model_name") not in (None, name):
        raise Refused(f"'model_name' must be that of the path, {name!r}; got {show(parsed['model_name'])}.")
    echoed = parsed.get("id")
    if echoed is not None and not isinstance(echoed, str):
        raise Refused(f"'id' must be a string; got {show(echoed)}.")
    if not isinstance(parsed["inputs"], list):
        raise Refused(f"'inputs' must be a list of tensors; got {show(parsed['inputs'])}.")
    ports, inputs = {port.name: port for port in method.inputs}, dict[str, np.ndarray]()
    for tensor in parsed["inputs"]:
        if isinstance(tensor, dict) and tensor.keys() == TENSOR:
            port = find_input(method, ports, tensor["name"], inputs)
            inputs[port.name] = read(port, tensor)
            continue
        parameters = _parameters(tensor, "an input") if isinstance(tensor, dict) else {}
        size = parameters.get("binary_data_size")
        if size is None:
            check_object(tensor, "an input", TENSOR, {"parameters"})
        else:
            check_object(tensor, "an input with 'binary_data_size'", TENSOR - {"data"}, {"parameters"})
        port = find_input(method, ports, tensor["name"], inputs)
        if size is None:
            inputs[port.name] = read(port, tensor)
            continue
        if type(size) is not int or not 0 <= size <= len(rest):
            raise Refused(
                f"'binary_data_size' of input {port.name!r} must be 0 to the {len(rest)} bytes that are left after the "
                f"JSON (Inference-Header-Content-Length says where it ends); got {show(size)}."
            )
        inputs[port.name] = read_bytes(port, tensor["datatype"], tensor["shape"], rest[:size])
        rest = rest[size:]
    if len(rest):
        raise Refused(f"{len(rest)} bytes after the JSON belong to no input; see 'binary_data_size'.")
    parameters = _parameters(parsed, "the body")
    all_binary = parameters.get("binary_data_output", False) is True
    wanted, binary = _read_outputs(method, parsed.get("outputs", []), all_binary)
    return Request(inputs, wanted, binary, echoed, read_timeout(parameters.get("timeout")))


def find_input(method: Loaded, ports: dict[str, Port], name: Any, had: dict) -> Port:
    """The port of an input's name; raises `Refused` for one that is not there or came before."""
    if not isinstance(name, str) or name not in ports:
        raise unknown_name("input", name if isinstance(name, str) else show(name), ports, of=repr(method.name))
    if name in had:
        raise Refused(f"input {name!r} was sent twice.")
    return ports[name]


def read_timeout(timeout: Any) -> float | None:
    """The seconds in Triton's request parameter `timeout`, microseconds; 0 means none."""
    if timeout is None:
        return None
    if type(timeout) is not int or timeout < 0:
        raise Refused(f"the parameter 'timeout' must be whole microseconds; got {show(timeout)}.")
    return timeout / 1e6 if timeout else None


def read_bytes(port: Port, datatype: Any, shape: Any, content: Any) -> np.ndarray:
    """The array in the bytes of a tensor, little-endian and row-major; strings each have their length before them."""
    shape = check_shape(port, datatype, shape)
    where, count = f"input {port.name!r}", math.prod(shape)
    if datatype == "BYTES":
        return np.array(_strings(where, bytes(content), count), dtype=object).reshape(shape)
    dtype = port.dtype
    if len(content) != count * dtype.itemsize:
        size = count * dtype.itemsize
        raise Refused(f"{where} must be {size} bytes for {datatype} {show(shape)}; got {len(content)}.")
    array = np.frombuffer(content, dtype).reshape(shape)
    if dtype.kind == "b" and (array.view(np.uint8) > 1).any():
        raise Refused(f"{where} must be bytes 0 or 1 for BOOL; got {int(array.view(np.uint8).max())}.")
    return array if array.flags.aligned else array.copy()


def _strings(where: str, content: bytes, count: int) -> list[str]:
    found, at = [], 0
    try:
        while at < len(content):
            end = at + 4 + int.from_bytes(content[at : at + 4], "little")
            if at + 4 > len(content) or end > len(content):
                raise Refused(f"{where} ends within a string; each is 4 bytes of length, little-endian, and UTF-8.")
            found.append(content[at + 4 : end].decode())
            at = end
    except UnicodeDecodeError as error:
        raise Refused(f"{where} must be UTF-8; got {show(error.object[error.start : error.end])}.") from error
    if len(found) != count:
        raise Refused(f"{where} must hold {count} strings; got {len(found)}.")
    return found


def to_bytes(answer: np.ndarray) -> bytes:
    """An array's bytes, as `read_bytes` reads them: strings each have their length before them."""
    if answer.dtype.kind in "OU":
        texts = (text.encode() for text in answer.ravel().tolist())
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return answer.tobytes()


def write(
    model: ServedModel, method: Loaded, name: str, request: Request, answers: dict[str, np.ndarray]
) -> tuple[bytes, int | None]:
    """The body of an answer and, where binary tensors follow, how many bytes of it are JSON."""
    reply: dict[str, Any] = {"model_name": name, "model_version": str(model.version)}
    if request.id is not None:
        reply["id"] = request.id
    reply["outputs"], tail = [], []
    for port in select(method, request.outputs):
        if port.name in request.binary:
            answer = answers[port.name]
            tail.append(to_bytes(answer))
            described = {"name": port.name, "shape": list(answer.shape), "datatype": datatype_name(port)}
            reply["outputs"].append({**described, "parameters": {"binary_data_size": len(tail[-1])}})
        else:
            reply["outputs"].append(_write_tensor(port, answers[port.name]))
    text = orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([text, *tail]), len(text)) if tail else (text, None)


def metadata(model: ServedModel, method: Loaded, name: str, versions: list[str]) -> dict:
    """The protocol's model metadata; under "parameters" what it has no fields for."""
    return {
        "name": name,
        "versions": versions,
        "platform": "jax_export",
        "inputs": [describe(port) for port in method.inputs],
        "outputs": [describe(port) for port in method.outputs],
        "parameters": {
            "method": method.name,
            "methods": ",".join(model.methods),
            "program": method.program.form,
            "program_fallback": method.program.why,
            "rows": method.rows,
            "max_batch": model.max_batch,
            "max_rows": model.max_rows,
        },
    }


def configuration(model: ServedModel, method: Loaded, name: str) -> dict:
    """Triton's ModelConfig, as its clients read it: docs/protocol/extension_model_configuration.md.

    dims are those of one row where there are rows, -1 for one that varies.
    """
    alone = method.rows == SINGLE

    def tensors(ports: tuple[Port, ...]) -> list[dict]:
        made = []
        for port in ports:
            said = describe(port)
            kind = "TYPE_STRING" if port.code else f"TYPE_{said['datatype']}"
            made.append({"name": port.name, "data_type": kind, "dims": said["shape"][0 if alone else 1 :]})
        return made

    return {
        "name": name,
        "platform": "jax_export",
        "backend": "arsenal",
        "max_batch_size": 0 if alone else model.max_rows,
        "input": tensors(method.inputs),
        "output": tensors(method.outputs),
        "default_model_filename": "",
        "parameters": {"method": {"string_value": method.name}, "version": {"string_value": str(model.version)}},
    }


def check_shape(port: Port, datatype: Any, shape: Any) -> list[int]:
    """The shape, if it is one and the datatype is the port's; raises `Refused`."""
    where = f"input {port.name!r}"
    if datatype != datatype_name(port) and not (port.takes_amounts and datatype == WORDS[port.dtype]):
        known = "" if isinstance(datatype, str) and datatype in DTYPES else f" (datatypes: {', '.join(DTYPES)})"
        raise Refused(f"{where} must have datatype {datatype_name(port)}; got {show(datatype)}{known}.")
    most, count = port.limits, 1
    sound = type(shape) is list and len(shape) <= most.rank
    for size in shape if sound else ():
        sound = sound and type(size) is int and size > 0
        count = count * size if sound else count
    if not sound and _no_rows(port, shape):
        return shape
    if not sound:
        raise Refused(f"'shape' of {where} must be a list of at most {most.rank} sizes >= 1; got {show(shape)}.")
    if count > most.elements:
        raise Refused(f"{where} must hold at most {most.elements} elements; got {show(shape)}.")
    return shape


def _no_rows(port: Port, shape: Any) -> bool:
    """Whether a shape is that of rows of which there are none, [0, ...]."""
    sizes = shape if type(shape) is list and 0 < len(shape) <= port.limits.rank else [1]
    rows = port.shape[:1] == (BATCH,) and type(sizes[0]) is int and sizes[0] == 0
    return rows and all(type(size) is int and 0 < size <= port.limits.elements for size in sizes[1:])


def _parameters(holder: dict, what: str) -> dict:
    found = holder.get("parameters")
    if found is None:  # `null` is what some clients write where there are none
        return {}
    if not isinstance(found, dict):
        raise Refused(f"'parameters' of {what} must be an object; got {show(found)}.")
    check_parameters(found)
    return found


def check_parameters(found: dict) -> None:
    """Raise `Refused` for a parameter of Triton's that would change the answer and is not served."""
    for name in ("shared_memory_region", "classification"):
        if found.get(name):
            raise Refused(f"the parameter {name!r} is not served here; got {show(found[name])}.")


def _read_outputs(method: Loaded, outputs: Any, binary: bool) -> tuple[list[str], frozenset[str]]:
    if not isinstance(outputs, list):
        raise Refused(f"'outputs' must be a list of {{'name': ...}}; got {show(outputs)}.")
    if not outputs and not binary:
        return [], frozenset()
    known = [port.name for port in method.outputs]
    names, as_bytes = [], []
    for output in outputs:
        check_object(output, "an output", {"name"}, {"parameters"})
        name = output["name"]
        check_output(method, known, name, names)
        names.append(name)
        if _parameters(output, "an output").get("binary_data", binary) is True:
            as_bytes.append(name)
    return names, frozenset(as_bytes if names else known if binary else ())


def check_output(method: Loaded, known: list[str], name: Any, had: list[str]) -> None:
    """Raise `Refused` for an output that is not there or was asked for before."""
    if not isinstance(name, str) or name not in known:
        raise unknown_name("output", name if isinstance(name, str) else show(name), known, of=repr(method.name))
    if name in had:
        raise Refused(f"output {name!r} was asked for twice.")


def select(method: Loaded, names: list[str]) -> list[Port]:
    """The outputs of these names, or all."""
    ports = {port.name: port for port in method.outputs}
    return [ports[name] for name in names] or list(method.outputs)


def read(port: Port, tensor: dict) -> np.ndarray:
    """The array in a JSON tensor; raises `Refused` where its datatype, shape and data disagree."""
    where, datatype = f"input {port.name!r}", tensor["datatype"]
    shape = check_shape(port, datatype, tensor["shape"])
    dtype = DTYPES[datatype]
    values = _flat(where, tensor["data"], shape)
    kinds = set(map(type, values))
    if dtype.kind != "O" and (str in kinds or type(None) in kinds):
        try:
            values = cells.read_numbers(values, dtype.kind, EMPTY if port.code else port.words)
        except cells.WrongCell as error:
            raise refuse(port, shape, error) from error
        kinds = set(map(type, values))
    if float in kinds and dtype.kind in "iu":
        values = list(map(_whole, values))
        kinds = set(map(type, values))
    if kinds - JSON_TYPES[dtype.kind]:
        wrong = next(value for value in values if type(value) not in JSON_TYPES[dtype.kind])
        raise Refused(f"'data' of {where} must be {JSON_WORDS[dtype.kind]} for {datatype}; got {show(wrong)}.")
    try:
        if dtype.char in "fd":
            # A number beyond float32 becomes infinite, which the engine names. numpy would warn, and takes longer.
            return np.frombuffer(array(dtype.char, values), dtype).reshape(shape)
        return np.array(values, dtype=dtype).reshape(shape)
    except OverflowError as error:
        limits = np.iinfo(dtype)
        wrong = next(value for value in values if not limits.min <= value <= limits.max)
        raise Refused(f"'data' of {where} must lie in {limits.min} to {limits.max}; got {wrong}.") from error


def _whole(value: Any) -> Any:
    # JSON has one kind of number: 2.0 is 2, as far as doubles tell whole numbers apart.
    return int(value) if type(value) is float and value.is_integer() and abs(value) <= 2**53 else value


def _flat(where: str, data: Any, shape: list[int]) -> list:
    """The elements of flat or nested data, in row-major order; raises `Refused` where it is not of this shape."""
    if not isinstance(data, list):
        raise Refused(f"'data' of {where} must be a list; got {show(data)}.")
    count = math.prod(shape)
    if len(shape) > 1 and data and type(data[0]) is list:
        for depth, size in enumerate(shape):
            rows = data if depth else [data]
            if any(type(row) is not list or len(row) != size for row in rows):
                raise Refused(f"nested 'data' of {where} is not of the shape {show(shape)}: see axis {depth}.")
            data = list(chain.from_iterable(rows))
    if len(data) != count:
        raise Refused(f"'data' of {where} must hold {count} elements for the shape {show(shape)}; got {len(data)}.")
    return data


def _write_tensor(port: Port, answer: np.ndarray) -> dict:
    data = to_json(answer.reshape(-1))
    return {"name": port.name, "shape": list(answer.shape), "datatype": datatype_name(port), "data": data}


def to_json(answer: np.ndarray) -> Any:
    """An answer [...] as what orjson writes: numbers, words for what is no number, strings."""
    # JSON carries half precision as the same number in single: each of them is one.
    if answer.dtype in HALF:
        answer = answer.astype(np.float32)
    if not is_finite(answer):
        return _numbers(answer.tolist(), answer.dtype.type)
    if answer.dtype.kind == "O":
        return answer.tolist()
    return answer if answer.flags.c_contiguous else np.ascontiguousarray(answer)


def _numbers(values: Any, of: type) -> Any:
    return [_numbers(value, of) for value in values] if isinstance(values, list) else _number(values, of)


def _number(value: float, of: type) -> Any:
    if math.isfinite(value):
        return of(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def describe(port: Port) -> dict:
    """The protocol's tensor metadata; -1 is a dimension that varies."""
    shape = [dim if isinstance(dim, int) else -1 for dim in port.shape]
    found = {"name": port.name, "datatype": datatype_name(port), "shape": shape}
    return found if port.columns is None else {**found, "parameters": {"columns": ",".join(port.columns)}}


def datatype_name(port: Port) -> str:
    """The protocol's word for a port's type."""
    return "BYTES" if port.code else WORDS[port.dtype]


def check_object(value: Any, what: str, needed: set[str], optional: set[str]) -> None:
    """Raise `Refused` unless the value is an object of these fields."""
    if not isinstance(value, dict):
        raise Refused(f"{what} must be an object with {sorted(needed)}; got {show(value)}.")
    for key in value:
        if key not in needed and key not in optional:
            raise unknown_name("field", key, needed | optional, of=what)
    for key in sorted(needed):
        if key not in value:
            raise Refused(f"{what} must have {key!r}; got {show(sorted(value))}.")
