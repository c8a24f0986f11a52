"""The friendly route: named JSON records, typed by a method's signature, and the OpenAPI document that says so.

A record holds a value for every input; where an input's last dimension has names of columns, an object by these names
will do in place of a list, and answers come so. In place of an input its columns may stand in the record itself, named
as in `tables`; what else a record holds is left alone. https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import orjson

from arsenal_serving import __version__
from arsenal_serving.artifact.codecs import cells
from arsenal_serving.artifact.manifest import SINGLE
from arsenal_serving.model import Loaded, Port, ServedModel, no_rows
from arsenal_serving.protocols import arrow, open_inference, tables
from arsenal_serving.refused import Refused, show

_REFUSED = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
REFUSALS = {
    status: {"description": words, "content": _REFUSED}
    for status, words in {
        "400": "what is wrong with it",
        "401": "no key or token, or none that is known: see WWW-Authenticate",
        "403": "the scope that is missing",
        "404": "no such model or version",
        "405": "another verb: see Allow",
        "408": "it came too slowly",
        "413": "the body is too long",
        "415": "another Content-Type or Content-Encoding",
        "421": "a name by which this server does not go",
        "429": "the queue is full, or the rate is reached: see Retry-After",
        "503": "not ready, or too busy: see Retry-After",
        "504": "its deadline passed while it waited",
    }.items()
}
WORDS = ["NaN", "Infinity", "-Infinity"]
FORMS = {"time": "a date or time, ISO 8601", "number": "a number, as text also with a currency or in per cent"}


def parse(method: Loaded, body: bytes) -> dict[str, np.ndarray]:
    """The named arrays in `{"records": [{input: value, ...}, ...]}`; raises `Refused`."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(f"the body is not JSON: {error}.") from error
    open_inference.check_object(parsed, "the body", {"records"}, set())
    records = parsed["records"]
    if not isinstance(records, list):
        raise Refused(f"'records' must be a list of records; got {show(records)}.")
    if method.rows == SINGLE and len(records) != 1:
        raise Refused(f"method {method.name!r} has no rows: it takes one record; got {len(records)}.")
    if not records:
        return {port.name: no_rows(port) for port in method.inputs}
    values = _values(method, records)
    return {port.name: _array(method, port, values[port.name]) for port in method.inputs}


def _values(method: Loaded, records: list) -> dict[str, list]:
    """What the records hold for each input: under its name, or under those of its columns."""
    ports = list(method.inputs)
    try:
        labels = dict(zip([port.name for port in ports], tables.input_columns(method), strict=True))
    except Refused:  # it takes no table: inputs by their names alone
        labels = {port.name: [port.name] for port in ports}
    values: dict[str, list] = {port.name: [] for port in ports}
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise Refused(f"record {number} must be an object with {sorted(values)}; got {show(record)}.")
        for port in ports:
            name, columns = port.name, labels[port.name]
            # An input and one of its own columns may have one name: a list or an object is the input.
            if name in record and (columns == [name] or name not in columns or isinstance(record[name], list | dict)):
                values[name].append(record[name])
                continue
            if not any(column in record for each in labels.values() for column in each):
                every = [column for one in ports for column in (one.columns or [one.name])]
                tables.check_there(every, record, record, f"record {number}")
            tables.check_there(columns, record, record, f"record {number}")
            values[name].append(_nest([record[column] for column in columns], port.shape[1:]))
    return values


def _nest(flat: list, dims: tuple) -> list:
    """The numbers of a row, in row-major order, as lists of these dimensions."""
    for dim in reversed(dims[1:]):
        flat = [flat[at : at + dim] for at in range(0, len(flat), dim)]
    return flat


def _array(method: Loaded, port: Port, values: list) -> np.ndarray:
    if port.columns and len(port.shape) == (1 if method.rows == SINGLE else 2):
        values = [_by_column(port, value) if isinstance(value, dict) else value for value in values]
    data: Any = values[0] if method.rows == SINGLE else values
    shape, inner = [], data
    while isinstance(inner, list) and len(shape) <= port.limits.rank:
        shape.append(len(inner))
        inner = inner[0] if inner else None
    tensor = {"datatype": open_inference.datatype_name(port), "shape": shape, "data": data if shape else [data]}
    return open_inference.read(port, tensor)


