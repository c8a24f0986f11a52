"""Metrics of texts have the numbers that sacreBLEU, rouge-score, jiwer and NLTK say, as kept; SQuAD's are its rules by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from arsenal import metrics as m
from arsenal.data.dataset import Schema
from arsenal.data.text import decode
from arsenal.metrics import measure
from arsenal.records import Batch

KEPT = json.loads((Path(__file__).parents[1] / "kept" / "metrics" / "texts.json").read_text(encoding="utf-8"))
SAID = [said for said, _ in KEPT["texts"]]
KNOWN = [known for _, known in KEPT["texts"]]
FOUND = KEPT["found"]
FIRST = [known[0] for known in KNOWN]


def value(metric, y=KNOWN, predict=SAID, **more):
    (found,) = measure(metric, y, predict=predict, **more).values()
    return found


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        *((f"bleu {tokens}", m.bleu(tokens=tokens)) for tokens in ("13a", "intl", "char", "none")),
        ("bleu lowercase", m.bleu(lowercase=True)),
        ("chrf", m.chrf()),
        ("chrf words", m.chrf(words=2)),
        ("chrf lowercase", m.chrf(lowercase=True, beta=1.0)),
        *((f"rouge{of}", m.rouge(of.lower())) for of in ("1", "2", "3", "L", "Lsum")),
        ("meteor", m.meteor()),
    ],
)
def test_numbers_are_those_of_the_libraries(name, metric):
    assert value(metric) == pytest.approx(FOUND[name], rel=1e-12)


def test_numbers_of_one_reference():
    assert value(m.bleu(), FIRST) == pytest.approx(FOUND["bleu one"], rel=1e-12)
    assert value(m.bleu(2), KNOWN[6:8], SAID[6:8]) == pytest.approx(FOUND["bleu order 2"], rel=1e-12)
    assert value(m.bleu(), ["a b x c y d z"], ["a b c d e f"]) == pytest.approx(FOUND["bleu smooth"], rel=1e-12)
    assert value(m.word_error_rate(), FIRST) == pytest.approx(FOUND["wer"], rel=1e-12)
    assert value(m.character_error_rate(), FIRST) == pytest.approx(FOUND["cer"], rel=1e-12)


@pytest.mark.parametrize(
    ("said", "known", "exact", "f1"),
    [
        ("The U.S. Army", ["us army", "soldiers"], 1, 1),
        ("in Paris, France", ["Paris"], 0, 0.5),
        ("the", ["a"], 1, 1),
        ("the", ["Paris"], 0, 0),
        ("b b c", ["b c c"], 0, 2 / 3),
    ],
)
def test_answers_are_judged_as_squad_does(said, known, exact, f1):
    assert value(m.exact_answer(), [known], [said]) == exact
    assert value(m.answer_f1(), [known], [said]) == pytest.approx(f1)


@pytest.mark.parametrize("metric", [m.bleu(), m.chrf(), m.rouge(), m.meteor(), m.answer_f1(), m.word_error_rate()], ids=lambda metric: metric.exempt["host"].split()[0])
def test_a_text_counts_by_its_weight(metric):
    weight = np.array([1, 2, 0, 1, 1, 0, 1, 1, 1, 1.0])[: len(SAID)]
    at = np.repeat(np.arange(len(SAID)), weight.astype(int))
    assert value(metric, weight=weight) == pytest.approx(value(metric, [KNOWN[i] for i in at], [SAID[i] for i in at]), rel=1e-12)


def test_codes_are_decoded():
    code = lambda text: [*text.encode(), *[-1] * (20 - len(text))]  # noqa: E731
    y, predict = (np.array([code(text) for text in both]) for both in (("the cat sat", "a dog"), ("the bat sat", "a dog")))
    metric = m.word_error_rate(decode=lambda codes: decode(Schema(), codes))
    assert value(metric, y, predict) == 1 / 5
    with pytest.raises(ValueError, match=r"`word_error_rate` takes strings, or codes and `decode`; `predict` is int64 \[2, 20\]"):
        value(m.word_error_rate(), y, predict)


def test_a_text_for_every_row():
    metric, rows = m.bleu(), Batch(None, np.array(["a", "b"]), np.ones(2), np.arange(2))
    with pytest.raises(ValueError, match="`bleu` takes a text for each of 2 rows; `predict` has 1"):
        metric.update(metric.empty(), {"predict": np.array(["a"])}, rows)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: m.bleu(tokens="zh"), "`tokens` of `bleu` must be one of 13a, intl, char, none; got 'zh'."),
        (lambda: m.rouge("5"), "`of` of `rouge` must be one of 1, 2, 3, 4, l, lsum; got '5'."),
    ],
)
def test_what_there_is_not_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
