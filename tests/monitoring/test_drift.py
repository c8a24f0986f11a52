"""Drift by counts against SciPy on the values themselves, and how often a window without drift says a word."""

import math

import numpy as np
import pytest
from arsenal_serving.artifact.sketch import Sketch, describe
from scipy import stats

from arsenal.evaluation.drift import compare_column
from arsenal.monitoring.drift import DriftBounds, compare_columns, drift_findings
from arsenal.numerics.divergences import binned_cramer_von_mises, binned_smirnov


def sketch(learned, came, name="x"):
    made = Sketch(describe(name, learned))
    made.add(came)
    return made


@pytest.mark.parametrize("move, scale", [(0.0, 1.0), (0.2, 1.0), (-1.0, 1.0), (0.0, 2.0), (5.0, 0.1)])
def test_statistics_of_counts_are_those_of_the_values(move, scale):
    random = np.random.default_rng(0)
    learned, came = random.normal(10, 3, 20_000), 10 + 3 * (move + scale * random.normal(size=3000))
    (found,) = compare_columns({"x": sketch(learned, came)})
    smirnov = stats.ks_2samp(learned, came, method="asymp")
    assert smirnov.statistic - 0.011 <= found.statistic <= smirnov.statistic + 1e-12
    assert found.p >= smirnov.pvalue * 0.9 or found.p < 1e-12
    assert found.size == pytest.approx(stats.wasserstein_distance(learned, came) / learned.std(), abs=0.02, rel=0.02)
    # Where nearly all is in one bin, its values are tied.
    assert found.cramer_von_mises == pytest.approx(stats.cramervonmises_2samp(learned, came).statistic, abs=0.05, rel=0.15)
    assert (found.before, found.now) == pytest.approx((learned.mean(), came.mean()))
    assert found.drifted == bool(move or scale != 1.0)


def test_levels_are_judged_as_in_the_report_of_a_run():
    random = np.random.default_rng(1)
    learned, came = random.choice(list("abc"), 4000, p=[0.5, 0.3, 0.2]), random.choice(list("abc"), 1000, p=[0.3, 0.4, 0.3])
    (found,) = compare_columns({"c": sketch(learned.astype(object), came.astype(object), "c")})
    wanted = compare_column("c", "test", learned, np.ones(4000), came, np.ones(1000))
    assert (found.statistic, found.p) == pytest.approx((wanted.statistic, wanted.p_value))
    assert (found.stability, found.distance) == pytest.approx((wanted.stability, wanted.distance))
    table = np.array([[(rows == level).sum() for level in "abc"] for rows in (learned, came)])
    assert found.p == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)
    assert found.size == pytest.approx(np.abs(table[0] / 4000 - table[1] / 1000).sum() / 2)


def test_binned_statistics_by_hand():
    assert binned_smirnov([1, 1, 2], [0, 2, 2]) == 0.25
    random = np.random.default_rng(2)
    x, y = random.integers(0, 6, 300), random.integers(1, 7, 200)
    p, q = (np.bincount(rows, minlength=7) for rows in (x, y))
    assert binned_smirnov(p, q) == pytest.approx(stats.ks_2samp(x, y).statistic)
    # SciPy's has midranks for ties; of values that differ within a bin by nothing both are Anderson's sum over all values.
    both = np.concatenate([x, y])
    apart = [(x <= v).mean() - (y <= v).mean() for v in both]
    assert binned_cramer_von_mises(p, q) == pytest.approx(300 * 200 / 500**2 * np.square(apart).sum())


def windows(random, learned, rows, shift=0.0):
    """Sketches of 50 columns: 40 of numbers, 10 of levels."""
    made = {}
    for name, column in learned.items():
        if column.kind == "number":
            values = random.normal(shift, 1, rows)
        else:
            values = random.choice(["a", "b", "c"], rows, p=[0.6, 0.3, 0.1]).astype(object)
        made[name] = Sketch(column)
        made[name].add(values)
    return made


@pytest.fixture(scope="module")
def learned():
    random = np.random.default_rng(3)
    columns = {f"n{k}": describe(f"n{k}", random.normal(size=5000)) for k in range(40)}
    return columns | {
        f"c{k}": describe(f"c{k}", random.choice(["a", "b", "c"], 5000, p=[0.6, 0.3, 0.1]).astype(object)) for k in range(10)
    }


