"""Tests of paired scores say what SciPy, other libraries, published examples and brute force say; weights count."""

import itertools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from arsenal.evaluation import plot
from arsenal.evaluation.significance import (
    auc_covariance,
    bayesian_signed_rank,
    critical_difference,
    delong,
    five_by_two_f,
    five_by_two_t,
    friedman,
    iman_davenport,
    mcnemar,
    mean_ranks,
    nemenyi,
    permutation,
    resampled_t,
    wilcoxon,
)

KEPT = Path(__file__).resolve().parents[1] / "kept" / "statistics"
RNG = np.random.default_rng(0)
KEY = jax.random.key(0)

# Demšar, JMLR 7 (2006), table 6: AUC of C4.5 and three ways to prune it, on fourteen sets.
DEMSAR = np.array([
    [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957],
    [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978],
    [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614, 0.9751, 0.946],
    [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669, 0.975, 0.970],
]).T  # fmt: skip


def kept(name):
    return json.loads((KEPT / f"{name}.json").read_text())


def test_resampled_t_is_the_posterior_of_the_correlated_t():
    for case in kept("baycomp")["folds"]:
        table = np.array(case["scores"])
        found = resampled_t(table[:, 0], table[:, 1], ratio=1 / 9)
        assert found.p_value == pytest.approx(2 * min(case["probs"][0], case["probs"][-1]), abs=1e-9)
        assert found.degrees == (9,) and found.effect == pytest.approx((table[:, 0] - table[:, 1]).mean())


def test_resampled_t_without_overlap_is_the_paired_t():
    one, other = RNG.normal(size=(2, 20))
    ours, scipys = resampled_t(one, other, ratio=1e-12), stats.ttest_rel(one, other)
    assert ours.p_value == pytest.approx(scipys.pvalue, rel=1e-6) and ours.statistic == pytest.approx(scipys.statistic, rel=1e-6)
    assert (ours.low, ours.high) == pytest.approx(tuple(scipys.confidence_interval()), rel=1e-6)


def test_five_by_two_are_mlxtends():
    for case in kept("mlxtend")["cases"]:
        ours = five_by_two_t(case["one"], case["other"])
        assert (ours.statistic, ours.p_value) == pytest.approx(tuple(case["t"]), rel=1e-9)
        ours = five_by_two_f(case["one"], case["other"])
        assert (ours.statistic, ours.p_value) == pytest.approx(tuple(case["f"]), rel=1e-9)
    with pytest.raises(ValueError, match=r"`five_by_two_t` takes scores \[5, 2\].*got \[2, 5\] and \[5, 2\]"):
        five_by_two_t(np.ones((2, 5)), np.ones((5, 2)))


def right_and_wrong(b, c):
    """Rows of which one alone is right b times, the other c times, both 50 times and none 40 times."""
    times = [50, b, c, 40]
    return np.repeat([1, 1, 0, 0], times), np.repeat([1, 0, 1, 0], times)


def test_mcnemar_is_statsmodels():
    for case in kept("statsmodels")["mcnemar"]:
        one, other = right_and_wrong(case["b"], case["c"])
        for method in ("exact", "chi2"):
            found = mcnemar(one, other, method=method)
            assert (found.statistic, found.p_value) == pytest.approx(tuple(case[method]), abs=1e-12)
            assert found.effect == pytest.approx(one.mean() - other.mean()) and found.low <= found.effect <= found.high
    assert mcnemar([1, 0], [1, 0]).p_value == 1 == mcnemar([1, 0], [1, 0], method="chi2").p_value


def test_wilcoxon_is_scipys_and_hollander_and_wolfes():
    one, other = RNG.normal(size=(2, 30)).round(1)
    scipys = stats.wilcoxon((one - other)[one != other])
    assert (wilcoxon(one, other).statistic, wilcoxon(one, other).p_value) == (scipys.statistic, scipys.pvalue)
    # Hollander & Wolfe, 3.1: the depression scale of nine patients; p 0.039, estimate 0.46, 96 % interval 0.010 to 0.786.
    first = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
    second = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
    found = wilcoxon(first, second, confidence=0.96)
    assert found.p_value == pytest.approx(0.0390625) and found.effect == pytest.approx(0.46)
    assert (found.low, found.high) == pytest.approx((0.010, 0.786))
    assert wilcoxon([1.0, 2.0], [1.0, 2.0]).p_value == 1


@pytest.mark.parametrize("n", [40, 200])
def test_the_interval_of_wilcoxon_covers(n):
    inside = 0
    for _ in range(300):
        found = wilcoxon(RNG.standard_t(3, n) + 0.5, np.zeros(n), confidence=0.9)
        inside += found.low <= 0.5 <= found.high
    assert stats.binomtest(inside, 300, 0.9).pvalue > 0.001


