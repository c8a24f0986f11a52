"""Schedulers: who goes on, whenever and in whatever order reports come."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import search
from arsenal.records import CONTINUE, STOP
from arsenal.search.schedulers.halving import ladder


def told(scheduler, reports, state=None):
    """Every decision, and the state."""
    state, decisions = scheduler.init() if state is None else state, []
    for report in reports:
        state, decision = scheduler.report(state, *report)
        decisions.append(decision)
    return decisions, state


# ASHA


def test_asha_goes_on_with_the_best_so_far():
    asha = search.asha(least=2, factor=2, most=8)
    decisions, state = told(asha, [
        (0, 1, 9.0), (0, 2, 0.5), (1, 2, 0.7), (2, 3, 0.4), (3, 2, 0.6), (4, 2, 0.45),
    ])  # fmt: skip
    assert decisions == [CONTINUE, CONTINUE, STOP, CONTINUE, STOP, CONTINUE]
    more, _ = told(asha, [(1, 4, 0.0), (0, 4, 0.3), (0, 5, 9.0), (2, 4, 0.1), (0, 8, 0.0)], state)
    assert more == [STOP, CONTINUE, CONTINUE, CONTINUE, STOP]  # a stopped trial stays stopped; `most` ends every one


def test_asha_stops_what_is_not_finite_and_forgives_what_was_skipped():
    asha = search.asha(least=1, factor=2)
    decisions, _ = told(asha, [(0, 1, math.nan), (1, 1, 1.0), (2, 1, math.inf), (3, 4, 0.5), (4, 4, 0.7), (3, 2, 99.0)])
    assert decisions == [STOP, CONTINUE, STOP, CONTINUE, STOP, CONTINUE]


def test_asha_spends_little_and_keeps_the_best():
    rng = np.random.default_rng(0)
    quality, steps, asha = rng.random(256), 0, search.asha(least=1, factor=4)
    state, alive, finished = asha.init(), set(), {}
    for trial in range(256):
        for step in (1, 4, 16, 64):
            steps = steps + step - (0 if step == 1 else step // 4)
            state, decision = asha.report(state, trial, step, quality[trial] + 0.1 / step)
            if decision == STOP:
                break
        else:
            finished[trial] = quality[trial]
    assert min(finished, key=finished.get) == int(np.argmin(quality))
    assert steps < 0.2 * 256 * 64 and len(finished) < 30, alive


# Successive halving and Hyperband


def test_halving_waits_for_nobody_and_decides_when_all_have_come():
    halving = search.successive_halving(4, least=1, factor=2, most=8)
    decisions, state = told(halving, [(0, 1, 0.4), (1, 1, 0.3), (2, 1, 0.2), (2, 1, 0.2), (0, 2, 0.05), (3, 1, 0.1)])
    assert decisions == [CONTINUE] * 6
    more, state = told(
        halving, [(0, 3, 0.0), (1, 1, 0.3), (2, 1, 0.2), (3, 2, 0.6), (2, 2, 0.5), (3, 2, 0.6), (2, 8, 0.0)], state
    )
    assert more == [STOP, STOP, CONTINUE, CONTINUE, CONTINUE, STOP, STOP]
    assert told(halving, [(4, 1, 9.0), (7, 1, 8.0)], state)[0] == [CONTINUE, CONTINUE], "The next four are a cohort of their own."


def test_halving_is_a_function_of_the_reports_not_of_their_order():
    values = {(t, s): abs(t - 3) + 1 / s for t in range(6) for s in (1, 2, 4)} | {(5, 2): math.nan}
    kept = set()
    for order in itertools.islice(itertools.permutations(range(6)), 0, 720, 37):
        halving = search.successive_halving(6, factor=2)
        _, state = told(halving, [(t, s, values[t, s]) for s in (1, 2, 4) for t in order])
        kept.add(tuple(t for t in range(6) if told(halving, [(t, 5, 0.0)], state)[0] == [CONTINUE]))
    assert kept == {(3,)}


def test_a_lost_trial_holds_no_rung_open():
    halving = search.successive_halving(4, factor=2)
    decisions, _ = told(halving, [(0, 1, 0.4), (1, 1, 0.3), (2, 1, math.nan), (3, 1, 0.1), (0, 1, 0.4), (1, 1, 0.3)])
    assert decisions == [CONTINUE, CONTINUE, STOP, CONTINUE, STOP, CONTINUE]


def test_hyperbands_brackets_are_the_papers():
    """Li et al., algorithm 1 with R = 81 and a factor of 3, as Ray Tune's documentation lists them."""
    scheduler, sizes = search.hyperband(81), [81, 34, 15, 8, 5]
    assert ladder(81, 1, 3, 81) == (1, 3, 9, 27)
    firsts = np.cumsum([0, *sizes])
    for turn in (0, int(firsts[-1])):
        for first, size, least in zip(firsts + turn, sizes, (1, 3, 9, 27, 81), strict=False):
            _, state = told(scheduler, [(int(first) + i, least, float(i)) for i in range(size)])
            going = [told(scheduler, [(int(first) + i, least, float(i))], state)[0] == [CONTINUE] for i in range(size)]
            assert going == [least < 81 and i < size // 3 for i in range(size)]


@pytest.mark.parametrize(("make", "message"), [
    (lambda: search.asha(least=0), "`least` of `asha` must be >= 1 step; got 0"),
    (lambda: search.asha(factor=1), "`factor` of `asha` must be > 1"),
    (lambda: search.hyperband(3, least=3), "`most` of `hyperband` must be more than `least`, 3 steps; got 3"),
    (lambda: search.successive_halving(0), "`trials` of `successive_halving`"),
    (lambda: search.population_based(1), "`trials` of `population_based` must be >= 2"),
    (lambda: search.population_based(8, fraction=0.6), "at most 0.5; got 0.6"),
    (lambda: search.population_based(2).report(search.population_based(2).init(), 2, 1, 0.0), "knows trials 0 to 1; got 2"),
])  # fmt: skip
def test_what_cannot_be_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Population-based training


def test_the_worst_clone_the_best_once():
    scheduler = search.population_based(8, interval=10, fraction=0.25)
    decisions, state = told(scheduler, [(t, 10, float(t)) for t in range(8)])
    assert decisions[:7] == [CONTINUE] * 7 and decisions[7] in (0, 1), "The round is decided when the last has come."
    again, state = told(scheduler, [(t, 11, 0.0) for t in range(8)], state)
    assert [again[t] for t in (0, 1, 2, 3, 4, 5, 7)] == [CONTINUE] * 7 and again[6] in (0, 1)
    assert told(scheduler, [(6, 12, 0.0), (7, 12, 0.0)], state)[0] == [CONTINUE, CONTINUE]
    late, state = told(scheduler, [(t, 20, -float(t)) for t in (7, 6, 5, 4, 3, 2, 1, 0)], state)
    assert late[-1] in (6, 7)


def test_what_is_not_finite_clones_and_is_not_cloned():
    scheduler = search.population_based(4, fraction=0.5)
    values = (math.nan, 1.0, math.inf, math.nan)
    decisions, state = told(scheduler, [(t, 1, values[t]) for t in range(4)])
    assert decisions[3] == 1 and told(scheduler, [(0, 1, 0.0), (1, 1, 1.0), (2, 1, 0.0)], state)[0] == [1, CONTINUE, 1]


def test_exploring_moves_floats_within_bounds():
    space = search.space(
        {"rate": {"log": [1e-4, 1e-1]}, "drop": {"float": [0, 1]}, "width": {"int": [1, 9]}, "seed": {"seed": 2}}
    )
    before = {"rate": jnp.full(200, 1e-2), "drop": jnp.full(200, 0.95), "width": jnp.full(200, 3), "seed": jnp.ones(200, int)}
    moved = jax.jit(lambda key, candidate: search.explore(key, space, candidate))(jax.random.key(0), before)
    assert sorted(set(np.round(np.asarray(moved["rate"]), 5).tolist())) == pytest.approx([0.008, 0.0125])
    assert sorted(set(np.round(np.asarray(moved["drop"]), 5).tolist())) == pytest.approx([0.85, 1.0])
    assert (moved["width"] == 3).all() and (moved["seed"] == 1).all()


def test_a_population_solves_jaderbergs_toy():
    """Figure 2 of the paper: two members on a surrogate whose gradient the hyperparameters mask reach the maximum of 1.2
    only by exploiting and exploring."""
    space = search.space({"h0": {"float": [0, 1]}, "h1": {"float": [0, 1]}})
    theta, h = np.full((2, 2), 0.9), np.array([[1.0, 0.0], [0.0, 1.0]])
    scheduler = search.population_based(2, interval=5, fraction=0.5)
    state = scheduler.init()

    def run(adapt):
        nonlocal theta, h, state
        for step in range(1, 201):
            theta = theta - 0.02 * h * theta
            for one in (0, 1, 0):
                state, decision = scheduler.report(state, one, step, float((theta[one] ** 2).sum() - 1.2))
                if decision >= 0 and adapt:
                    theta[one] = theta[decision]
                    names = {"h0": h[decision][0], "h1": h[decision][1]}
                    new = search.explore(jax.random.key(step), space, names)
                    h[one] = [float(new["h0"]), float(new["h1"])]
        return 1.2 - (theta**2).sum(1).min()

    without = run(False)
    theta, h, state = np.full((2, 2), 0.9), np.array([[1.0, 0.0], [0.0, 1.0]]), scheduler.init()
    assert without < 0.4 and run(True) > 1.1


def test_asha_in_lockstep_keeps_the_best_whatever_their_order():
    """As lanes are asked: all report, then all again."""
    for order in ([0, 1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1, 0], [3, 0, 7, 1, 6, 2, 5, 4]):
        asha = search.asha(least=1, factor=4)
        _, state = told(asha, [(trial, 1, float(trial)) for trial in order])
        decisions, state = told(asha, [(trial, 1, float(trial)) for trial in order], state)
        assert {trial for trial, decision in zip(order, decisions, strict=True) if decision == CONTINUE} == {0, 1}
        assert told(asha, [(0, 2, 0.5), (5, 2, 0.0)], state)[0] == [CONTINUE, STOP]
