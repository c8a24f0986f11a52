"""Strings to codes and back."""

from __future__ import annotations

import contextlib
import datetime
import json
import sys
import time
import unicodedata
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arsenal_serving.artifact import codecs
from arsenal_serving.artifact.codecs import cells
from arsenal_serving.refused import Refused

COLOURS = {"kind": "category", "values": ["red", "green", "", "日本"]}
TEXT = {"kind": "text", "analyzer": "char_wb", "ngrams": [2, 4], "length": 40}
PROSE = ["A black CAT sat  on\tthe mat", "Straße, Été: naïve ﬁ x", "日本 語", "a", "don't stop_1", "\u0130stanbul \ud800"]


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
    with pytest.raises(Refused, match="row 2 must be a date that reads YYYY-MM-DD and exists; got"):
        codecs.encode({"kind": "date"}, ["2024-02-29", wrong])


@pytest.mark.parametrize(
    ("state", "values", "said"),
    [
        (COLOURS, [None], "row 1 must not be missing; got null"),
        (COLOURS, ["red", b"red"], "row 2 must be text, a number, true or false; got b'red'"),
        (COLOURS, [["red"], ["red", "red"]], "row 1 must be text, a number, true or false"),
        ({"kind": "date"}, ["2024-02-29", 2.0], "row 2 must be a date .*; got 2.0"),
        ({"kind": "date"}, [None], "row 1 must be a date .*; got null"),
    ],
)
def test_what_is_no_cell_is_named(state, values, said):
    with pytest.raises(Refused, match=said):
        codecs.encode(state, values)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"kind": "regex"}, "unknown kind of codec 'regex'.*'boolean', 'category', 'date', 'number', 'text', 'time', 'tokens'"),
        ({"kind": "time", "unit": "D", "format": "%Y-%d-%m"}, "`format` of a time codec must say year, month and day"),
        ({"kind": "time", "unit": "D", "format": "%m/%Y"}, "`format` of a time codec must say year, month and day"),
        ({"kind": "time", "unit": "D", "format": "%x"}, "`format` of a time codec must say year, month and day"),
        (TEXT | {"buckets": 8, "values": ["a"]}, "either `buckets` or `values`; it has both"),
        (TEXT, "either `buckets` or `values`; it has neither"),
        (TEXT | {"buckets": 0}, "`buckets` of a text codec must be a whole number of 1 to"),
        (TEXT | {"values": ["a", "a"]}, "`values` of a text codec must differ"),
        (TEXT | {"buckets": 8, "ngrams": [3, 2]}, r"`ngrams` of a text codec must be \[least, largest\] of 1 to 16"),
        (TEXT | {"buckets": 8, "analyzer": "char"}, "`analyzer` of a text codec must be one of char_wb, word; got 'char'"),
        (TEXT | {"buckets": 8, "length": True}, "`length` of a text codec must be a whole number"),
        (TEXT | {"buckets": 8, "lowercase": "no"}, "`lowercase` and `strip_accents` of a text codec must be true or false"),
        ({"kind": "tokens", "length": 0}, "`length` of a tokens codec must be a whole number of 1 to"),
        ({"kind": "tokens", "length": 4, "values": ["ab"]}, "`values` of a tokens codec must be a list of characters"),
        ({"kind": "tokens", "length": 4, "values": ["a"], "tokenizer": {}}, "have `values` or a `tokenizer`, or none of them; it has both"),
        ({"kind": "tokens", "length": 4, "tokenizer": {}}, "`tokenizer` of a tokens codec is none of Hugging Face's|needs the library"),
        ({"kind": "tokens", "length": 4, "padding": -1}, "`padding` of a tokens codec must be a code of 0 to 2147483647; got -1"),
        ({"kind": "tokens", "length": 4, "end": 256}, "`end` of a tokens codec must be a code of 0 to 255; got 256"),
        ({"kind": "tokens", "length": 4, "marks": ["<a>", ""]}, "`marks` of a tokens codec must be a list of texts"),
        ({"kind": "tokens", "length": 4, "marks": ["<a>", "<a>"]}, "`marks` of a tokens codec must differ from one another"),
        ({"kind": "category"}, r"takes \['values'\] and may take \['missing'\]; got \[\]"),
        ({"kind": "date", "zone": "utc"}, r"takes \[\]; got \['zone'\]"),
        ({"kind": "category", "values": ["a", "a"]}, "must differ"),
        ({"kind": "category", "values": [1]}, "must be a list of strings"),
        ([], "must be an object with a 'kind'"),
    ],
)
def test_states_are_checked(state, says):
    with pytest.raises(Refused, match=says):
        codecs.codec(state)


