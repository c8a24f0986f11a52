"""Experiments on people: designs, tests, adjustment, multiplicity and slices have SciPy's and statsmodels' numbers; weights count."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import stats

from arsenal.evaluation import ab
from arsenal.evaluation.ab.design import LARGEST
from arsenal.evaluation.ab.slices import heterogeneity
from arsenal.evaluation.significance import Comparison

KEPT = Path(__file__).resolve().parents[1] / "kept" / "statistics"
RNG = np.random.default_rng(0)
N = 90
ARM = (RNG.random(N) < 0.4).astype(int)
BEFORE = RNG.normal(size=N)
Y = 2 * BEFORE + 0.8 * ARM + (1 + ARM) * RNG.normal(size=N)
BINARY = (Y > 0.5).astype(int)
VIEWS = RNG.poisson(5, N) + 1.0
CLICKS = RNG.binomial(VIEWS.astype(int), 0.3).astype(float)
CONTROL, TREATMENT = Y[ARM == 0], Y[ARM == 1]


def kept(name):
    return json.loads((KEPT / f"{name}.json").read_text())


def test_power_and_sample_sizes_are_statsmodels():
    told = kept("power")
    for case in told["t"]:
        found = ab.power(ab.means(1.0), case["n"], case["effect"], ratio=case["ratio"], alternative=case["alternative"])
        assert found == pytest.approx(case["power"], abs=1e-6), case
    for case in told["t_size"]:
        assert ab.sample_size(ab.means(2.0), 2 * case["effect"], case["power"], ratio=case["ratio"]) == np.ceil(case["n"]), case
    for case in told["share_size"]:
        assert ab.sample_size(ab.proportions(case["share"]), case["effect"], 0.9, 0.01) == np.ceil(case["n"]), case


@pytest.mark.parametrize("alternative", ["two-sided", "larger", "smaller"])
@pytest.mark.parametrize("design", [ab.means(3.0), ab.proportions(0.2), ab.clusters(ab.proportions(0.2), 10, 0.1, 0.5)])
def test_a_detectable_effect_needs_the_units_that_it_was_asked_of(design, alternative):
    effect = ab.detectable_effect(design, 500, ratio=2, alternative=alternative)
    assert (effect < 0) == (alternative == "smaller")
    assert ab.power(design, 500, effect, ratio=2, alternative=alternative) == pytest.approx(0.8, abs=1e-6)
    assert ab.sample_size(design, effect, ratio=2, alternative=alternative) == pytest.approx(500, abs=1)


def test_a_ratios_design_has_the_deviation_of_its_test():
    """Of the units' own data, the error of `ratio_test` is what the design says of so many units."""
    views, arm = RNG.poisson(5, 20_000) + 1.0, np.arange(20_000) % 2
    clicks = RNG.binomial(views.astype(int), 0.3).astype(float)
    found, design = ab.ratio_test(clicks, views, arm), ab.ratios(clicks, views)
    error = 1 / design.standardize(1.0) * np.sqrt(2 / 10_000)
    assert found.effect / found.statistic == pytest.approx(error, rel=0.05)


def test_clusters_inflate():
    """Eldridge et al. (2006): clusters of 20 alike by 0.05 need 1.95 times the units; sizes that vary by 0.5, 2.2."""
    assert ab.clusters(ab.means(1.0), 20, 0.05).inflation == pytest.approx(1.95)
    assert ab.clusters(ab.means(1.0), 20, 0.05, 0.5).inflation == pytest.approx(2.2)


def close(found: Comparison, statistic, p, interval=None, effect=None):
    assert (found.statistic, found.p_value) == pytest.approx((float(statistic), float(p)), rel=1e-9)
    if interval is not None:
        assert (found.low, found.high) == pytest.approx(tuple(interval), rel=1e-6)
    if effect is not None:
        assert found.effect == pytest.approx(effect)


@pytest.mark.parametrize("equal", [False, True])
def test_t_is_scipys(equal):
    scipys = stats.ttest_ind(TREATMENT, CONTROL, equal_var=equal)
    found = ab.t_test(Y, ARM, equal_variances=equal)
    close(found, scipys.statistic, scipys.pvalue, scipys.confidence_interval(), TREATMENT.mean() - CONTROL.mean())
    assert ab.t_test([1, 1, 1, 1], [0, 0, 1, 1]).p_value == 1


def test_z_of_shares_is_statsmodels():
    for case in kept("statsmodels")["shares"]:
        a, n, b, m = case["table"]
        y = np.repeat([1, 0, 1, 0], [a, n - a, b, m - b])
        found = ab.z_test(y, np.repeat([0, 1], [n, m]))
        close(found, case["z"], case["p"], case["interval"], b / m - a / n)


