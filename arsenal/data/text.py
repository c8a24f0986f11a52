"""Text as rows: windows of bytes, characters or tokens, each beside itself shifted by one; and codes as text again."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Gt
from arsenal_serving.artifact.codecs import codec
from arsenal_serving.export import Tensor

from arsenal.data.corpus import read_corpus
from arsenal.data.dataset import Dataset, Schema, dataset
from arsenal.data.documents import document_files, documents
from arsenal.data.files import resolve_path
from arsenal.data.mapped import windows
from arsenal.data.tokenizer import ENDS, end_of, ends_of, tokenizer_of, tokenizer_state


def text(
    path: str | Sequence[str] | None = None,
    context: Annotated[int, Gt(0)] = 64,
    stride: Annotated[int, Gt(0)] = 16,
    units: Literal["bytes", "characters"] = "bytes",
    tokenizer: str | None = None,
    field: str = "text",
) -> Dataset:
    """Windows x [n, context] int32 that begin `stride` apart, and y the units that follow each; a row's id is its number.

    A byte's code is its value, 0..255; a character's its place among the text's distinct characters in order,
    which are the schema's labels. `tokenizer` is a tokenizer.json of Hugging Face's tokenizers, whose tokens are the units
    then; the schema holds it. `path`: a file of text; documents, see `arsenal.data.documents`, in .jsonl (the key `field` of each
    line) and .parquet (that column), in all such files of a folder, a glob or a list, one after another with the tokenizer's end
    of a document, else a line break, between; or a corpus that `arsenal tokenize` made, whose tokens are mapped and not loaded.
    None reads the help texts that come with Python (`pydoc_data.topics`).
    Two windows share text where their numbers differ by `context // stride` or less: see `by_position`.
    """
    if isinstance(path, str) and (resolve_path(path) / "corpus.json").is_file():
        corpus = read_corpus(resolve_path(path))
        if tokenizer or units != "bytes":
            raise ValueError(f"Corpus {path} has the tokens of its own tokenizer: leave `tokenizer` and `units` out.")
        schema = Schema({"x": Tensor()}, tokenizer=corpus.tokenizer)
        return windows(corpus.ids, path, context, stride, schema, {"stride": stride, "dtype": corpus.about["dtype"]})
    state = tokenizer_state(tokenizer) if tokenizer else {}
    files = []
    if path is not None:
        files = [resolve_path(str(path))] if is_one_text(path) else document_files(path)
    labels = None
    if path is not None and not is_one_text(path):
        found = [document.text for document in documents(files, field)]
    else:
        content = python_topics() if path is None else read_bytes(files[0])
        found = [utf8(content, path)] if state or units == "characters" else []
    if state:
        codes = join_tokens(state, found)
    elif units == "characters":
        letters = np.frombuffer("\n".join(found).encode("utf-32-le"), np.uint32)
        distinct, codes = np.unique(letters, return_inverse=True)
        labels = [chr(letter) for letter in distinct]
    else:
        codes = np.frombuffer("\n".join(found).encode() if found else content, np.uint8)
    if len(codes) <= context:
        counted = "tokens" if tokenizer else units
        raise ValueError(f"The text must have at least {context + 1} {counted}, one window and its target; got {len(codes)}.")
    rows = np.lib.stride_tricks.sliding_window_view(codes.astype(np.int32), context + 1)[::stride]
    schema = Schema({"x": Tensor()}, Tensor(columns=labels), tokenizer=state)
    return dataset(rows[:, :-1], rows[:, 1:], schema=schema, files=files)


def is_one_text(path: str | Sequence[str]) -> bool:
    """Whether a path is that of a file whose whole content is the text, whatever its name ends in."""
    if not isinstance(path, str) or Path(path).suffix in (".jsonl", ".parquet"):
        return False
    return not resolve_path(path).is_dir() and not any(letter in path for letter in "*?[")


def join_tokens(state: dict, found: Sequence[str]) -> np.ndarray:
    """The ids [t] of texts, one after another; of several each with the end of a document, where the tokenizer has one."""
    made, end = tokenizer_of(state), end_of(state)
    if len(found) == 1 or end is None:
        return np.array(made.encode("\n".join(found)).ids, np.int32)
    return np.array([i for one in made.encode_batch(list(found), add_special_tokens=False) for i in (*one.ids, end[1])], np.int32)


def encode(schema: Schema, words: str) -> np.ndarray:
    """The codes [t] int32 of a text, as the data's own text was coded; ValueError for a character that it does not have.

    >>> encode(Schema(), "hé").tolist(), encode(Schema(target=Tensor(columns=["a", "b"])), "ba").tolist()
    ([104, 195, 169], [1, 0])
    """
    if schema.tokenizer:
        return np.array(tokenizer_of(schema.tokenizer).encode(words).ids, np.int32)
    if schema.marks and words:
        codes = codec(codec_state(schema, 256, len(words.encode())) or {}).encode([words])[0]
        return codes[codes >= 0]
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
    if schema.marks:
        return codec(codec_state(schema, 256, 1) or {}).decode([codes])[0]
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


def codec_state(schema: Schema, vocabulary: int, length: int) -> dict[str, Any] | None:
    """The state of the codec by which a server reads prompts of up to `length` codes and writes what follows them.

    None where codes below `vocabulary` are no text: without a tokenizer, characters or marks only 256 of them are, bytes.
    """
    made: dict[str, Any] = {"kind": "tokens", "length": length} | ({"marks": list(schema.marks)} if schema.marks else {})
    if schema.tokenizer:
        end = end_of(schema.tokenizer)
        return made | {"tokenizer": schema.tokenizer} | ({} if end is None else {"end": end[1]})
    letters = characters(schema)
    first = 256 if letters is None else len(letters)
    ends = dict([("end", first + number) for number, mark in enumerate(schema.marks) if mark in ENDS][:1])
    if letters is None:
        return made | ends if schema.marks or vocabulary == 256 else None
    return made | {"values": letters} | ends


def end_codes(schema: Schema) -> list[int]:
    """The codes that end a text: special tokens of the tokenizer, or marks; none of bytes and characters alone.

    >>> end_codes(Schema()), end_codes(Schema(marks=("<a>", "</s>")))
    ([], [257])
    """
    if schema.tokenizer:
        return ends_of(schema.tokenizer)
    letters = characters(schema)
    first = 256 if letters is None else len(letters)
    return [first + number for number, mark in enumerate(schema.marks) if mark in ENDS]


def characters(schema: Schema) -> list[str] | None:
    """The characters by code; None where the text is bytes."""
    labels = schema.target.columns
    labels = labels and labels[: len(labels) - len(schema.marks)]
    if labels is not None and not all(len(label) == 1 for label in labels):
        raise ValueError(f"Only text reads as text; the targets of this data are {', '.join(map(str, labels[:3]))}, ….")
    return None if labels is None else list(labels)


def read_bytes(path: Path) -> bytes:
    """The file's bytes; one clear error where there are none."""
    if not path.is_file():
        raise FileNotFoundError(f"Text file {path} does not exist.")
    content = path.read_bytes()
    if not content:
        raise ValueError(f"Text file {path} is empty.")
    return content


def utf8(content: bytes, path: str | Sequence[str] | None) -> str:
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
