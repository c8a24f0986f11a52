"""The manifest: what an artifact says of itself, as JSON whose every field is checked before it is used.

Format 2 is written. Format 1, of 0.1.0 and 0.2.0, is read: it had no version, no sizes and no jax dates.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from arsenal_serving.artifact import golden, program
from arsenal_serving.artifact.versions import MANIFEST as FILE
from arsenal_serving.artifact.versions import MODEL_NAME
from arsenal_serving.refused import Refused, show

FORMAT = 2
# How rows relate: they do not influence each other; they do; there is no batch axis to have rows along.
INDEPENDENT, COUPLED, SINGLE = "independent", "coupled", "single"
ROWS = (INDEPENDENT, COUPLED, SINGLE)

# What a tensor of the Open Inference Protocol can carry: it has no complex numbers, and no floats of 8 bits.
SERVED = (
    *("bool", "float16", "bfloat16", "float32", "float64"),
    *(f"{word}{bits}" for word in ("int", "uint") for bits in (8, 16, 32, 64)),
)
METHOD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
PROGRAM_FILE = re.compile(r"programs/[A-Za-z_][A-Za-z0-9_]{0,99}\.(exported|mlir)")
# A dimension as jax prints it: "batch", "2*length", "max(0, floordiv(n, 2) + -1)".
DIMENSION = re.compile(r"[A-Za-z_0-9 +*^(),-]{1,200}")
RULE = re.compile(r"[A-Za-z_0-9 +*^(),<>=-]{1,200}")
MOST_DIM, MOST_RANK = 2**31 - 1, 32


def text(manifest: Mapping[str, Any]) -> bytes:
    """The manifest as it is stored; raises ValueError for NaN, TypeError for what JSON cannot hold."""
    return (json.dumps(manifest, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def parse(content: bytes) -> dict:
    """The manifest in the bytes of a file whose hash held, in format 2; raises `Refused`, naming the field."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{FILE} is not JSON: {program.first_line(error)}.") from error
    form = found.get("format") if isinstance(found, dict) else None
    if form == 1 and type(form) is int:
        _check(found, {**TOP, **OLD_TOP}, "")
        found = _upgraded(found)
    elif form != FORMAT or type(form) is not int:
        raise Refused(f"{FILE} must have format 1 or {FORMAT}; got {show(form)}.")
    _check(found, TOP, "")
    for name, method in found["methods"].items():
        for port in method["inputs"]:
            port.setdefault("pad", None)
        _check_types(name, method, found["parameters"]["arrays"])
    known = sorted(name for name, method in found["methods"].items() if not method.get("private"))
    if found["default"] not in known:
        raise Refused(f"{FILE}: 'default' must be one of {known}; got {show(found['default'])}.")
    return found


def _upgraded(old: dict) -> dict:
    methods = {}
    for name, method in old["methods"].items():
        kept = {key: value for key, value in method.items() if key != "row_independent"}
        rows = INDEPENDENT if method["row_independent"] else COUPLED
        methods[name] = {**kept, "rows": rows, "sizes": None, "bits": True}
    conventions = {method["calling"]["calling_convention_version"] for method in methods.values()}
    jax = {**program.promise(old["jax"]), "calling_convention": max(conventions)}
    return {**old, "format": FORMAT, "version": None, "jax": jax, "renewed": None, "methods": methods}


