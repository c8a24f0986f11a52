"""Splits: by row id, or by what rows hold, as their class, the group that they belong to, or the time that they are of."""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Interval, Lt
from arsenal_serving.artifact import codecs

from arsenal.data.column import in_memory, shares_of
from arsenal.records import Batch, Split

Fraction = Annotated[float, Interval(ge=0, lt=1)]
Seed = Annotated[int, Ge(0), Lt(2**64)]
TENTHS = np.arange(1, 10) / 10


def by_row(validation: Fraction = 0.15, test: Fraction = 0.15, seed: Seed = 0) -> Split:
    """By a hash of the row's id, so that a row stays on its side whatever joins.

    The sizes are those fractions on average: each row is drawn by a hash of its id and the seed.
    """
    check_fractions("by_row", validation, test)
    return Split(lambda rows, schema: masks_by_share(uniform(rows.row, seed), validation, test))


def by_position(validation: Fraction = 0.1, test: Fraction = 0.1, gap: Annotated[int, Ge(0)] = 0) -> Split:
    """By place in the sequence: the first ids train, the next validate, the last test.

    For rows in a sequence, where neighbours overlap: the `gap` ids before validation and before test belong to no
    side. The sizes are those fractions of the rows, gaps included. Of a mixture each part is cut so.
    """
    check_fractions("by_position", validation, test)

    def masks(rows, schema):
        ids, shares = np.asarray(rows.row).astype(np.int64), shares_of((rows.x, rows.y))
        parts = [ids] if shares is None else np.split(ids, shares.begins[1:-1])
        found = [masks_in_order(part, validation, test, gap) for part in parts if len(part)]
        return {side: np.concatenate([one[side] for one in found]) for side in found[0]}

    return Split(masks)


def by_time(
    column: str, validation: Fraction = 0.15, test: Fraction = 0.15, gap: Annotated[float, Ge(0)] = 0.0
) -> Split:
    """By the values of a column: the earliest rows train, the next validate, the latest test; rows of one time stay together.

    `column` is one of numbers or of ISO dates, among the inputs, in `aux`, or `y`. Rows less than `gap` before a cut, in the
    column's units (of dates: in different dates), belong to no side. The sizes are about those fractions of the rows.
    """
    check_fractions("by_time", validation, test)

    def masks(rows, schema):
        at, _ = column_values(rows, schema, column)
        return masks_in_order(at.astype(np.float64), validation, test, gap)

    return Split(masks)


def by_group(
    column: str, validation: Fraction = 0.15, test: Fraction = 0.15, seed: Seed = 0
) -> Split:
    """By a hash of a column's value, so that rows of one group (a patient, an author) are on one side, whatever joins.

    `column` is one of whole numbers or strings, among the inputs or in `aux`. The sizes are those fractions of the groups, on
    average.
    """
    check_fractions("by_group", validation, test)

    def masks(rows, schema):
        found, codec = column_values(rows, schema, column)
        if not np.issubdtype(found.dtype, np.integer):
            raise ValueError(f"`column` of `by_group` must hold whole numbers or strings; `{column}` holds {found.dtype}.")
        codes, of = np.unique(found, return_inverse=True)
        names = codes if codec is None else codecs.decode(codec, codes)  # codes move when another value joins
        hashed = [int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:8], "big") for name in names]
        return masks_by_share(uniform(np.array(hashed, np.uint64), seed)[of], validation, test)

    return Split(masks)


def stratified(
    validation: Fraction = 0.15, test: Fraction = 0.15, seed: Seed = 0, column: str = "y"
) -> Split:
    """Each class, a value of y or of another column, in the same shares on all sides, to the row; of numbers, each tenth.

    Within its class the rows with the lowest hashes of their ids validate, the next test. Unlike in `by_row` a row may change
    its side when others join. A class of one row trains.
    """
    check_fractions("stratified", validation, test)

    def masks(rows, schema):
        found, _ = column_values(rows, schema, column)
        if not np.issubdtype(found.dtype, np.integer):
            found = np.searchsorted(np.quantile(found, TENTHS), found)
        at, place = uniform(rows.row, seed), np.empty(len(found))
        for one in np.unique(found):
            mine = np.flatnonzero(found == one)
            order = np.argsort(at[mine], kind="stable")
            # Places 0.5/m, 1.5/m, ...: a share of them is as many rows as it rounds to.
            place[mine[order]] = (np.arange(len(mine)) + 0.5) / len(mine)
        return masks_by_share(place, validation, test)

    return Split(masks)


