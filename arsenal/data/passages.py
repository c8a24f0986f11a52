"""Texts with a label each: what a classifier of texts learns from."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt
from arsenal_serving.artifact import codecs
from arsenal_serving.artifact.codecs import cells
from arsenal_serving.export import Tensor

from arsenal.data.dataset import Dataset, Schema, dataset
from arsenal.data.delimited import Layout
from arsenal.data.documents import document_files, json_objects
from arsenal.data.frame import check_name
from arsenal.data.tabular import find_target, read_tables
from arsenal.data.tokenizer import pad_of, tokenizer_of, tokenizer_state

PYTHON_TOPICS = 10
"""So many of Python's help topics are told apart."""


def passages(
    path: str | None = None,
    text: str = "text",
    label: str = "label",
    context: Annotated[int, Gt(0)] = 128,
    tokenizer: str | None = None,
    padding: Annotated[int, Ge(0)] | None = None,
) -> Dataset:
    """Rows x [n, context] int32, the codes of a text, and y [n] int32, the code of its label; a row's id is its number.

    `path` is a .csv, .parquet or .jsonl file (or a pattern of them) with the columns `text` and `label`. Codes are bytes, or the
    tokens of `tokenizer`, a tokenizer.json, with what it puts around a text. Of a longer text the first `context` codes are
    read, and a warning says how many are cut; behind a shorter one stands the code `padding`: 0 of bytes, the tokenizer's own
    of tokens. A server reads texts by the same codec. None reads passages of the longest of Python's help topics,
    whose name is the label.
    Raises ValueError for a text or label that is empty, labels that are all the same, and a tokenizer without a padding code.
    """
    if text == label:
        raise ValueError(f"`text` and `label` of `passages` must be two columns; both are {text}.")
    files: list[Path] = []
    if path is None:
        texts, labels = map(list, zip(*topic_passages(context), strict=True))
    else:
        texts, labels, files = two_columns(path, text, label)
    if gone := [at for at, one in enumerate(labels, 1) if not one.strip()]:
        raise ValueError(f"Each text must have a label; {len(gone)} have none in column `{label}`, the first in row {gone[0]}.")
    goal, found = find_target(labels, label, "classes"), tokenizer_state(tokenizer) if tokenizer else {}
    if padding is None and found and (padding := pad_of(found)) is None:
        raise ValueError(f"The tokenizer {tokenizer} has no token that pads: `padding` must say which code does.")
    state: dict[str, Any] = {"kind": "tokens", "length": context, "padding": padding or 0}
    state |= {"tokenizer": found} if found else {}
    try:
        x = codecs.encode(state, np.array(texts, object))
    except ValueError as error:
        raise ValueError(f"Column `{text}`: {error}") from error
    if cut := count_longer(texts, x, state):
        warnings.warn(f"{cut} of {len(texts)} texts have more than {context} codes and are cut.", stacklevel=2)
    schema = Schema({"x": Tensor(codec=text)}, goal.tensor, goal.states | {text: state}, found)
    return dataset(x, goal.values, schema=schema, files=files)


def two_columns(path: str, first: str, second: str) -> tuple[list[str], list[str], list[Path]]:
    """The cells of both columns, and the files; nothing is the empty one."""
    if not path.endswith(".jsonl"):
        frame, _, files = read_tables(path, Layout())
        for name in (first, second):
            check_name(name, frame.columns, "column")
        return frame[first].tolist(), frame[second].tolist(), files
    one, other, files = [], [], document_files(path)
    for file in files:
        for place, line in json_objects(file):
            try:
                for name, found in ((first, one), (second, other)):
                    check_name(name, line, "field")
                    found.append(cells.text(line[name]) or "")
            except ValueError as error:
                raise ValueError(f"{file}, line {place}: {error}") from error
    if not one:
        raise ValueError(f"{path} must hold a text; there is none.")
    return one, other, files


def count_longer(texts: list[str], x: np.ndarray, state: dict[str, Any]) -> int:
    """How many texts have more codes than were read of them."""
    full = [texts[at] for at in np.flatnonzero(x[:, -1] != state["padding"])]
    if "tokenizer" not in state:
        return sum(len(one.encode()) > state["length"] for one in full)
    whole = tokenizer_of(state["tokenizer"])
    return sum(len(one.ids) > state["length"] for one in whole.encode_batch(full))


def topic_passages(context: int) -> Iterator[tuple[str, str]]:
    """Passages of whole words, each in at most `context` bytes, of the longest of Python's help topics, and the topic of each.

    Topics that are a part of a longer one, as some chapters are, are left out.
    """
    from pydoc_data.topics import topics

    seen: set[str] = set()
    chosen: list[str] = []
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        paragraphs = set(topics[name].split("\n\n"))
        if len(paragraphs & seen) < len(paragraphs) / 4 and len(chosen) < PYTHON_TOPICS:
            chosen.append(name)
            seen |= paragraphs
    for name in sorted(chosen):
        for passage in wrap(topics[name].encode("ascii", "replace").decode(), context):
            yield passage, name
