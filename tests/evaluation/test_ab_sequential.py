"""Looking early: boundaries are those of published tables, mixtures those of their integral, and simulated false findings stay few."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from arsenal.evaluation import ab
from arsenal.evaluation.ab.sequential import look_moments
from arsenal.evaluation.ab.simulation import UnitBlocks, merge_blocks

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
FIFTHS = np.arange(1, 6) / 5


def test_boundaries_are_those_that_are_published():
    """Lan-DeMets: Reboussin et al., Controlled Clinical Trials 21 (2000), for five looks. Constants: Jennison & Turnbull (2000),
    tables 2.1 and 2.3."""
    assert ab.group_sequential(FIFTHS).z.tolist() == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=6e-4)
    assert ab.group_sequential(FIFTHS, spending="pocock").z.tolist() == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=6e-4)
    for looks, pocock, obrien_fleming in ((2, 2.178, 1.977), (3, 2.289, 2.004), (5, 2.413, 2.040), (10, 2.555, 2.087)):
        shares = np.arange(1, looks + 1) / looks
        assert ab.wang_tsiatis(shares, shape=0.5).z[-1] == pytest.approx(pocock, abs=6e-4)
        assert ab.wang_tsiatis(shares, shape=0.0).z[-1] == pytest.approx(obrien_fleming, abs=6e-4)
    assert ab.wang_tsiatis([1.0]).z[0] == pytest.approx(stats.norm.ppf(0.975))


def test_two_looks_are_a_rectangle_of_two_normals():
    found = ab.group_sequential([0.3, 1.0])
    together = stats.multivariate_normal([0, 0], [[1, np.sqrt(0.3)], [np.sqrt(0.3), 1]])
    assert together.cdf(found.z, lower_limit=-found.z) == pytest.approx(0.95, abs=1e-6)


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_alpha_is_spent_as_it_was_planned(spending):
    found = ab.group_sequential([0.1, 0.15, 0.5, 1.0], 0.1, spending)
    np.testing.assert_allclose(np.cumsum(ab.crossing_rates(found.share, found.z)), found.spent, atol=1e-7)
    assert found.spent[-1] == pytest.approx(0.1)


def test_power_under_a_drift_is_that_of_walks():
    z = ab.group_sequential(FIFTHS).z
    walk = np.cumsum(RNG.normal(3 * 0.2, np.sqrt(0.2), (200_000, 5)), 1) / np.sqrt(FIFTHS)
    beyond = np.abs(walk) > z
    first = np.where(beyond.any(1), beyond.argmax(1), 5)
    np.testing.assert_allclose(ab.crossing_rates(FIFTHS, z, 3.0), np.bincount(first, minlength=6)[:5] / 200_000, atol=4e-3)


def test_the_mixture_is_its_integral():
    effect, variance, tau = 0.23, 0.02, 0.3

    def likelihood(theta):
        return stats.norm.pdf(effect, theta, np.sqrt(variance)) / stats.norm.pdf(effect, 0, np.sqrt(variance))

    ratio, _ = integrate.quad(lambda theta: likelihood(theta) * stats.norm.pdf(theta, 0, tau), -3, 3)
    found = ab.always_valid([effect], [variance], tau)
    assert float(found.p_value[0]) == pytest.approx(min(1, 1 / ratio), rel=1e-4)


def test_intervals_are_the_tests_that_do_not_reject():
    effect, variance = jnp.array([0.4, 0.2]), jnp.array([0.05, 0.01])
    found = ab.always_valid(effect, variance, 0.3, confidence=0.9)
    for end in (found.low, found.high):
        at_end = ab.always_valid(effect - end, variance, 0.3)
        single = [float(ab.always_valid(effect[i : i + 1] - end[i], variance[i : i + 1], 0.3).p_value[0]) for i in range(2)]
        assert single == pytest.approx([0.1, 0.1], rel=1e-3) and float(at_end.p_value[0]) == pytest.approx(0.1, rel=1e-3)
    nothing = ab.always_valid([0.0, 0.1], [0.0, 0.01], 0.3)
    assert float(nothing.p_value[0]) == 1 and np.isinf(nothing.low[0]) and np.isfinite(nothing.low[1])


def test_the_best_mixing_has_the_narrowest_interval():
    best = ab.best_mixing(0.01)
    widths = [float(ab.always_valid([0.0], [0.01], tau).high[0]) for tau in (0.7 * best, best, 1.4 * best)]
    assert widths[1] < min(widths[0], widths[2])


def test_looks_are_those_of_the_units_so_far():
    y, arm = RNG.normal(size=60) + 100, np.arange(60) % 2
    found = look_moments("looks", y, arm, [10, 60], binary=False)
    for i, n in enumerate((10, 60)):
        parts = [y[:n][arm[:n] == a] for a in (0, 1)]
        assert float(found.effect[i]) == pytest.approx(parts[1].mean() - parts[0].mean(), rel=1e-3)
        assert float(found.variance[i]) == pytest.approx(sum(p.var(ddof=1) / len(p) for p in parts), rel=1e-4)
    binary = (y > 100).astype(float)
    shares = look_moments("looks", binary, arm, [60], binary=True)
    assert float(shares.effect[0] / np.sqrt(shares.variance[0])) == pytest.approx(ab.z_test(binary, arm).statistic, rel=1e-4)
    strong = ab.msprt_shares(np.where(arm == 1, binary, 0.0), arm, [5, 20, 60], 0.2)
    assert (np.diff(strong.p_value) <= 0).all() and float(strong.p_value[-1]) < 0.05
    assert float(ab.msprt_means(y + arm * 3, arm, [20, 60], 1.0).p_value[-1]) < 0.001


A_A = {"units": 10_000, "looks": 20, "experiments": 4000}
TESTS = {
    "the end only": (ab.z_at_end(), 0.05, 0.05),
    "O'Brien and Fleming": (ab.beyond_boundaries(ab.group_sequential(np.arange(1, 21) / 20)), 0.05, 0.05),
    "Pocock": (ab.beyond_boundaries(ab.group_sequential(np.arange(1, 21) / 20, spending="pocock")), 0.05, 0.05),
    "mSPRT": (ab.msprt(0.1), 0.0, 0.05),
}


@pytest.mark.parametrize("draw", [ab.normal_outcomes(2.0), ab.binary_outcomes(0.3)], ids=["normal", "binary"])
@pytest.mark.parametrize("name", TESTS)
def test_false_findings_stay_within_the_rate(name, draw):
    decide, least, most = TESTS[name]
    found = ab.simulate(KEY, decide, draw, **A_A)
    count = round(found.rate * A_A["experiments"])
    assert stats.binomtest(count, A_A["experiments"], most, "greater").pvalue > 0.005, found
    assert not least or stats.binomtest(count, A_A["experiments"], least, "less").pvalue > 0.005, found
    assert found.low <= found.rate <= found.high and found.by_look[-1] == found.rate


def test_looking_often_finds_what_is_not_there():
    """Armitage, McPherson & Rowe (1969), table 2: 0.142 for five looks at 5 %, 0.248 for twenty."""
    for looks, rate in ((5, 0.142), (20, 0.248)):
        found = ab.simulate(KEY, ab.z_at_every_look(), ab.normal_outcomes(), 4000, looks, experiments=20_000)
        assert found.low - 0.003 < rate < found.high + 0.003


def test_simulated_power_is_that_of_the_design():
    effect = ab.detectable_effect(ab.means(2.0), 500)
    found = ab.simulate(KEY, ab.z_at_end(), ab.normal_outcomes(2.0), 500, effect=effect, experiments=10_000, confidence=0.999)
    assert found.low < 0.8 < found.high and found.units == 500
    early = ab.simulate(KEY, ab.beyond_boundaries(ab.group_sequential(FIFTHS)), ab.normal_outcomes(2.0), 500, 5, effect)
    assert early.units < 450 and early.rate == pytest.approx(0.79, abs=0.02)


DRAWS = {
    "normal": (ab.normal_outcomes(2.0), 0.0, 2.0), "binary": (ab.binary_outcomes(0.3), 0.3, np.sqrt(0.21)),
    "known": (ab.known_outcomes([0.0, 0.0, 5.0]), 5 / 3, 5 * np.sqrt(2) / 3),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
def test_blocks_have_the_moments_of_the_units_that_they_stand_for(name):
    draw, mean, deviation = DRAWS[name]
    found, moved = (draw(np.random.default_rng(0), (4000, 5), 30, effect) for effect in (0.0, 0.1))
    assert found.mean.mean() == pytest.approx(mean, abs=5 * deviation / np.sqrt(30 * 20_000))
    assert moved.mean.mean() == pytest.approx(mean + 0.1, abs=5 * deviation / np.sqrt(30 * 20_000))
    assert found.mean.std() == pytest.approx(deviation / np.sqrt(30), rel=0.06)
    assert found.square.mean() == pytest.approx(29 * deviation**2, rel=0.06)


def test_merged_blocks_are_all_their_units():
    raw = RNG.normal(1000, 2, (4, 30))
    mean, variance = merge_blocks(UnitBlocks(raw.mean(1)[None], 30 * raw.var(1)[None]), 30)
    np.testing.assert_allclose(mean[0], [raw[:k].mean() for k in range(1, 5)])
    np.testing.assert_allclose(variance[0], [raw[:k].var(ddof=1) for k in range(1, 5)])


BAD = [
    (lambda: ab.simulate(KEY, ab.z_at_end(), ab.normal_outcomes(), 10, 4), "`units` of `simulate` must be a multiple of `looks`, 4, with two units or more for each; got 10."),
    (lambda: ab.group_sequential([0.5, 0.4]), "`shares` of `group_sequential` must rise within (0, 1]; got [0.5, 0.4]."),
    (lambda: ab.group_sequential([0.5], spending="x"), "`spending` of `group_sequential` must be obrien_fleming or pocock; got x."),
    (lambda: ab.crossing_rates([1.0], [0.0]), "`z` of `crossing_rates` must be 1 numbers > 0; got [0.0]."),
    (lambda: ab.always_valid([0.1], [1.0], 0), "`mixing` of `always_valid` must be > 0; got 0."),
    (lambda: ab.msprt_means([1.0, 2.0], [0, 1], [3], 0.1), "`at` of `msprt_means` must be rising numbers of units in 1..2; got [3]."),
    (lambda: ab.msprt_shares([1.0, 2.0], [0, 1], [2], 0.1), "`y` of `msprt_shares` must be 0 or 1; got 2."),
]  # fmt: skip


@pytest.mark.parametrize(("call", "line"), BAD, ids=[line[:45] for _, line in BAD])
def test_what_cannot_be_is_a_line(call, line):
    with pytest.raises(ValueError) as said:
        call()
    assert str(said.value) == line
