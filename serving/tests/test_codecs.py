"""Strings to codes and back."""

from __future__ import annotations

import datetime
import time

import numpy as np
import pytest

from arsenal_serving.artifact import codecs
from arsenal_serving.refused import Refused

COLOURS = {"kind": "category", "values": ["red", "green", "", "日本"]}


def test_categories_round_trip_and_the_rest_is_the_last_code():
    values = np.array([["red", "日本"], ["", "mauve"]], dtype=object)
    codes = codecs.encode(COLOURS, values)
    assert codes.dtype == np.int32
    assert codes.tolist() == [[0, 3], [2, 4]]
    assert codecs.decode(COLOURS, codes).tolist() == [["red", "日本"], ["", "unknown"]]
    assert codecs.decode(COLOURS, np.array([-1, 99], np.int8)).tolist() == ["unknown", "unknown"]
    assert codecs.encode(COLOURS, np.array(["green"])).tolist() == [1]


def test_dates_agree_with_the_standard_library():
    epoch, days = datetime.date(1970, 1, 1).toordinal(), np.random.default_rng(0).integers(1, 3652059, 2000)
    dates = [datetime.date.fromordinal(int(day)).isoformat() for day in days]
    codes = codecs.encode({"kind": "date"}, dates)
    assert codes.dtype == np.int32
    assert (codes == days - epoch).all()
    assert codecs.decode({"kind": "date"}, codes).tolist() == dates
    limits = ["0001-01-01", "9999-12-31", "unknown"]
    assert codecs.decode({"kind": "date"}, [*codecs.encode({"kind": "date"}, limits[:2]), 2**31 - 1]).tolist() == limits


@pytest.mark.parametrize(
    "wrong",
    ["", "2024", "2024-02", "today", "NaT", "2023-02-29", "2024-13-01", "0000-01-01", "2024-01-01T00",
     "\uff12024-01-01", " 2024-1-1", "2024-01-01\x00"],
)  # fmt: skip
def test_what_is_no_date_is_named(wrong):
    with pytest.raises(Refused, match="a date must read YYYY-MM-DD and exist; got"):
        codecs.encode({"kind": "date"}, ["2024-02-29", wrong])


@pytest.mark.parametrize("values", [[1], [None], [b"red"], ["red", 2.0]])
def test_only_strings_are_coded(values):
    for state in (COLOURS, {"kind": "date"}):
        with pytest.raises(Refused, match="a coded value must be a string"):
            codecs.encode(state, values)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"kind": "regex"}, "unknown kind of codec 'regex'.*'category', 'date'"),
        ({"kind": "category"}, r"takes \['values'\]; got \[\]"),
        ({"kind": "date", "zone": "utc"}, r"takes \[\]; got \['zone'\]"),
        ({"kind": "category", "values": ["a", "a"]}, "must differ"),
        ({"kind": "category", "values": [1]}, "must be a list of strings"),
        ([], "must be an object with a 'kind'"),
    ],
)
def test_states_are_checked(state, says):
    with pytest.raises(Refused, match=says):
        codecs.codec(state)


def test_a_hundred_thousand_strings_take_a_blink():
    for state, values in ((COLOURS, ["red", "x"] * 50_000), ({"kind": "date"}, ["2024-02-29", "1969-12-31"] * 50_000)):
        codec, start = codecs.codec(state), time.perf_counter()
        codec.decode(codec.encode(np.array(values, dtype=object)))
        assert time.perf_counter() - start < 1.0
