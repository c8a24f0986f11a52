"""The bootstrap has SciPy's formulas on the same resamples, its intervals within chance on others, and draws by row id and group."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from arsenal import metrics
from arsenal.evaluation import bootstrap as module
from arsenal.evaluation.bootstrap import bootstrap, bootstrap_difference, metric_by_weight, roc_auc_by_weight, running_sum
from arsenal.records import batch

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
N = 60
Y = RNG.gamma(1.0, size=N)
LABEL, SCORE = (RNG.random(N) < 0.4).astype(int), RNG.normal(size=N)
SCORE = (SCORE + LABEL).round(1)


def mean_of(y):
    y = jnp.asarray(y, float)
    return lambda weight: jnp.where(weight > 0, weight * y, 0).sum() / weight.sum()


MEAN, AREA = mean_of(Y), roc_auc_by_weight(LABEL, SCORE)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_formula_is_scipys_on_the_same_resamples(method):
    """SciPy's BCa takes resamples that are given; its own jackknife and percentiles are then compared to the digit."""
    found = bootstrap(KEY, MEAN, np.ones(N), samples=500, method=method)
    scipys = stats.bootstrap((Y,), np.mean, n_resamples=0, bootstrap_result=Given(found.draws), method=method)
    assert (found.low, found.high) == pytest.approx(tuple(scipys.confidence_interval), rel=1e-5)
    assert found.value == pytest.approx(Y.mean()) and found.error == pytest.approx(scipys.standard_error, rel=1e-6)


class Given:
    """What SciPy goes on from."""

    def __init__(self, draws):
        self.bootstrap_distribution = draws


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_other_resamples_give_scipys_interval_within_chance(method):
    found = bootstrap(KEY, AREA, np.ones(N), samples=10_000, method=method)

    def area(label, score, axis=-1):
        above = label.sum(axis)
        u = (stats.rankdata(score, axis=axis) * label).sum(axis) - above * (above + 1) / 2
        return u / (above * (label.shape[axis] - above))

    scipys = stats.bootstrap((LABEL, SCORE), area, paired=True, n_resamples=10_000, method=method, rng=0)
    assert (found.low, found.high) == pytest.approx(tuple(scipys.confidence_interval), abs=0.01)
    assert found.error == pytest.approx(scipys.standard_error, rel=0.04)


def test_two_strata_are_scipys_two_samples():
    arm = np.arange(N) % 3 == 0
    of_arm = jnp.asarray(np.stack([~arm, arm]), float)

    def value(weight):
        count = of_arm * weight
        mean = count @ jnp.asarray(Y, float) / count.sum(1)
        return mean[1] - mean[0]

    found = bootstrap(KEY, value, np.ones(N), strata=arm, samples=4000)
    of_both = lambda a, b, axis=-1: np.mean(b, axis) - np.mean(a, axis)  # noqa: E731
    scipys = stats.bootstrap((Y[~arm], Y[arm]), of_both, n_resamples=0, bootstrap_result=Given(found.draws))
    assert (found.low, found.high) == pytest.approx(tuple(scipys.confidence_interval), rel=1e-4)


def test_the_area_is_scikit_learns_for_any_weights():
    for weight in (np.ones(N), RNG.integers(0, 3, N), RNG.random(N)):
        assert float(AREA(jnp.asarray(weight, float))) == pytest.approx(roc_auc_score(LABEL, SCORE, sample_weight=weight), rel=1e-5)
    untied = SCORE + 1e-6 * np.arange(N)
    assert float(roc_auc_by_weight(LABEL, untied)(jnp.ones(N))) == pytest.approx(roc_auc_score(LABEL, untied), rel=1e-5)
    dead = np.where(np.arange(N) == 4, np.nan, SCORE)
    weight = np.where(np.arange(N) == 4, 0.0, 1.0)
    wanted = roc_auc_score(np.delete(LABEL, 4), np.delete(SCORE, 4))
    assert float(roc_auc_by_weight(LABEL, dead)(jnp.asarray(weight, float))) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_running_sums(n):
    values = RNG.random(n)
    np.testing.assert_allclose(running_sum(jnp.asarray(values, float)), np.cumsum(values), rtol=1e-5)


def test_a_metric_of_arsenals_is_bootstrapped():
    said = (RNG.random(N) < 0.5).astype(np.int32)
    rows = batch(y=LABEL.astype(np.int32))
    value = metric_by_weight(metrics.accuracy(), {"predict": jnp.asarray(said)}, rows)
    found, plain = bootstrap(KEY, value, rows.weight, samples=300), mean_of(said == LABEL)
    np.testing.assert_allclose(found.draws, bootstrap(KEY, plain, np.ones(N), samples=300).draws, rtol=1e-5)
    with pytest.raises(ValueError, match="`name` of `metric_by_weight` must be one of accuracy; got other"):
        metric_by_weight(metrics.accuracy(), {"predict": jnp.asarray(said)}, rows, "other")(jnp.ones(N))


