"""Text with holes: what a bidirectional model learns from. Devlin et al., NAACL 2019 (1810.04805), section 3.1."""

from typing import Annotated, Any

import numpy as np
from annotated_types import Interval

from arsenal.data.column import is_streamed
from arsenal.data.dataset import Dataset, as_dataset, dataset
from arsenal.data.text import tokenizer_of

MASKS = ("[MASK]", "<mask>")


def cloze(
    text: Any, share: Annotated[float, Interval(gt=0, lt=1)] = 0.15, code: int | None = None, seed: int = 0
) -> Dataset:
    """The windows x [n, t] of a text with a `share` of their places to be guessed: y [n, t] is the token there, -1 elsewhere.

    Of the places 80 % hold the mask, 10 % any token, 10 % what was there. The mask's `code` is the tokenizer's own, or the one
    after the last: 256 of bytes. What is drawn here is for ever; in training `mask_tokens` draws anew at every step.
    """
    whole = as_dataset(text)
    check_windows("cloze", whole)
    x = whole.rows.x
    last = count_codes(whole)
    code = mask_code(whole, last) if code is None else code
    rng = np.random.default_rng(seed)
    chosen, way = rng.random(x.shape) < share, rng.random(x.shape)
    drawn = np.where(way < 0.8, code, np.where(way < 0.9, rng.integers(0, last, x.shape), x))
    y = np.where(chosen, x, -1)
    return dataset(
        np.where(chosen, drawn, x), y, whole.rows.row, whole.rows.weight, schema=whole.schema, files=whole.files
    )


def check_windows(name: str, data: Dataset) -> None:
    """Raise ValueError unless the rows are windows of codes in memory."""
    x = data.rows.x
    if is_streamed(data.rows) or getattr(x, "ndim", 0) != 2 or not np.issubdtype(x.dtype, np.integer):
        raise ValueError(f"`text` of `{name}` must be windows of codes [n, t] in memory, as `arsenal.data.text` makes them.")


def count_codes(data: Dataset) -> int:
    """How many codes a text may have."""
    if data.schema.tokenizer:
        return tokenizer_of(data.schema.tokenizer).get_vocab_size()
    columns = data.schema.target.columns
    return 256 if columns is None else len(columns)


def mask_code(data: Dataset, count: int) -> int:
    """The code of the mask: the tokenizer's own, else the one after the last."""
    if not data.schema.tokenizer:
        return count
    tokenizer = tokenizer_of(data.schema.tokenizer)
    found = next((code for name in MASKS if (code := tokenizer.token_to_id(name)) is not None), None)
    if found is None:
        raise ValueError(f"The tokenizer of `cloze` must have a token {' or '.join(MASKS)}, or `code` must say which.")
    return found
