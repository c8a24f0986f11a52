"""The Open Inference Protocol, version 2, over HTTP with JSON tensors: a raw ASGI application over the engine.

https://github.com/kserve/open-inference-protocol  (specification/protocol/inference_rest.md)

The model `NAME` is its default method, `NAME.METHOD` is each method. JSON has no word for NaN and the infinities;
where a signature allows them they travel as the strings "NaN", "Infinity" and "-Infinity", in both directions,
as in protobuf's JSON mapping: `null` would be ambiguous, and an answer that exists is not a server error.
"""

from __future__ import annotations

import asyncio
import math
import sys
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson

from arsenal_serving import __version__
from arsenal_serving.model import Loaded, Model, Port
from arsenal_serving.refused import Refused, shown, unknown

MAX_BODY = 64 << 20
# Measured on two cores: a hop to a thread and back costs about 0.1 ms, as much as a small model's whole answer, so
# what is quick runs on the event loop; what is slow, or may compile, runs on one thread and the loop stays live.
INLINE_SECONDS = 0.002
INLINE_BODY = 256 << 10

DATATYPES = {"bool": "BOOL", "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64"} | {
    f"{word.lower()}{bits}": f"{word}{bits}" for word in ("INT", "UINT") for bits in (8, 16, 32, 64)
}
DTYPES = {datatype: np.dtype(name) for name, datatype in DATATYPES.items()} | {"BYTES": np.dtype(object)}
HALF = ("FP16", "BF16")
NOT_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
JSON_TYPES: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}, "O": {str}}
JSON_TYPES["V"] = JSON_TYPES["f"]  # bfloat16, for numpy a kind of its own
JSON_WORDS = {"b": "true or false", "i": "whole numbers", "u": "whole numbers", "f": "numbers", "O": "strings"}
JSON_WORDS["V"] = JSON_WORDS["f"]
MAX_RANK = 32

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Answer(NamedTuple):
    """What goes back: `status`, a body that JSON can hold or its bytes, and further headers."""

    status: int
    body: Any
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Stop(Exception):
    """Ends a request with an error answer of its own status; everything else that is refused is a 400."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]):
        super().__init__(message)
        self.answer = Answer(status, {"error": message}, headers)


class Request(NamedTuple):
    """A parsed inference request: named arrays, the outputs wanted in their order, the id to echo."""

    inputs: dict[str, np.ndarray]
    outputs: list[str]
    id: str | None


def application(current: Callable[[], Model | None], *, max_body: int = MAX_BODY) -> Callable:
    """The ASGI application over `current()`, the model being served, or None while there is none that is ready."""
    worker = ThreadPoolExecutor(1, thread_name_prefix="infer")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            answer = await _route(current(), scope, receive, max_body, worker)
        except Stop as stop:
            answer = stop.answer
        except Refused as error:
            answer = Answer(400, {"error": str(error)})
        except Exception:
            sys.stderr.write(traceback.format_exc())
            answer = Answer(500, {"error": "internal error; the server's log has the details"})
        if answer is not None:
            await _send(send, answer)

    return app


async def _route(
    model: Model | None, scope: Scope, receive: Receive, max_body: int, worker: ThreadPoolExecutor
) -> Answer | None:
    """The answer for a path; None when the client has gone."""
    match [part for part in scope["path"].split("/") if part]:
        case ["v2"]:
            _only(scope, "GET")
            return Answer(200, {"name": "arsenal-serve", "version": __version__, "extensions": []})
        case ["v2", "health", "live"]:
            _only(scope, "GET")
            return Answer(200, {"live": True})
        case ["v2", "health", "ready"]:
            _only(scope, "GET")
            return Answer(503 if model is None else 200, {"ready": model is not None})
        case ["v2", "models", name, *rest]:
            if rest[:1] == ["versions"] and len(rest) > 1:
                if model is not None and rest[1] != str(model.version):
                    there = str(model.version)
                    raise Stop(404, f"model {shown(name)} has no version {shown(rest[1])}; there is: {there!r}.")
                rest = rest[2:]
            if rest not in ([], ["ready"], ["infer"]):
                raise _no_path(scope)
            _only(scope, "POST" if rest == ["infer"] else "GET")
            if model is None:
                raise Stop(503, "no model is ready yet", (b"retry-after", b"1"))
            method = _method(model, name)
            if rest == ["infer"]:
                return await _infer(model, method, name, scope, receive, max_body, worker)
            return Answer(200, {"name": name, "ready": True} if rest else metadata(model, method, name))
    raise _no_path(scope)


async def _infer(
    model: Model, method: Loaded, name: str, scope: Scope, receive: Receive, max_body: int, worker: ThreadPoolExecutor
) -> Answer | None:
    body = await _body(scope, receive, max_body)
    if body is None:
        return None

    def work() -> Answer:
        return respond(model, method, name, body)

    # How many rows there are is known only after parsing, but an element takes two bytes or more.
    elements = sum(math.prod(dim for dim in port.shape[1:] if isinstance(dim, int)) for port in method.inputs)
    most_rows = 1 + len(body) // (2 * max(elements, 1))
    if len(body) <= INLINE_BODY and model.quick(method.name, most_rows, INLINE_SECONDS):
        return work()
    return await asyncio.get_running_loop().run_in_executor(worker, work)


def respond(model: Model, method: Loaded, name: str, body: bytes) -> Answer:
    """Parse, infer and write: the whole of a request but its transport. Raises `Refused` for what is malformed."""
    request = parse(method, body)
    answers = model.infer(method.name, request.inputs)
    outputs = [_written(port, answers[port.name]) for port in _selected(method, request.outputs)]
    reply: dict[str, Any] = {"model_name": name, "model_version": str(model.version)}
    if request.id is not None:
        reply["id"] = request.id
    reply["outputs"] = outputs
    return Answer(200, orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY))


def metadata(model: Model, method: Loaded, name: str) -> dict:
    """The protocol's model metadata; under "parameters" what it has no fields for."""
    return {
        "name": name,
        "versions": [str(model.version)],
        "platform": "jax_export",
        "inputs": [_described(port) for port in method.inputs],
        "outputs": [_described(port) for port in method.outputs],
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


def parse(method: Loaded, body: bytes) -> Request:
    """The request in a JSON body, typed by the method's signature; raises `Refused`."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(f"the body is not JSON: {error}.") from error
    _object(parsed, "the body", {"inputs"}, {"id", "outputs", "parameters"})
    echoed = parsed.get("id")
    if echoed is not None and not isinstance(echoed, str):
        raise Refused(f"'id' must be a string; got {shown(echoed)}.")
    if not isinstance(parsed["inputs"], list):
        raise Refused(f"'inputs' must be a list of tensors; got {shown(parsed['inputs'])}.")
    ports, inputs = {port.name: port for port in method.inputs}, {}
    for tensor in parsed["inputs"]:
        parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
        if isinstance(parameters, dict) and "binary_data_size" in parameters:
            raise Refused("binary tensors are not served here; send 'data' as JSON.")
        _object(tensor, "an input", {"name", "shape", "datatype", "data"}, {"parameters"})
        name = tensor["name"]
        if not isinstance(name, str) or name not in ports:
            raise unknown("input", name if isinstance(name, str) else shown(name), ports, of=repr(method.name))
        if name in inputs:
            raise Refused(f"input {name!r} was sent twice.")
        inputs[name] = _read(ports[name], tensor)
    return Request(inputs, _wanted(method, parsed.get("outputs", [])), echoed)


def _read(port: Port, tensor: dict) -> np.ndarray:
    """The array in a JSON tensor; raises `Refused` where its datatype, shape and data disagree."""
    where, shape, datatype = f"input {port.name!r}", tensor["shape"], tensor["datatype"]
    if datatype != _datatype(port):
        known = "" if isinstance(datatype, str) and datatype in DTYPES else f" (datatypes: {', '.join(DTYPES)})"
        raise Refused(f"{where} must have datatype {_datatype(port)}; got {shown(datatype)}{known}.")
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(type(n) is int and n > 0 for n in shape):
        raise Refused(f"'shape' of {where} must be a list of at most {MAX_RANK} sizes >= 1; got {shown(shape)}.")
    dtype = DTYPES[datatype]
    values = _flat(where, tensor["data"], shape)
    kinds = set(map(type, values))
    if port.dtype.kind in "fV" and not port.code and not port.finite and str in kinds:
        values = [NOT_NUMBERS.get(value, value) if type(value) is str else value for value in values]
        kinds = set(map(type, values))
    if kinds - JSON_TYPES[dtype.kind]:
        wrong = next(value for value in values if type(value) not in JSON_TYPES[dtype.kind])
        raise Refused(f"'data' of {where} must be {JSON_WORDS[dtype.kind]} for {datatype}; got {shown(wrong)}.")
    try:
        with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, which the engine names
            return np.array(values, dtype=dtype).reshape(shape)
    except OverflowError as error:
        limits = np.iinfo(dtype)
        wrong = next(value for value in values if not limits.min <= value <= limits.max)
        raise Refused(f"'data' of {where} must lie in {limits.min} to {limits.max}; got {wrong}.") from error


def _flat(where: str, data: Any, shape: list[int]) -> list:
    """The elements of flat or nested data, in row-major order; raises `Refused` where it is not of this shape."""
    if not isinstance(data, list):
        raise Refused(f"'data' of {where} must be a list; got {shown(data)}.")
    count = math.prod(shape)
    if len(shape) > 1 and data and type(data[0]) is list:
        for depth, size in enumerate(shape):
            rows = data if depth else [data]
            if any(type(row) is not list or len(row) != size for row in rows):
                raise Refused(f"nested 'data' of {where} is not of the shape {shown(shape)}: see axis {depth}.")
            data = list(chain.from_iterable(rows))
    if len(data) != count:
        raise Refused(f"'data' of {where} must hold {count} elements for the shape {shown(shape)}; got {len(data)}.")
    return data


def _wanted(method: Loaded, outputs: Any) -> list[str]:
    if not isinstance(outputs, list):
        raise Refused(f"'outputs' must be a list of {{'name': ...}}; got {shown(outputs)}.")
    known, names = [port.name for port in method.outputs], []
    for output in outputs:
        _object(output, "an output", {"name"}, {"parameters"})
        name = output["name"]
        if not isinstance(name, str) or name not in known:
            raise unknown("output", name if isinstance(name, str) else shown(name), known, of=repr(method.name))
        if name in names:
            raise Refused(f"output {name!r} was asked for twice.")
        names.append(name)
    return names


def _selected(method: Loaded, names: list[str]) -> list[Port]:
    ports = {port.name: port for port in method.outputs}
    return [ports[name] for name in names] or list(method.outputs)


def _written(port: Port, answer: np.ndarray) -> dict:
    # JSON carries half precision as the same number in single: each of them is one.
    half = DATATYPES.get(answer.dtype.name) in HALF
    flat = answer.reshape(-1).astype(np.float32 if half else answer.dtype, copy=False)
    data: Any = flat
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        data = [_number(value, flat.dtype.type) for value in flat.tolist()]
    elif flat.dtype.kind == "O":
        data = flat.tolist()
    elif not flat.flags.c_contiguous:
        data = np.ascontiguousarray(flat)
    return {"name": port.name, "shape": list(answer.shape), "datatype": _datatype(port), "data": data}


def _number(value: float, of: type) -> Any:
    if math.isfinite(value):
        return of(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _described(port: Port) -> dict:
    """The protocol's tensor metadata; -1 is a dimension that varies."""
    shape = [dim if isinstance(dim, int) else -1 for dim in port.shape]
    described = {"name": port.name, "datatype": _datatype(port), "shape": shape}
    return described if port.columns is None else {**described, "parameters": {"columns": ",".join(port.columns)}}


def _datatype(port: Port) -> str:
    return "BYTES" if port.code else DATATYPES[port.dtype.name]


def _object(value: Any, what: str, needed: set[str], optional: set[str]) -> None:
    if not isinstance(value, dict):
        raise Refused(f"{what} must be an object with {sorted(needed)}; got {shown(value)}.")
    for key in value:
        if key not in needed and key not in optional:
            raise unknown("field", key, needed | optional, of=what)
    for key in sorted(needed):
        if key not in value:
            raise Refused(f"{what} must have {key!r}; got {shown(sorted(value))}.")


def _method(model: Model, name: str) -> Loaded:
    if name == model.name:
        return model.methods[model.default]
    method = name.removeprefix(f"{model.name}.")
    if method == name or method not in model.methods:
        served = [model.name, *(f"{model.name}.{method}" for method in model.methods)]
        raise Stop(404, str(unknown("model", name, served)))
    return model.methods[method]


def _only(scope: Scope, allowed: str) -> None:
    if scope["method"] not in ((allowed, "HEAD") if allowed == "GET" else (allowed,)):
        message = f"{scope['path'][:200]} answers {allowed}; got {scope['method'][:20]}."
        raise Stop(405, message, (b"allow", allowed.encode()))


def _no_path(scope: Scope) -> Stop:
    return Stop(404, f"no such path: {shown(scope['path'], 200)}; the Open Inference Protocol begins at /v2.")


async def _body(scope: Scope, receive: Receive, most: int) -> bytes | None:
    """The body, read only as far as it is allowed to be long; None when the client has gone."""
    headers = dict(scope["headers"])
    kind = headers.get(b"content-type", b"application/json").split(b";")[0].strip().lower()
    if kind != b"application/json":
        raise Stop(415, f"Content-Type must be application/json; got {shown(kind.decode('latin-1'))}.")
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding != b"identity":
        raise Stop(415, f"Content-Encoding must be identity; got {shown(coding.decode('latin-1'))}.")
    if b"inference-header-content-length" in headers:
        raise Stop(415, "binary tensors are not served here; send 'data' as JSON.")
    too_long = Stop(413, f"the body must be at most {most} bytes.")
    if int(headers.get(b"content-length", b"0")) > most:
        raise too_long
    pieces, length = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        length += len(pieces[-1])
        if length > most:
            raise too_long
        if not message.get("more_body", False):
            return b"".join(pieces)


async def _send(send: Send, answer: Answer) -> None:
    body = answer.body if isinstance(answer.body, bytes) else orjson.dumps(answer.body)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
