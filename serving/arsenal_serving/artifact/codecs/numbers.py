"""The codec of numbers that people write: with thousands, a currency, in per cent, negative in brackets."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any, NamedTuple

import numpy as np

from arsenal_serving.artifact.codecs import cells
from arsenal_serving.artifact.codecs.cells import StringCodec, WrongCell, flatten, missing_words, sentinels
from arsenal_serving.refused import Refused, show

LONGEST = 64  # letters of a text that may be a number
DECIMALS, THOUSANDS = (".", ","), ("", ",", ".", " ", "'")
ALIKE = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2019": "'", "\u2212": "-"})
# ISO 4217.
CODES = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF "
    "CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD "
    "HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD "
    "LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK "
    "PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS "
    "TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG"
)
CURRENCIES = {
    *CODES.split(),
    *("kr", "zł", "Kč", "Ft", "Rs", "Fr", "US$", "A$", "C$", "R$", "HK$", "NZ$", "S$"),
}
# What Python reads as a number: `_read_plain` and `read_amount` must agree, whatever stands in the cells beside it.
PLAIN = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*", re.ASCII)
CURRENCY = r"[^\d\s.,'()+%-]{1,4}"


class Notation(NamedTuple):
    """How numbers are written: the pattern of one with all that may stand around it, and its two marks."""

    pattern: re.Pattern
    decimal: str
    thousands: str


def number(decimal: str, thousands: str, missing: list[str] | None = None) -> StringCodec:
    """Texts of numbers to float32: "$1,234.50" is 1234.5, "12 %" 0.12, "(1,234)" -1234; missing is NaN.

    decimal: "." or ",". thousands: what stands between groups of digits, or "". Numbers are taken as they are.

    >>> number(",", ".", ["?"]).encode(["1.234,5 €", "12 %", "?", 3]).tolist()
    [1234.5, 0.11999999731779099, nan, 3.0]
    """
    if decimal not in DECIMALS or thousands not in THOUSANDS or decimal == thousands:
        allowed = f"`decimal` one of {DECIMALS} and `thousands` another, of {THOUSANDS}"
        raise Refused(f"a number codec must have {allowed}; got {show(decimal)} and {show(thousands)}.")
    words = missing_words(missing)
    gaps = np.array(sentinels(words or ()), np.float32)
    way = notation(decimal, thousands)

    def find(at: int, value: Any) -> float:
        bare = value.strip() if isinstance(value, str) else None
        # "NaN" is a number for those who write numbers as text, and the one that is missing.
        if cells.is_none(value) or bare in (words or ("",)) or (bare and bare.lower() == "nan"):
            if words is None:
                raise WrongCell(at, "not be missing", value)
            return math.nan
        found = read_amount(value, way) if isinstance(value, str) else _take(value)
        if found is None:
            raise WrongCell(at, "be a number", value)
        return found

    def encode(values: Any) -> np.ndarray:
        flat, shape = flatten(values)
        found = _read_plain(flat) if decimal == "." else None
        if found is None:
            found = np.array(cells.read_each(flat, find, {}), np.float64)
        with np.errstate(over="ignore"):
            single = found.astype(np.float32)
        if len(gaps):
            single[np.isin(single, gaps)] = np.nan
        if words is None and np.isnan(single).any():
            at = int(np.isnan(single).argmax())
            raise WrongCell(at, "not be missing", flat[at])
        if np.isinf(single).any():
            at = int(np.isinf(single).argmax())
            raise WrongCell(at, "be a finite number", flat[at])
        return single.reshape(shape)

    def decode(codes: Any) -> np.ndarray:
        codes = np.asarray(codes)
        made = np.empty(codes.size, object)
        made[:] = [(cells.text(one) or "").replace(".", decimal) for one in codes.ravel()]
        return made.reshape(codes.shape)

    return StringCodec(encode, decode, None)


def notation(decimal: str, thousands: str) -> Notation:
    """The notation with these marks between digits."""
    between, point = re.escape(thousands), re.escape(decimal)
    # Digits in groups of three, before the last also of two as in India. What has groups of other sizes is refused:
    # "1,5" with thousands is more likely one and a half than fifteen.
    grouped = rf"[0-9]{{1,3}}(?:{between}[0-9]{{2,3}})*{between}[0-9]{{3}}|" if thousands else ""
    digits = rf"((?:{grouped}[0-9]*)(?:{point}[0-9]*)?(?:[eE][+-]?[0-9]{{1,3}})?)"
    before, after = rf"([+-]?) ?(\(?) ?({CURRENCY})? ?(\(?) ?([+-]?) ?", rf" ?({CURRENCY}|%)? ?(\)?) ?({CURRENCY}|%)?"
    return Notation(re.compile(before + digits + after), decimal, thousands)


def read_amount(cell: str, way: Notation) -> float | None:
    """The number that a text is, currency, per cent and brackets read; None for what is none.

    >>> way = notation(".", ",")
    >>> [read_amount(cell, way) for cell in ("$1,234.50", "12 %", "(1,234)", "-5 EUR", "1,5", "5 apples")]
    [1234.5, 0.12, -1234.0, -5.0, None, None]
    """
    if way.decimal == "." and PLAIN.fullmatch(cell):
        return plain if math.isfinite(plain := float(cell)) else None
    if len(cell) > LONGEST:
        return None
    found = way.pattern.fullmatch(cell.translate(ALIKE).strip())
    if found is None:
        return None
    first, opened, before, inner, second, digits, behind, closed, last = found.groups("")
    sign, brackets = first + second, opened + inner
    around = [mark for mark in (before, behind, last) if mark]
    if len(sign) + len(brackets) > 1 or len(brackets) != len(closed) or len(around) > 1:
        return None
    if around and around[0] != "%" and not _is_currency(around[0]):
        return None
    bare = digits.replace(way.thousands, "") if way.thousands else digits
    try:
        size = float(bare.replace(way.decimal, "."))
    except ValueError:
        return None
    size = size / 100 if "%" in around else size
    return -size if brackets or sign == "-" else size


def _is_currency(mark: str) -> bool:
    return mark in CURRENCIES or (len(mark) == 1 and unicodedata.category(mark) == "Sc")


def _take(value: Any) -> float | None:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _read_plain(flat: list) -> np.ndarray | None:
    """Texts that Python reads as numbers, all finite, and numbers themselves; None where one is something else."""
    kinds = set(map(type, flat))
    if kinds <= {str}:
        joined = "".join(flat)
        if "_" in joined or not joined.isascii():
            return None
    elif not kinds <= {int, float, np.float32}:
        return None
    try:
        found = np.fromiter(map(float, flat), np.float64, len(flat))
    except (ValueError, OverflowError):
        return None
    return found if kinds - {str} or np.isfinite(found).all() else None