def _check_types(name: str, method: dict, parameters: Sequence[dict]) -> None:
    """The types that clients see must be those that the program is called with."""
    calling = method["calling"]
    if method["programs"] != {"versioned": f"programs/{name}.exported", "durable": f"programs/{name}.mlir"}:
        raise Refused(f"{FILE}: the programs of method {name!r} must be programs/{name}.exported and .mlir.")
    kept = calling["module_kept_var_idx"]
    if kept != sorted(set(kept)) or (kept and kept[-1] >= len(calling["in_avals"])):
        raise Refused(f"{FILE}: module_kept_var_idx of method {name!r} must count its arguments; got {show(kept)}.")
    wanted = [
        ("inputs", [*parameters, *method["inputs"]], calling["in_avals"]),
        ("outputs", method["outputs"], calling["out_avals"]),
    ]
    for what, described, avals in wanted:
        if [(d["dtype"], d["shape"]) for d in described] != [(a["dtype"], a["shape"]) for a in avals]:
            raise Refused(f"{FILE}: the {what} of method {name!r} are not those of its program.")
        names = [d["name"] for d in described[len(parameters) if what == "inputs" else 0 :]]
        if len(set(names)) != len(names):
            raise Refused(f"{FILE}: two {what} of method {name!r} have one name.")
    if not method["inputs"]:
        raise Refused(f"{FILE}: method {name!r} must have an input.")
    for port in method["inputs"]:
        batch = port["shape"][:1] == [program.BATCH]
        if batch == (method["rows"] == SINGLE):
            raise Refused(
                f"{FILE}: input {show(port['name'])} of method {name!r} has the shape {show(port['shape'])}, "
                f"which does not go with rows {method['rows']!r}."
            )


class _Words:
    """A check in the schema with the words that say what it allows."""

    def __init__(self, allowed: str, holds: Callable[[Any], bool]):
        self.allowed, self.holds = allowed, holds


def _whole(least: int, most: int = MOST_DIM) -> _Words:
    return _Words(f"a whole number of {least} to {most}", lambda value: type(value) is int and least <= value <= most)


def _matching(pattern: re.Pattern, words: str) -> _Words:
    return _Words(words, lambda value: isinstance(value, str) and bool(pattern.fullmatch(value)))


def _one_of(values: Sequence[Any]) -> _Words:
    return _Words(f"one of {', '.join(map(repr, values))}", lambda value: value in values and type(value) is not bool)


def _optional(schema: Any) -> tuple:
    return (schema,)


def _is_dim(value: Any) -> bool:
    if isinstance(value, str):
        return bool(DIMENSION.fullmatch(value))
    return type(value) is int and 0 <= value <= MOST_DIM


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MOST_RANK and all(map(_is_dim, value))