def by_column(column: str = "test", validation: Fraction = 0.1, seed: Seed = 0) -> Split:
    """By what the data says itself: rows whose `column` is 1 test; of the others a share validates, by a hash of their ids.

    `column` holds 0 and 1, among the inputs or in `aux`, as `idx` and `cifar` have it.
    """

    def masks(rows, schema):
        found, _ = column_values(rows, schema, column)
        if not np.isin(found, (0, 1)).all():
            wrong = found[~np.isin(found, (0, 1))][0]
            raise ValueError(f"`column` of `by_column` must hold 0 and 1, for rows that test; `{column}` holds {wrong}.")
        test, validates = found == 1, uniform(rows.row, seed) < validation
        return {"train": ~test & ~validates, "validation": ~test & validates, "test": test}

    return Split(masks)


def without_validation(split: Split) -> Split:
    """The split whose validation rows train: for what was chosen on them before. Its test rows stay as they are."""

    def masks(rows, schema):
        found = split.masks(rows, schema)
        train = found["train"] | found["validation"]
        return {"train": train, "validation": np.zeros_like(train), "test": found["test"]}

    return Split(masks, split.exempt)


def as_split(made: Any) -> Split:
    """A `Split` as it is; a function of row ids [n] that gives the masks as one."""
    if isinstance(made, Split):
        return made
    if callable(made):
        return Split(lambda rows, schema: made(rows.row))
    raise TypeError(f"`split` must be a Split or a function of row ids; got {type(made).__name__}.")


def check_fractions(name: str, validation: float, test: float) -> None:
    """Raise ValueError unless something is left for training."""
    if validation + test >= 1:
        raise ValueError(f"`validation` + `test` of `{name}` must be < 1; got {validation} + {test}.")


def masks_by_share(at: np.ndarray, validation: float, test: float) -> dict[str, np.ndarray]:
    """The masks of rows at places in [0, 1): the lowest validate, the next test, the others train."""
    return {
        "train": at >= validation + test,
        "validation": at < validation,
        "test": (at >= validation) & (at < validation + test),
    }


def masks_in_order(at: np.ndarray, validation: float, test: float, gap: float) -> dict[str, np.ndarray]:
    """The masks of rows in order: the last test, those before them validate; what lies within `gap` before a cut is left out."""
    last = np.iinfo(np.int64).max if np.issubdtype(at.dtype, np.integer) else np.inf
    ordered = np.append(np.sort(at), last)
    first, second = (ordered[len(at) - round(len(at) * share)] for share in (validation + test, test))
    return {"train": at < first - gap, "validation": (at >= first) & (at < second - gap), "test": at >= second}


def column_values(rows: Batch, schema: Any, column: str) -> tuple[np.ndarray, dict | None]:
    """A column [n] by name, and the state of its codec; ValueError where there is none."""
    inputs = rows.x if isinstance(rows.x, dict) else {"x": rows.x}
    aux = rows.aux if isinstance(rows.aux, dict) else {}
    there: dict[str, tuple[Callable, Any]] = {}
    if rows.y is not None:
        there["y"] = (lambda: whole_column(rows.y), schema.target.codec)
    for name, leaf in inputs.items():
        field = schema.inputs.get(name)
        for i, own in enumerate((field.columns if field else None) or ()):
            codec = field.codec if isinstance(field.codec, str | None) else field.codec[i]
            there[own] = (lambda leaf=leaf, i=i: whole_column(leaf)[:, i], codec)
        if len(leaf.shape) == 1:
            there[name] = (lambda leaf=leaf: whole_column(leaf), field.codec if field else None)
    there |= {name: (lambda leaf=leaf: whole_column(leaf), name if name in schema.codecs else None) for name, leaf in aux.items()}
    if column not in there:
        raise ValueError(f"The split reads the column `{column}`; there are {', '.join(there) or 'none'}.")
    get, codec = there[column]
    found = get()
    if found.ndim != 1:
        raise ValueError(f"The split reads one value of each row; `{column}` has shape {found.shape}.")
    return found, schema.codecs.get(codec) if isinstance(codec, str) else None


def whole_column(leaf: Any) -> np.ndarray:
    """All of a column."""
    return np.asarray(leaf) if in_memory(leaf) else np.asarray(leaf[np.arange(leaf.shape[0])])


def uniform(row: np.ndarray, seed: int) -> np.ndarray:
    """A number in [0, 1) for every id: SplitMix64 (Steele et al., OOPSLA 2014) of id and seed. float64 [n]."""
    with np.errstate(over="ignore"):
        z = np.asarray(row).astype(np.uint64) + np.uint64(seed) * np.uint64(0xD1342543DE82EF95)
        for _ in range(2):
            z = z + np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / 2.0**53
