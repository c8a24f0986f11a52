"""Rows together, against scikit-learn and sums by hand, and how often rows without drift say a word."""

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel

from arsenal.monitoring import JointBounds, joint_findings, mean_discrepancy, reconstruct, tell_apart
from arsenal.monitoring.multivariate import JointRows, as_numbers, importance


def turn(draw, rows, correlation):
    """Two columns whose margins never change."""
    one, other = draw.normal(size=(2, rows))
    return {"a": one, "b": correlation * one + np.sqrt(1 - correlation**2) * other, "c": draw.choice(list("xyz"), rows).astype(object)}


def test_a_mean_discrepancy_is_gretton_s_sum():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(40, 3)), draw.normal(0.4, 1, size=(30, 3))
    found = mean_discrepancy(x, y, samples=200, width=1.5)

    def by_hand(x, y):
        k = [rbf_kernel(a, b, gamma=1 / (2 * 1.5**2)) for a, b in ((x, x), (y, y), (x, y))]
        n, m = len(x), len(y)
        return (k[0].sum() - n) / (n * (n - 1)) + (k[1].sum() - m) / (m * (m - 1)) - 2 * k[2].mean()

    assert found.value == pytest.approx(by_hand(x, y), abs=1e-12)
    both, shuffle = np.concatenate([x, y]), np.random.default_rng(9)
    others = [by_hand(both[order[:40]], both[order[40:]]) for order in (shuffle.permutation(70) for _ in range(400))]
    assert found.p == pytest.approx(np.mean(np.array(others) >= found.value), abs=0.03)


def test_the_classifier_is_scikit_learns():
    draw = np.random.default_rng(1)
    before, now = draw.normal(size=(300, 70)), draw.normal(size=(200, 70))
    now[:, 4] += 0.8
    design = JointRows(before, now, tuple(f"c{k}" for k in range(70)))
    found = tell_apart(design, seed=3, alpha=2.0)
    x, y = np.concatenate([before, now]), np.repeat([0, 1], [300, 200])
    again = np.random.default_rng(3)
    for side in (300, 200):
        again.choice(side, side, replace=False)
    fold = np.concatenate([again.permutation(np.arange(side) % 5) for side in (300, 200)])
    score, weight = np.zeros(500), np.repeat([500 / 600, 500 / 400], [300, 200])
    for k in range(5):
        model = LogisticRegression(C=0.5, tol=1e-9, max_iter=5000).fit(x[fold != k], y[fold != k], weight[fold != k])
        score[fold == k] = model.decision_function(x[fold == k])
    assert found.area == pytest.approx(roc_auc_score(y, score), abs=2e-4)
    assert found.low < found.area < found.high and found.p < 1e-6
    assert next(iter(found.columns)) == "c4"


def test_reconstruction_is_scikit_learns():
    draw = np.random.default_rng(2)
    mix = draw.normal(size=(3, 6))
    before = draw.normal(size=(400, 3)) @ mix + 0.1 * draw.normal(size=(400, 6))
    now = draw.normal(size=(150, 6))
    found = reconstruct(JointRows(before, now, ("x",) * 6), share=0.9, seed=5)
    order = np.random.default_rng(5).permutation(400)
    peer = PCA(0.9, svd_solver="full").fit(before[order[::2]])
    far = [np.linalg.norm(rows - peer.inverse_transform(peer.transform(rows)), axis=1) for rows in (before[order[1::2]], now)]
    assert found.components == peer.n_components_
    assert (found.before, found.now) == pytest.approx([one.mean() for one in far])
    assert found.p == pytest.approx(stats.ttest_ind(*far, equal_var=False).pvalue)


def test_what_no_column_shows_by_itself_is_seen():
    draw = np.random.default_rng(3)
    found, domains = joint_findings("m", "1", turn(draw, 800, 0.9), turn(draw, 800, -0.9), (0.0, 1.0))
    states = {one.name: one.state for one in found}
    assert states["kernels"] == states["components"] == "breach"
    draw = np.random.default_rng(4)
    shifted = turn(draw, 800, 0.9)
    shifted["a"] = shifted["a"] + 1.5
    found, domains = joint_findings("m", "1", turn(draw, 800, 0.9), shifted, (0.0, 1.0))
    assert {one.name: one.state for one in found}["classifier"] == "breach"
    assert next(iter(domains.columns)) in ("a", "b") and "; by " in found[0].why
    few, none = joint_findings("m", "1", turn(draw, 50, 0.9), shifted, (0.0, 1.0))
    assert few[0].why == "too few rows, 50 of 100" and none is None


@pytest.mark.slow
def test_rows_without_drift_say_a_word_as_rarely_as_is_stated():
    alarms, bounds = 0, JointBounds(size=1e-9, alpha=0.05)
    for seed in range(200):
        draw = np.random.default_rng(seed)
        found, _ = joint_findings("m", "1", turn(draw, 200, 0.5), turn(draw, 200, 0.5), (0.0, 1.0), bounds, seed)
        alarms += any(one.state == "breach" for one in found)
    assert alarms <= stats.binom.ppf(0.999, 200, 0.05), alarms


def test_columns_become_numbers():
    before = {"n": np.array([1.0, 3.0, np.nan, 2.0]), "w": np.array(["a", "b", "a", None], object), "still": np.ones(4), "gone": np.ones(4)}
    now = {"n": np.array([np.nan, 5.0]), "w": np.array(["c", "a"], object), "still": np.array([1.0, 2.0])}
    design = as_numbers(before, now)
    assert design.owner == ("n", "n", "w", "w", "w", "w", "still")
    assert np.isfinite(design.before).all() and np.isfinite(design.now).all()
    assert design.before[2, 0] == pytest.approx(0) and design.now[1, -1] == pytest.approx(1)
    with pytest.raises(ValueError, match="^Rows must share a column that varies; got still; still.$"):
        as_numbers({"still": np.ones(3)}, {"still": np.ones(2)})


def test_weights_are_the_ratio_of_densities():
    draw = np.random.default_rng(5)
    x = draw.normal(size=(4000, 1))
    weight, reach = importance(JointRows(x, draw.normal(0.7, 1, size=(4000, 1)), ("x",)))
    truth = np.exp(0.7 * x[:, 0] - 0.245)
    assert np.corrcoef(weight, truth)[0, 1] > 0.98 and reach > 0.9
    assert importance(JointRows(x, draw.normal(9, 0.5, size=(4000, 1)), ("x",))).reach < 0.1
