"""Texts as numbers: counts of their n-grams in buckets, weighted by how rare each is, and fewer directions in their place."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt
from jax.random import fold_in

from arsenal.features.arrays import divide, formula
from arsenal.features.codes import beside_numbers, column_states, split_names
from arsenal.features.decomposition import leading_axes
from arsenal.records import Transform


class Terms(NamedTuple):
    """Of each text the inverse document frequencies of its buckets [buckets], and directions [components, buckets]."""

    idf: tuple[Any, ...]
    components: tuple[Any, ...] = ()


def hash_text(buckets: Annotated[int, Gt(0)] | None = None, schema: Any = None) -> Transform:
    """The counts of a text's n-grams in buckets, as a row of length 1; zeros of a text that is missing. Nothing is learned.

    Weinberger et al., ICML 2009 (0902.2206), without signs. x are codes of texts int32 [n, m, t], -1 behind the last, or {"text":
    codes, perhaps "numeric": [n, d]}, to [n, m * buckets] float32. There are as many buckets as a text's codec has; codes are
    taken modulo `buckets` where that is given. Equal to the norms of scikit-learn's HashingVectorizer over the same counts.

    >>> (100 * hash_text(2).apply((), jnp.array([[[0, 2, 1]], [[3, -1, -1]]]))).astype(int).tolist()
    [[89, 44], [0, 100]]
    """
    sizes = bucket_reader("hash_text", buckets, schema)

    def apply(state, x):
        made = [to_unit(counts) for counts in count_terms("hash_text", x, sizes)]
        return beside_numbers("hash_text", x, jnp.concatenate(made, 1))

    return formula(apply, check_codes("hash_text", sizes), number_columns(sizes))


def tfidf(
    components: Annotated[int, Gt(0)] | None = None, buckets: Annotated[int, Gt(0)] | None = None, schema: Any = None
) -> Transform:
    """Counts of a text's n-grams times how rare each is among texts, as a row of length 1; zeros of a text that is missing.

    Spärck Jones, Journal of Documentation 28 (1972): idf = ln((1 + n) / (1 + texts with the n-gram)) + 1, texts counted by
    weight. x and `buckets` as in `hash_text`, to [n, m * buckets] float32, or with `components` to [n, m * components]: products
    with so many leading singular vectors, latent semantic analysis, Deerwester et al., JASIS 41 (1990). The largest part of a
    direction is positive. Equal to scikit-learn's TfidfTransformer of the same counts and its TruncatedSVD.

    Counts are dense and there twice during the fit, each of 4 n buckets bytes: 100,000 rows in 1,024 buckets take 0.8 GB.

    >>> from arsenal.records import batch
    >>> rows = batch(x=[[[0, 1]], [[0, -1]], [[-1, -1]]])
    >>> (100 * tfidf(buckets=2).fit(jax.random.key(0), rows, {})[1].x).astype(int).tolist()
    [[60, 79], [100, 0], [0, 0]]
    """
    sizes = bucket_reader("tfidf", buckets, schema)

    def fit(key, rows, hp):
        idf, axes = [], []
        for i, counts in enumerate(count_terms("tfidf", rows.x, sizes)):
            weight = rows.weight.astype(counts.dtype)
            idf.append(jnp.log((1 + weight.sum()) / (1 + weight @ (counts > 0).astype(counts.dtype))) + 1)
            if components is not None:
                axes.append(leading_axes(fold_in(key, i), to_unit(counts * idf[-1]), weight, components))
        state = Terms(tuple(idf), tuple(axes))
        return state, rows._replace(x=apply(state, rows.x))

    def apply(state, x):
        made = [to_unit(counts * idf) for counts, idf in zip(count_terms("tfidf", x, sizes), state.idf, strict=True)]
        if components is not None:
            made = [unit @ axes.T for unit, axes in zip(made, state.components, strict=True)]
        return beside_numbers("tfidf", x, jnp.concatenate(made, 1))

    def check(rows):
        check_codes("tfidf", sizes)(rows)
        least = min(sizes(read_texts("tfidf", rows.x).shape[1]))
        if components is not None and components > least:
            raise ValueError(f"`components` of `tfidf` must be at most the number of buckets, {least}; got {components}.")

    widths = sizes if components is None else lambda count: [components] * count
    return Transform(fit, apply, check=check, names=number_columns(widths))


def bucket_reader(name: str, buckets: int | None, schema: Any) -> Callable[[int], list[int]]:
    """What gives the buckets of each of so many texts: those of the codecs unless given; ValueError where nobody says."""
    states = column_states(schema, "text")

    def sizes(count):
        if buckets is not None:
            return [buckets] * count
        if states is None or len(states) != count:
            raise ValueError(f"`buckets` of `{name}` must be given: this data does not say how many its {count} texts have.")
        return [state["buckets"] if "buckets" in state else len(state["values"]) for state in states]

    return sizes


def read_texts(name: str, x: Any) -> jax.Array:
    """The codes [n, m, t] of x, an array of them or a dictionary with the input `text`; ValueError where there are none."""
    if isinstance(x, dict) and "text" not in x:
        raise ValueError(f"`{name}` takes x with an input `text`; this data has {', '.join(x)}.")
    codes = x["text"] if isinstance(x, dict) else x
    if codes.ndim != 3 or not jnp.issubdtype(codes.dtype, jnp.integer):
        got = f"{codes.dtype} of shape {tuple(codes.shape)}"
        raise ValueError(f"`{name}` takes codes of texts [n, m, t], whole numbers; got {got}.")
    return codes


def count_terms(name: str, x: Any, sizes: Callable[[int], list[int]]) -> list[jax.Array]:
    """How often each code is in each text, float32 [n, buckets] of each of the texts."""
    codes = read_texts(name, x)
    made = []
    for i, size in enumerate(sizes(codes.shape[1])):
        at = jnp.where(codes[:, i] < 0, size, codes[:, i] % size)
        rows = jnp.arange(codes.shape[0])[:, None]
        made.append(jnp.zeros((codes.shape[0], size), jnp.float32).at[rows, at].add(1, mode="drop"))
    return made


def to_unit(rows: jax.Array) -> jax.Array:
    """Rows [n, d] of length 1; those of zeros stay."""
    return divide(rows, jnp.sqrt((rows * rows).sum(1, keepdims=True)))


def check_codes(name: str, sizes: Callable[[int], list[int]]) -> Callable[..., None]:
    """The check of rows that hold codes of texts, as many as somebody knows the buckets of."""

    def check(rows):
        sizes(read_texts(name, rows.x).shape[1])
        jax.eval_shape(lambda x: beside_numbers(name, x, jnp.zeros((len(rows.weight), 0))), rows.x)

    return check


def number_columns(sizes: Callable[[int], Sequence[int]]) -> Callable[..., Any]:
    """Names by number, `name.0`, of as many columns as each text becomes."""

    def names(given):
        numbers, texts = split_names(given, "text")
        both = zip(texts, sizes(len(texts)), strict=True)
        return {"x": numbers + [f"{text}.{i}" for text, size in both for i in range(size)]}

    return names