@pytest.mark.parametrize("analyzer", ["char_wb", "word"])
@pytest.mark.parametrize("strip", [True, False])
def test_n_grams_of_texts_are_those_of_scikit_learn(analyzer, strip):
    text = pytest.importorskip("sklearn.feature_extraction.text")

    def compose(doc):
        return text.strip_accents_unicode(doc.lower()) if strip else unicodedata.normalize("NFKC", doc.lower())

    for ngrams in ([1, 1], [2, 4], [5, 7]):
        analyze = text.CountVectorizer(analyzer=analyzer, ngram_range=ngrams, preprocessor=compose).build_analyzer()
        state = TEXT | {"analyzer": analyzer, "ngrams": ngrams, "buckets": 1 << 20, "length": 99, "strip_accents": strip}
        for doc, codes in zip(PROSE, codecs.encode(state, PROSE), strict=True):
            wanted = sorted(zlib.crc32(gram.encode("utf-8", "surrogatepass")) % (1 << 20) for gram in analyze(doc))
            assert sorted(codes[codes >= 0].tolist()) == wanted and (codes[len(wanted) :] == -1).all()


def test_a_text_is_cut_looked_up_or_missing():
    state = TEXT | {"analyzer": "word", "ngrams": [1, 2], "values": ["on", "cat sat", "the"], "length": 2, "missing": ["?"]}
    values = [["The cat sat on the mat", None], ["?", "dogs"]]
    assert codecs.encode(state, values).tolist() == [[[2, 1], [-1, -1]], [[-1, -1], [-1, -1]]]
    with pytest.raises(Refused, match="row 2 must not be missing; got ' '"):
        codecs.encode({**state, "missing": None}, ["on", " "])
    with pytest.raises(Refused, match="cannot be read back"):
        codecs.decode(state, [[0, 1]])


def test_a_hundred_thousand_strings_take_a_blink():
    for state, values in ((COLOURS, ["red", "x"] * 50_000), ({"kind": "date"}, ["2024-02-29", "1969-12-31"] * 50_000)):
        codec, start = codecs.codec(state), time.perf_counter()
        codec.decode(codec.encode(np.array(values, dtype=object)))
        assert time.perf_counter() - start < 1.0


WORDS = list(cells.MISSING)
TIMES = {unit: {"kind": "time", "unit": unit, "missing": WORDS} for unit in "Ds"}
ZONES = ["", "Z", "+00:00", "-0330", "+14", " +05:45"]


def amounts(decimal=".", thousands=",", missing=WORDS):
    return codecs.codec({"kind": "number", "decimal": decimal, "thousands": thousands, "missing": missing})


def test_a_missing_value_is_a_code_of_its_own():
    state = {"kind": "category", "values": ["a", "b"], "missing": WORDS}
    values = ["b", "?", "", "NA", None, float("nan"), np.float32("nan"), "a"]
    assert codecs.encode(state, values).tolist() == [1, 2, 3, 3, 3, 3, 3, 0]
    assert codecs.decode(state, [0, 1, 2, 3, 4, -1]).tolist() == ["a", "b", "unknown", "", "unknown", "unknown"]
    state = {"kind": "boolean", "missing": ["n"]}  # the user's own word goes before "no"
    said = ["TRUE", "False", "Yes", "no", "Y", "n", "t", "F", "on", "OFF", "1", "0", 1, 0.0, True, " yes ", "ja", None]
    assert codecs.encode(state, said).tolist() == [1, 0, 1, 0, 1, 3, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 2, 3]
    assert codecs.decode(state, range(-1, 5)).tolist() == ["unknown", "false", "true", "unknown", "", "unknown"]
    assert np.isnan(amounts().encode(["", None, "NaN", "n/a"])).all()
    assert amounts().decode(np.float32([1234.5, np.nan, 0.1])).tolist() == ["1234.5", "", "0.1"]
    for state in TIMES.values():
        assert codecs.encode(state, ["", None, "NA"]).tolist() == [-(2**31)] * 3
        assert codecs.decode(state, [-(2**31)]).tolist() == [""]