def test_draws_go_by_row_id_and_rows_that_are_not_there_change_none():
    order = RNG.permutation(N)
    wanted = bootstrap(KEY, MEAN, np.ones(N), samples=200)
    found = bootstrap(KEY, mean_of(Y[order]), np.ones(N), order, samples=200)
    np.testing.assert_allclose(found.draws, wanted.draws, rtol=1e-5)
    padded = bootstrap(KEY, mean_of(np.append(Y, np.nan)), np.append(np.ones(N), 0), samples=200)
    np.testing.assert_allclose(padded.draws, wanted.draws, rtol=1e-5)
    assert (padded.low, padded.high) == pytest.approx((wanted.low, wanted.high), rel=1e-5)


def test_weight_two_is_the_row_twice():
    weight = 1 + np.arange(N) % 2
    twice = np.repeat(np.arange(N), weight)
    wanted = bootstrap(KEY, mean_of(Y[twice]), np.ones(len(twice)), samples=200)
    found = bootstrap(KEY, MEAN, weight, samples=200)
    np.testing.assert_allclose(found.draws, wanted.draws, rtol=1e-5)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-5)


def test_groups_are_drawn_whole():
    groups = np.arange(N) // 3
    sums = Y.reshape(-1, 3).sum(1)
    found = bootstrap(KEY, MEAN, np.ones(N), groups=groups, samples=300)
    wanted = bootstrap(KEY, mean_of(sums / 3), np.ones(N // 3), samples=300)
    np.testing.assert_allclose(found.draws, wanted.draws, rtol=1e-5)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-4)


def test_two_models_are_compared_on_the_same_resamples():
    better = roc_auc_by_weight(LABEL, SCORE + 2 * LABEL)
    found = bootstrap_difference(KEY, better, AREA, np.ones(N), samples=1000)
    assert found.low > 0 and found.p_value == pytest.approx(2 / 1001)
    one, other = (bootstrap(KEY, each, np.ones(N), samples=1000).draws for each in (better, AREA))
    assert (found.low, found.high) != pytest.approx(tuple(np.percentile(one, [2.5, 97.5]) - np.percentile(other, [2.5, 97.5])))
    percentile = bootstrap_difference(KEY, better, AREA, np.ones(N), samples=1000, method="percentile")
    assert (percentile.low, percentile.high) == pytest.approx(tuple(np.percentile(one - other, [2.5, 97.5])), rel=1e-4)


def test_blocks_of_a_jackknife_accelerate_alike(monkeypatch):
    y = RNG.gamma(0.5, size=2000)
    wanted = bootstrap(KEY, mean_of(y), np.ones(2000), samples=1000)
    monkeypatch.setattr(module, "BLOCKS", 400)
    found = bootstrap(KEY, mean_of(y), np.ones(2000), samples=1000)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=0.01)
    percentile = bootstrap(KEY, mean_of(y), np.ones(2000), samples=1000, method="percentile")
    assert abs(found.high - wanted.high) < abs(percentile.high - wanted.high)


BAD = [
    (dict(samples=1), "`samples` of `bootstrap` must be >= 2; got 1."),
    (dict(method="t"), "`method` of `bootstrap` must be percentile or bca; got t."),
    (dict(confidence=95), "`confidence` of `bootstrap` must be in (0, 1); got 95."),
    (dict(weight=np.full(N, 0.5)), "`weight` of `bootstrap` must be whole where rows are drawn; got 0.5 in row 1."),
    (dict(weight=np.zeros(N)), "`weight` of `bootstrap` must be finite numbers [n] >= 0, some of them above 0."),
    (dict(groups=np.zeros(3)), "`groups` of `bootstrap` must have shape [60], as `weight` has; got [3]."),
    (dict(groups=np.arange(N) // 2, strata=np.arange(N) % 2), "`groups` of `bootstrap` must lie in one of `strata` each; got one in two."),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "line"), BAD, ids=[line[:45] for _, line in BAD])
def test_what_cannot_be_is_a_line(changes, line):
    with pytest.raises(ValueError) as said:
        bootstrap(KEY, MEAN, **({"weight": np.ones(N), "samples": 50} | changes))
    assert str(said.value) == line


def test_resamples_without_a_value_are_refused():
    rare = roc_auc_by_weight(np.arange(20) == 3, np.arange(20))
    with pytest.raises(ValueError, match=r"needs a finite value of all resamples; \d+ of 200 have none"):
        bootstrap(KEY, rare, np.ones(20), samples=200)