def _by_column(port: Port, value: dict) -> list:
    tables.check_there(port.columns or [], value, value, f"a record's {port.name!r}")
    return [value[column] for column in port.columns or ()]


def write(model: ServedModel, method: Loaded, name: str, answers: dict[str, np.ndarray]) -> bytes:
    """The answer as `{"model": ..., "version": ..., "records": [{output: value, ...}, ...]}`."""
    if method.rows == SINGLE:
        records = [{port.name: _value(port, answers[port.name]) for port in method.outputs}]
    else:
        columns = [[_value(port, row) for row in answers[port.name]] for port in method.outputs]
        names = [port.name for port in method.outputs]
        records = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    reply = {"model": name, "version": str(model.version), "records": records}
    return orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)


def _value(port: Port, value: Any) -> Any:
    data = value if isinstance(value, str) else open_inference.to_json(np.asarray(value))
    if isinstance(data, np.ndarray) and data.ndim == 0:
        return data[()]  # orjson writes numpy's scalars and arrays, but not an array without dimensions
    if np.ndim(value) == 1 and port.columns and len(port.columns) == len(value):
        return dict(zip(port.columns, data if isinstance(data, list) else list(data), strict=True))
    return data


def openapi(models: dict[str, ServedModel], secured: bool = False) -> dict:
    """The OpenAPI document for these models, secured with a key or token; `completions` has the paths of texts."""
    paths: dict[str, Any] = {}
    for name, model in sorted(models.items()):
        for method in model.methods.values():
            called = name if method.name == model.default else f"{name}.{method.name}"
            paths[f"/models/{called}/predict"] = {"post": _operation(called, method)}
    if len(models) == 1:
        ((name, model),) = models.items()
        paths["/predict"] = {"post": _operation(name, model.methods[model.default], "predict")}
    error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    header = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    keys = {"bearer": {"type": "http", "scheme": "bearer"}, "key": header}
    return {
        "openapi": "3.1.0",
        "info": {"title": "arsenal-serve", "version": __version__},
        "paths": paths,
        "components": {"schemas": {"Error": error}, **({"securitySchemes": keys} if secured else {})},
        **({"security": [{name: []} for name in keys]} if secured else {}),
    }


def _operation(called: str, method: Loaded, operation: str = "") -> dict:
    def body(name: str, ports: tuple[Port, ...], inward: bool) -> dict:
        values = {port.name: _schema(method, port, inward) for port in ports}
        record: dict[str, Any] = {"type": "object", "properties": values, "required": list(values)}
        if inward:
            record = _inward(method, values)
        else:
            record["additionalProperties"] = False
        records: dict[str, Any] = {"type": "array", "items": record}
        if method.rows == SINGLE:
            records |= {"minItems": 1, "maxItems": 1}
        more = {} if inward else {"model": {"type": "string"}, "version": {"type": "string"}}
        properties = {**more, "records": records}
        schema: dict[str, Any] = {"type": "object", "properties": properties, "required": list(properties)}
        schema |= {"additionalProperties": False, "title": name}
        content: dict[str, Any] = {"application/json": {"schema": schema}}
        columns = tables.columns(method)
        if columns or (not inward and method.rows != SINGLE):
            said = f"a header and {name.lower()}" + f"; columns: {', '.join(columns)}"[:1000] * inward
            content[tables.CSV] = {"schema": {"type": "string", "description": said}}
        if method.rows != SINGLE and arrow.is_installed():
            said = "an IPC stream; columns as of CSV, or lists"
            content[arrow.STREAM] = {"schema": {"type": "string", "format": "binary", "description": said}}
        return content

    return {
        "operationId": operation or f"{called}_predict",
        "summary": f"{method.name} of {called.removesuffix(f'.{method.name}')}, {method.rows} rows",
        "requestBody": {"required": True, "content": body("Records", method.inputs, True)},
        "responses": REFUSALS
        | {"200": {"description": "one record for each", "content": body("Answers", method.outputs, False)}},
    }


