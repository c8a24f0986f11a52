"""Slices are tested as SciPy tests them; one that is worse is found, and one that only chance made worse is not believed."""

import numpy as np
import pytest
from scipy import stats

from arsenal.evaluation.slices import column_parts, compare_parts, find_worst, slices_of

N = 4000
DRAW = np.random.default_rng(0)
SEX = DRAW.integers(0, 2, N).astype(np.int32)
AGE = DRAW.uniform(1, 80, N).astype(np.float32)
AGE[::50] = np.nan
WEIGHT = DRAW.integers(0, 3, N).astype(float)
RIGHT = (DRAW.random(N) < np.where((SEX == 1) & (AGE > 60), 0.5, 0.9)).astype(float)
COLUMNS, LEVELS = {"sex": SEX, "age": AGE}, {"sex": ["male", "female"]}


LOSS = RIGHT + DRAW.normal(size=N)


def test_slices_are_tested_as_scipy_tests_them():
    value = np.where(WEIGHT > 0, LOSS, np.nan)  # what is not there may be anything
    found = {one.name: one for parts in slices_of(COLUMNS, value, WEIGHT, LEVELS).values() for one in parts}
    times = WEIGHT.astype(int)
    raw = {}
    for name, mask in {"sex = female": SEX == 1, "age missing": np.isnan(AGE)}.items():
        one = found[name]
        peer = stats.ttest_ind(np.repeat(LOSS[mask], times[mask]), np.repeat(LOSS[~mask], times[~mask]), equal_var=False)
        interval = peer.confidence_interval(0.95)
        np.testing.assert_allclose((one.low, one.high), (interval.low, interval.high), rtol=1e-9)
        assert one.rows == WEIGHT[mask].sum()
        raw[name] = peer.pvalue
    assert found["sex = female"].p_value == pytest.approx(min(1, raw["sex = female"] * 7), rel=1e-6)  # the smallest of 7
    assert len(found) == 7 and [name for name in found if "<=" in name]


@pytest.mark.parametrize(("right", "rows", "others_right", "others", "low", "high"), [
    (8, 8, 95, 127, -0.044790644331183016, 0.35641855130792727), (33, 43, 72, 92, -0.17222370681493748, 0.13014332856434652)
])  # fmt: skip
def test_shares_have_the_intervals_of_statsmodels(right, rows, others_right, others, low, high):
    """`confint_proportions_2indep(..., method="agresti-caffo")` of statsmodels 0.14."""
    value = np.concatenate([np.arange(rows) < right, np.arange(others) < others_right]).astype(float)
    kind = np.repeat(np.array([0, 1], np.int32), [rows, others])
    one, _ = compare_parts([("few", kind == 0), ("rest", kind == 1)], value, np.ones(len(value)), 0.95)
    np.testing.assert_allclose((one.low, one.high), (low, high), rtol=1e-9)


def test_the_worst_slice_is_found_and_tested_on_other_rows():
    found = find_worst(COLUMNS, RIGHT, np.ones(N), np.arange(N), levels=LEVELS)
    assert found[0].name.startswith("sex = female and ") and "age >" in found[0].name
    assert found[0].p_value < 1e-6 and found[0].value < 0.6 < found[0].rest
    assert found[0].rows < N / 8  # the half that did not choose it


def test_what_chance_made_worse_is_not_believed():
    significant = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        columns = {f"c{i}": draw.integers(0, 4, 600).astype(np.int32) for i in range(5)}
        found = find_worst(columns, (draw.random(600) < 0.8).astype(float), np.ones(600), np.arange(600))
        significant += any(one.p_value < 0.05 for one in found)
    assert significant <= 4, "With 5 % of false alarms in 20 tables, 5 or more come once in 400 times."


def test_rare_levels_are_others_and_one_value_is_no_slice():
    many = np.arange(1000, dtype=np.int32) % 40
    names = [part.text for part in column_parts("city", many, np.ones(1000))]
    assert len(names) == 21 and names[-1] == "city = others"
    assert column_parts("ticket", many[:100], np.ones(100)) == []
    assert column_parts("same", np.ones(5, np.float32), np.ones(5)) == []


def test_bad_input_is_refused_in_a_line():
    with pytest.raises(ValueError, match=r"`age` has shape \[3\]"):
        slices_of({"age": np.ones(3)}, np.ones(4), np.ones(4))
    with pytest.raises(ValueError, match="`worse` of `find_worst` must be low or high; got bad"):
        find_worst({}, np.ones(4), np.ones(4), np.arange(4), worse="bad")
