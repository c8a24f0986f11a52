"""Text whose spans are to be restored: what an encoder with a decoder learns from. Raffel et al., JMLR 21 (2020), 3.1.4."""

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Interval

from arsenal.data.cloze import check_windows, count_codes
from arsenal.data.dataset import Dataset, Schema, as_dataset, dataset
from arsenal.data.tokenizer import end_of, tokenizer_of

END = "</s>"


def spans(
    text: Any, share: Annotated[float, Interval(gt=0, lt=1)] = 0.15, length: Annotated[float, Ge(1)] = 3.0, start: int = 0,
    seed: int = 0,
) -> Dataset:  # fmt: skip
    """The windows of a text with spans cut out, x {"tokens" [n, s], "decoder" [n, t]}, and y [n, t], what was there. int32.

    A `share` of a window's places is cut out as spans of `length` on average, of which each leaves the next sentinel; y is the
    spans, each behind its sentinel, and the end, and `decoder` is y one place later, beginning with `start`. Windows of one
    context all come to the same s and t. Sentinels are the tokenizer's `<extra_id_0>`, `<extra_id_1>`, ...; of bytes and
    characters the codes after the text's own, by these names too, and the end is the code after them. Drawn here, once for ever.
    """
    whole = as_dataset(text)
    check_windows("spans", whole)
    context = whole.rows.x.shape[1]
    hidden = min(max(round(context * share), 1), context - 1)
    count = max(round(hidden / length), 1)
    if count > context - hidden:
        said = f"`share` {share} and `length` {length} of `spans` make {count} spans"
        raise ValueError(f"{said}, but leave {context - hidden} of {context} places between them; there must be one for each.")
    schema, sentinels, end, ends = find_marks(whole, count)
    cut = draw_spans(np.random.default_rng(seed), len(whole.rows.x), context, hidden, count)
    shown, y = cut_spans(whole.rows.x, cut, np.array(sentinels, np.int32))
    last = np.full((len(y), 1), end, np.int32)
    shown, y = np.hstack([shown, last]) if ends else shown, np.hstack([y, last])
    x = {"tokens": shown, "decoder": np.hstack([np.full_like(last, start), y[:, :-1]])}
    return dataset(x, y, whole.rows.row, whole.rows.weight, schema=schema, files=whole.files)


def find_marks(data: Dataset, count: int) -> tuple[Schema, list[int], int, bool]:
    """The schema that knows the sentinels, their codes, that of the end, and whether questions have one too."""
    names = [f"<extra_id_{number}>" for number in range(count)]
    schema = data.schema._replace(inputs={name: data.schema.inputs["x"] for name in ("tokens", "decoder")})
    if not schema.tokenizer:
        first, target = count_codes(data), schema.target
        marks = (*names, END)
        if target.columns is not None:
            target = target._replace(columns=[*target.columns, *marks])
        return schema._replace(target=target, marks=marks), list(range(first, first + count)), first + count, False
    tokenizer, end = tokenizer_of(schema.tokenizer), end_of(schema.tokenizer)
    sentinels = [tokenizer.token_to_id(name) for name in names]
    if None in sentinels or end is None:
        missing = names[sentinels.index(None)] if None in sentinels else f"that ends a text, such as {END}"
        raise ValueError(f"The tokenizer of `spans` must have {count} sentinels and an end; it has no token {missing}.")
    ends = tokenizer.encode("a").ids[-1:] == [end[1]]
    return schema._replace(marks=tuple(names)), sentinels, end[1], ends


def draw_spans(rng: np.random.Generator, n: int, context: int, hidden: int, count: int) -> np.ndarray:
    """Which places are cut out, [n, context]: `hidden` of each row as `count` spans, any lengths and gaps as likely as others."""
    stays, goes = (draw_lengths(rng, n, places, count) for places in (context - hidden, hidden))
    begins = np.zeros((n, context + 1), np.int32)
    turns = np.cumsum(np.stack([stays, goes], -1).reshape(n, -1), 1)
    np.put_along_axis(begins, turns, 1, 1)
    return (np.cumsum(begins[:, :context], 1) % 2).astype(bool)


def draw_lengths(rng: np.random.Generator, n: int, places: int, count: int) -> np.ndarray:
    """Lengths [n, count] of at least 1 with the sum `places`, any such as likely as another."""
    cuts = rng.permuted(np.broadcast_to(np.arange(places - 1) < count - 1, (n, places - 1)), axis=1)
    at = np.nonzero(cuts)[1].reshape(n, count - 1) + 1
    return np.diff(at, axis=1, prepend=0, append=places)


def cut_spans(tokens: np.ndarray, cut: np.ndarray, sentinels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [n, t] with a sentinel in place of each span that is `cut`, and the spans with their sentinels before them.

    >>> shown, gone = cut_spans(np.array([[5, 6, 7, 8, 9]]), np.array([[False, True, True, False, True]]), np.array([90, 91]))
    >>> shown.tolist(), gone.tolist()
    ([[5, 90, 8, 91]], [[90, 6, 7, 91, 9]])
    """
    first = np.diff(cut, axis=1, prepend=False) & cut
    number = np.cumsum(first, 1)
    mark = sentinels[np.maximum(number - 1, 0)]
    n = len(tokens)
    shown = np.where(first, mark, tokens)[~cut | first].reshape(n, -1)
    both = np.stack([mark, tokens], -1)[np.stack([first, cut], -1)].reshape(n, -1)
    return shown, both