def test_what_frames_write_for_a_missing_value_is_missing():
    pandas = pytest.importorskip("pandas")
    gone = np.array([None, np.nan, pandas.NA, pandas.NaT, np.datetime64("NaT")], object)
    for state in ({"kind": "category", "values": ["a"], "missing": []}, {"kind": "boolean", "missing": []}, TIMES["s"]):
        assert set(codecs.encode(state, gone).tolist()) == {codecs.encode(state, [""]).item()}
    assert np.isnan(amounts().encode(gone)).all()


@given(st.lists(st.floats(width=32, allow_infinity=False), min_size=1), st.sampled_from(["..", ".,", ",.", ", ", ".", ","]))
def test_numbers_are_read_as_they_are_written(numbers, marks):
    codec = amounts(marks[0], marks[1:] if marks[1:] != marks[0] else "")
    single = np.float32(numbers)
    assert np.array_equal(codec.encode(codec.decode(single)), single, equal_nan=True)


def test_without_words_a_missing_value_is_refused():
    for state in ({"kind": "boolean"}, {"kind": "time", "unit": "D"}, {"kind": "number", "decimal": ".", "thousands": ""}):
        good = "1" if state["kind"] != "time" else "2024-02-29"
        for gone in (None, ""):
            with pytest.raises(Refused, match="row 2 must not be missing"):
                codecs.encode(state, [good, gone])


@settings(max_examples=300, deadline=None, database=None)
@given(st.datetimes(datetime.datetime(1902, 1, 1), datetime.datetime(2037, 12, 31)), st.sampled_from(["T", "t", " "]),
       st.sampled_from(["day", "minutes", "seconds", "fraction"]), st.sampled_from(ZONES), st.integers(1, 200))  # fmt: skip
def test_times_agree_with_pandas(moment, between, precision, zone, copies):
    pandas = pytest.importorskip("pandas")
    layout = {"day": "", "minutes": "%H:%M", "seconds": "%H:%M:%S", "fraction": "%H:%M:%S.%f"}[precision]
    text = moment.strftime("%Y-%m-%d") + (moment.strftime(between + layout) + zone if layout else "")
    seconds = pandas.to_datetime([text.upper().replace(" +", "+")], utc=True).floor("s").astype("datetime64[s, UTC]").astype("int64")[0]
    # One alone and many are read in two ways.
    assert codecs.encode(TIMES["s"], [text] * copies).tolist() == [seconds] * copies
    assert codecs.encode(TIMES["D"], [text] * copies).tolist() == [seconds // 86400] * copies
    (said,) = codecs.decode(TIMES["s"], [seconds]).tolist()
    assert codecs.encode(TIMES["s"], [said]).tolist() == [seconds]


def test_many_times_are_read_as_each_alone():
    random = np.random.default_rng(0)
    moments = random.integers(-(2**31) + 86400, 2**31 - 86400, 3000)
    texts = np.datetime_as_string(moments.astype("datetime64[s]")).astype(object)
    odd = [text.replace("T", " ")[: 10 if at % 3 else 19] + ("Z" if at % 2 and not at % 3 else "") for at, text in enumerate(texts)]
    for state in TIMES.values():
        alone = [codecs.encode(state, [text]).item() for text in odd]
        assert codecs.encode(state, odd).tolist() == alone
        assert codecs.encode(state, [*odd, None, "NA"]).tolist() == [*alone, -(2**31), -(2**31)]
    assert codecs.encode(TIMES["s"], texts).tolist() == moments.tolist()
    assert codecs.encode(TIMES["s"], moments.astype("datetime64[s]")).tolist() == moments.tolist()
    days = [datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 23, tzinfo=datetime.UTC), np.datetime64("NaT")]
    assert codecs.encode(TIMES["D"], np.array(days[:2], object)).tolist() == [19782, 19782]
    assert codecs.encode(TIMES["D"], np.array(days[2:])).tolist() == [-(2**31)]


