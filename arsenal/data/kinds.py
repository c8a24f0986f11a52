"""What a column of a table is: a number, a category, a time, a truth value, a text, an identifier or a constant."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from arsenal_serving.artifact.codecs import cells, times

Kind = Literal["number", "formatted", "category", "boolean", "time", "text", "identifier", "constant", "drop"]

MISSING = (*cells.MISSING, "?")
"""Words that stand for a missing value, and those that are given besides."""
TRUTH = frozenset(("true", "false", "yes", "no", "y", "n", "t", "f", "on", "off"))
"""Words of truth values in any case; 1 and 0 are numbers, which is as good."""
FEW_LEVELS = 30
"""Of no more different strings a column is a category, however long they are."""
DIRT = 0.05
"""So many other values among numbers are a mistake, not a category."""
TEXT_WORDS = 2.5
"""Strings of more words than this on average, most of them different, are texts."""
CUT: dict[str, Any] = {"analyzer": "char_wb", "ngrams": [3, 4]}
BUCKETS = {"buckets": 1024}
"""How texts are cut where nobody says otherwise: as skrub's StringEncoder does, hashed."""
FORMATTED = re.compile(
    r"[(\-+]?\s*(?:[$€£¥]|[A-Z]{3})?\s*[-+]?\d{1,3}(?:[,.' ]?\d{3})*(?:[.,]\d+)?\s*(?:[$€£¥%]|[A-Z]{3})?\s*\)?"
)
"""A number as people write it: a sign or brackets, a currency, groups of thousands, a percent sign."""
WHOLE = re.compile(r"[-+]?\d+")
DATES = (
    "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%m-%d-%Y", "%d-%m-%Y", "%Y.%m.%d",
    "%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y",
)  # fmt: skip
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %I:%M %p")
FORMATS = tuple(date + clock for date in DATES for clock in CLOCKS)
"""How people write dates and times, each a date and a clock."""
TIME = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?\s*(?:Z|[+-]\d{2}:?\d{2})?)?")
"""ISO 8601."""


class ColumnKind(NamedTuple):
    """What a column is, why, and how its strings are read."""

    kind: Kind
    why: str
    missing: int = 0
    """How many values are missing."""
    state: dict = {}
    """Of the codec, where its strings go through one."""
    format: str | None = None
    """Of times that are not ISO 8601: how they are written."""


def find_kind(name: str, values: Sequence[str], words: Sequence[str] = MISSING) -> ColumnKind:
    """What a column of strings is, without a state. Raises ValueError for numbers among which something else stands.

    >>> find_kind("size", ["1", "2.5", "", "4"]).kind, find_kind("sex", ["male", "female", "male"]).kind
    ('number', 'category')
    """
    cells = np.asarray(values, dtype=object)
    gone = np.isin(cells, list(words))
    there = [cell.strip() for cell in cells[~gone]]
    missing = int(gone.sum())
    distinct = dict.fromkeys(there)
    if len(distinct) < 2 and (not there or not missing):
        return ColumnKind("constant", "no value at all" if not there else f"always {there[0]!r}", missing)
    if all(one.lower() in TRUTH for one in distinct):
        return ColumnKind("boolean", "truth values", missing)
    if all(TIME.fullmatch(one) for one in distinct):
        return ColumnKind("time", "ISO 8601 dates" if are_days(distinct) else "ISO 8601 times", missing)
    if (format := find_format(name, distinct)) is not None:
        return ColumnKind("time", f"dates or times as {format}", missing, format=format)
    numbers = [one for one in distinct if is_plain_number(one)]
    if len(numbers) == len(distinct):
        return number_column(there, distinct, missing)
    if len(numbers) < len(distinct) and all(FORMATTED.fullmatch(one) for one in distinct):
        odd = first_other(there, is_plain_number)
        return ColumnKind("formatted", f"numbers written as text, such as {odd!r}", missing)
    refuse_mixed(name, cells, gone)
    plain = sum(map(is_plain_number, there))
    return string_column(there, distinct, missing, f"{plain} of {len(there)} read as numbers" if plain else "")


def is_plain_number(cell: str) -> bool:
    """Whether a cell is a finite number as programs write it."""
    try:
        value = float(cell)
    except ValueError:
        return False
    return "_" not in cell and np.isfinite(value)


def number_column(there: list[str], distinct: dict[str, None], missing: int) -> ColumnKind:
    """A column all of whose values read as numbers."""
    if any(re.fullmatch(r"0\d+", one) for one in distinct):
        return string_column(there, distinct, missing, "digits with leading zeros")
    whole = all(WHOLE.fullmatch(one) for one in distinct)
    largest = max(abs(int(one)) for one in distinct) if whole else 0
    if whole and len(distinct) == len(there) and (largest >= 2**24 or is_counted(there)) and len(there) > 2:
        return ColumnKind("identifier", "a whole number that no two rows share", missing)
    if largest > 2**24:
        return ColumnKind("number", f"whole numbers to {largest}, of which float32 holds those to {2**24} exactly", missing)
    return ColumnKind("number", "numbers", missing)


