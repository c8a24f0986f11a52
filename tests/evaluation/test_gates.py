"""Gates as they are read, and what they decide: by the number alone, by the interval's end, and strictly against a champion."""

import json

import numpy as np
import pytest

from arsenal.evaluation.gates import Gate, GateError, judge_bounds, read_gates, verdict_lines
from arsenal.evaluation.verdicts import write_verdicts

DRAWS = np.random.default_rng(0).normal(0.95, 0.01, 1000)


def test_they_are_read_in_the_words_of_expect(tmp_path):
    path = tmp_path / "gates.yaml"
    path.write_text("gates:\n  test/accuracy: {min: 0.9, confidence: 0.9}\n  slices/sex: {metric: accuracy, min: 0.8, rows: 20}\n"
                    "  champion/accuracy: {min: -0.01}\n  latency/p99: {max: 0.01, rows: 8}\n")  # fmt: skip
    assert read_gates(path) == [
        Gate("test/accuracy", "test", "accuracy", {"min": 0.9}, 0.9),
        Gate("slices/sex", "slices", "sex", {"min": 0.8}, None, "accuracy", 20),
        Gate("champion/accuracy", "champion", "accuracy", {"min": -0.01}, 0.95),
        Gate("latency/p99", "latency", "p99", {"max": 0.01}, None, None, 8),
    ]