@pytest.mark.slow
def test_windows_without_drift_say_a_word_as_rarely_as_is_stated(learned):
    random, bounds = np.random.default_rng(4), DriftBounds(size=1e-9, alpha=0.05)  # the test alone, without a size to reach
    alarms = sum(any(one.drifted for one in compare_columns(windows(random, learned, 500), bounds)) for _ in range(1000))
    assert alarms <= stats.binom.ppf(0.999, 1000, 0.05), alarms
    random = np.random.default_rng(5)
    as_it_is = sum(any(one.drifted for one in compare_columns(windows(random, learned, 500))) for _ in range(1000))
    assert as_it_is <= stats.binom.ppf(0.999, 1000, 0.01), as_it_is


def test_a_shift_of_a_fifth_of_a_deviation_is_seen(learned):
    random = np.random.default_rng(6)
    seen = sum(one.drifted for _ in range(5) for one in compare_columns(windows(random, learned, 2000, shift=0.2)))
    assert seen >= 0.95 * 5 * 40


def test_what_else_can_be_wrong_with_a_column():
    random = np.random.default_rng(7)
    learned = {
        "age": np.where(random.uniform(size=2000) < 0.01, np.nan, random.normal(40, 9, 2000)),
        "sex": random.choice(["f", "m"], 2000).astype(object), "gone": random.normal(size=2000), "empty": random.normal(size=2000),
    }  # fmt: skip
    came = {
        "age": np.where(random.uniform(size=400) < 0.2, np.nan, random.normal(40, 9, 400)),
        "sex": np.array([*["f"] * 190, *["m"] * 190, *["x"] * 20], dtype=object), "gone": np.zeros(0), "empty": np.full(400, np.nan),
    }  # fmt: skip
    sketches = {name: sketch(values, came[name], name) for name, values in learned.items()}
    found = {(one.kind, one.name): one for one in drift_findings("m", "1", "drift", sketches, (0.0, 60.0), expected=[*learned, "new"])}
    gaps = found["quality", "age"]
    assert gaps.state == "breach" and gaps.value == pytest.approx(np.isnan(came["age"]).mean()) and "are missing" in gaps.why
    assert found["quality", "sex"].value == pytest.approx(0.05) and found["quality", "sex"].why.endswith("learn from: x")
    assert found["quality", "gone"].why == found["quality", "new"].why == "nothing came under this name; was it renamed?"
    assert found["quality", "empty"].why == "every value is missing"
    assert found["drift", "age"].state == found["drift", "sex"].state == "ok"


def test_of_windows_without_change_few_say_that_values_are_missing():
    random = np.random.default_rng(9)
    learned = {f"x{k}": np.where(random.uniform(size=3000) < 0.03, np.nan, random.normal(size=3000)) for k in range(5)}
    said = 0
    for _ in range(400):
        came = {name: np.where(random.uniform(size=80) < 0.03, np.nan, random.normal(size=80)) for name in learned}
        sketches = {name: sketch(values, came[name], name) for name, values in learned.items()}
        found = drift_findings("m", "1", "drift", sketches, (0.0, 60.0))
        said += any(one.kind == "quality" and one.state != "ok" for one in found)
    assert said <= 9  # of 400 windows 1 % is 4; of a binomial more than 9 come once in 130 times


def test_a_few_rows_are_no_evidence():
    learned = np.random.default_rng(8).normal(size=1000)
    (one,) = drift_findings("m", "1", "drift", {"x": sketch(learned, np.full(3, 9.0))}, (0.0, 60.0))
    assert one.state == "ok" and one.why == "too few rows, 3 of 30"


def test_infinities_and_constants_are_judged():
    constant, infinite = sketch(np.ones(100), np.array([*[1.0] * 50, *[2.0] * 50])), sketch(np.arange(1000.0), np.full(100, np.inf))
    same = sketch(np.ones(100), np.ones(50))
    assert [one.size for one in compare_columns({"x": constant})] == [math.inf]
    assert [(one.size, one.drifted) for one in compare_columns({"x": infinite})] == [(math.inf, True)]
    assert [(one.size, one.drifted) for one in compare_columns({"x": same})] == [(0.0, False)]