def is_counted(there: list[str]) -> bool:
    """Whether whole numbers are those of the rows: each one more than the last."""
    numbers = [int(one) for one in there]
    return all(b - a == 1 for a, b in itertools.pairwise(numbers))


def string_column(there: list[str], distinct: dict[str, None], missing: int, why: str = "") -> ColumnKind:
    """A column of strings: category, text or identifier."""
    lengths = sum(one.count(" ") + 1 for one in there) / len(there)
    if lengths > TEXT_WORDS and len(distinct) > max(FEW_LEVELS, len(there) // 2):
        return ColumnKind("text", f"{lengths:.1f} words on average, {len(distinct)} different", missing)
    if len(distinct) == len(there) and len(there) > FEW_LEVELS:
        return ColumnKind("identifier", f"{len(distinct)} strings that no two rows share", missing)
    said = f"{why}, " if why else ""
    return ColumnKind("category", f"{said}{len(distinct)} levels", missing)


def find_format(name: str, distinct: Iterable[str], told: bool = False) -> str | None:
    """The format of dates that all values have, None where they have none; ValueError where it may be one of several.

    told: they are known to be times, so one that more of them have than another will do, and 20241231 is a date too.

    >>> find_format("when", ["Dec 31, 2024", "Jan 1, 2025"]), find_format("when", ["20241231"], told=True)
    ('%b %d, %Y', '%Y%m%d')
    """
    read = [one for one in distinct if times.read_moment(one) is None]
    known = (*FORMATS, "%Y%m%d") if told else FORMATS
    if not told and read:
        known = tuple(format for format in known if times.read_moment(read[0], format) is not None)
    counts = {}
    for format in known:
        found = (times.read_moment(one, format) is not None for one in read)
        counts[format] = sum(found) if told else len(read) * all(found)
    most = max(counts.values(), default=0)
    best = [format for format, count in counts.items() if count == most]
    if not most:
        return None
    if len(best) > 1:
        one = next(one for one in read if times.read_moment(one, best[0]) is not None)
        raise ValueError(
            f"Column `{name}` holds dates such as {one!r}, written as {' or '.join(best)}: `+data.formats.{name}=\"{best[0]}\"` "
            f"says which, `+data.columns.{name}=category` takes them as they are."
        )
    return best[0]


def codec_state(
    kind: Kind, there: Sequence[str], words: Sequence[str], text: Mapping[str, Any] | None = None, format: str | None = None
) -> dict:
    """The state of the codec of a column of a kind, of the values that are there; empty for one without.

    format: of times. text: how texts are cut, settings of the codec of texts; its `length` is of all texts of a table.
    """
    made: dict[str, Any]
    match kind:
        case "category":
            made = {"values": sorted(set(there))}
        case "boolean":
            made = {}
        case "time":
            made = {"unit": "D" if are_days(there) else "s"} if format is None else format_state(format)
        case "formatted":
            made = {"kind": "number", **separators(there)}
        case "text":
            made = (CUT if "values" in (text or ()) else CUT | BUCKETS) | dict(text or {})
        case _:
            return {}
    return {"kind": kind} | made | {"missing": list(words)}


def format_state(format: str) -> dict[str, str]:
    """The settings of times that are written so: seconds where there is a clock."""
    return {"unit": "s" if {"H", "I"} & set(re.findall("%(.)", format)) else "D", "format": format}


def are_days(there: Iterable[str]) -> bool:
    """Whether times have no clock."""
    return all(len(one) == 10 for one in there)


def separators(distinct: Iterable[str]) -> dict[str, str]:
    """The decimal sign and the sign of thousands in numbers as people write them."""
    text = " ".join(distinct)
    if re.search(r"\d\.\d{3},\d", text) or (re.search(r"\d,\d{1,2}(?!\d)", text) and not re.search(r"\d\.\d{1,2}(?!\d)", text)):
        return {"decimal": ",", "thousands": "."}
    thousands = next((sign for sign in ",' " if re.search(rf"\d{sign}\d{{3}}(?!\d)", text)), "")
    return {"decimal": ".", "thousands": thousands}


def first_other(there: list[str], is_usual: Any) -> str:
    """The first value that is not as usual."""
    return next(one for one in there if not is_usual(one))


def refuse_mixed(name: str, cells: np.ndarray, gone: np.ndarray) -> None:
    """Raise ValueError where nearly all of a column's values are numbers and a few are not."""
    plain = np.array([is_plain_number(cell.strip()) for cell in cells])
    numbers, others = int(plain.sum()), int((~plain & ~gone).sum())
    if 0 < others < DIRT * numbers:
        at = int((~plain & ~gone).argmax())
        raise ValueError(
            f"Column `{name}` must hold numbers, as {numbers} of its values do; got {cells[at]!r} in row {at + 1}, and "
            f"{others - 1} more. `+data.columns.{name}=category` takes them as they are; `data.missing=[{cells[at]}]` takes "
            "it for a missing value."
        )
