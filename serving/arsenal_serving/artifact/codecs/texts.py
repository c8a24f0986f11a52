"""The codec of texts: one cell is the codes of its n-grams, of letters or words, hashed or looked up in a vocabulary.

n-grams are those of scikit-learn's analyzers; hashed as by Weinberger et al., ICML 2009 (0902.2206), without signs.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from arsenal_serving.artifact.codecs import cells
from arsenal_serving.artifact.codecs.cells import StringCodec, WrongCell, flatten, missing_words
from arsenal_serving.refused import Refused, show

NONE = -1  # behind the last n-gram of a text
ANALYZERS = ("char_wb", "word")
MOST_GRAM, MOST_LENGTH, MOST_BUCKETS = 16, 1 << 14, 1 << 24
LETTERS = 64  # so many letters are read for each code that a cell has, or long texts would hold others up
WORD = re.compile(r"\b\w\w+\b")


def text(
    analyzer: str,
    ngrams: list[int],
    length: int,
    buckets: int | None = None,
    values: list[str] | None = None,
    lowercase: bool = True,
    strip_accents: bool = False,
    missing: list[str] | None = None,
) -> StringCodec:
    """Texts [...] to the codes [..., length] of their n-grams in the order of the text, -1 behind the last.

    analyzer: `char_wb`, letters within a word and the spaces around it, or `word`, words of two letters and more.
    ngrams: the least and the largest n. buckets: a code is the CRC-32 of the n-gram's UTF-8 modulo this; values: or its
    position in this vocabulary, and others are left out. What is longer than `length` codes is cut. Texts are made
    lower case and composed (NFKC), or with `strip_accents` decomposed and rid of accents (NFKD). A missing text is all
    -1, as is one without n-grams. Codes cannot be read back as texts.

    >>> codec = text("word", [1, 2], 4, values=["cat", "black", "black cat"])
    >>> codec.encode(["A black CAT", "dog"]).tolist()
    [[1, 2, 0, -1], [-1, -1, -1, -1]]
    """
    low, high = _check_ngrams(analyzer, ngrams)
    if type(length) is not int or not 1 <= length <= MOST_LENGTH:
        raise Refused(f"`length` of a text codec must be a whole number of 1 to {MOST_LENGTH}; got {show(length)}.")
    if not isinstance(lowercase, bool) or not isinstance(strip_accents, bool):
        got = f"{show(lowercase)} and {show(strip_accents)}"
        raise Refused(f"`lowercase` and `strip_accents` of a text codec must be true or false; got {got}.")
    find, size = _lookup(buckets, values)
    words = missing_words(missing)

    def read(cell: str) -> list[int]:
        clean = normalize(cell[: LETTERS * length], lowercase, strip_accents)
        codes = (find(gram) for gram in analyze(clean, analyzer, low, high))
        return list(islice((code for code in codes if code is not None), length))

    def encode(values: Any) -> np.ndarray:
        flat, shape = flatten(values)
        found: dict[str, list[int]] = {}
        codes = np.full((len(flat), length), NONE, np.int32)
        for at, cell in enumerate(cells.texts(flat)):
            if cell is None or cell.strip() in (words or ("",)):
                if words is None:
                    raise WrongCell(at, "not be missing", flat[at])
                continue
            if cell not in found:
                found[cell] = read(cell)
            codes[at, : len(found[cell])] = found[cell]
        return codes.reshape(*shape, length)

    def decode(codes: Any) -> np.ndarray:
        raise Refused("the codes of a text cannot be read back: they do not say what it was.")

    return StringCodec(encode, decode, (NONE, size - 1), length)


def normalize(cell: str, lowercase: bool = True, strip_accents: bool = False) -> str:
    """A text in lower case and composed, or decomposed and without accents.

    >>> normalize("Ærøskøbing Été"), normalize("Été", strip_accents=True)
    ('ærøskøbing été', 'ete')
    """
    cell = cell.lower() if lowercase else cell
    if cell.isascii():
        return cell
    if not strip_accents:
        return unicodedata.normalize("NFKC", cell)
    return "".join(letter for letter in unicodedata.normalize("NFKD", cell) if not unicodedata.combining(letter))


def analyze(clean: str, analyzer: str, low: int, high: int) -> Iterator[str]:
    """The n-grams of a normalised text from its beginning to its end.

    >>> list(analyze("an ox", "char_wb", 3, 4)), list(analyze("one two", "word", 1, 2))
    ([' an', 'an ', ' an ', ' ox', 'ox ', ' ox '], ['one', 'one two', 'two'])
    """
    if analyzer == "word":
        tokens = WORD.findall(clean)
        for at in range(len(tokens)):
            for n in range(low, min(high, len(tokens) - at) + 1):
                yield " ".join(tokens[at : at + n])
        return
    for word in clean.split():
        padded = f" {word} "
        # A word that is shorter than the least n counts once, as it is.
        for n in range(min(low, len(padded)), min(high, len(padded)) + 1):
            for at in range(len(padded) - n + 1):
                yield padded[at : at + n]


def _check_ngrams(analyzer: Any, ngrams: Any) -> tuple[int, int]:
    if analyzer not in ANALYZERS:
        raise Refused(f"`analyzer` of a text codec must be one of {', '.join(ANALYZERS)}; got {show(analyzer)}.")
    sound = isinstance(ngrams, list) and len(ngrams) == 2 and all(type(n) is int for n in ngrams)
    if not sound or not 1 <= ngrams[0] <= ngrams[1] <= MOST_GRAM:
        allowed = f"[least, largest] of 1 to {MOST_GRAM}"
        raise Refused(f"`ngrams` of a text codec must be {allowed}; got {show(ngrams)}.")
    return ngrams[0], ngrams[1]


def _lookup(buckets: Any, values: Any) -> tuple[Callable[[str], int | None], int]:
    """What finds the code of an n-gram, None for one outside the vocabulary, and how many codes there are."""
    if (buckets is None) == (values is None):
        has = "neither" if values is None else "both"
        raise Refused(f"a text codec must have either `buckets` or `values`; it has {has}.")
    if values is None:
        if type(buckets) is not int or not 1 <= buckets <= MOST_BUCKETS:
            allowed = f"a whole number of 1 to {MOST_BUCKETS}"
            raise Refused(f"`buckets` of a text codec must be {allowed}; got {show(buckets)}.")
        return lambda gram: zlib.crc32(gram.encode("utf-8", "surrogatepass")) % buckets, buckets
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise Refused(f"`values` of a text codec must be a list of strings; got {show(values)}.")
    index = {value: code for code, value in enumerate(values)}
    if len(index) != len(values):
        raise Refused(f"`values` of a text codec must differ from one another; got {show(values)}.")
    return index.get, len(values)
