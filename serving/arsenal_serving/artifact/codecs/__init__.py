"""The closed set of host codecs between cells and codes: strings never enter a compiled program.

A codec's state is JSON and lives in the manifest:

    {"kind": "category", "values": ["cat", "dog"]}        a text <-> its position; any other <-> len(values)
    {"kind": "boolean"}                                   "no", "true", ... <-> 0, 1; any other <-> 2
    {"kind": "date"}                                      "2024-02-29" <-> days since 1970-01-01
    {"kind": "time", "unit": "s"}                         "2024-02-29T18:30Z" <-> seconds since 1970, or days;
                                                          "format": "%d.%m.%Y" reads dates that are written so as well
    {"kind": "number", "decimal": ".", "thousands": ","}  "$1,234.50" <-> 1234.5, as float32
    {"kind": "text", "analyzer": "char_wb", "ngrams": [3, 4], "buckets": 1024, "length": 64}
                                                          "on a bus" -> the codes of its n-grams [64], -1 behind them
    {"kind": "tokens", "length": 64}                      "a bus" <-> its bytes [64], -1 behind them; or, by "values",
                                                          characters, or by "tokenizer", a tokenizer.json, tokens;
                                                          "marks": ["<extra_id_0>"] are the codes after these;
                                                          with "padding", a code, that one behind them, and cut

All but `date` and `tokens` may have "missing", a list of words. A missing value is then a code of its own:
len(values) + 1, 3, -2**31, NaN, all -1; without the list it is refused, an empty text unless it is one of a category's
values. A code outside the set (the code of what is unknown included) decodes to "unknown", a missing one to "", so a
model can always answer; the codes of `text` are not decoded, those of `tokens` are. What a cell is, `cells` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from arsenal_serving.artifact.codecs import categories, numbers, texts, times, tokens
from arsenal_serving.artifact.codecs.cells import StringCodec
from arsenal_serving.refused import Refused, show, unknown_name

__all__ = ["KINDS", "CodecKind", "StringCodec", "cell_shape", "check_type", "codec", "decode", "encode", "find_codecs"]


class CodecKind(NamedTuple):
    """How a codec of one kind is made, and the settings that its state must and may have."""

    make: Callable[..., StringCodec]
    needed: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset(("missing",))


KINDS = {
    "category": CodecKind(categories.category, frozenset(("values",))),
    "boolean": CodecKind(categories.boolean),
    "date": CodecKind(times.date, optional=frozenset()),
    "time": CodecKind(times.time, frozenset(("unit",)), frozenset(("format", "missing"))),
    "number": CodecKind(numbers.number, frozenset(("decimal", "thousands"))),
    "text": CodecKind(
        texts.text,
        frozenset(("analyzer", "ngrams", "length")),
        frozenset(("buckets", "values", "lowercase", "strip_accents", "missing")),
    ),
    "tokens": CodecKind(
        tokens.tokens, frozenset(("length",)), frozenset(("values", "tokenizer", "end", "marks", "padding"))
    ),
}


def codec(state: dict) -> StringCodec:
    """The codec that a JSON state describes; raises `Refused` for an unknown kind or a malformed state.

    >>> animal = codec({"kind": "category", "values": ["cat", "dog"]})
    >>> animal.encode(["dog", "cow"]).tolist(), animal.decode([0, 2]).tolist()
    ([1, 2], ['cat', 'unknown'])
    """
    if not isinstance(state, dict) or not isinstance(state.get("kind"), str):
        raise Refused(f"the state of a codec must be an object with a 'kind'; got {show(state)}.")
    kind, settings = state["kind"], {key: value for key, value in state.items() if key != "kind"}
    if kind not in KINDS:
        raise unknown_name("kind of codec", kind, KINDS)
    made = KINDS[kind]
    if not made.needed <= set(settings) <= made.needed | made.optional:
        more = f" and may take {sorted(made.optional)}" if made.optional else ""
        raise Refused(f"a codec of kind {kind!r} takes {sorted(made.needed)}{more}; got {sorted(settings)}.")
    return made.make(**settings)


def encode(state: dict, values: Any) -> np.ndarray:
    """Cells [...] to codes [...], int32 or float32, of texts [..., length]; raises `cells.WrongCell`."""
    return codec(state).encode(values)


def decode(state: dict, codes: Any) -> np.ndarray:
    """Codes [...] to an object array of str [...]."""
    return codec(state).decode(codes)


def find_codecs(names: Iterable[str], states: dict[str, dict]) -> list[StringCodec]:
    """The codecs of these names, one each; raises `Refused` for a name without a state."""
    found = []
    for name in names:
        if name not in states:
            raise unknown_name("codec", name, states)
        found.append(codec(states[name]))
    return found


def cell_shape(where: str, made: Sequence[StringCodec], shape: Sequence[Any], inward: bool) -> tuple[int, ...]:
    """What a cell is by all codecs of a tensor of this shape, (length,) of texts and () of others; raises `Refused`.

    What is read back may have any length, that of the tensor's last axis.
    """
    lengths = {codec.length for codec in made}
    if len(lengths) > 1:
        raise Refused(f"{where} has codecs that make a cell {sorted(n or 1 for n in lengths)} codes; all must agree.")
    if lengths <= {None}:
        return ()
    if inward and (len(shape) < 2 or shape[-1] not in lengths):
        needed = f"[..., {made[0].length}]"
        raise Refused(f"{where} has codecs of texts, so it must be an input {needed}; it is {list(shape)}.")
    if not inward and not (len(shape) > 1 and isinstance(shape[-1], int) and len(made) == 1 and made[0].reads_back):
        raise Refused(f"{where} must be [..., n] of one codec of tokens to be texts; it is {list(shape)}.")
    return (shape[-1],)


def check_type(where: str, dtype: np.dtype, made: Iterable[StringCodec]) -> None:
    """Raise `Refused` unless a tensor of this type holds the codes of its codecs."""
    for codec in made:
        if codec.codes is None:
            if dtype != np.float32:
                raise Refused(f"{where} has a codec of numbers, so it must be float32; it is {dtype.name}.")
        elif dtype.kind not in "iu":
            raise Refused(f"{where} has a codec, so it must hold integer codes; it is {dtype.name}.")
