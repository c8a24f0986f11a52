"""The codec of language: texts to the codes of their bytes, characters or tokens, and codes to texts again."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from arsenal_serving.artifact.codecs import cells
from arsenal_serving.artifact.codecs.cells import StringCodec, WrongCell, flatten
from arsenal_serving.refused import Refused, show

NONE = -1  # behind the last code of a text
MOST_LENGTH = 1 << 20
MOST_CODE = (1 << 31) - 1
CUT = {"direction": "Right", "strategy": "LongestFirst", "stride": 0}
UNKNOWN = "\ufffd"


def tokens(
    length: int,
    values: list[str] | None = None,
    tokenizer: dict | None = None,
    end: int | None = None,
    marks: list[str] | None = None,
    padding: int | None = None,
) -> StringCodec:
    """Texts [...] to their codes [..., length], -1 behind the last; codes [..., n] of any n to texts [...].

    A code is a byte of the UTF-8; with `values` the position of a character among them; with `tokenizer`, the content
    of a tokenizer.json, a token of it. `marks`, such as "<extra_id_0>", are read and written as the codes after all
    others; with a `tokenizer` they are tokens of it, and its special tokens are written then. A text must have 1 to
    `length` codes: nothing is cut. With `padding`, the code that stands behind the last in place of -1, a text may be
    longer: its first codes are read, with what a tokenizer puts around them. What is read back stops at the code `end`
    or at what is put behind the last; a code without a meaning is U+FFFD.

    >>> codec = tokens(4, values=["a", "b"])
    >>> codec.encode(["ba", "abab"]).tolist(), codec.decode([[1, 0, -1, 0], [0, 7, 1, 1]]).tolist()
    ([[1, 0, -1, -1], [0, 1, 0, 1]], ['ba', 'a\ufffdbb'])
    """
    if type(length) is not int or not 1 <= length <= MOST_LENGTH:
        raise Refused(f"`length` of a tokens codec must be a whole number of 1 to {MOST_LENGTH}; got {show(length)}.")
    if values is not None and tokenizer is not None:
        raise Refused("a tokens codec must have `values` or a `tokenizer`, or none of them; it has both.")
    marks = [] if marks is None else marks
    if not isinstance(marks, list) or not all(isinstance(mark, str) and mark for mark in marks):
        raise Refused(f"`marks` of a tokens codec must be a list of texts; got {show(marks)}.")
    if len(set(marks)) != len(marks):
        raise Refused(f"`marks` of a tokens codec must differ from one another; got {show(marks)}.")
    if tokenizer is not None:  # what a published one says of cutting and padding is not what this codec does
        cut = None if padding is None else CUT | {"max_length": length}
        tokenizer = tokenizer | {"truncation": cut, "padding": None}
    read, write, size = _units(values, tokenizer, marks)
    if end is not None and (type(end) is not int or not 0 <= end < size):
        raise Refused(f"`end` of a tokens codec must be a code of 0 to {size - 1}; got {show(end)}.")
    if padding is not None and (type(padding) is not int or not 0 <= padding <= MOST_CODE):
        raise Refused(f"`padding` of a tokens codec must be a code of 0 to {MOST_CODE}; got {show(padding)}.")
    behind = NONE if padding is None else padding

    def encode(values: Any) -> np.ndarray:
        flat, shape = flatten(values)
        codes = np.full((len(flat), length), behind, np.int32)
        for at, cell in enumerate(cells.texts(flat)):
            if not cell:
                raise WrongCell(at, "be a text that is not empty", flat[at])
            found = read(cell)
            if isinstance(found, str):
                raise WrongCell(at, f"have only characters that the model knows, not {show(found)}", flat[at])
            if padding is not None:
                found = found[:length]
            if not 1 <= len(found) <= length:
                raise WrongCell(at, f"have 1 to {length} tokens, not {len(found)}", flat[at])
            codes[at, : len(found)] = found
        return codes.reshape(*shape, length)

    def decode(codes: Any) -> np.ndarray:
        codes = np.asarray(codes)
        flat = codes.reshape(-1, codes.shape[-1])
        made = np.empty(len(flat), object)
        for at, row in enumerate(flat):
            stop = np.flatnonzero((row == behind) | (row == (behind if end is None else end)))
            made[at] = write(row[: stop[0] if len(stop) else None].tolist())
        return made.reshape(codes.shape[:-1])

    return StringCodec(encode, decode, (min(behind, 0), max(behind, size - 1)), length, reads_back=True)


class Language(NamedTuple):
    """How a model reads and writes.

    read: a text, and whether marks of its beginning and end are put around it, as codes; raises `Refused`. write: codes
    as a text, without its special tokens. size: how many codes there are. state: of the codec.
    """

    read: Callable[[str, bool], list[int]]
    write: Callable[[list[int]], str]
    size: int
    state: dict[str, Any]


def language(state: Mapping[str, Any]) -> Language:
    """How the model of a tokens codec, whose state this is, reads and writes texts of any length.

    >>> bytes_of = language({"kind": "tokens", "length": 1})
    >>> bytes_of.read("hé", True), bytes_of.write([104, 195, 169])
    ([104, 195, 169], 'hé')
    """
    tokenizer, marks = state.get("tokenizer"), state.get("marks") or []
    tokenizer = None if tokenizer is None else tokenizer | {"truncation": None, "padding": None}
    read_text, write, size = _units(state.get("values"), tokenizer, marks)
    made = load_tokenizer(json.dumps(tokenizer)) if tokenizer is not None else None

    def read(text: str, around: bool) -> list[int]:
        found = read_text(text) if made is None else made.encode(text, add_special_tokens=around).ids
        if isinstance(found, str):
            raise Refused(f"a text must have only characters that the model knows, not {show(found)}.")
        return list(found)

    return Language(read, write, size, dict(state))


def _units(
    values: Any, tokenizer: Any, marks: list[str]
) -> tuple[Callable[[str], Sequence[int] | str], Callable[[list[int]], str], int]:
    """How a text is read, a character that is none of them its answer, how codes are written, how many there are."""
    if tokenizer is not None:
        made = load_tokenizer(json.dumps(tokenizer))
        if strange := [mark for mark in marks if made.token_to_id(mark) is None]:
            raise Refused(f"`marks` of a tokens codec must be tokens of its tokenizer; {show(strange[0])} is none.")
        write = functools.partial(made.decode, skip_special_tokens=not marks)
        return lambda text: made.encode(text).ids, write, made.get_vocab_size()
    if values is None:
        known = {256 + number: mark.encode() for number, mark in enumerate(marks)}
        return (
            _between_marks(marks, 256, lambda text: list(text.encode("utf-8", "replace"))),
            functools.partial(_as_bytes, known),
            256 + len(marks),
        )
    if not isinstance(values, list) or not values or not all(isinstance(v, str) and len(v) == 1 for v in values):
        raise Refused(f"`values` of a tokens codec must be a list of characters; got {show(values)}.")
    places = {value: code for code, value in enumerate(values)}
    if len(places) != len(values):
        raise Refused(f"`values` of a tokens codec must differ from one another; got {show(values)}.")

    def read(text: str) -> list[int] | str:
        other = next((letter for letter in text if letter not in places), None)
        return [places[letter] for letter in text] if other is None else other

    units = values + marks
    return (
        _between_marks(marks, len(values), read),
        lambda codes: "".join(units[c] if 0 <= c < len(units) else UNKNOWN for c in codes),
        len(units),
    )


def _between_marks(
    marks: list[str], first: int, read: Callable[[str], list[int] | str]
) -> Callable[[str], list[int] | str]:
    """`read` for texts in which marks stand for the codes from `first` on."""
    if not marks:
        return read
    codes = {mark: first + number for number, mark in enumerate(marks)}
    cut = re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))))

    def read_all(text: str) -> list[int] | str:
        found: list[int] = []
        at = 0
        for mark in cut.finditer(text):
            piece = read(text[at : mark.start()])
            if isinstance(piece, str):
                return piece
            found += [*piece, codes[mark.group()]]
            at = mark.end()
        piece = read(text[at:])
        return piece if isinstance(piece, str) else found + piece

    return read_all


def _as_bytes(marks: dict[int, bytes], codes: list[int]) -> str:
    unknown = UNKNOWN.encode()
    return b"".join(bytes([c]) if 0 <= c < 256 else marks.get(c, unknown) for c in codes).decode("utf-8", "replace")


@functools.lru_cache(4)  # loading one of 100,000 tokens takes half a second, and every port that has it asks
def load_tokenizer(content: str) -> Any:
    """The tokenizer in the text of a tokenizer.json; raises `Refused` without the library, and for what is none."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        needs = "a model that reads and writes text by a tokenizer needs the library tokenizers"
        raise Refused(f'{needs}: pip install "ml-arsenal-serving[tokenizers]".') from error
    try:
        return Tokenizer.from_str(content)
    except Exception as error:  # the library raises nothing narrower
        said = str(error).splitlines()[0]
        raise Refused(f"`tokenizer` of a tokens codec is none of Hugging Face's: {said}.") from error


HELD: list[str] = []
"""The tokenizer of a process that does nothing but encode documents."""


def hold_tokenizer(content: str) -> None:
    """Have this process encode documents by a tokenizer.json, on one thread: there are other processes."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    HELD[:] = [content]


def encode_held(documents: Sequence[str]) -> list[list[int]]:
    """The ids of each document by the tokenizer that this process holds."""
    return encode_documents(HELD[0], documents)


def encode_documents(content: str, documents: Sequence[str]) -> list[list[int]]:
    """The ids of each document by the tokenizer in a tokenizer.json, without what marks its beginning and end."""
    made = load_tokenizer(content)
    return [one.ids for one in made.encode_batch_fast(list(documents), add_special_tokens=False)]
