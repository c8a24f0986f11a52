"""Text as rows: windows of bytes or characters, each beside itself shifted by one."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Gt
from arsenal_serving.export import Tensor

from arsenal.data.dataset import Dataset, Schema, dataset


def text(
    path: str | None = None,
    context: Annotated[int, Gt(0)] = 64,
    stride: Annotated[int, Gt(0)] = 16,
    units: Literal["bytes", "characters"] = "bytes",
) -> Dataset:
    """Windows x [n, context] int32 that begin `stride` apart, and y the units that follow each; a row's id is its number.

    A byte's code is its value, 0..255; a character's its place among the text's distinct characters in order,
    which are the schema's labels. `path` None reads the help texts that come with Python (`pydoc_data.topics`).
    Two windows share text where their numbers differ by `context // stride` or less: see `by_position`.
    """
    content = python_topics() if path is None else read(Path(path))
    labels = None
    if units == "characters":
        letters = np.frombuffer(decoded(content, path).encode("utf-32-le"), np.uint32)
        distinct, codes = np.unique(letters, return_inverse=True)
        labels = [chr(letter) for letter in distinct]
    else:
        codes = np.frombuffer(content, np.uint8)
    if len(codes) <= context:
        raise ValueError(f"The text must have at least {context + 1} {units}, one window and its target; got {len(codes)}.")
    windows = np.lib.stride_tricks.sliding_window_view(codes.astype(np.int32), context + 1)[::stride]
    return dataset(windows[:, :-1], windows[:, 1:], schema=Schema({"x": Tensor()}, Tensor(columns=labels)))


def read(path: Path) -> bytes:
    """The file's bytes; one clear error where there are none."""
    if not path.is_file():
        raise FileNotFoundError(f"Text file {path} does not exist.")
    content = path.read_bytes()
    if not content:
        raise ValueError(f"Text file {path} is empty.")
    return content


def decoded(content: bytes, path: str | None) -> str:
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
