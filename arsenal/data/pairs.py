"""Texts and the texts that answer them: what a model with an encoder and a decoder learns from."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Gt
from arsenal_serving.export import Tensor

from arsenal.data.dataset import Dataset, Schema, dataset
from arsenal.data.passages import two_columns
from arsenal.data.spans import END
from arsenal.data.tokenizer import end_of, tokenizer_of, tokenizer_state

NOTHING = -1
"""Behind the last code of a text."""
NUMBERS = 100
"""Sums are drawn of the numbers below it."""


def pairs(
    path: str | None = None,
    source: str = "source",
    target: str = "target",
    context: Annotated[int, Gt(0)] = 64,
    answer: Annotated[int, Gt(0)] = 32,
    tokenizer: str | None = None,
    start: int = 0,
) -> Dataset:
    """Rows x {"tokens" [n, context], "decoder" [n, answer]} and y [n, answer] int32, the answer's codes; a row's id its number.

    `path` is a .csv, .parquet or .jsonl file (or a pattern of them) with the columns `source`, what is read, and `target`, what
    is to be written. Codes are bytes, 256 being the end, or the tokens of `tokenizer`, a tokenizer.json, with what it puts around
    a text. Behind the last code stands -1, which neither a model reads nor a loss counts; `decoder` is y one place later,
    beginning with `start`. Of longer texts the first codes are read, an answer's end among them only where it fits, and warnings
    say how many are cut. None draws sums: "37+5", "42". Raises ValueError for a text that is empty, and a tokenizer without an
    end.
    """
    if source == target:
        raise ValueError(f"`source` and `target` of `pairs` must be two columns; both are {source}.")
    files: list[Path] = []
    if path is None:
        asked, answered = map(list, zip(*sums(), strict=True))
    else:
        asked, answered, files = two_columns(path, source, target)
    for name, texts in ((source, asked), (target, answered)):
        if empty := [at for at, one in enumerate(texts, 1) if not one.strip()]:
            raise ValueError(f"Each row must have both texts; `{name}` is empty in {len(empty)}, the first being row {empty[0]}.")
    found = tokenizer_state(tokenizer) if tokenizer else {}
    end = end_of(found) if found else (END, 256)
    if end is None:
        raise ValueError(f"The tokenizer {tokenizer} has no token that ends a text, such as {END}.")
    made = tokenizer_of(found) if found else None
    read: Callable[[str], Sequence[int]] = str.encode if made is None else lambda text: made.encode(text).ids
    tokens = fill_up([read(text) for text in asked], context, source)
    ended = [[*(codes[:-1] if codes and codes[-1] == end[1] else codes), end[1]] for codes in map(list, map(read, answered))]
    y = fill_up(ended, answer, target)
    decoder = np.hstack([np.full((len(y), 1), start, np.int32), np.maximum(y[:, :-1], 0)])
    inputs = {name: Tensor() for name in ("tokens", "decoder")}
    schema = Schema(inputs, tokenizer=found, marks=() if found else (END,))
    return dataset({"tokens": tokens, "decoder": decoder}, y, schema=schema, files=files)


def fill_up(texts: Sequence[Sequence[int]], length: int, column: str) -> np.ndarray:
    """Codes [n, length] int32, -1 behind the last of each; a warning counts the texts that are longer."""
    found = np.full((len(texts), length), NOTHING, np.int32)
    for row, codes in zip(found, texts, strict=True):
        row[: len(codes)] = list(codes[:length])
    if cut := sum(len(codes) > length for codes in texts):
        warnings.warn(f"{cut} of {len(texts)} texts in `{column}` have more than {length} codes and are cut.", stacklevel=3)
    return found


def sums() -> Iterator[tuple[str, str]]:
    """All sums of two numbers below 100, and what they come to."""
    for a in range(NUMBERS):
        for b in range(NUMBERS):
            yield f"{a}+{b}", f"{a + b}"
