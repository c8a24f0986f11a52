"""Codes of categories as numbers that a network or a linear model can read; nothing is learned."""

from collections.abc import Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt

from arsenal.features.arrays import formula, join
from arsenal.features.codes import as_place, beside_numbers, check_sizes, levels, read_codes, split_names
from arsenal.records import Transform


def one_hot(sizes: Sequence[Annotated[int, Gt(0)]] | None = None, schema: Any = None) -> Transform:
    """Codes [n, k], or x {"categorical": codes, perhaps "numeric": [n, d]}, to [n, d + sum(sizes)] float32.

    Column i of the codes takes `sizes[i]` places, one for each of its categories in sorted order, and one more for a missing
    value where its codec has them; an unknown category has zeros in all of them. The `sizes` are those of the data's `schema`,
    which a config gives by itself, and may be larger; they have to be given where columns have no codec.

    >>> one_hot([2, 3]).apply((), jnp.array([[1, 0], [2, 2]])).tolist()
    [[0.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]
    """
    found = levels("one_hot", sizes, schema)

    def hot(codes, one):
        place = as_place(codes, one)  # where the unknown comes before the missing; here it has no column
        place = jnp.where(place > one.size, one.size, jnp.where(place == one.size, -1, place))
        return jax.nn.one_hot(place, one.size + one.missing, dtype=jnp.float32)

    def apply(state, x):
        codes = read_codes("one_hot", x, found)
        return beside_numbers("one_hot", x, join([hot(codes[:, i], one) for i, one in enumerate(found or ())]))

    def names(given):
        numbers, coded = split_names(given)
        named = zip(coded, found or (), strict=True)
        return {"x": numbers + [f"{name}={one.name(code)}" for name, one in named for code in range(one.size + one.missing)]}

    return formula(apply, lambda rows: check_sizes("one_hot", found, rows), names)


def ordinal(sizes: Sequence[Annotated[int, Gt(0)]] | None = None, schema: Any = None) -> Transform:
    """Codes as numbers: [n, k] to [n, k] float32, a missing value NaN, an unknown level the number behind the last; as `one_hot`.

    >>> ordinal([2]).apply((), jnp.array([[1], [2]])).tolist()
    [[1.0], [2.0]]
    """
    found = levels("ordinal", sizes, schema)

    def apply(state, x):
        codes = read_codes("ordinal", x, found)
        places = [(as_place(codes[:, i], one), one.size) for i, one in enumerate(found or ())]
        made = [jnp.where(place > size, jnp.nan, place.astype(jnp.float32)) for place, size in places]
        return beside_numbers("ordinal", x, jnp.stack(made, 1))

    def names(given):
        numbers, coded = split_names(given)
        return {"x": numbers + coded}

    return formula(apply, lambda rows: check_sizes("ordinal", found, rows), names)


def hash_levels(
    size: Annotated[int, Gt(0)] = 32, sizes: Sequence[Annotated[int, Gt(0)]] | None = None, schema: Any = None
) -> Transform:
    """Levels of all columns by the hash of `column=level` into `size` columns, plus or minus 1; Weinberger et al. (0902.2206).

    Codes [n, k] to [n, size] float32, other inputs as `one_hot`'s. Width does not grow with the levels, which share columns. The
    hash is MurmurHash3, as in scikit-learn's FeatureHasher. An unknown level is zeros: its text is not known here.
    Columns are called by the schema's names, or 0..k-1; levels by its codec's, or by their codes.

    >>> hash_levels(4, [2]).apply((), jnp.array([[0], [1], [2]])).tolist()
    [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, -1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    found = levels("hash_levels", sizes, schema)
    field = None if schema is None else schema.inputs.get("categorical")
    columns = [str(i) for i in range(len(found or ()))] if field is None or not field.columns else list(field.columns)
    tables = [hash_table(name, one, size) for name, one in zip(columns, found or (), strict=False)]

    def apply(state, x):
        codes = read_codes("hash_levels", x, found)
        places = [as_place(codes[:, i], one) for i, one in enumerate(found or ())]
        hot = [
            jnp.where(jnp.asarray(at)[place][:, None] == jnp.arange(size, dtype=jnp.int32), jnp.asarray(sign)[place][:, None], 0)
            for (at, sign), place in zip(tables, places, strict=True)
        ]
        return beside_numbers("hash_levels", x, sum(hot[1:], start=hot[0]))

    def names(given):
        return {"x": split_names(given)[0] + [f"hash{i}" for i in range(size)]}

    return formula(apply, lambda rows: check_sizes("hash_levels", found, rows), names)


def hash_table(column: str, level: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    """For every place of a column's table its column and its sign [size + 2]; the unknown's is 0."""
    codes = [*range(level.size), None, level.size]
    hashes = [0 if code is None else hash_text(f"{column}={level.name(code)}") for code in codes]
    signs = [0 if code is None else 1 - 2 * (value < 0) for code, value in zip(codes, hashes, strict=True)]
    return (np.abs(hashes) % size).astype(np.int32), np.array(signs, np.float32)


def hash_text(text: str) -> int:
    """MurmurHash3 of 32 bits with seed 0, signed, of the text's UTF-8; A. Appleby, public domain.

    >>> hash_text("sex=male")
    -887876418
    """
    data, mask = text.encode(), 0xFFFFFFFF

    def mix(block):
        block = block * 0xCC9E2D51 & mask
        block = (block << 15 | block >> 17) & mask
        return block * 0x1B873593 & mask

    made, whole = 0, len(data) // 4 * 4
    for i in range(0, whole, 4):
        made ^= mix(int.from_bytes(data[i : i + 4], "little"))
        made = (made << 13 | made >> 19) & mask
        made = (made * 5 + 0xE6546B64) & mask
    made ^= mix(int.from_bytes(data[whole:], "little"))
    made ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        made = (made ^ made >> shift) * factor & mask
    made ^= made >> 16
    return made - (1 << 32) if made >> 31 else made