def _is_size(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


TEXT = _Words("a string", lambda value: isinstance(value, str) and len(value) <= 10_000)
TEMPLATE = _Words("a template of at most 1,000,000 letters", lambda v: isinstance(v, str) and len(v) <= 1_000_000)
NAME = _matching(re.compile(r"[^\x00-\x1f\x7f]{1,500}"), "a printable name")
FLAG = _Words("true or false", lambda value: type(value) is bool)
OBJECT = _Words("an object", lambda value: isinstance(value, dict))
SHAPE = _Words(f"at most {MOST_RANK} dimensions of 0 to {MOST_DIM}, or their names", _is_shape)
SIZE = _Words("a number >= 0", _is_size)
DTYPE = _one_of(tuple(SERVED))
ARRAY_DTYPE = _one_of((*SERVED, "complex64", "complex128"))
DAY = _matching(re.compile(r"\d{4}-\d\d-\d\d"), "a day as YYYY-MM-DD")
AVAL = {"shape": SHAPE, "dtype": ARRAY_DTYPE}
PORT = {
    "name": NAME,
    "dtype": DTYPE,
    "shape": SHAPE,
    "columns": _optional([TEXT]),
    "codec": _Words(
        "null, a name or names",
        lambda value: (
            value is None
            or isinstance(value, str)
            or (isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value))
        ),
    ),
    "finite": FLAG,
}
# What fills a length up to the size that runs, words for missing values, methods of the server's own and texts in
# slots; artifacts before them had none.
LATER = ("pad", "gaps", "private", "decoding")
INPUT = PORT | {
    "pad": _optional(_Words("null or a number", lambda value: type(value) in (int, float))),
    "gaps": _optional([TEXT]),
}
METHOD = {
    "programs": {
        form: _matching(PROGRAM_FILE, "a file programs/METHOD.exported or .mlir") for form in program.FORMS
    },
    "calling": {
        "fun_name": TEXT,
        "in_avals": [AVAL],
        "out_avals": [AVAL],
        "constraints": [_matching(RULE, "a rule such as 'length <= 512'")],
        "nr_devices": _one_of((1,)),
        "platforms": [_one_of((*program.PLATFORMS, "rocm"))],
        "calling_convention_version": _whole(1, 10_000),
        "module_kept_var_idx": [_whole(0)],
        "uses_global_constants": FLAG,
    },
    "inputs": [INPUT],
    "outputs": [PORT],
    "platforms": [_one_of((*program.PLATFORMS, "rocm"))],
    "rows": _one_of(ROWS),
    "sizes": _optional([_whole(1, 1 << 20)]),
    "bits": FLAG,
    "tolerance": dict.fromkeys(golden.TOLERANCE, SIZE),
    "constraints": [_matching(RULE, "a rule such as 'length <= 512'")],
    "private": FLAG,
}
DECODING = {
    "codec": NAME,
    "context": _whole(2, 1 << 24),
    "vocabulary": _whole(1),
    "end": [_whole(0)],
    "template": _optional({"source": TEMPLATE, "tokens": {NAME: TEXT}}),
}
TOP = {
    "format": _whole(1),
    "name": _matching(MODEL_NAME, "letters, digits, '.', '_' or '-', at most 100"),
    "version": _optional(_whole(1)),
    "default": NAME,
    "created": TEXT,
    "provenance": OBJECT,
    "jax": {"version": TEXT, "released": DAY, "valid_until": DAY, "calling_convention": _whole(1, 10_000)},
    "platform": TEXT,
    "parameters": {
        "file": _one_of(("parameters.safetensors",)),
        "arrays": [{"name": NAME, "dtype": ARRAY_DTYPE, "shape": SHAPE}],
    },
    "codecs": {NAME: OBJECT},
    "decoding": DECODING,
    "renewed": _optional({"version": _optional(_whole(1)), "sums": TEXT, "jax": TEXT, "on": DAY}),
    "methods": {_matching(METHOD_NAME, "an identifier of at most 100 letters"): METHOD},
}
NEW = ("rows", "sizes", "bits")
OLD_METHOD = {key: schema for key, schema in METHOD.items() if key not in NEW} | {"row_independent": FLAG}
OLD_TOP = {
    "version": None,
    "renewed": None,
    "jax": TEXT,
    "methods": {_matching(METHOD_NAME, "an identifier of at most 100 letters"): OLD_METHOD},
}


def _check(value: Any, schema: Any, where: str) -> None:
    """Raise `Refused` for the first place where `value` is not of the schema.

    A schema is a `_Words`; a list of one schema; an object of fields; an object of one `_Words` for every key and a
    schema for every value; or a tuple of one schema, which null satisfies too.
    """
    place = f"{FILE}: {where or 'it'}"
    if isinstance(schema, tuple):
        if value is not None:
            _check(value, schema[0], where)
    elif isinstance(schema, _Words):
        if not schema.holds(value):
            raise Refused(f"{place} must be {schema.allowed}; got {show(value)}.")
    elif isinstance(schema, list):
        if not isinstance(value, list):
            raise Refused(f"{place} must be a list; got {show(value)}.")
        for at, item in enumerate(value):
            _check(item, schema[0], f"{where}[{at}]")
    elif not isinstance(value, dict):
        raise Refused(f"{place} must be an object; got {show(value)}.")
    elif len(schema) == 1 and isinstance(key := next(iter(schema)), _Words):
        for name, item in value.items():
            _check(name, key, f"a name in {where}")
            _check(item, schema[key], f"{where}.{name}")
    else:
        for name, inner in schema.items():
            if inner is None:  # a field that this format does not have
                continue
            if name not in value and name in LATER:
                continue
            if name not in value:
                raise Refused(f"{FILE} is incomplete: {f'{where}.{name}'.lstrip('.')} is missing.")
            _check(value[name], inner, f"{where}.{name}".lstrip("."))
