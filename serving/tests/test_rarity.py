"""How rare a row is, against tails that are counted on the rows themselves, and beside PyOD's ECOD on seeded outliers."""

import numpy as np
import pytest
from scipy import stats

from arsenal_serving.artifact.rarity import rarity, rarity_of
from arsenal_serving.artifact.sketch import describe


def tails(known, x):
    """Minus the logarithm of twice the smaller share of values as far out, as SciPy's distribution of them has it."""
    ranked = np.sort(known)
    below, above = np.searchsorted(ranked, x, "right"), len(known) - np.searchsorted(ranked, x, "left")
    return -np.log(np.clip(2 * np.minimum(below, above), 1, len(known)) / len(known))


def test_few_values_are_counted_exactly():
    random = np.random.default_rng(0)
    known, x = random.poisson(4, 3000).astype(float), np.arange(0.0, 11.0)
    np.testing.assert_allclose(rarity_of(describe("x", known), x), tails(known, x), rtol=1e-12)


def test_many_values_are_within_their_bin():
    random = np.random.default_rng(1)
    known, x = random.gamma(2, 3, 20_000), random.gamma(2, 3, 500)
    found, wanted = rarity_of(describe("x", known), x), tails(known, x)
    middle = wanted < 3
    assert np.abs(found - wanted)[middle].max() < 0.3 and stats.spearmanr(found, wanted).statistic > 0.99


def test_what_lies_beyond_is_rarer_the_further_it_is():
    column = describe("x", np.linspace(-1, 1, 1000))
    near, far, there, gap = rarity_of(column, np.array([1.5, 9.0, 0.0, np.nan]))
    assert far > near > np.log(1000) > 1 > there >= 0 and gap == pytest.approx(np.log(1001 / 0.5))


def test_levels_by_their_share_and_what_is_unknown_by_half_a_row():
    column = describe("c", np.array(["a"] * 90 + ["b"] * 10, object))
    found = rarity_of(column, np.array(["a", "b", "z", None], object))
    np.testing.assert_allclose(found, -np.log(np.array([90, 10, 0.5, 0.5]) / 101))


# PyOD 3.6.7's `ECOD().fit(known).decision_function(came)` tells the 40 seeded outliers below with this area.
ECOD = 0.9494


def test_seeded_outliers_are_told():
    random = np.random.default_rng(5)
    known = random.normal(size=(2000, 6))
    came = random.normal(size=(400, 6))
    came[np.arange(40), random.integers(0, 6, 40)] += random.choice([-4.0, 4.0], 40)
    names = [f"n{k}" for k in range(6)]
    each = rarity([describe(name, known[:, k]) for k, name in enumerate(names)], dict(zip(names, came.T, strict=True)))
    score = np.sum([*each.values()], axis=0)
    area = stats.mannwhitneyu(score[:40], score[40:]).statistic / (40 * 360)
    assert area > ECOD