@pytest.mark.parametrize(
    "wrong",
    ["today", "2024", "2024-02", "2023-02-29", "2024-13-01", "0000-01-01", "2024-02-29T24:00", "2024-02-29T12:60", "2024-02-29T12",
     "2024-02-29T12:00:60", "2024-02-29Z", "2024-02-29T12:00+24:00", "2024-02-29T12:00 UTC", "2024-W09-4", "20240229", "29/02/2024",
     "2024-02-29T12:00:00Z" + " " * 100 + "x", "\uff12024-01-01", 5, True, 2.5],
)  # fmt: skip
@pytest.mark.parametrize("before", [1, 100])
def test_what_is_no_time_is_named(wrong, before):
    for state in TIMES.values():
        with pytest.raises(Refused, match=f"row {before + 1} must be a date or time, as 2024-02-29 or"):
            codecs.encode(state, ["2024-02-29"] * before + [wrong])


def test_seconds_end_where_int32_does():
    ends = ["1901-12-14", "2038-01-18T23:59:59"]
    assert codecs.decode(TIMES["s"], codecs.encode(TIMES["s"], ends)).tolist() == ["1901-12-14T00:00:00Z", "2038-01-18T23:59:59Z"]
    for wrong in ("1901-12-13", "2038-01-19", "2038-01-18T23:59:59-01:00"):
        for before in (1, 100):
            with pytest.raises(Refused, match=f"row {before + 1} must lie in 1901-12-14 to 2038-01-18"):
                codecs.encode(TIMES["s"], ["2024-02-29"] * before + [wrong])
    far = ["0001-01-01", "9999-12-31T23:59:59.9Z"]
    assert codecs.decode(TIMES["D"], codecs.encode(TIMES["D"], far)).tolist() == ["0001-01-01", "9999-12-31"]


@settings(max_examples=300, deadline=None, database=None)
@given(st.lists(st.one_of(st.floats(-1e9, 1e9).map(repr), st.integers(-(10**9), 10**9).map(str), st.sampled_from([" 1.5 ", "+3", "1e3", ".5", "5."])), min_size=1))
def test_plain_numbers_agree_with_pandas(texts):
    pandas = pytest.importorskip("pandas")
    wanted = pandas.to_numeric([text.strip() for text in texts]).astype(np.float32)
    for thousands in ("", ","):
        assert amounts(thousands=thousands).encode(texts).tolist() == wanted.tolist()
        mixed = amounts(thousands=thousands).encode([*texts, "$1", None])
        assert mixed[: len(texts)].tolist() == wanted.tolist()


@settings(max_examples=300, deadline=None, database=None)
@given(st.integers(-(10**12), 10**12), st.integers(0, 4), st.sampled_from([".", ","]), st.sampled_from(["", ",", ".", " ", "'", "\u202f", "\u2019"]),
       st.sampled_from(["{}", "${}", "{} €", "USD {}", "{}%", "{} %", " {} ", "R$ {}", "{} kr", "\u00a3{}"]))  # fmt: skip
def test_written_numbers_are_what_was_written(whole, places, decimal, thousands, around):
    if thousands == decimal:
        thousands = ""
    number = whole / 10**places
    size = f"{abs(number):,.{places}f}".replace(",", "\0").replace(".", decimal).replace("\0", thousands)
    mark = {"\u202f": " ", "\u2019": "'"}.get(thousands, thousands)
    wanted = np.float32(abs(number) / 100 if "%" in around else abs(number))
    codec, text = amounts(decimal, mark), around.format(size)
    assert codec.encode([text]).item() == pytest.approx(wanted, rel=1e-6)
    for negative in (f"-{text.strip()}", f"({text.strip()})", around.format(f"-{size}"), around.format(f"({size})"), around.format(f"\u2212{size}")):
        assert codec.encode([negative]).item() == pytest.approx(-wanted, rel=1e-6), negative


@pytest.mark.parametrize(
    "wrong",
    ["one", "1,5", "12,34", "1234,567", "1.2.3", "1,,234", "$", "%", "()", "(", "-", "--5", "-(5)", "(-5)", "5 apples", "MON 5", "$5€", "5%%",
     "$5 %", "(5", "5)", "1_0", "0x10", "inf", "Infinity", "-inf", "1e39", "1e400", "1 2", "\uff15", "9" * 100 + "x", "1e", True, [1], b"1"],
)  # fmt: skip
def test_what_is_no_number_is_named(wrong):
    for before in (["1"], ["1", "$1"]):
        values = np.empty(len(before) + 1, object)
        values[:] = [*before, wrong]
        with pytest.raises(Refused, match=f"row {len(before) + 1} must be a (finite )?number; got"):
            amounts().encode(values)


