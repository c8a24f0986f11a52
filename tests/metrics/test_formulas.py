"""What scikit-learn does not have, beside the formula by hand, SciPy or published numbers; functions of one's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import sklearn.metrics as sk

from arsenal import metrics as m
from arsenal.metrics import as_metric, measure, whole_rows
from arsenal.records import Batch

N = 60


def value(metric, y=None, weight=None, **answers):
    (found,) = measure(metric, y, weight, **answers).values()
    return found


def two(p):
    return np.stack([1 - p, p], 1)


def scored(seed=0):
    rng = np.random.default_rng(seed)
    p = rng.integers(0, 12, N) / 11
    return p, (rng.random(N) < p).astype(int), rng.choice([0.0, 1.0, 2.0], N)


# Intervals, draws and laws.


def interval_cases():
    rng = np.random.default_rng(0)
    y, low = rng.normal(size=N), rng.normal(size=N) - 1
    return y, np.stack([low, low + rng.random(N) * 3], 1), rng.choice([0.0, 1.0, 2.0, 0.5], N)


def test_intervals_by_hand():
    y, interval, weight = interval_cases()
    low, high = interval.T
    mean = functools.partial(np.average, weights=weight)
    given = {"y": y, "weight": weight, "interval": interval}
    assert value(m.interval_coverage(), **given) == pytest.approx(mean((low <= y) & (y <= high)), rel=1e-6)
    assert value(m.interval_width(), **given) == pytest.approx(mean(high - low), rel=1e-6)
    score = high - low + 2 / 0.2 * ((low - y) * (y < low) + (y - high) * (y > high))
    assert value(m.interval_score(0.8), **given) == pytest.approx(mean(score), rel=1e-5)


def test_the_interval_score_is_the_pinball_loss_of_both_ends():
    y, interval, weight = interval_cases()
    both = sum(sk.mean_pinball_loss(y, end, alpha=alpha, sample_weight=weight) for end, alpha in zip(interval.T, (0.05, 0.95), strict=True))
    assert value(m.interval_score(0.9), y, weight, interval=interval) == pytest.approx(2 / 0.1 * both, rel=1e-5)


def test_crps_is_the_integral_of_squared_distances_of_distributions():
    rng = np.random.default_rng(0)
    y, draws = rng.normal(size=5), rng.normal(size=(5, 4)).round(1)
    grid = np.linspace(-6, 6, 240_001)
    wanted = [
        scipy.integrate.trapezoid(((one[:, None] <= grid).mean(0) - (at <= grid)) ** 2, grid) for at, one in zip(y, draws, strict=True)
    ]
    assert value(m.crps(), y, draws=draws) == pytest.approx(np.mean(wanted), abs=1e-4)
    mean, deviation = rng.normal(size=5), 0.5 + rng.random(5)
    wanted = [
        scipy.integrate.trapezoid((scipy.stats.norm.cdf(grid, a, s) - (at <= grid)) ** 2, grid)
        for at, a, s in zip(y, mean, deviation, strict=True)
    ]
    assert value(m.normal_crps(), y, predict=mean, predict_deviation=deviation) == pytest.approx(np.mean(wanted), abs=1e-4)


# Calibration.


def test_the_parts_of_the_brier_score_add_up_to_it():
    rng = np.random.default_rng(0)
    p, weight = rng.random(N), rng.choice([0.0, 1.0, 2.0, 0.5], N)
    y = (rng.random(N) < p).astype(int)
    found = measure(m.brier_decomposition(5), y, weight, predict_proba=two(p))
    whole = found["brier_reliability"] - found["brier_resolution"] + found["brier_uncertainty"]
    assert whole == pytest.approx(sk.brier_score_loss(y, p, sample_weight=weight), rel=1e-5)


def test_the_parts_of_the_brier_score_are_murphys_where_bins_hold_one_probability():
    p, y, weight = scored()
    found = measure(m.brier_decomposition(11), y, weight, predict_proba=two(p))
    mean, reliability, resolution = np.average(y, weights=weight), 0.0, 0.0
    for one in np.unique(p[(weight > 0) & (p < 1)]):
        held = (p == one) if one < 10 / 11 else (p >= one)
        share, frequency, said = weight[held].sum() / weight.sum(), np.average(y[held], weights=weight[held]), np.average(p[held], weights=weight[held])
        reliability, resolution = reliability + share * (said - frequency) ** 2, resolution + share * (frequency - mean) ** 2
    assert found["brier_reliability"] == pytest.approx(reliability, abs=1e-5)
    assert found["brier_uncertainty"] == pytest.approx(mean * (1 - mean), rel=1e-5)
    # The last bin holds 10/11 and 1: what is within it is part of the resolution.
    held = (p >= 10 / 11) & (weight > 0)
    spread = weight[held] * (p[held] - np.average(p[held], weights=weight[held]))
    within = (spread * (p[held] - 2 * y[held])).sum() / weight.sum()
    assert found["brier_resolution"] == pytest.approx(resolution - within, abs=1e-5)


def test_adaptive_calibration_error_of_ranges_by_hand():
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(3), N), rng.integers(0, 3, N)
    gaps = [
        abs(p[part, k].mean() - (y[part] == k).mean()) for k in range(3) for part in np.array_split(np.argsort(p[:, k]), 6)
    ]  # of 10 rows each
    assert value(m.adaptive_calibration_error(6), y, predict_proba=p) == pytest.approx(np.mean(gaps), rel=1e-9)


# Customers.


def expected_gain(p, y, weight, share):
    """Rows one at a time, those of one probability in the mean of their orders."""
    room, found = share * weight.sum(), 0.0
    for one in np.unique(p)[::-1]:
        held = p == one
        part = min(1.0, room / weight[held].sum()) if weight[held].sum() else 0.0
        found, room = found + part * (weight * y)[held].sum(), room - part * weight[held].sum()
    return found / (weight * y).sum()


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_gain_and_lift_by_hand(share):
    p, y, weight = scored()
    wanted = expected_gain(p, y, weight, share)
    assert value(m.gain(share), y, weight, predict_proba=two(p)) == pytest.approx(wanted, rel=1e-9)
    assert value(m.lift(share), y, weight, predict_proba=two(p)) == pytest.approx(wanted / share, rel=1e-9)


def test_profit_by_hand():
    p, y, weight = scored()
    worth = 10 * y - 3

    def at(threshold):
        return np.average((p >= threshold) * worth, weights=weight)

    assert value(m.profit(10.0, 3.0), y, weight, predict_proba=two(p)) == pytest.approx(at(0.3), rel=1e-5)
    assert value(m.profit(10.0, 3.0, 0.6), y, weight, predict_proba=two(p)) == pytest.approx(at(0.6), rel=1e-5)
    best = max(at(threshold) for threshold in [*p, 2])
    assert value(m.maximum_profit(10.0, 3.0), y, weight, predict_proba=two(p)) == pytest.approx(best, rel=1e-9)


# Items.


def test_items_by_hand():
    rng = np.random.default_rng(0)
    score, y, weight = rng.integers(0, 5, (20, 7)) / 4, (rng.random((20, 7)) < 0.3).astype(float), rng.choice([0.0, 1.0, 2.0], 20)
    k, found = 3, {"map": [], "mrr": [], "hit": []}
    first = np.argsort(-score, 1, kind="stable")[:, :k]
    for row, order in zip(y, first, strict=True):
        hit = row[order]
        precision = [hit[: r + 1].mean() * hit[r] for r in range(k)]
        found["map"].append(sum(precision) / max(min(k, row.sum()), 1))
        found["mrr"].append(max((1 / (r + 1) for r in range(k) if hit[r]), default=0))
        found["hit"].append(float(hit.any()))
    for metric, name in ((m.mean_average_precision_at(k), "map"), (m.mean_reciprocal_rank(k), "mrr"), (m.hit_rate(k), "hit")):
        assert value(metric, y, weight, predict=score) == pytest.approx(np.average(found[name], weights=weight), rel=1e-6)
    offers = np.bincount(first.ravel(), np.repeat(weight, k), minlength=7)
    assert value(m.catalogue_coverage(k, 7), y, weight, predict=score) == pytest.approx((offers > 0).mean())
    assert value(m.diversity(k, 7), y, weight, predict=score) == pytest.approx(scipy.stats.entropy(offers, base=7), rel=1e-5)
    assert value(m.hit_rate(99), y, predict=score) == pytest.approx((y.sum(1) > 0).mean())


# Whole sets and one's own.


def test_all_rows_at_once_in_the_order_of_their_ids():
    seen = []
    metric = whole_rows("first", lambda outputs, batch: seen.append(batch) or outputs["predict"][0], inputs=True)
    rows = Batch({"a": np.arange(4.0)}, np.arange(4), np.array([1.0, 0, 1, 1]), np.array([9, 0, 4, 7]))
    predict = np.array([5.0, np.nan, 3.0, 4.0])
    parts = [metric.update(metric.empty(), {"predict": predict[at]}, jax.tree.map(lambda v: v[at], rows)) for at in ([3, 1], [0, 2])]  # noqa: B023
    assert metric.compute(metric.merge(*parts)) == metric.compute(metric.merge(*parts[::-1])) == {"first": 3.0}
    assert seen[0].row.tolist() == [4, 7, 9] and seen[0].x["a"].tolist() == [2, 3, 0]
    assert np.isnan(metric.compute(metric.empty())["first"])
    assert np.isnan(value(metric, np.zeros(2), predict=np.array([1.0, np.inf])))


def test_half_precision_is_read_and_roc_auc_keeps_its_digits_where_probabilities_saturate():
    rng = np.random.default_rng(0)
    y, odds = rng.integers(0, 2, 500), (rng.normal(size=500) + 20).astype(np.float32)
    p = np.asarray(jax.nn.softmax(jnp.stack([jnp.zeros(500), jnp.asarray(odds)], 1)))
    assert len(np.unique(p[:, 1])) < 20
    assert value(m.roc_auc(), y, predict_proba=p) == pytest.approx(sk.roc_auc_score(y, odds), abs=1e-3)
    assert value(m.median_absolute_error(), np.zeros(3), predict=np.asarray(jnp.ones(3, jnp.bfloat16))) == 1


def test_what_one_class_alone_cannot_say_is_no_number():
    one = {"y": np.zeros(4, int), "predict_proba": np.full((4, 3), 1 / 3)}
    for metric in (m.roc_auc(), m.roc_auc(multi_class="ovo"), m.d2_log_loss(3), m.d2_brier(3)):
        assert np.isnan(value(metric, **one))
    for metric in (m.roc_auc(), m.gain(), m.lift(), m.kolmogorov_smirnov()):
        assert np.isnan(value(metric, np.zeros(4, int), predict_proba=np.full((4, 2), 0.5)))


def test_functions_of_ones_own():
    y, predict = np.array([1.0, 2.0, 4.0]), np.array([1.0, 4.0, 4.5])
    assert value(as_metric(lambda y, predict: jnp.abs(predict - y)), y, predict=predict) == pytest.approx(2.5 / 3)
    assert value(as_metric(lambda outputs, batch: outputs["predict"] > batch.y), y, predict=predict) == pytest.approx(2 / 3)
    known = m.accuracy()
    assert as_metric(known) is known


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (3, r"`mine` must be a Metric or a function \(y, predict\) -> \[n\] or \(outputs, batch\) -> \[n\]; got 3."),
        (lambda y: y, r"got <lambda>\(y\)"),
        (lambda y, predict, alpha: y, r"got <lambda>\(y, predict, alpha\)"),
    ],
)
def test_what_is_no_metric_is_refused(made, message):
    with pytest.raises(TypeError, match=message):
        as_metric(made, "mine")


def test_a_function_gives_a_value_for_every_row():
    with pytest.raises(ValueError, match=r"`metric` must give a value for every row, \(3,\); got \(\)|got 0"):
        value(as_metric(lambda y, predict: jnp.sum(y)), np.zeros(3), predict=np.zeros(3))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: m.gain(0.0), "`share` of `gain` must be above 0 and at most 1; got 0."),
        (lambda: m.profit(0.0, 1.0), "`benefit` of `profit` must be > 0; got 0."),
        (lambda: m.profit(1.0, -1.0), "`cost` of `profit` must be >= 0; got -1."),
        (lambda: m.f1("binary", 3), "`average` of `f1` must not be binary for more than two classes"),
        (lambda: m.recall("samples", 3), "`average` of `recall` can be samples for several labels only"),
        (lambda: m.jaccard("mean", 3), "`average` of `jaccard` must be one of binary, micro, macro, weighted, samples; got 'mean'."),
        (lambda: m.roc_auc("binary"), "`average` of `roc_auc` must be one of macro, micro, weighted, samples; got 'binary'."),
        (lambda: m.roc_auc("micro", "ovo"), "`average` of `roc_auc` must be macro or weighted over pairs of classes, ovo; got 'micro'."),
        (lambda: m.roc_auc(multi_class="all"), "`multi_class` of `roc_auc` must be one of ovr, ovo; got 'all'."),
        (lambda: m.cohen_kappa(2, "cubic"), "`weights` of `cohen_kappa` must be one of none, linear, quadratic; got 'cubic'."),
        (lambda: m.mean_tweedie_deviance(0.5), "`power` of `mean_tweedie_deviance` must be <= 0 or >= 1; got 0.5."),
        (lambda: value(m.silhouette(), y=None, weight=[0.5, 1.0], x=np.zeros((2, 1)), cluster=np.zeros(2, int)), "`silhouette` takes whole weights, how often a row is there; got 0.5."),
        (lambda: value(m.roc_auc(), np.zeros(2), predict_proba=np.zeros(2)), r"`roc_auc` takes `predict_proba` \[n, classes\] .*; got \(2,\) and \(2,\)"),
        (lambda: value(m.lift(), np.zeros(2), predict_proba=np.zeros((2, 3))), r"`lift` takes `predict_proba` \[n, 2\] and labels \[n\]; got \(2, 3\)"),
        (lambda: value(m.crps(), np.zeros(2), draws=np.zeros(2)), r"`crps` takes `draws` \[n, m\] and targets \[n\]; got \(2,\) and \(2,\)"),
        (lambda: value(m.interval_width(), np.zeros(2), interval=np.zeros(2)), r"`interval` \[n, 2\] and targets \[n\]; got \(2,\) and \(2,\)"),
        (lambda: value(m.ndcg(2), np.zeros(2), predict=np.zeros(2)), r"`predict` and relevance \[n, items\]; got \(2,\) and \(2,\)"),
        (lambda: value(m.diversity(2, 3), np.zeros(2), predict=np.zeros((2, 4))), r"`diversity_2` takes `predict` \[n, 3\]; got \(2, 4\)"),
        (lambda: value(m.label_ranking_loss(), np.zeros(2), predict_proba=np.zeros((2, 4))), r"\[n, labels\]; got \(2, 4\) and \(2,\)"),
        (lambda: value(m.f1("macro", 3, True), np.zeros(2), predict=np.zeros((2, 3))), r"answers and labels \[n, 3\]; got \(2, 3\) and \(2,\)"),
        (lambda: value(m.hinge_loss(), np.zeros(2), decision_function=np.zeros(3)), r"\[n\] or \[n, classes\] and labels \[n\]; got \(3,\) and \(2,\)"),
        (lambda: value(m.median_absolute_error(), np.zeros(2), predict=np.zeros((2, 1))), r"targets' shape \(2,\); got \(2, 1\)"),
        (lambda: value(m.adjusted_mutual_information(), np.zeros(2), cluster=np.zeros((2, 1))), r"answers and labels \[n\]; got \(2, 1\) and \(2,\)"),
        (lambda: value(m.kernel_distance(3), x=np.zeros((2, 3)), sample=np.zeros((2, 4))), r"for 3 features; `sample` has shape \(2, 4\)"),
    ],
)
def test_bad_input_is_refused_in_a_line(run, message):
    with pytest.raises(ValueError, match=message):
        run()
