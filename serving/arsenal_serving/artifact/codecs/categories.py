"""Codecs of categories: one of a list of texts, or a truth value in any of its spellings."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import numpy as np

from arsenal_serving.artifact.codecs.cells import StringCodec, WrongCell, flatten, missing_words, texts
from arsenal_serving.refused import Refused, show

UNKNOWN = "unknown"
FALSE, TRUE = ("false", "no", "n", "f", "off", "0"), ("true", "yes", "y", "t", "on", "1")


def category(values: list[str], missing: list[str] | None = None) -> StringCodec:
    """Texts to their position in `values`; every other is `len(values)`, a missing value the code after it."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise Refused(f"`values` of a category codec must be a list of strings; got {show(values)}.")
    index: dict[str | None, int] = {value: code for code, value in enumerate(values)}
    if len(index) != len(values):
        raise Refused(f"`values` of a category codec must differ from one another; got {show(values)}.")
    last, words = len(values), missing_words(missing)
    if words is not None:
        if both := words & index.keys():
            raise Refused(f"a word for missing cannot be one of the `values` of a category; got {show(sorted(both))}.")
        index |= dict.fromkeys((None, *words), last + 1)
    names = np.array([*values, UNKNOWN, *([""] if words is not None else [])], dtype=object)

    def encode(values: Any) -> np.ndarray:
        # A dictionary walked in C beats sorting or searching unicode arrays at every size that fits a request.
        flat, shape = flatten(values)
        cells = texts(flat)
        codes = np.fromiter(map(index.get, cells, repeat(last)), np.int32, len(cells))
        if words is None and last in codes:
            gaps = {None, ""} - index.keys()  # an empty text may be one of the values
            at = next((at for at, cell in enumerate(cells) if cell in gaps), None)
            if at is not None:
                raise WrongCell(at, "not be missing", flat[at])
        return codes.reshape(shape)

    def decode(codes: Any) -> np.ndarray:
        codes = np.asarray(codes)
        return names[np.where((codes >= 0) & (codes < len(names)), codes, last)]

    return StringCodec(encode, decode, (0, len(names) - 1))


def boolean(missing: list[str] | None = None) -> StringCodec:
    """Truth values in all spellings: false 0, true 1, what is neither 2, missing 3.

    >>> codec = boolean(["?"])
    >>> codec.encode(["Yes", "off", "perhaps", "?", True, 0]).tolist(), codec.decode([0, 3]).tolist()
    ([1, 0, 2, 3, 1, 0], ['false', ''])
    """
    words = missing_words(missing)
    known = dict.fromkeys(FALSE, 0) | dict.fromkeys(TRUE, 1)
    names = np.array(["false", "true", UNKNOWN, *([""] if words is not None else [])], dtype=object)

    def find(cell: str | None) -> int:
        if cell is None or (bare := cell.strip()) in (words or ("",)):
            return 3
        return known.get(bare[:6].lower(), 2)

    def encode(values: Any) -> np.ndarray:
        flat, shape = flatten(values)
        cells = texts(flat)
        found = {cell: find(cell) for cell in set(cells)}
        codes = np.fromiter(map(found.__getitem__, cells), np.int32, len(cells))
        if words is None and 3 in found.values():
            at = int((codes == 3).argmax())
            raise WrongCell(at, "not be missing", flat[at])
        return codes.reshape(shape)

    def decode(codes: Any) -> np.ndarray:
        codes = np.asarray(codes)
        return names[np.where((codes >= 0) & (codes < len(names)), codes, 2)]

    return StringCodec(encode, decode, (0, len(names) - 1))
