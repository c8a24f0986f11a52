"""Bandits: their regret stays within the proven bound, is lower than chance's, and depends on nothing but key and arms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from arsenal.evaluation import ab
from arsenal.evaluation.ab.bandits import Pulls

KEY = jax.random.key(0)
MEANS = [0.45, 0.5, 0.7]


def test_the_regret_of_ucb1_is_within_auers_bound():
    found = ab.regret_curve(KEY, ab.ucb1(), MEANS, 2000, 40)
    gaps = np.array([0.25, 0.2])
    t = np.arange(2, 2001)
    bound = 8 * np.log(t)[:, None] / gaps + (1 + np.pi**2 / 3) * gaps
    assert (np.asarray(found.regret).mean(0)[1:] <= bound.sum(1)).all()
    # It is of pulls, too: Auer et al. (2002), theorem 1, of each arm that is not the best.
    assert (np.asarray(found.pulls).mean(0)[:2] <= 8 * np.log(2000) / gaps**2 + 1 + np.pi**2 / 3).all()


BANDITS = {
    "thompson_beta": (ab.thompson_beta(), {}), "ucb1": (ab.ucb1(0.5), {}), "epsilon_greedy": (ab.epsilon_greedy(0.1), {}),
    "thompson_normal": (ab.thompson_normal(0.3), {"rewards": "normal", "deviation": 0.3}),
}  # fmt: skip


@pytest.mark.parametrize("name", BANDITS)
def test_a_bandit_costs_less_than_chance(name):
    bandit, told = BANDITS[name]
    found = ab.regret_curve(KEY, bandit, MEANS, 1000, 20, **told)
    chance = 1000 * np.mean(0.7 - np.array(MEANS))
    assert float(found.regret[:, -1].mean()) < 0.5 * chance
    assert (np.diff(found.regret, axis=1) >= -1e-3).all() and (np.asarray(found.pulls).sum(1) == 1000).all()
    gaps = 0.7 - np.array(MEANS)
    np.testing.assert_allclose(np.asarray(found.pulls) @ gaps, found.regret[:, -1], rtol=1e-4, atol=1e-3)


def test_thompson_chooses_as_often_as_it_believes():
    """The share of choices is the probability that an arm is the best, here of two Beta posteriors, by quadrature."""
    pulls = Pulls(jnp.array([20.0, 30.0]), jnp.array([8.0, 15.0]))
    hp = {"successes": jnp.asarray(1.0), "failures": jnp.asarray(1.0)}
    chosen = jax.vmap(lambda key: ab.thompson_beta().choose(key, pulls, hp))(jax.random.split(KEY, 20_000))
    grid = np.linspace(0, 1, 20_001)
    wanted = np.trapezoid(stats.beta.pdf(grid, 16, 16) * stats.beta.cdf(grid, 9, 13), grid)
    assert float(chosen.mean()) == pytest.approx(wanted, abs=0.012)
    normal = {"deviation": jnp.asarray(2.0), "mean": jnp.asarray(0.0), "prior": jnp.asarray(10.0)}
    chosen = jax.vmap(lambda key: ab.thompson_normal().choose(key, pulls, normal))(jax.random.split(KEY, 20_000))
    precision = 1 / 100 + np.array([20, 30]) / 4
    centre = np.array([8, 15]) / 4 / precision
    wanted = stats.norm.cdf((centre[1] - centre[0]) / np.sqrt((1 / precision).sum()))
    assert float(chosen.mean()) == pytest.approx(wanted, abs=0.012)


def test_greed_explores_as_often_as_it_is_told():
    always, never = (ab.regret_curve(KEY, ab.epsilon_greedy(e), [0.0, 1.0], 3000, 1).pulls[0] for e in (1.0, 0.0))
    assert stats.binomtest(int(always[0]), 3000, 0.5).pvalue > 0.001
    assert never.tolist() == [1, 2999]


def test_a_seed_is_a_function_of_the_key_and_floats_make_no_program():
    from arsenal.evaluation.ab.bandits import live

    one = ab.regret_curve(KEY, ab.epsilon_greedy(0.1), MEANS, 50, 3)
    assert (one.regret == ab.regret_curve(KEY, ab.epsilon_greedy(0.1), MEANS, 50, 3).regret).all()
    live.clear_cache()
    bandit = ab.ucb1()
    for exploration in (0.1, 2.0):
        ab.regret_curve(KEY, bandit._replace(hp={"exploration": exploration}), MEANS, 50, 3)
    assert live._cache_size() == 1


@pytest.mark.parametrize(("told", "line"), [
    ({"means": [0.5]}, r"`means` of `regret_curve` must be of two arms or more; got shape \[1\]."),
    ({"means": [0.5, 2.0]}, r"`means` of `regret_curve` must be in 0..1 for bernoulli rewards; got \[0.5, 2.0\]."),
    ({"means": [0.5, 0.2], "rewards": "x"}, "`rewards` of `regret_curve` must be bernoulli or normal; got x."),
])  # fmt: skip
def test_what_cannot_be_is_a_line(told, line):
    with pytest.raises(ValueError, match=line):
        ab.regret_curve(KEY, ab.ucb1(), told.pop("means"), 10, 2, **told)
