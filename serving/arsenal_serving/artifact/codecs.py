"""The closed set of host codecs between strings and int32 codes: strings never enter a compiled program.

A codec's state is JSON and lives in the manifest:

    {"kind": "category", "values": ["cat", "dog"]}   a string <-> its position; any other <-> len(values)
    {"kind": "date"}                                 "2024-02-29" <-> days since 1970-01-01

An empty string is a missing value, refused unless it is one of the category's. A code outside the set (the last code of
a category included) decodes to "unknown", so a model can always answer.
"""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from arsenal_serving.refused import Refused, show, unknown_name

UNKNOWN = "unknown"


class Codec(NamedTuple):
    """Two functions: `encode(strings [...]) -> int32 [...]` and `decode(codes [...]) -> object array of str [...]`."""

    encode: Callable[[Any], np.ndarray]
    decode: Callable[[Any], np.ndarray]


def codec(state: dict) -> Codec:
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
    make, wanted = KINDS[kind]
    if set(settings) != wanted:
        raise Refused(f"a codec of kind {kind!r} takes {sorted(wanted)}; got {sorted(settings)}.")
    return make(**settings)


def encode(state: dict, values: Any) -> np.ndarray:
    """Strings [...] to int32 codes [...]; raises `Refused` for a value that is not a string, or not a date."""
    return codec(state).encode(values)


def decode(state: dict, codes: Any) -> np.ndarray:
    """Integer codes [...] to an object array of str [...]."""
    return codec(state).decode(codes)


def category(values: list[str]) -> Codec:
    """Strings to their position in `values`; every other string is the last code, `len(values)`."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise Refused(f"`values` of a category codec must be a list of strings; got {show(values)}.")
    index = {value: code for code, value in enumerate(values)}
    if len(index) != len(values):
        raise Refused(f"`values` of a category codec must differ from one another; got {show(values)}.")
    last = len(values)
    names = np.array([*values, UNKNOWN], dtype=object)

    def encode(values: Any) -> np.ndarray:
        # A dictionary walked in C beats sorting or searching unicode arrays at every size that fits a request.
        strings, shape = _strings(values)
        codes = np.fromiter(map(index.get, strings, repeat(last)), np.int32, len(strings))
        if "" not in index and last in codes and "" in strings:
            raise Refused(f"a category must not be empty; got '' in row {strings.index('') + 1}.")
        return codes.reshape(shape)

    def decode(codes: Any) -> np.ndarray:
        codes = np.asarray(codes)
        return names[np.where((codes >= 0) & (codes < last), codes, last)]

    return Codec(encode, decode)


def date() -> Codec:
    """ISO dates (YYYY-MM-DD, years 0001 to 9999) to days since 1970-01-01.

    >>> encode({"kind": "date"}, ["1970-01-02"]).tolist(), decode({"kind": "date"}, [-1]).tolist()
    ([1], ['1969-12-31'])
    """
    first, last = (np.datetime64(day, "D").astype(np.int64) for day in ("0001-01-01", "9999-12-31"))

    def encode(values: Any) -> np.ndarray:
        strings, shape = _strings(values)
        if not strings:
            return np.zeros(shape, np.int32)
        # Lengths first: a unicode array is as wide as its longest string, and drops NULs at the end.
        if set(map(len, strings)) == {10}:
            # numpy also reads "2024/02/29" and " 2024-2-29": the letters are checked before it sees them.
            text = np.array(strings, dtype=np.str_).astype("U10")
            letters = text.view(np.uint32).reshape(-1, 10)
            digits = (letters >= ord("0")) & (letters <= ord("9"))
            if np.where(DASHES, letters == ord("-"), digits).all() and (text.astype("U4") != "0000").all():
                with contextlib.suppress(ValueError):  # a month 13 or a 30th of February: named below
                    return text.astype("datetime64[D]").astype(np.int64).astype(np.int32).reshape(shape)
        wrong = next(value for value in strings if not _is_day(value))
        raise Refused(f"a date must read YYYY-MM-DD and exist; got {show(wrong)}.")

    def decode(codes: Any) -> np.ndarray:
        codes = np.asarray(codes).astype(np.int64)
        inside = (codes >= first) & (codes <= last)
        days = np.where(inside, codes, 0).astype("datetime64[D]")
        text = np.datetime_as_string(days).astype(object)
        return np.where(inside, text, UNKNOWN)

    return Codec(encode, decode)


ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
DASHES = np.array([letter == "-" for letter in "YYYY-MM-DD"])
KINDS: dict[str, tuple[Callable[..., Codec], set[str]]] = {"category": (category, {"values"}), "date": (date, set())}


def _strings(values: Any) -> tuple[list[str], tuple[int, ...]]:
    array = values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
    flat = array.ravel().tolist()
    if set(map(type, flat)) - {str}:
        wrong = next(value for value in flat if type(value) is not str)
        raise Refused(f"a coded value must be a string; got {show(wrong)} of type {type(wrong).__name__}.")
    return flat, array.shape


def _is_day(value: str) -> bool:
    try:
        return bool(ISO.fullmatch(value)) and datetime.date.fromisoformat(value) is not None
    except ValueError:
        return False


def find_codecs(names: Iterable[str], states: dict[str, dict]) -> list[Codec]:
    """The codecs of these names, one each; raises `Refused` for a name without a state."""
    found = []
    for name in names:
        if name not in states:
            raise unknown_name("codec", name, states)
        found.append(codec(states[name]))
    return found
