"""Codecs of dates and times: days or seconds since 1970-01-01T00:00 UTC as int32. ISO 8601, RFC 3339, strptime."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from arsenal_serving.artifact.codecs import cells
from arsenal_serving.artifact.codecs.categories import UNKNOWN
from arsenal_serving.artifact.codecs.cells import StringCodec, WrongCell, flatten, missing_words
from arsenal_serving.refused import Refused, show

MISSING_TIME = -(2**31)
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
CLOCK = r"([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,12})?)?)"
MOMENT = re.compile(rf"({DAY.pattern})(?:[Tt ]{CLOCK} ?([Zz]|[+-][0-9]{{2}}(?::?[0-9]{{2}})?)?)?")
DIRECTIVES = frozenset("YymbBdHIMSfpz%")
SAMPLE = datetime.datetime(2024, 2, 29, 18, 30, tzinfo=datetime.UTC)
LONGEST = 64  # letters of a text that may be a time
MANY = 64  # from so many on numpy is the quicker one
SHAPES = {10: "dddd-dd-dd", 19: "dddd-dd-ddTdd:dd:dd", 20: "dddd-dd-ddTdd:dd:ddZ"}
DIGITS = {length: np.array([letter == "d" for letter in shape]) for length, shape in SHAPES.items()}
MARKS = {length: np.array([ord(letter) for letter in shape], np.uint32) for length, shape in SHAPES.items()}
EPOCH = datetime.date(1970, 1, 1).toordinal()
FIRST, LAST = (int(np.datetime64(day, "D").astype(np.int64)) for day in ("0001-01-01", "9999-12-31"))
# The whole days among the seconds that int32 holds.
SECONDS = tuple(int(np.datetime64(at, "s").astype(np.int64)) for at in ("1901-12-14T00:00:00", "2038-01-18T23:59:59"))


def date() -> StringCodec:
    """ISO dates (YYYY-MM-DD, years 0001 to 9999) to days since 1970-01-01.

    >>> date().encode(["1970-01-02"]).tolist(), date().decode([-1]).tolist()
    ([1], ['1969-12-31'])
    """

    def encode(values: Any) -> np.ndarray:
        flat, shape = flatten(values)
        if len(flat) >= MANY and set(map(type, flat)) == {str} and set(map(len, flat)) == {10}:
            seconds = _read_alike(flat, 10)
            if seconds is not None:
                return (seconds // 86400).astype(np.int32).reshape(shape)
        days = [_read_day(at, value) for at, value in enumerate(flat)]
        return np.array(days, np.int32).reshape(shape)

    return StringCodec(encode, _decode_days, (FIRST, LAST))


def time(unit: str, missing: list[str] | None = None, format: str | None = None) -> StringCodec:
    """Dates and times to days ("D") or seconds ("s") since 1970-01-01T00:00 UTC, rounded down; missing is -2**31.

    With a zone they are converted to UTC, without one taken as UTC. Seconds reach from 1901-12-14 to 2038-01-18.
    format: how texts that are not ISO 8601 are written, as `strptime` has it: "%d.%m.%Y", "%b %d, %Y %I:%M %p".

    >>> codec = time("s", [])
    >>> codec.encode(["1970-01-02", "1970-01-01T02:00:01+01:00", ""]).tolist()
    [86400, 3601, -2147483648]
    >>> codec.decode([3601, -(2**31)]).tolist()
    ['1970-01-01T01:00:01Z', '']
    """
    if unit not in ("D", "s"):
        raise Refused(f"`unit` of a time codec must be 'D', days, or 's', seconds; got {show(unit)}.")
    words = missing_words(missing)
    check_format(format)
    example = "2024-02-29T18:30:00Z" if format is None else SAMPLE.strftime(format)
    least, most = SECONDS if unit == "s" else (FIRST * 86400, LAST * 86400 + 86399)

    def find(at: int, value: Any) -> int | None:
        """The seconds of one cell, None for a missing one."""
        gone = cells.is_none(value)
        if not gone and isinstance(value, datetime.date):  # NaT of pandas is one too
            value = value.isoformat()
        if gone or (isinstance(value, str) and value.strip() in (words or ("",))):
            if words is None:
                raise WrongCell(at, "not be missing", value)
            return None
        seconds = read_moment(value.strip(), format) if isinstance(value, str) and len(value) <= LONGEST else None
        if seconds is None:
            raise WrongCell(at, f"be a date or time, as 2024-02-29 or {example}, that exists", value)
        if not least <= seconds <= most:
            raise WrongCell(at, "lie in 1901-12-14 to 2038-01-18" if unit == "s" else "lie in 0001 to 9999", value)
        return seconds

    def encode(values: Any) -> np.ndarray:
        if isinstance(values, np.ndarray) and values.dtype.kind == "M":
            values = spell(values)
        flat, shape = flatten(values)
        gaps = np.zeros(len(flat), bool)
        usual, gone = _read_many(flat) if len(flat) >= MANY else {}, words or ()
        known: dict[str, int | None] = {
            text: second for text, second in usual.items() if least <= second <= most and text not in gone
        }
        read = cells.read_each(flat, find, known)
        if None in read:
            gaps = np.array([second is None for second in read])
            read = [second or 0 for second in read]
        seconds = np.array(read, np.int64)
        whole = seconds if unit == "s" else seconds // 86400
        return np.where(gaps, MISSING_TIME, whole).astype(np.int32).reshape(shape)

    def decode(codes: Any) -> np.ndarray:
        codes = np.asarray(codes).astype(np.int64)
        if unit == "D":
            text = _decode_days(codes)
        else:
            text = np.char.add(np.datetime_as_string(codes.astype("datetime64[s]")), "Z").astype(object)
        return text if words is None else np.where(codes == MISSING_TIME, "", text)

    return StringCodec(encode, decode, (MISSING_TIME, 2**31 - 1))


def check_format(format: str | None) -> None:
    """Raise `Refused` for a format that does not say year, month and day, or that reads an ISO date as another day."""
    if format is None:
        return
    sound = isinstance(format, str) and len(format) <= LONGEST
    if sound and set(re.findall("%(.?)", format, re.DOTALL)) <= DIRECTIVES:
        with contextlib.suppress(ValueError):
            sample = SAMPLE.replace(month=3, day=2)  # which is another day when the two are exchanged
            found = read_moment(sample.strftime(format), format)
            if found is not None and found // 86400 == sample.toordinal() - EPOCH:
                return
    allowed = "year, month and day as '%d.%m.%Y' or '%b %d, %Y %H:%M'"
    raise Refused(f"`format` of a time codec must say {allowed}, and no ISO date otherwise; got {show(format)}.")


def read_moment(text: str, format: str | None = None) -> int | None:
    """The seconds since 1970-01-01T00:00 UTC of a date or time, ISO 8601 or of a format; None for what is neither.

    Fractions are rounded down.

    >>> read_moment("1970-01-01 00:00:01.9"), read_moment("1970-01-01T00:00-0130"), read_moment("1970-02-30")
    (1, 5400, None)
    """
    found = MOMENT.fullmatch(text)
    if not found:
        return None if format is None else _read_format(text, format)
    day, clock, zone = found.groups()
    try:
        days = datetime.date.fromisoformat(day).toordinal() - EPOCH
        at = datetime.time.fromisoformat(clock[:8]) if clock else datetime.time()
    except ValueError:
        return None
    seconds = days * 86400 + at.hour * 3600 + at.minute * 60 + at.second
    if zone and zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
        if hours > 23 or minutes > 59:
            return None
        offset = hours * 3600 + minutes * 60
        seconds -= offset if zone[0] == "+" else -offset
    return seconds


def _read_format(text: str, format: str) -> int | None:
    try:
        at = datetime.datetime.strptime(text, format)
    except ValueError:
        return None
    seconds = (at.toordinal() - EPOCH) * 86400 + at.hour * 3600 + at.minute * 60 + at.second
    offset = at.utcoffset()
    return seconds - (0 if offset is None else offset // datetime.timedelta(seconds=1))


def spell(moments: np.ndarray) -> np.ndarray:
    """Moments of numpy, in UTC, as texts that `time` reads: days as dates; None for NaT.

    >>> spell(np.array(["2024-02-29", "NaT"], "datetime64[D]")).tolist()
    ['2024-02-29', None]
    """
    unit = "D" if np.datetime_data(moments.dtype)[0] == "D" else "s"
    texts = np.datetime_as_string(moments.astype(f"datetime64[{unit}]")).astype(object)
    texts[np.isnat(moments)] = None
    return texts


def _read_many(flat: list) -> dict[str, int]:
    """The seconds of the different texts that read in the usual ways; others are left out."""
    by_length: dict[int, list[str]] = {length: [] for length in SHAPES}
    for value in dict.fromkeys(value for value in flat if type(value) is str):
        if len(value) in by_length:
            by_length[len(value)].append(value)
    known = {}
    for length, texts in by_length.items():
        if texts and (seconds := _read_alike(texts, length)) is not None:
            known |= dict(zip(texts, seconds.tolist(), strict=True))
    return known


def _read_alike(texts: Sequence[str], length: int) -> np.ndarray | None:
    """The seconds of texts of one length, all in the usual way of it; None where one is not, or does not exist."""
    # numpy also reads "2024/02/29" and " 2024-2-29": the letters are checked before it sees them. A unicode array drops
    # NULs at the end, which then are no digits.
    wide = np.array(texts, dtype=f"U{length}")
    letters = wide.view(np.uint32).reshape(-1, length)
    for at, others in ((10, "t "), (19, "z")):
        if at < length:
            letter = letters[:, at]
            for other in others:
                letter[letter == ord(other)] = MARKS[length][at]
    digits = (letters >= ord("0")) & (letters <= ord("9"))
    if not np.where(DIGITS[length], digits, letters == MARKS[length]).all():
        return None
    moments = wide.astype(f"U{min(length, 19)}")
    if (moments.astype("U4") == "0000").any():
        return None
    with contextlib.suppress(ValueError):  # a month 13 or a 30th of February
        return moments.astype("datetime64[s]").astype(np.int64)
    return None


def _decode_days(codes: Any) -> np.ndarray:
    codes = np.asarray(codes).astype(np.int64)
    inside = (codes >= FIRST) & (codes <= LAST)
    days = np.where(inside, codes, 0).astype("datetime64[D]")
    return np.where(inside, np.datetime_as_string(days).astype(object), UNKNOWN)


def _read_day(at: int, value: Any) -> int:
    with contextlib.suppress(ValueError):
        if type(value) is str and DAY.fullmatch(value):
            return datetime.date.fromisoformat(value).toordinal() - EPOCH
    raise WrongCell(at, "be a date that reads YYYY-MM-DD and exists", value)