def test_chi_square_fisher_and_mann_whitney_are_scipys():
    table = [[((arm == ARM) & (value == BINARY)).sum() for value in (1, 0)] for arm in (1, 0)]
    scipys = stats.chi2_contingency(table, correction=False)
    close(ab.chi_square(BINARY, ARM), scipys.statistic, scipys.pvalue)
    assert ab.chi_square(BINARY, ARM).statistic == pytest.approx(ab.z_test(BINARY, ARM).statistic ** 2)
    odds = stats.contingency.odds_ratio(table)
    close(ab.fisher(BINARY, ARM), odds.statistic, stats.fisher_exact(table).pvalue, odds.confidence_interval(), odds.statistic)
    ranks = stats.mannwhitneyu(TREATMENT, CONTROL)
    close(ab.mann_whitney(Y, ARM), ranks.statistic, ranks.pvalue, effect=ranks.statistic / (ARM.sum() * (1 - ARM).sum()) - 0.5)


def test_the_bootstrap_of_two_means_is_scipys():
    found = ab.bootstrap_means(jax.random.key(0), Y, ARM, samples=10_000)
    of_both = lambda a, b, axis=-1: np.mean(b, axis) - np.mean(a, axis)  # noqa: E731
    scipys = stats.bootstrap((CONTROL, TREATMENT), of_both, n_resamples=10_000, rng=0).confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(scipys), abs=0.08)  # an end has an error of 0.02 in either
    assert found.effect == pytest.approx(TREATMENT.mean() - CONTROL.mean(), rel=1e-5)
    assert found.p_value == pytest.approx(ab.t_test(Y, ARM).p_value, abs=0.03)


def test_the_delta_method_is_the_jackknife_of_a_ratio():
    found = ab.ratio_test(CLICKS, VIEWS, ARM)
    variance = 0.0
    for arm in (0, 1):
        a, b = CLICKS[arm == ARM], VIEWS[arm == ARM]
        left = (a.sum() - a) / (b.sum() - b)
        variance += (len(a) - 1) / len(a) * np.square(left - left.mean()).sum()
    assert found.effect / found.statistic == pytest.approx(np.sqrt(variance), rel=0.02)
    assert found.effect == pytest.approx(CLICKS[ARM == 1].sum() / VIEWS[ARM == 1].sum() - CLICKS[ARM == 0].sum() / VIEWS[ARM == 0].sum())


def test_cuped_is_the_residual_of_a_regression_and_sharper():
    fitted = stats.linregress(BEFORE, Y)
    np.testing.assert_allclose(ab.cuped_values(Y, BEFORE), Y - fitted.slope * (BEFORE - BEFORE.mean()))
    plain, sharp = ab.t_test(Y, ARM), ab.cuped_test(Y, ARM, BEFORE)
    shrunk = (sharp.high - sharp.low) / (plain.high - plain.low)
    assert shrunk == pytest.approx(np.sqrt(1 - np.corrcoef(Y, BEFORE)[0, 1] ** 2), rel=0.15) and shrunk < 0.8
    np.testing.assert_allclose(ab.cuped_values(Y, np.ones(N)), Y)


def test_regression_adjustment_is_statsmodels_hc2():
    told = kept("statsmodels")["lin"]
    found = ab.regression_adjustment(told["y"], told["arm"], told["x"])
    assert (found.effect, found.p_value) == pytest.approx((told["effect"], told["p"]), rel=1e-8)
    assert (found.low, found.high) == pytest.approx(tuple(told["interval"]), rel=1e-8)
    with pytest.raises(ValueError, match="must be independent with fewer columns than units; got rank 4 of 6"):
        ab.regression_adjustment(Y, ARM, np.stack([BEFORE, BEFORE], 1))


def test_multiplicity_is_statsmodels_and_leaves_gaps():
    told = kept("statsmodels")
    for method, wanted in told["adjusted"].items():
        np.testing.assert_allclose(ab.adjust_p_values(told["p"], method), wanted)
        gaps = ab.adjust_p_values([np.nan, *told["p"]], method)
        assert np.isnan(gaps[0]) and gaps[1:].tolist() == pytest.approx(wanted)


def test_sample_ratio_mismatch_is_scipys():
    counts = [820, 910, 400]
    found, scipys = ab.sample_ratio_mismatch(counts, [2, 2, 1]), stats.chisquare(counts, np.array([2, 2, 1]) / 5 * sum(counts))
    close(found, scipys.statistic, scipys.pvalue, effect=820 / 2130 - 0.4)
    assert ab.sample_ratio_mismatch([5000, 5000]).p_value == 1


def test_slices_have_their_own_effects_and_one_test():
    slices = np.array(["b", "a", "c", "tiny"])[np.arange(N) % 3]
    slices[:2] = "tiny"
    found = ab.effects_by_slice(Y, ARM, slices)
    assert found.names == ["a", "b", "c", "tiny"]
    for name, effect in zip(found.names[:3], found.effects[:3], strict=True):
        assert effect == ab.t_test(Y[slices == name], ARM[slices == name])
    assert np.isnan(found.effects[3].p_value) and np.isnan(found.adjusted[3])
    np.testing.assert_allclose(found.adjusted[:3], ab.adjust_p_values([one.p_value for one in found.effects[:3]]))
    told = kept("statsmodels")["heterogeneity"]
    z = stats.norm.ppf(0.975)
    effects = [Comparison(0, 0, e, e - z * s, e + z * s) for e, s in zip(told["effect"], told["error"], strict=True)]
    q = heterogeneity(effects)
    assert (q.statistic, q.p_value, q.effect) == pytest.approx((told["q"], told["p"], told["mean"]))


