"""How one cell is read, whoever sends it and however: what is missing, which text a number is, which number a text is.

A cell is what JSON, CSV, Arrow, protobuf or a data frame holds in one place: text, a number, a truth value, None. None,
an empty cell and a word for missing are the missing value. NaN is one as well, since frames know no other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from arsenal_serving.refused import Refused, show

# Words for missing values where nobody says otherwise; pandas reads these so.
MISSING = (
    *("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none", "<NA>", "#N/A", "-nan", "-NaN"),
)  # fmt: skip
TRUTH = dict.fromkeys(("true", "True", "TRUE", "1"), True) | dict.fromkeys(("false", "False", "FALSE", "0"), False)
WHOLE = 2.0**63  # whole numbers below it have the text that they have as integers


class StringCodec(NamedTuple):
    """Two functions, from cells to codes and from codes to texts, and which codes there are.

    encode: `cells [...] -> int32 or float32 [...]`, raises `WrongCell`. decode: `codes [...] -> str [...]`, as objects.
    codes: the integers that it gives, from the first to the last; None for one that gives float32. length: how many
    codes a cell is where it is more than one, a further axis behind the others. reads_back: whether such a cell has a
    text again.
    """

    encode: Callable[[Any], np.ndarray]
    decode: Callable[[Any], np.ndarray]
    codes: tuple[int, int] | None
    length: int | None = None
    reads_back: bool = False


class WrongCell(Refused):
    """A cell that is refused: where it is in row-major order, what it must do, and what came.

    Whoever knows the names of columns says the place by them, see `place`; the codecs themselves count rows.
    """

    def __init__(self, at: int, must: str, value: Any):
        super().__init__(f"row {at + 1} must {must}; got {tell(value)}.")
        self.at, self.must, self.value = at, must, value


def tell(value: Any) -> str:
    """A cell as a message shows it."""
    if isinstance(value, np.number):
        return str(value)
    return "null" if value is None else show(value)


def place(name: str, columns: Sequence[str] | None, shape: Sequence[int], at: int) -> str:
    """Where an element of rows [n, ...] is, as people count and as tables name columns.

    >>> place("x", ["age", "fare"], (2, 2), 3), place("x", None, (2, 4), 3), place("who", None, (2,), 1)
    ("row 2, column 'fare'", "row 1, column 'x.3'", "row 2, column 'who'")
    """
    row, column = divmod(at, math.prod(shape[1:]))
    named = columns and len(shape) == 2 and len(columns) == shape[1]
    label = columns[column] if columns and named else name if len(shape) == 1 else f"{name}.{column}"
    return f"row {row + 1}, column {show(label)}"


def missing_words(words: Any) -> frozenset[str] | None:
    """The words for missing, an empty cell among them; None where no value may be missing. Raises `Refused`."""
    if words is None:
        return None
    if not isinstance(words, Collection) or isinstance(words, str) or not all(isinstance(word, str) for word in words):
        raise Refused(f"words for missing values must be a list of strings; got {show(words)}.")
    return frozenset(("", *words))


def flatten(values: Any) -> tuple[list, tuple[int, ...]]:
    """The cells of an array or nested list in row-major order, and its shape."""
    array = values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
    flat = array.ravel()
    # As Python's floats, numbers in single precision would have the digits of doubles.
    return list(flat) if flat.dtype in (np.float32, np.float16) else flat.tolist(), array.shape


def read_each(flat: list, find: Callable[[int, Any], Any], known: dict[str, Any]) -> list:
    """What `find(at, cell)` reads of each cell; a text that comes again, or is `known` before, is read once."""
    read = []
    for at, value in enumerate(flat):
        if type(value) is not str:
            read.append(find(at, value))
            continue
        if value not in known:
            known[value] = find(at, value)
        read.append(known[value])
    return read


def is_none(value: Any) -> bool:
    """Whether a cell is None, NaN, or what a library of frames writes in their place."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas' NA, of which nothing can be said
        return True
    except ValueError:  # an array
        return False


def text(value: Any) -> str | None:
    """The text of a cell: its own, or the shortest that gives the number again; None for a missing value.

    Raises TypeError for what is no cell.

    >>> text("3.0"), text(3.0), text(True), text(np.float32(0.1)), text(float("nan"))
    ('3.0', '3', 'true', '0.1', None)
    """
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if is_none(value):
        return None
    if isinstance(value, float | np.floating):
        return str(int(value)) if abs(float(value)) < WHOLE and float(value).is_integer() else str(value)
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    raise TypeError


def texts(flat: list) -> list[str | None]:
    """The text of each cell, None for missing ones; raises `WrongCell`."""
    if set(map(type, flat)) <= {str, type(None)}:
        return flat
    found = []
    for at, value in enumerate(flat):
        try:
            found.append(text(value))
        except TypeError:
            raise WrongCell(at, "be text, a number, true or false", value) from None
    return found


def read_numbers(values: list, kind: str, missing: frozenset[str] | None) -> list:
    """Cells as numbers of numpy's kind "b", "i", "u" or else a float; what is neither text nor None stays as it is.

    missing: the words for a missing value, NaN; None where it is refused. Raises `WrongCell`.

    >>> read_numbers(["1e3", None, " 2 ", 4], "f", missing_words(["-"]))
    [1000.0, nan, 2.0, 4]
    """
    convert: Callable[[str], Any] = TRUTH.__getitem__ if kind == "b" else int if kind in "iu" else float
    if missing is not None and convert is float:
        gone = {None, *missing}
        # What JSON holds may be no cell at all, and hash to nothing.
        values = [math.nan if type(value) in (str, type(None)) and value in gone else value for value in values]
    if set(map(type, values)) <= {str, float}:
        try:
            numbers = list(map(convert, values))
            if "_" not in "".join(value for value in values if type(value) is str):
                return numbers  # Python reads 1_000 as a number; nobody else does
        except (ValueError, KeyError):
            pass
    return [_number(value, convert, at, missing) for at, value in enumerate(values)]


def _number(value: Any, convert: Callable[[str], Any], at: int, missing: frozenset[str] | None) -> Any:
    if value is not None and not isinstance(value, str):
        return value
    try:
        if value is not None and missing is not None and convert is float and value.strip() in missing:
            return math.nan
        return convert("" if value is None or "_" in value else value)
    except (ValueError, KeyError):
        words = "a number" if convert is float else "a whole number" if convert is int else "true or false"
        raise WrongCell(at, f"be {words}", value) from None


def sentinels(words: Iterable[str]) -> list[float]:
    """The numbers among words for missing values, such as -999: as numbers they are missing too.

    >>> sentinels(["", "NA", "-999", "nan"])
    [-999.0]
    """
    found = set()
    for word in words:
        try:
            found.add(float(word))
        except ValueError:
            continue
    return sorted(number for number in found if math.isfinite(number))
