"""What the codes of an input mean, as the data's schema knows it: how many levels a column has, what they are called."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.features.arrays import Names, join
from arsenal.records import Batch


class Levels(NamedTuple):
    """The codes of a column: 0..size-1 are known levels, `size` is unknown and size + 1 missing.

    `known` is how many levels the codec has, `size` may leave room for more; `missing` says whether a missing value has a code.
    """

    known: int
    size: int
    missing: bool = False
    names: Sequence[str] | None = None

    def name(self, code: int) -> str:
        """What a level is called."""
        if code == self.size:
            return "missing"
        return self.names[code] if self.names is not None and code < len(self.names) else str(code)


def column_states(schema: Any, name: str) -> list[dict] | None:
    """The state of the codec of every column of an input; None where it has none."""
    field = None if schema is None else schema.inputs.get(name)
    if field is None or not field.codec:
        return None
    names = [field.codec] * len(field.columns or ()) if isinstance(field.codec, str) else field.codec
    return [schema.codecs[name] for name in names]


def known_levels(schema: Any) -> list[Levels] | None:
    """The levels of each column of the input `categorical`, as its codecs know them; None where they do not."""
    states = column_states(schema, "categorical")
    if states is None:
        return None
    values = [["false", "true"] if state["kind"] == "boolean" else state.get("values") for state in states]
    if any(one is None for one in values):
        return None
    return [Levels(len(one), len(one), "missing" in state, one) for one, state in zip(values, states, strict=True)]  # type: ignore[arg-type]


def levels(name: str, sizes: Sequence[int] | None, schema: Any) -> list[Levels] | None:
    """The levels of each column: the schema's, with room for `sizes` where they are given."""
    known = known_levels(schema)
    if sizes is None:
        return known
    if known is None or len(known) != len(sizes):  # what does not fit is said when there are rows
        return [Levels(0, size) for size in sizes]
    return [one._replace(size=size) for one, size in zip(known, sizes, strict=True)]


def read_codes(name: str, x: Any, found: list[Levels] | None) -> jax.Array:
    """The codes [n, k] of x, an array of them or a dictionary with the input `categorical`; ValueError where they do not fit."""
    if isinstance(x, dict) and "categorical" not in x:
        raise ValueError(f"`{name}` takes x with an input `categorical`; this data has no column of strings.")
    codes = x["categorical"] if isinstance(x, dict) else x
    if codes.ndim != 2 or not jnp.issubdtype(codes.dtype, jnp.integer):
        raise ValueError(f"`{name}` takes codes [n, k], whole numbers; got {codes.dtype} of shape {tuple(codes.shape)}.")
    if found is None:
        raise ValueError(f"`sizes` of `{name}` must be given: this data does not say how many categories a column has.")
    if codes.shape[1] != len(found):
        raise ValueError(
            f"`sizes` of `{name}` must have one number for each of {codes.shape[1]} columns; got {[one.size for one in found]}."
        )
    return codes


def as_place(codes: jax.Array, level: Levels) -> jax.Array:
    """A column of codes [n] as places in a table of size + 2: the levels, the unknown, the missing.

    With room for more levels than the codec has, its unknown and missing codes are not the table's.
    """
    if not level.known:
        return jnp.where((codes >= 0) & (codes < level.size), codes, level.size)
    missing = level.size + 1 if level.missing else level.size
    above = jnp.where(codes == level.known + 1, missing, level.size)
    return jnp.where((codes >= 0) & (codes < level.known), codes, above)


def beside_numbers(name: str, x: Any, made: jax.Array) -> jax.Array:
    """What was made of an input, behind the numbers where x has them too; ValueError where x has further inputs."""
    if not isinstance(x, dict):
        return made
    taken = {"date_parts": "time", "tfidf": "text", "hash_text": "text"}.get(name, "categorical")
    if more := [other for other in x if other not in (taken, "numeric")]:
        raise ValueError(
            f"`{name}` takes {taken} and numeric; this data has {', '.join(more)} too: `columns` says what is done to which."
        )
    return join([x["numeric"], made]) if "numeric" in x else made


def check_sizes(name: str, found: list[Levels] | None, rows: Batch) -> None:
    """Raise ValueError where a column has more categories than there is room for."""
    codes = read_codes(name, rows.x, found)
    assert found is not None
    least = [one.known for one in found]
    if not any(least) and not isinstance(codes, jax.ShapeDtypeStruct):  # where nobody knows, the last code may be the unknown one
        least = np.asarray(codes)[np.asarray(rows.weight) > 0].max(0, initial=0).tolist()
    for i, (one, size) in enumerate(zip(found, least, strict=True)):
        if one.size < size:
            raise ValueError(
                f"`sizes` of `{name}` must be at least {least}, the categories of every column; got "
                f"{[one.size for one in found]}: column {i + 1} has {size}."
            )


def split_names(given: Names, input: str = "categorical") -> tuple[list[str], list[str]]:
    """The names of the numbers, and those of the coded columns."""
    return (given.get("numeric", []), given[input]) if input in given else ([], given["x"])
