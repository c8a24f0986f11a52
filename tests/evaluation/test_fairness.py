"""Rates of groups are scikit-learn's; differences follow Fairlearn's definitions; intervals hold what they say."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, recall_score

from arsenal.evaluation.fairness import fairness

N = 900
DRAW = np.random.default_rng(1)
GROUP = DRAW.choice(["a", "b", "c"], N, p=[0.5, 0.3, 0.2])
Y = DRAW.integers(0, 2, N)
SAID = np.where(DRAW.random(N) < np.where(GROUP == "c", 0.6, 0.85), Y, 1 - Y)
WEIGHT = DRAW.integers(0, 3, N).astype(float)


def test_rates_are_scikit_learns_and_weight_counts_rows():
    found = fairness(Y, SAID, GROUP, WEIGHT, samples=50)
    for one in found.groups:
        mine = one.name == GROUP
        weights = {"sample_weight": WEIGHT[mine]}
        assert one.true_positive_rate == pytest.approx(recall_score(Y[mine], SAID[mine], **weights))
        assert one.false_positive_rate == pytest.approx(1 - recall_score(Y[mine], SAID[mine], pos_label=0, **weights))
        assert one.accuracy == pytest.approx(accuracy_score(Y[mine], SAID[mine], **weights))
        assert one.selection_rate == pytest.approx(np.average(SAID[mine], weights=WEIGHT[mine]))
    tpr, fpr = ([getattr(one, name) for one in found.groups] for name in ("true_positive_rate", "false_positive_rate"))
    selected = [one.selection_rate for one in found.groups]
    assert found.demographic_parity_difference[0] == pytest.approx(max(selected) - min(selected))
    assert found.demographic_parity_ratio[0] == pytest.approx(min(selected) / max(selected))
    assert found.equalized_odds_difference[0] == pytest.approx(max(max(tpr) - min(tpr), max(fpr) - min(fpr)))
    assert found.equal_opportunity_difference[0] == pytest.approx(max(tpr) - min(tpr))
    twice = fairness(*(np.repeat(column, WEIGHT.astype(int)) for column in (Y, SAID, GROUP)), samples=50)
    assert twice == found


def test_an_interval_holds_the_true_gap_as_often_as_it_says():
    held = 0
    for seed in range(60):
        draw = np.random.default_rng(seed)
        group = draw.integers(0, 2, 800)
        said = (draw.random(800) < np.where(group == 1, 0.7, 0.4)).astype(int)
        _, low, high = fairness(draw.integers(0, 2, 800), said, group, samples=400, seed=seed).demographic_parity_difference
        held += low <= 0.3 <= high
    assert held >= 52, "Of 60 intervals of 95 %, 57 hold on average, and fewer than 52 once in 200 times."


@pytest.mark.parametrize(("given", "match"), [
    ((Y, SAID, np.zeros(N)), "must hold two groups or more; got 1"),
    ((Y, SAID + 1, GROUP), "`predict` of `fairness` must be 0 or 1; got 2 in row"),
    ((Y, SAID[:5], GROUP), r"`predict` of `fairness` must be \[900\], as y is; got \[5\]"),
])  # fmt: skip
def test_bad_input_is_refused_in_a_line(given, match):
    with pytest.raises(ValueError, match=match):
        fairness(*given)
