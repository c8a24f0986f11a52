"""Drift is what SciPy's tests and distances say of the columns, corrected for how many were looked at."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from arsenal.evaluation.drift import find_drift, level_test
from arsenal.numerics.divergences import jensen_shannon, kolmogorov_smirnov, population_stability

DRAW = np.random.default_rng(5)
N, M = 500, 300
TRAIN = {"same": DRAW.normal(size=N), "shifted": DRAW.normal(size=N), "word": DRAW.choice(["a", "b", "c"], N),
         "gaps": np.where(DRAW.uniform(size=N) < 0.1, np.nan, DRAW.normal(size=N))}  # fmt: skip
TEST = {"same": DRAW.normal(size=M), "shifted": DRAW.normal(0.6, size=M), "word": DRAW.choice(["a", "b", "d"], M, p=[0.6, 0.2, 0.2]),
        "gaps": np.where(DRAW.uniform(size=M) < 0.5, np.nan, DRAW.normal(size=M))}  # fmt: skip


@pytest.fixture
def found():
    lines = find_drift({"train": (TRAIN, np.ones(N)), "test": (TEST, np.ones(M)), "validation": (TRAIN, np.zeros(N))})
    return {one.column: one for one in lines}


def test_tests_are_scipys(found):
    raw = {}
    for name in ("same", "shifted", "gaps"):
        one, other = (side[name][~np.isnan(side[name])] for side in (TRAIN, TEST))
        peer = stats.ks_2samp(one, other, method="asymp")
        assert found[name].statistic == pytest.approx(peer.statistic) and found[name].test == "Smirnov"
        raw[name] = peer.pvalue
    counts = np.array([[(side["word"] == level).sum() for level in "abcd"] for side in (TRAIN, TEST)])
    peer = stats.chi2_contingency(counts, correction=False)
    assert found["word"].statistic == pytest.approx(peer.statistic) and found["word"].test == "chi-square"
    raw["word"] = peer.pvalue
    order = sorted(raw, key=raw.get)
    least = raw[order[0]] * 4
    assert found[order[0]].p_value == pytest.approx(min(least, 1), rel=1e-6), "Holm's first of four."
    assert found["word"].distance == pytest.approx(distance.jensenshannon(*counts, base=2))


def test_what_moved_is_named_and_what_did_not_is_not(found):
    assert {name for name, one in found.items() if one.moved} == {"shifted", "word"}
    assert next(iter(found.values())).moved, "The furthest first."
    assert found["gaps"].stability > 0.25 and not found["gaps"].p_value < 0.05, "Gaps are in the index, not in Smirnov's test."


def test_weights_are_counts():
    twice = np.where(np.arange(N) < 100, 2.0, 1.0)
    rows = {name: np.concatenate([value, value[:100]]) for name, value in TRAIN.items()}
    test = (TEST, np.ones(M))
    one = find_drift({"train": (TRAIN, twice), "test": test})
    other = find_drift({"train": (rows, np.ones(N + 100)), "test": test})
    for mine, its in zip(one, other, strict=True):
        assert (mine.column, mine.statistic, mine.p_value) == (its.column, pytest.approx(its.statistic), pytest.approx(its.p_value))


def test_divergences():
    p, q = DRAW.uniform(size=6), DRAW.uniform(size=6)
    assert jensen_shannon(p, q) == pytest.approx(distance.jensenshannon(p, q, base=2))
    a, b = p / p.sum(), q / q.sum()
    assert population_stability(p, q) == pytest.approx(stats.entropy(a, b) + stats.entropy(b, a))
    x, y, w = DRAW.normal(size=40).round(1), DRAW.normal(size=30).round(1), DRAW.integers(1, 4, 40)
    assert kolmogorov_smirnov(x, y, w) == pytest.approx(stats.ks_2samp(np.repeat(x, w), y).statistic)
    for made in (lambda: jensen_shannon([1, 2], [1, 2, 3]), lambda: population_stability([0, 0], [1, 1]), lambda: jensen_shannon([-1, 2], [1, 1])):
        with pytest.raises(ValueError, match="Weights"):
            made()
    assert level_test(np.array([[100.0, 1.0], [100.0, 1.0]])) == (0.0, 1.0), "Rare levels alone are no evidence."