def test_friedman_and_its_ranks_are_demsars():
    assert mean_ranks(DEMSAR).round(3).tolist() == [3.143, 2.0, 2.893, 1.964]
    scipys = stats.friedmanchisquare(*DEMSAR.T)
    assert (friedman(DEMSAR).statistic, friedman(DEMSAR).p_value) == (scipys.statistic, scipys.pvalue)
    plain = 12 * 14 / 20 * (np.square(mean_ranks(DEMSAR)).sum() - 25)  # not corrected for ties, as there
    assert plain == pytest.approx(9.28, abs=0.005) and 13 * plain / (42 - plain) == pytest.approx(3.69, abs=0.005)
    assert mean_ranks(-DEMSAR, "min").tolist() == mean_ranks(DEMSAR).tolist()
    assert friedman(np.ones((4, 3))).p_value == 1


def test_iman_davenport_is_the_analysis_of_variance_of_ranks():
    rank = stats.rankdata(-DEMSAR, axis=1)
    of_models = 14 * np.square(rank.mean(0) - 2.5).sum() / 3
    rest = np.square(rank - rank.mean(0)).sum() / 39
    found = iman_davenport(DEMSAR)
    assert found.statistic == pytest.approx(of_models / rest) and found.degrees == (3, 39)
    assert found.p_value == pytest.approx(stats.f.sf(of_models / rest, 3, 39))


def test_nemenyi_is_scikit_posthocs():
    for case in kept("nemenyi")["cases"]:
        np.testing.assert_allclose(nemenyi(case["scores"]), case["p"], atol=1e-4)


def test_critical_differences_are_demsars_table():
    """Table 5(a), q at 0.05 and 0.10 for two to ten models."""
    for alpha, row in ((0.05, [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]), (0.10, [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920])):
        for k, q in zip(range(2, 11), row, strict=True):
            assert critical_difference(k, 6, alpha) / np.sqrt(k * (k + 1) / 36) == pytest.approx(q, abs=1.1e-3)