def test_groups_of_digits_are_as_people_write_them():
    assert amounts().encode(["12,34,567.5", "1,234", "1234", "1,234,567"]).tolist() == [1234567.5, 1234, 1234, 1234567]
    assert amounts(",", ".").encode(["1.234,5", "1,5", "1.234", 1.5]).tolist() == [1234.5, 1.5, 1234, 1.5]
    with pytest.raises(Refused, match=r"row 1 must be a number; got '1\.5'"):
        amounts(",", ".").encode(["1.5"])
    assert np.isnan(amounts(missing=["-999"]).encode(["-999", -999, "-999.0", "$-999"])).all()


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"kind": "category", "values": ["NA"], "missing": ["NA"]}, "cannot be one of the `values`"),
        ({"kind": "category", "values": [""], "missing": []}, "cannot be one of the `values`"),
        ({"kind": "category", "values": [], "missing": "NA"}, "must be a list of strings"),
        ({"kind": "boolean", "missing": [1]}, "must be a list of strings"),
        ({"kind": "boolean", "values": []}, "takes .* and may take"),
        ({"kind": "time", "unit": "ms"}, "must be 'D', days, or 's', seconds; got 'ms'"),
        ({"kind": "time", "missing": []}, r"takes \['unit'\]"),
        ({"kind": "number", "decimal": ".", "thousands": "."}, "`decimal` one of"),
        ({"kind": "number", "decimal": [], "thousands": "."}, "`decimal` one of"),
        ({"kind": "number", "decimal": ";", "thousands": ""}, "`decimal` one of"),
        ({"kind": "number", "decimal": "."}, r"takes \['decimal', 'thousands'\]"),
    ],
)
def test_states_of_tables_are_checked(state, says):
    with pytest.raises(Refused, match=says):
        codecs.codec(state)


def test_long_and_odd_texts_take_no_time():
    long = ["9" * 100_000, "1," * 50_000, " " * 100_000 + "x", "(" * 100_000, "2024-02-29T" + "0" * 100_000, "1" * 64, "1," * 31 + "x", "e" * 64]
    start = time.perf_counter()
    for state in (*TIMES.values(), {"kind": "number", "decimal": ".", "thousands": ",", "missing": []}):
        codec = codecs.codec(state)
        for text in long * 10:
            with contextlib.suppress(Refused):
                codec.encode([text])
    assert time.perf_counter() - start < 2.0


def test_columns_of_a_table_take_a_blink():
    random = np.random.default_rng(0)
    seconds = np.datetime_as_string(random.integers(0, 2**31 - 86400, 100_000).astype("datetime64[s]")).astype(object)
    columns = [
        ({"kind": "category", "values": ["a", "b"], "missing": WORDS}, ["a", "NA", "x", "b"] * 25_000),
        ({"kind": "boolean", "missing": WORDS}, ["yes", "False", "?", ""] * 25_000),
        (TIMES["s"], seconds),
        (TIMES["D"], [text[:10] for text in seconds]),
        ({"kind": "number", "decimal": ".", "thousands": ",", "missing": WORDS}, [repr(x) for x in random.random(100_000).tolist()]),
    ]
    for state, values in columns:
        codec, array, start = codecs.codec(state), np.array(values, object), time.perf_counter()
        codec.encode(array)
        assert time.perf_counter() - start < 3.0, state["kind"]


def a_tokenizer(**more) -> dict:
    library = pytest.importorskip("tokenizers")
    made = library.Tokenizer(library.models.BPE())
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = library.decoders.ByteLevel()
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    trainer = library.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False)
    made.train_from_iterator(PROSE[:-1] * 3, trainer)
    return {"kind": "tokens", "tokenizer": json.loads(made.to_str()), **more}


