"""Samplers: what each promises."""

import jax
import numpy as np
import pytest

from arsenal import search
from arsenal.search import space

MIXED = space({
    "rate": {"log": [1e-4, 1e-1]},
    "width": {"int": [1, 3]},
    "optimizer": {"choice": ["adam", "sgd"]},
    "momentum": {"float": [0, 1], "when": {"optimizer": "sgd"}},
    "seed": {"seed": 2},
})  # fmt: skip
KEY = jax.random.key(0)


def drawn(sampler, n, key=KEY):
    return sampler.ask(key, sampler.init(key), n)


def test_a_grid_has_every_point_once():
    sampler = search.grid(MIXED, points={"rate": 4, "momentum": 3})
    assert sampler.size == 4 * 3 * 2 * (1 + 3)
    ids, candidates, state = drawn(sampler, 90)
    assert ids.tolist() == list(range(90))
    more, _, state = sampler.ask(KEY, state, 90)
    assert len(more) == sampler.size - 90
    _, candidates, _ = drawn(sampler, 1000)
    points = [tuple(MIXED.values(candidates, i).items()) for i in range(sampler.size)]
    assert len(set(points)) == sampler.size
    np.testing.assert_allclose(sorted({dict(p)["rate"] for p in points}), [1e-4, 1e-3, 1e-2, 1e-1])
    assert {dict(p).get("momentum") for p in points} == {None, 0.0, 0.5, 1.0}


def test_a_grid_too_large_is_refused():
    with pytest.raises(ValueError, match=r"at most 1,000,000 points; got 101 x .* = 10,510,100,501"):
        search.grid(space({name: {"float": [0, 1]} for name in "abcde"}), points=101)
    with pytest.raises(ValueError, match="names `rat`, which is not in the space. Did you mean `rate`?"):
        search.grid(MIXED, points={"rat": 3})


@pytest.mark.parametrize("make", [search.random, search.sobol])
def test_a_trial_is_the_same_however_many_are_asked_for(make):
    sampler = make(MIXED)
    _, together, _ = drawn(sampler, 9)
    state = sampler.init(KEY)
    for first, n in ((0, 1), (1, 5), (6, 3)):
        _, some, state = sampler.ask(KEY, state, n)
        for name in together:
            assert np.array_equal(some[name], together[name][first : first + n])
    _, other, _ = drawn(sampler, 9, jax.random.key(1))
    assert not np.array_equal(other["rate"], together["rate"])


def test_random_points_are_uniform():
    from scipy.stats import kstest

    _, _, state = drawn(search.random(MIXED), 4000)
    assert all(kstest(state.unit[:, i], "uniform").pvalue > 1e-3 for i in range(state.unit.shape[1]))


def test_sobol_fills_the_cube_evenly():
    from scipy.stats import qmc

    _, _, even = drawn(search.sobol(MIXED), 256)
    _, _, uneven = drawn(search.random(MIXED), 256)
    assert qmc.discrepancy(even.unit) < 0.2 * qmc.discrepancy(uneven.unit)
    assert all(np.array_equal(np.bincount((even.unit[:, i] * 16).astype(int)), np.full(16, 16)) for i in range(5))


def test_what_is_told_must_have_been_asked():
    sampler = search.random(MIXED)
    ids, _, state = drawn(sampler, 3)
    with pytest.raises(ValueError, match=r"ids that were asked for, 0 to 2; got \[3\]"):
        sampler.tell(state, [3], [[1.0]], [True])
    with pytest.raises(ValueError, match="values \\[m, objectives\\]"):
        sampler.tell(state, ids, [1.0, 2.0, 3.0], [True] * 3)
    state = sampler.tell(state, ids, [[1.0], [np.nan], [3.0]], [True, True, False])
    assert state.status.tolist() == [1, 2, 2] and state.values[0, 0] == 1.0
    with pytest.raises(ValueError, match="same number of objectives, here 1; got 2"):
        sampler.tell(state, ids[:1], [[1.0, 2.0]], [True])