def test_permutation_is_scipys_and_its_limit():
    one, other = RNG.normal(size=(2, 9)).round(1)
    scipys = stats.permutation_test((one - other,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert permutation(None, one, other).p_value == pytest.approx(scipys.pvalue)
    one, other = RNG.normal(size=(2, 400)) + [[0.1], [0.0]]
    order = RNG.permutation(400)
    drawn = permutation(KEY, one, other, samples=20_000)
    assert drawn == permutation(KEY, one[order], other[order], samples=20_000)._replace(effect=drawn.effect, statistic=drawn.statistic)
    assert drawn.p_value == pytest.approx(stats.ttest_rel(one, other).pvalue, abs=0.012)
    with pytest.raises(ValueError, match="needs a key; got None"):
        permutation(None, one, other)


def test_delong_is_that_of_other_libraries():
    told = kept("delong")
    y, one, other = (np.array(told[name]) for name in ("y", "one", "other"))
    single = delong(y, one)
    assert 0.5 + single.effect == pytest.approx(told["area"]) == pytest.approx(roc_auc_score(y, one))
    assert (0.5 + single.low, 0.5 + single.high) == pytest.approx(tuple(told["interval"]), abs=1e-6)
    pair = delong(y, one, other)
    assert (abs(pair.statistic), pair.p_value) == pytest.approx((abs(told["z"]), told["p"]), abs=1e-6)


def test_the_covariance_of_areas_is_its_definition():
    y = np.array([0, 1, 1, 0, 1, 0, 0, 1])
    scores = RNG.integers(0, 4, (8, 3)).astype(float)
    wins = np.array([[np.heaviside(a - b, 0.5) for a in scores[y == 1]] for b in scores[y == 0]])  # [below, above, 3]
    wanted = np.cov(wins.mean(0).T) / 4 + np.cov(wins.mean(1).T) / 4
    found = auc_covariance(y, scores)
    np.testing.assert_allclose(found.area, wins.mean((0, 1)))
    np.testing.assert_allclose(found.covariance, wanted)


def test_bayesian_signed_rank_is_baycomps():
    for case in kept("baycomp")["signed_rank"]:
        found = bayesian_signed_rank(KEY, case["one"], case["other"], case["rope"])
        worse, *alike, better = case["probs"]
        wanted = [better, *(alike or [0]), worse]
        assert tuple(found) == pytest.approx(wanted, abs=0.012) and sum(found) == pytest.approx(1)


CLASS = np.arange(8) // 2 % 2
TESTS = {
    "resampled_t": lambda one, other, weight, y: resampled_t(one, other, 0.25, weight),
    "mcnemar": lambda one, other, weight, y: mcnemar(np.where(np.isnan(one), one, one > 0), other > 0, weight),
    "wilcoxon": lambda one, other, weight, y: wilcoxon(one, other, weight),
    "permutation": lambda one, other, weight, y: permutation(KEY, one, other, weight),
    "delong": lambda one, other, weight, y: delong(y, one, other, weight),
    "friedman": lambda one, other, weight, y: friedman(np.stack([one, other, other**2], 1), weight),
    "iman_davenport": lambda one, other, weight, y: iman_davenport(np.stack([one, other, other**2], 1), weight),
    "bayesian_signed_rank": lambda one, other, weight, y: bayesian_signed_rank(KEY, one, other, 0.1, weight, samples=500),
}


def flat(found):
    """Its numbers, the degrees of freedom among them."""
    return [*found[:5], *getattr(found, "degrees", ())]


@pytest.mark.parametrize("name", TESTS)
def test_rows_count_by_weight(name):
    one, other = RNG.normal(size=(2, 8))
    dead, weight = np.where(np.arange(8) == 3, np.nan, one), np.array([2, 1, 1, 0, 1, 1, 1, 1])
    at = np.array([0, 0, 1, 2, 4, 5, 6, 7])
    wanted = TESTS[name](one[at], other[at], None, CLASS[at])
    assert flat(TESTS[name](dead, other, weight, CLASS)) == pytest.approx(flat(wanted), nan_ok=True)


BAD = [
    (lambda: wilcoxon([1.0, 2.0], [1.0]), "`other` of `wilcoxon` must have 2 rows, as `one` has; got 1."),
    (lambda: wilcoxon([1.0, 2.0], [1.0, 3.0], [1, 0.5]), "`weight` of `wilcoxon` must be whole numbers >= 0; got 0.5 in row 2."),
    (lambda: wilcoxon([1.0, np.nan], [1.0, 3.0]), "`one` of `wilcoxon` must be finite numbers; got [nan] in row 2."),
    (lambda: mcnemar([1, 2], [0, 1]), "`one` of `mcnemar` must be 0 or 1; got 2."),
    (lambda: mcnemar([1, 0], [0, 1], method="z"), "`method` of `mcnemar` must be exact or chi2; got z."),
    (lambda: resampled_t([1, 2], [1, 3], ratio=0), "`ratio` of `resampled_t` must be > 0; got 0."),
    (lambda: resampled_t([1, 2], [1, 3], 1, confidence=95), "`confidence` of `resampled_t` must be in (0, 1); got 95."),
    (lambda: friedman([[1, 2], [2, 3]]), "`scores` of `friedman` must be [sets, models] of 3 models or more; got [2, 2]."),
    (lambda: delong([0, 0, 0, 1], [1, 2, 3, 4]), "`y` of `auc_covariance` must hold two rows of either class or more; got 1 of class 1 and 3 of 0."),
    (lambda: bayesian_signed_rank(KEY, [1], [2], -1), "`rope` of `bayesian_signed_rank` must be >= 0; got -1."),
    (lambda: critical_difference(1, 5), "`critical_difference` needs 2 models and 2 sets or more; got 1 and 5."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "line"), BAD, ids=[line[:40] for _, line in BAD])
def test_what_cannot_be_is_a_line(call, line):
    with pytest.raises(ValueError) as said:
        call()
    assert str(said.value) == line


def test_the_critical_difference_diagram_joins_what_is_alike():
    names = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]
    ranks = mean_ranks(DEMSAR)
    for theme in (plot.LIGHT, plot.DARK):
        figure = plot.critical_difference(names, ranks, critical_difference(4, 14, 0.10), theme)
        (axes,) = figure.axes
        bars = [line for line in axes.lines if line.get_gid() == "alike"]
        # At 0.10, CD 1.12: as in Demšar's figure, C4.5 is apart from C4.5+m+cf and C4.5+m only.
        spans = sorted(tuple(np.round(sorted(bar.get_xdata()), 3)) for bar in bars)
        assert spans == [(1.964, 2.893), (2.893, 3.143)]
        said = [text.get_text() for text in axes.texts]
        assert all(any(name in text for text in said) for name in names) and "CD 1.12" in said
        figure.savefig("/dev/null", format="png")


def test_joins_are_maximal_and_need_no_order():
    for _ in range(20):
        ranks, gap = RNG.uniform(1, 6, 6).round(1), 1.3
        found = plot.alike_groups(np.sort(ranks), gap)
        wanted = {(a, b) for a, b in itertools.combinations(range(6), 2) if np.sort(ranks)[b] - np.sort(ranks)[a] <= gap + 1e-9}
        assert all(any(a >= c and b <= d for c, d in found) for a, b in wanted)
        assert all(pair in wanted for pair in found)
        assert not any(a != b and a[0] >= b[0] and a[1] <= b[1] for a, b in itertools.permutations(found, 2))
