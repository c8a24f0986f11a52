"""A threshold's curve is scikit-learn's, the best one is that of trying all, and it is judged on other rows than it was found on."""

import jax
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_curve, precision_score, recall_score

from arsenal.evaluation.threshold import Costs, best_threshold, judge_thresholds, read_costs, threshold_curve

DRAW = np.random.default_rng(1)
N = 400
P = DRAW.uniform(size=N).round(2)
Y = (DRAW.uniform(size=N) < P).astype(np.int32)
ONES = np.ones(N)
COSTS = Costs(1.0, 4.0)


def cost_of(y, p, at):
    (_, alarms), (misses, _) = confusion_matrix(y, p >= at, labels=[0, 1])
    return (COSTS.false_alarm * alarms + COSTS.miss * misses) / len(y)


def test_curves_are_those_of_scikit_learn():
    precision, recall, at = precision_recall_curve(Y, P)
    mine = threshold_curve(Y, P, ONES, at, COSTS)
    np.testing.assert_allclose(mine.precision, precision[:-1])
    np.testing.assert_allclose(mine.recall, recall[:-1])
    np.testing.assert_allclose(mine.f1, [f1_score(Y, t <= P) for t in at])
    np.testing.assert_allclose(mine.flagged, [(t <= P).mean() for t in at])
    np.testing.assert_allclose(mine.cost, [cost_of(Y, P, t) for t in at])
    twice = np.where(np.arange(N) < 50, 2.0, np.where(np.arange(N) < 100, 0.0, 1.0))
    weighed, at = threshold_curve(Y, P, twice, np.array([0.3, 0.6])), (0.3, 0.6)
    np.testing.assert_allclose(weighed.precision, [precision_score(Y, t <= P, sample_weight=twice) for t in at])
    np.testing.assert_allclose(weighed.recall, [recall_score(Y, t <= P, sample_weight=twice) for t in at])


def test_the_best_threshold_is_that_of_trying_all_and_nearly_that_of_true_probabilities():
    at, cost = best_threshold(Y, P, ONES, COSTS)
    tried = [cost_of(Y, P, t) for t in [*np.unique(P), 1.01]]
    assert cost == pytest.approx(min(tried)) and cost == pytest.approx(cost_of(Y, P, at))
    many = np.random.default_rng(0).uniform(size=200_000)
    true = (np.random.default_rng(2).uniform(size=len(many)) < many).astype(np.int32)
    assert best_threshold(true, many, np.ones(len(many)), COSTS)[0] == pytest.approx(0.2, abs=0.02), "1 / (1 + 4)."
    assert best_threshold(np.zeros(3), np.array([0.2, 0.9, 1.0]), np.ones(3), COSTS)[0] > 1, "Yes to none."


def test_a_threshold_is_found_on_some_rows_and_judged_on_others():
    first, rest = slice(0, 150), slice(150, N)
    given = Y[rest], P[rest], ONES[rest]
    found = judge_thresholds(jax.random.key(0), given, "validation", (Y[first], P[first], ONES[first]), COSTS)
    assert found.best == best_threshold(Y[first], P[first], ONES[first], COSTS)[0] and found.calibrated == 0.2
    assert found.cost[0] == pytest.approx(cost_of(Y[rest], P[rest], found.best), rel=1e-5)
    assert found.plain[0] == pytest.approx(cost_of(Y[rest], P[rest], 0.5), rel=1e-5)
    each = np.where(P[rest] >= found.best, (Y[rest] == 0) * 1.0, (Y[rest] == 1) * 4.0)
    reach = 1.96 * each.std() / np.sqrt(len(each))
    np.testing.assert_allclose(found.cost[1:], (found.cost[0] - reach, found.cost[0] + reach), atol=0.02)
    assert found.saved[0] == pytest.approx(found.plain[0] - found.cost[0], rel=1e-4) and found.saved[1] < found.saved[0] < found.saved[2]
    none = judge_thresholds(jax.random.key(0), given, "validation", None, COSTS)
    assert np.isnan(none.best) and not none.found_on and np.isfinite(none.curve.cost).all()


@pytest.mark.parametrize("text", ["1,5", "miss:5", "miss:5,false_alarm:-1", "miss:0,false_alarm:0", "miss:x,false_alarm:1", "a:1,b:2"])
def test_costs_that_say_something_else_are_refused(text):
    with pytest.raises(ValueError, match="`costs` must give both mistakes a number >= 0, as false_alarm:1,miss:5 does; got"):
        read_costs(text)