def _inward(method: Loaded, values: dict[str, dict]) -> dict:
    """The schema of a record of inputs: each under its name, or under the names of its columns."""
    either: list[dict] = []
    listed = tables.columns(method) and tables.input_columns(method)
    for port, labels in zip(method.inputs, listed or [[]] * len(values), strict=True):
        if not port.columns or not labels or len(port.shape) != 2 or port.name in labels:
            continue
        each = _elements(port, True)
        columns: dict[str, Any] = dict(zip(labels, each if len(each) > 1 else each * len(labels), strict=True))
        named = {"properties": {port.name: values[port.name]}, "required": [port.name]}
        either.append({"anyOf": [named, {"properties": {**columns, port.name: False}, "required": labels}]})
    split = {name for each in either for name in each["anyOf"][0]["required"]}
    whole = {name: value for name, value in values.items() if name not in split}
    record = {"type": "object", "properties": whole, "required": list(whole)}
    return {**record, **({"allOf": either} if either else {})}


def _schema(method: Loaded, port: Port, inward: bool) -> dict:
    dims = port.shape if method.rows == SINGLE else port.shape[1:]
    each = _elements(port, inward)
    alike = all(element == each[0] for element in each)
    schema = each[0] if alike else {}
    for dim in reversed(dims):
        sizes = {"minItems": dim, "maxItems": dim} if isinstance(dim, int) else {"minItems": 1}
        schema = {"type": "array", "items": schema, **sizes}
    if not alike and len(dims) == 1:
        schema = {"type": "array", "prefixItems": each, "minItems": len(each), "maxItems": len(each)}
    if port.columns and len(dims) == 1 and (inward or len(port.columns) == dims[0]):
        columns = dict(zip(port.columns, each if len(each) > 1 else each * len(port.columns), strict=True))
        named: dict[str, Any] = {"type": "object", "properties": columns}
        named["required"] = port.columns
        return {"anyOf": [named, schema]} if inward else {**named, "additionalProperties": False}
    return schema


def _elements(port: Port, inward: bool) -> list[dict[str, Any]]:
    """The schemas of an element: one, or one for each column."""
    if not port.code:
        return [_number(port, inward)]
    if not inward:
        return [{"type": "string"}]
    return [_cell(kind, missing) for kind, missing in zip(port.kinds, port.missing, strict=True)]


def _cell(kind: str, missing: bool) -> dict[str, Any]:
    """The schema of what a codec of this kind takes."""
    if kind == "date":
        return {"type": "string", "format": "date"}
    others = {"number": ["number"], "time": []}.get(kind, ["number", "boolean"])
    types = ["string", *others, *(["null"] if missing else [])]
    made: dict[str, Any] = {"type": types if len(types) > 1 else "string"}
    if kind in FORMS:
        made["description"] = FORMS[kind]
    return made if missing else {**made, "minLength": 1}


def _number(port: Port, inward: bool) -> dict[str, Any]:
    if port.dtype.kind == "b":
        return {"enum": [True, False, *cells.TRUTH]} if inward else {"type": "boolean"}
    if port.dtype.kind in "iu":
        limits = np.iinfo(port.dtype)
        bounds = {"minimum": int(limits.min), "maximum": int(limits.max)}
        sign, digits = "[+-]?" if limits.min < 0 else "[+]?", len(str(limits.max)) - 1
        return {**_as_text(["integer"], [rf"{sign}[0-9]{{1,{digits}}}"], inward), **bounds}
    if not inward:
        return {"anyOf": [{"type": "number"}, {"enum": WORDS}]}
    info = jnp.finfo(port.dtype)
    digits = len(str(int(info.max))) - 1
    texts = [rf"[+-]?[0-9]{{1,{digits}}}([.][0-9]*)?", *([] if port.finite else WORDS)]
    texts += [re.sub(r"[.*+?^${}()|\[\]\\/]", r"\\\g<0>", word) for word in sorted(port.words or ())]
    made = _as_text(["number"] + ["null"] * (port.words is not None), texts, inward)
    if port.finite and port.dtype.itemsize < 8:
        # What is less than half a step beyond the largest number is rounded to it; of doubles JSON has no larger.
        beyond = float(info.max) + 2.0 ** (int(info.maxexp) - info.nmant - 2)
        made |= {"exclusiveMinimum": -beyond, "exclusiveMaximum": beyond}
    return made


def _as_text(types: list[str], texts: list[str], inward: bool) -> dict[str, Any]:
    """The schema of a number, inward of a text that reads as one as well; its bounds are those of numbers alone."""
    if not inward:
        return {"type": types[0]}
    return {"type": [*types, "string"], "pattern": f"^[ ]*({'|'.join(texts)})[ ]*$"}