TESTS = {
    "t": ab.t_test, "z": lambda y, *rest: ab.z_test(np.where(np.isnan(y), y, y > 0.5), *rest),
    "chi_square": lambda y, *rest: ab.chi_square(np.where(np.isnan(y), y, y > 0.5), *rest),
    "fisher": lambda y, *rest: ab.fisher(np.where(np.isnan(y), y, y > 0.5), *rest), "mann_whitney": ab.mann_whitney,
    "ratio": lambda y, arm, weight: ab.ratio_test(y, 1 + np.arange(len(arm)) % 1, arm, weight),
    "bootstrap": lambda *rows: ab.bootstrap_means(jax.random.key(0), *rows, samples=100),
}  # fmt: skip


def flat(found):
    """Its numbers, the degrees of freedom among them."""
    return [*found[:5], *found.degrees]


@pytest.mark.parametrize("name", TESTS)
def test_units_count_by_weight(name):
    weight = RNG.integers(0, 3, 30)
    y = np.where(weight == 0, np.nan, Y[:30])
    at = np.repeat(np.arange(30), weight)
    assert flat(TESTS[name](y, ARM[:30], weight)) == pytest.approx(flat(TESTS[name](Y[at], ARM[at], None)), nan_ok=True)


def test_covariates_count_by_weight():
    weight = RNG.integers(0, 3, N)
    y, before = (np.where(weight == 0, np.nan, part) for part in (Y, BEFORE))
    at = np.repeat(np.arange(N), weight)
    for test in (ab.cuped_test, ab.regression_adjustment):
        assert flat(test(y, ARM, before, weight)) == pytest.approx(flat(test(Y[at], ARM[at], BEFORE[at])))
    slices = np.arange(N) % 2
    found, wanted = ab.effects_by_slice(y, ARM, slices, weight), ab.effects_by_slice(Y[at], ARM[at], slices[at])
    assert found.interaction[:2] == pytest.approx(wanted.interaction[:2])


BAD = [
    (lambda: ab.means(0), "`deviation` of `means` must be > 0; got 0."),
    (lambda: ab.proportions(1.2), "`share` of `proportions` must be in (0, 1); got 1.2."),
    (lambda: ab.sample_size(ab.proportions(0.9), 0.2), "`effect` of a share of 0.9 must be in -0.9..0.1; got 0.2."),
    (lambda: ab.sample_size(ab.means(1), 0), "`effect` of `sample_size` must not be 0 and on the side of `alternative`; got 0."),
    (lambda: ab.sample_size(ab.means(1), 1e-7), f"`effect` of `sample_size` is so small that {LARGEST:g} units do not find it; got 1e-07."),
    (lambda: ab.sample_size(ab.means(1), 1, power=0.01), "`power` of `sample_size` must be above alpha and below 1; got 0.01."),
    (lambda: ab.power(ab.means(1), 1, 1), "`n` of `power` must be more than 2 units that count, in both groups together; got 1."),
    (lambda: ab.clusters(ab.means(1), 5, 2), "`correlation` of `clusters` must be in 0..1; got 2."),
    (lambda: ab.t_test([1, 2, 3], [0, 0, 2]), "`treated` of `t_test` must be 0 or 1; got 2."),
    (lambda: ab.t_test([1, 2, 3], [0, 0, 1]), "`t_test` needs 2 units or more in the treatment; got 1."),
    (lambda: ab.t_test([1, np.nan, 3], [0, 0, 1]), "`y` of `t_test` must be finite numbers; got [nan] in row 2."),
    (lambda: ab.z_test([1, 0.5], [0, 1]), "`y` of `z_test` must be 0 or 1; got 0.5."),
    (lambda: ab.chi_square([1, 1], [0, 1]), "`chi_square` needs two variants and two outcomes or more; got 2 and 1."),
    (lambda: ab.ratio_test([1, 2, 3, 4], [0, 0, 1, 1], [0, 0, 1, 1]), "`denominator` of `ratio_test` must have a mean > 0 in either arm; got 0."),
    (lambda: ab.adjust_p_values([0.1, 2.0]), "`p` of `adjust_p_values` must be in 0..1; got 2."),
    (lambda: ab.adjust_p_values([0.1], "x"), "`method` of `adjust_p_values` must be holm, bonferroni, benjamini_hochberg or benjamini_yekutieli; got x."),
    (lambda: ab.sample_ratio_mismatch([3]), "`counts` of `sample_ratio_mismatch` must be two or more numbers >= 0 with a sum; got [3.0]."),
    (lambda: ab.sample_ratio_mismatch([3, 4], [1]), "`shares` of `sample_ratio_mismatch` must be 2 numbers > 0; got [1.0]."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "line"), BAD, ids=[line[:45] for _, line in BAD])
def test_what_cannot_be_is_a_line(call, line):
    with pytest.raises(ValueError) as said:
        call()
    assert str(said.value) == line
