"""Text as rows: windows of bytes, characters or tokens, each beside itself shifted by one; and codes as text again."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Gt
from arsenal_serving.export import Tensor

from arsenal.data.dataset import Dataset, Schema, dataset
from arsenal.data.files import resolve_path


def text(
    path: str | None = None,
    context: Annotated[int, Gt(0)] = 64,
    stride: Annotated[int, Gt(0)] = 16,
    units: Literal["bytes", "characters"] = "bytes",
    tokenizer: str | None = None,
) -> Dataset:
    """Windows x [n, context] int32 that begin `stride` apart, and y the units that follow each; a row's id is its number.

    A byte's code is its value, 0..255; a character's its place among the text's distinct characters in order,
    which are the schema's labels. `tokenizer` is a tokenizer.json of Hugging Face's tokenizers, whose tokens are the units
    then; the schema holds it. `path` None reads the help texts that come with Python (`pydoc_data.topics`).
    Two windows share text where their numbers differ by `context // stride` or less: see `by_position`.
    """
    content = python_topics() if path is None else read_bytes(resolve_path(path))
    labels, state = None, {}
    if tokenizer:
        state = tokenizer_state(tokenizer)
        codes = encode(Schema(tokenizer=state), utf8(content, path))
    elif units == "characters":
        letters = np.frombuffer(utf8(content, path).encode("utf-32-le"), np.uint32)
        distinct, codes = np.unique(letters, return_inverse=True)
        labels = [chr(letter) for letter in distinct]
    else:
        codes = np.frombuffer(content, np.uint8)
    if len(codes) <= context:
        counted = "tokens" if tokenizer else units
        raise ValueError(f"The text must have at least {context + 1} {counted}, one window and its target; got {len(codes)}.")
    windows = np.lib.stride_tricks.sliding_window_view(codes.astype(np.int32), context + 1)[::stride]
    schema = Schema({"x": Tensor()}, Tensor(columns=labels), tokenizer=state)
    return dataset(windows[:, :-1], windows[:, 1:], schema=schema, files=[resolve_path(path)] if path else [])


def encode(schema: Schema, words: str) -> np.ndarray:
    """The codes [t] int32 of a text, as the data's own text was coded; ValueError for a character that it does not have.

    >>> encode(Schema(), "hé").tolist(), encode(Schema(target=Tensor(columns=["a", "b"])), "ba").tolist()
    ([104, 195, 169], [1, 0])
    """
    if schema.tokenizer:
        return np.array(tokenizer_of(schema.tokenizer).encode(words).ids, np.int32)
    letters = characters(schema)
    if letters is None:
        return np.frombuffer(words.encode(), np.uint8).astype(np.int32)
    places = {letter: place for place, letter in enumerate(letters)}
    unknown = sorted(set(words) - places.keys())
    if unknown:
        raise ValueError(f"The text that was learned from has no character {unknown[0]!r}.")
    return np.array([places[letter] for letter in words], np.int32)


def decode(schema: Schema, codes: Any) -> str:
    """The text that codes [t] stand for: bytes, characters or tokens, as the schema says. What has no meaning is U+FFFD.

    Tokens of a data set without a `tokenizer` are shown as the numbers that they are.

    >>> decode(Schema(), [104, 195, 169]), decode(Schema(target=Tensor(columns=["a", "b"])), [1, 0, 7])
    ('hé', 'ba\ufffd')
    """
    codes = np.asarray(codes).tolist()
    if schema.tokenizer:
        return tokenizer_of(schema.tokenizer).decode(codes)
    letters = characters(schema)
    if letters is not None:
        return "".join(letters[code] if 0 <= code < len(letters) else "\ufffd" for code in codes)
    if codes and not 0 <= min(codes) <= max(codes) < 256:
        return " ".join(map(str, codes))
    return bytes(codes).decode(errors="replace")


def decoder(schema: Schema | None = None) -> Callable[[Any], str]:
    """`codes [t] -> text`, as the data's schema has it: what a metric of texts reads codes by.

    >>> decoder()([104, 195, 169])
    'hé'
    """
    return functools.partial(decode, Schema() if schema is None else schema)


def characters(schema: Schema) -> list[str] | None:
    """The characters by code; None where the text is bytes."""
    labels = schema.target.columns
    if labels is not None and not all(len(label) == 1 for label in labels):
        raise ValueError(f"Only text reads as text; the targets of this data are {', '.join(map(str, labels[:3]))}, ….")
    return None if labels is None else list(labels)


def tokenizer_state(path: str) -> dict:
    """The content of a tokenizer.json; one clear error where it is none."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"Tokenizer file {path} does not exist.")
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Tokenizer file {path} is no JSON: {error}.") from error
    try:
        tokenizer_of(state)
    except ValueError as error:
        raise ValueError(f"Tokenizer file {path} cannot be read: {error}") from error
    return state


def tokenizer_of(state: dict) -> Any:
    """The tokenizer that the content of a tokenizer.json describes."""
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise ValueError('Tokenizers need a library: pip install "ml-arsenal[tokenizers]".') from error
    try:
        return Tokenizer.from_str(json.dumps(state))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"it is no tokenizer.json of Hugging Face's ({str(error).splitlines()[0]}).") from error


def read_bytes(path: Path) -> bytes:
    """The file's bytes; one clear error where there are none."""
    if not path.is_file():
        raise FileNotFoundError(f"Text file {path} does not exist.")
    content = path.read_bytes()
    if not content:
        raise ValueError(f"Text file {path} is empty.")
    return content


def utf8(content: bytes, path: str | None) -> str:
    """The bytes as UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Characters are read from UTF-8; byte {error.start} of {path} is not. `units=bytes` reads any file."
        ) from error


def python_topics() -> bytes:
    """Some 450 KB of English: what `help()` says about Python's topics, in the order of their names."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics)).encode()