@pytest.mark.parametrize(
    ("gates", "words"),
    [
        ({}, "`gates` must map names to bounds"),
        ([1], "`gates` must map names to bounds"),
        ({"accuracy": {"min": 1}}, "A gate is called FAMILY/WHAT, FAMILY one of test, validation"),
        ({"tset/accuracy": {"min": 1}}, "Did you mean `test`"),
        ({"latency/p95": {"max": 1}}, "must be one of latency/mean, latency/p50, latency/p90, latency/p99"),
        ({"test/loss": {"minimum": 1}}, "takes min, max, confidence; got minimum. Did you mean `min`"),
        ({"test/loss": {"min": 1, "rows": 3}}, "takes min, max, confidence; got rows"),
        ({"test/loss": {}}, "must be given finite numbers as min or max"),
        ({"test/loss": {"min": True}}, "must be given finite numbers"),
        ({"test/loss": {"max": float("nan")}}, "must be given finite numbers"),
        ({"test/loss": {"max": "0.1"}}, "must be given finite numbers"),
        ({"test/loss": 3}, "must be given bounds"),
        ({"test/loss": {"max": 1, "confidence": 95}}, "`confidence` of `test/loss` must be a number between 0 and 1; got 95"),
        ({"slices/a": {"min": 1, "rows": 0}}, "`rows` of `slices/a` must be a whole number of at least 1; got 0"),
        ({"champion/accuracy": {"max": 0}}, "how much better the run is than the champion"),
    ],
)
def test_what_cannot_be_read_is_one_line(gates, words):
    with pytest.raises(GateError, match=words) as error:
        read_gates(gates)
    assert "\n" not in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(GateError, match=r"`gates` must be a YAML file; there is none at .*nothing.yaml"):
        read_gates(tmp_path / "nothing.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(GateError, match="is no YAML"):
        read_gates(tmp_path / "bad.yaml")


def judge(gate, value, draws=None, **more):
    ((name, words),) = gate.items()
    (found,) = judge_bounds(read_gates({name: words})[0], value, draws, **more)
    return found


def test_a_number_alone_decides_unless_confidence_is_asked_for():
    passed = judge({"test/accuracy": {"min": 0.94}}, 0.95, DRAWS)
    assert passed.passed and passed.margin == pytest.approx(0.01) and passed.p == pytest.approx((DRAWS < 0.94).mean(), abs=0.002)
    failed = judge({"test/accuracy": {"min": 0.96}}, 0.95, DRAWS)
    assert not failed.passed and failed.margin == pytest.approx(-0.01) and failed.p > 0.8
    assert "must be >= 0.96, and misses it by 0.01" in failed.why and "of resamples miss it" in failed.why
    unsure = judge({"test/accuracy": {"min": 0.94, "confidence": 0.95}}, 0.95, DRAWS)
    assert not unsure.passed and unsure.margin > 0 and "and is, but not surely" in unsure.why
    assert unsure.ends == tuple(np.quantile(DRAWS, [0.025, 0.975]))
    assert judge({"test/accuracy": {"min": 0.94, "confidence": 0.5}}, 0.95, DRAWS).passed
    assert judge({"test/loss": {"max": 1.0, "confidence": 0.95}}, 0.95, DRAWS).passed
    assert not judge({"test/loss": {"max": 0.96, "confidence": 0.95}}, 0.95, DRAWS).passed


def test_what_has_no_value_or_no_interval_where_one_is_asked_for_fails():
    for value in (None, float("nan"), [0.9, None], float("inf")):
        assert not judge({"test/loss": {"max": 1}}, value).passed
    assert not judge({"test/loss": {"max": 1, "confidence": 0.9}}, 0.5).passed
    assert judge({"test/loss": {"max": 1}}, 0.5).passed


def test_of_a_population_the_worst_member_counts():
    assert not judge({"test/accuracy": {"min": 0.9}}, [0.95, 0.85]).passed
    assert judge({"test/accuracy": {"min": 0.9}}, [0.95, 0.91]).value == 0.91
    assert judge({"test/loss": {"max": 0.9}}, [0.95, 0.85]).value == 0.95


def test_as_good_as_a_champion_is_not_better():
    same = np.zeros(1000)
    assert not judge({"champion/accuracy": {"min": 0}}, 0.0, same).passed, "Superiority takes a difference."
    assert judge({"champion/accuracy": {"min": -0.01}}, 0.0, same).passed, "Within the margin."
    assert not judge({"champion/accuracy": {"min": -0.01}}, -0.01, same - 0.01).passed
    often = np.repeat([0.0, 0.02], 500)
    assert not judge({"champion/accuracy": {"min": 0}}, 0.01, often).passed, "An interval that begins at nothing is not better."
    better = np.random.default_rng(1).normal(0.02, 0.005, 1000)
    assert judge({"champion/accuracy": {"min": 0}}, 0.02, better).passed
    assert not judge({"champion/accuracy": {"min": 0}}, 0.005, better - 0.015).passed, "A bare number does not decide."


def test_the_worst_of_many_parts_has_a_wider_interval():
    one, many = (judge({"slices/sex": {"min": 0.9}}, 0.95, DRAWS, tests=k) for k in (1, 20))
    assert many.ends[0] < one.ends[0] and many.ends[1] > one.ends[1]
    assert many.p == pytest.approx(min(1, 20 * one.p))


def test_a_report_of_each_kind(tmp_path):
    verdicts = [judge({"test/accuracy": {"min": 0.94}}, 0.95, DRAWS), judge({"test/loss": {"max": 0.5}}, 0.95, DRAWS)]
    verdicts.append(verdicts[0]._replace(name="<b>|x", why="a|b <script>alert(1)</script> *c*"))
    about = {"run": "abc|<i>"}
    for kind in ("html", "md", "json"):
        write_verdicts(tmp_path / f"gates.{kind}", about, {"Gates": verdicts, "Model tests": []})
    page = (tmp_path / "gates.html").read_text()
    assert "1 of 3 failed" in page and "<script>alert" not in page and "<b>|x" not in page and "http:" not in page
    lines = (tmp_path / "gates.md").read_text().splitlines()
    assert lines[0] == "### Gates: 1 of 3 failed"
    rows = [line for line in lines if line.startswith(("| ✅", "| ❌"))]
    assert len(rows) == 3 and "<script>" not in rows[2].replace("\\<", "") and all(line.replace("\\|", "").count("|") == 6 for line in rows)
    told = json.loads((tmp_path / "gates.json").read_text())
    assert told["passed"] is False and [one["passed"] for one in told["verdicts"]["Gates"]] == [True, False, True]
    assert [line.split()[0] for line in verdict_lines(verdicts)] == ["passed", "failed", "passed"]
    with pytest.raises(GateError, match=r"`to` must end in .html, .md, .json"):
        write_verdicts(tmp_path / "gates.txt", about, {"Gates": verdicts})