@pytest.mark.parametrize("state", ["bytes", "characters", "tokenizer"])
def test_language_round_trips_and_what_is_too_long_or_empty_is_named(state):
    letters = sorted(set("".join(PROSE[:-1])))
    state = {
        "bytes": lambda: {"kind": "tokens", "length": 60}, "characters": lambda: {"kind": "tokens", "length": 60, "values": letters},
        "tokenizer": lambda: a_tokenizer(length=60),
    }[state]()  # fmt: skip
    texts = np.array(PROSE[:4] + [PROSE[4]] * 2, object).reshape(3, 2)
    codes = codecs.encode(state, texts)
    assert codes.shape == (3, 2, 60) and codes.dtype == np.int32 and codes.min() == -1
    assert codecs.decode(state, codes).tolist() == texts.tolist()
    assert codecs.decode(state, codes[..., :1]).shape == (3, 2)
    for wrong, said in ((PROSE[0] * 9, "row 2 must have 1 to 60 tokens, not"), ("", "row 2 must be a text that is not empty"), (None, "got null")):
        with pytest.raises(Refused, match=said):
            codecs.encode(state, ["a", wrong])


def test_what_is_read_back_stops_at_its_end_and_what_has_no_meaning_is_told():
    state = a_tokenizer(length=9, end=0)
    codes = codecs.encode(state, ["a cat"])[0]
    cut = np.array([[*codes[codes >= 0], 0, 70, 80], [0, 70, 70, 70, 70, 70, 70, 70, 70][: (codes >= 0).sum() + 3]])
    assert codecs.decode(state, cut).tolist() == ["a cat", ""]
    assert codecs.decode({"kind": "tokens", "length": 2}, [[104, 300, 195, 169]]).tolist() == ["h\ufffdé"]
    with pytest.raises(Refused, match="row 1 must have only characters that the model knows, not 'c'"):
        codecs.encode({"kind": "tokens", "length": 4, "values": ["a", "b"]}, ["abc"])


def test_marks_are_codes_after_all_others():
    state = {"kind": "tokens", "length": 9, "marks": ["<x>", "<x>y", "</s>"], "end": 258}
    assert codecs.encode(state, ["é<x>yb<x>"]).tolist() == [[195, 169, 257, 98, 256, -1, -1, -1, -1]]
    assert codecs.decode(state, [[256, 195, 169, 257, 258, 98], [259, 98, -1, 98, 98, 98]]).tolist() == ["<x>é<x>y", "\ufffdb"]
    letters = {"kind": "tokens", "length": 4, "values": ["a", "b"], "marks": ["<x>"]}
    assert codecs.encode(letters, ["<x>ba"]).tolist() == [[2, 1, 0, -1]]
    assert codecs.decode(letters, [[2, 1, 3]]).tolist() == ["<x>b\ufffd"]
    with pytest.raises(Refused, match="row 1 must have only characters that the model knows, not '<'"):
        codecs.encode(letters, ["a<y>"])
    special = a_tokenizer(length=9, marks=["<end>"])
    assert codecs.decode(special, codecs.encode(special, ["a<end> cat"])).tolist() == ["a<end> cat"]
    with pytest.raises(Refused, match="must be tokens of its tokenizer; '<x>' is none"):
        codecs.codec(special | {"marks": ["<x>"]})


def test_with_padding_a_text_is_cut_and_what_a_tokenizer_puts_around_it_stays():
    state = {"kind": "tokens", "length": 4, "padding": 0}
    assert codecs.encode(state, ["ab", "abcdef"]).tolist() == [[97, 98, 0, 0], [97, 98, 99, 100]]
    assert codecs.decode(state, [[97, 98, 0, 0]]).tolist() == ["ab"]
    with pytest.raises(Refused, match="row 2 must be a text that is not empty"):
        codecs.encode(state, ["a", ""])
    with pytest.raises(Refused, match="row 1 must have only characters that the model knows, not 'c'"):
        codecs.encode(state | {"values": ["a", "b"]}, ["ababc"])
    library = pytest.importorskip("tokenizers")
    made = library.Tokenizer(library.models.WordLevel({"[S]": 0, "[E]": 1, "a": 2, "b": 3}, unk_token="b"))
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    made.post_processor = library.processors.BertProcessing(("[E]", 1), ("[S]", 0))
    state |= {"tokenizer": json.loads(made.to_str()), "padding": 3}
    assert codecs.encode(state, ["a", "a a a a"]).tolist() == [[0, 2, 1, 3], [0, 2, 2, 1]]


def test_a_model_of_language_names_the_library_that_it_needs(monkeypatch):
    state = a_tokenizer(length=4)
    codecs.tokens.load_tokenizer.cache_clear()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(Refused, match=r'needs the library tokenizers: pip install "ml-arsenal-serving\[tokenizers\]"\.$'):
        codecs.codec(state)
