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


LEARNING = [search.tpe, pytest.param(search.gaussian_process, marks=pytest.mark.slow)]


def driven(sampler, space, value, trials, batch=1, key=KEY):
    """The state after trials whose values are a function of the candidate's."""
    state = sampler.init(key)
    for _ in range(trials // batch):
        ids, candidates, state = sampler.ask(key, state, batch)
        made = [[value(space.values(candidates, i))] for i in range(len(ids))]
        state = sampler.tell(state, ids, made, [True] * len(ids))
    return state


def saved(state, folder):
    """The state through a file of NumPy's, arrays only."""
    leaves, structure = jax.tree.flatten(state)
    np.savez(folder / "state.npz", *leaves)
    with np.load(folder / "state.npz", allow_pickle=False) as there:
        return jax.tree.unflatten(structure, [there[f"arr_{i}"] for i in range(len(leaves))])


@pytest.mark.parametrize("make", [search.grid, search.random, search.sobol, *LEARNING, search.cma_es])
def test_a_restored_state_goes_on_with_the_same_bits(make, tmp_path):
    numbers = space({"a": {"float": [0, 1]}, "b": {"log_int": [1, 100]}})
    sampler = make(numbers)
    state = driven(sampler, numbers, lambda v: v["a"] + v["b"], 16, 4)
    ids, candidates, _ = sampler.ask(KEY, state, 3)
    ids_again, again, _ = make(numbers).ask(KEY, saved(state, tmp_path), 3)
    assert np.array_equal(ids, ids_again) and all(np.array_equal(candidates[n], again[n]) for n in numbers.dimensions)


@pytest.mark.parametrize("make", LEARNING)
def test_conditions_and_choices_are_learned(make):
    """The best is behind a choice, at a momentum that exists only there."""

    def value(v):
        return (v["momentum"] - 0.7) ** 2 if v["optimizer"] == "sgd" else 0.5 + (np.log10(v["rate"]) + 2) ** 2

    state = driven(make(MIXED), MIXED, value, 48)
    values = [MIXED.values(MIXED.from_unit(state.unit[i : i + 1]), 0) for i in range(48)]
    assert sum(v["optimizer"] == "sgd" for v in values[24:]) > 16
    assert state.values.min() < 1e-3


@pytest.mark.parametrize("make", [*LEARNING, search.cma_es])
def test_a_batch_spreads(make):
    line = space({"x": {"float": [0, 1]}, "y": {"float": [0, 1]}})
    sampler = make(line)
    state = driven(sampler, line, lambda v: (v["x"] - 0.3) ** 2 + (v["y"] - 0.6) ** 2, 20)
    _, _, grown = sampler.ask(KEY, state, 12)
    batch = (grown.trials if make is search.cma_es else grown).unit[-12:]
    distances = np.linalg.norm(batch[:, None] - batch, axis=-1)[~np.eye(12, dtype=bool)]
    assert distances.min() > 1e-5, "No two are the same."


@pytest.mark.parametrize("make", LEARNING)
def test_a_thousand_at_once_and_ten_thousand_before(make):
    """Seconds on a busy machine; what matters is the order of magnitude."""
    from time import perf_counter

    sampler = make(MIXED)
    state = sampler.init(KEY)
    ids, _, state = sampler.ask(KEY, state, 10_000)
    state = sampler.tell(state, ids, (state.unit**2).sum(1, keepdims=True), np.ones(10_000, bool))
    sampler.ask(KEY, state, 1)
    start = perf_counter()
    _, _, state = sampler.ask(KEY, state, 1)
    one = perf_counter() - start
    state = sampler.tell(state, ids[:1], [[0.0]], [True])
    start = perf_counter()
    ids, _, _ = sampler.ask(KEY, state, 1000)
    assert len(ids) == 1000 and one < 2 and perf_counter() - start < 20


@pytest.mark.parametrize("make", [*LEARNING, search.cma_es])
def test_what_fails_is_avoided_and_what_never_comes_not_waited_for(make):
    half = space({"x": {"float": [0, 1]}, "y": {"float": [0, 1]}})
    sampler = make(half)
    state, rng, where = sampler.init(KEY), np.random.default_rng(0), []
    for _ in range(30):
        ids, candidates, state = sampler.ask(KEY, state, 4)
        where.append(candidates["x"])
        keep = rng.permutation(4)[:3]  # every fourth trial is lost, the others come in another order
        x, y = candidates["x"][keep], candidates["y"][keep]
        state = sampler.tell(state, ids[keep], ((x - 0.4) ** 2 + (y - 0.2) ** 2)[:, None], x < 0.5)
    late = np.concatenate(where[-10:])
    assert (late < 0.5).mean() > 0.6 and abs(np.median(late) - 0.4) < 0.1


@pytest.mark.parametrize("make", LEARNING)
def test_several_objectives_find_the_front(make):
    """Schaffer's problem: the Pareto set is x in [0, 2] of [-10, 10], y = 0."""
    plane = space({"x": {"float": [-10, 10]}, "y": {"float": [-10, 10]}})
    sampler = make(plane)
    state, found = sampler.init(KEY), []
    for _ in range(60):
        ids, c, state = sampler.ask(KEY, state, 1)
        found.append((c["x"][0], c["y"][0]))
        values = np.stack([c["x"] ** 2 + c["y"] ** 2, (c["x"] - 2) ** 2 + c["y"] ** 2], 1)
        state = sampler.tell(state, ids, values, [True])
    late = np.array(found[30:])
    near = (late[:, 0] > -1) & (late[:, 0] < 3) & (abs(late[:, 1]) < 1)
    assert near.mean() > 5 * 0.04, "Random points are there in 4 of 100."
    assert np.ptp(late[near, 0]) > 1


@pytest.mark.slow
def test_seeds_are_drawn_and_not_modelled():
    """Seed 1 is lucky; that is not what a search is for."""
    for make in (search.tpe, search.gaussian_process):
        state = driven(make(MIXED), MIXED, lambda v: v["width"] - 10 * v["seed"], 60)
        seeds = MIXED.from_unit(state.unit)["seed"][20:]
        assert 0.3 < seeds.mean() < 0.7


def test_cma_es_says_what_it_does_not_take():
    with pytest.raises(ValueError, match="`optimizer` is a choice. `tpe` and `gaussian_process` take choices"):
        search.cma_es(MIXED)
    with pytest.raises(ValueError, match="needs a float or an int"):
        search.cma_es(space({"seed": {"seed": 3}}))
    numbers = space({"a": {"float": [0, 1]}})
    sampler = search.cma_es(numbers)
    ids, _, state = drawn(sampler, 1)
    with pytest.raises(ValueError, match="takes one objective; got 2"):
        sampler.tell(state, ids, [[0.0, 1.0]], [True])


def test_cma_es_keeps_whole_numbers_moving():
    whole = space({"n": {"int": [0, 100]}, "m": {"int": [0, 3]}, "x": {"float": [-1, 1]}})
    state = driven(search.cma_es(whole), whole, lambda v: (v["n"] - 77) ** 2 + 10 * (v["m"] - 2) ** 2 + v["x"] ** 2, 400)
    best = whole.values(whole.from_unit(state.trials.unit[np.nanargmin(state.trials.values)][None]), 0)
    assert (best["n"], best["m"]) == (77, 2) and abs(best["x"]) < 0.01


def test_pareto_fronts():
    from arsenal.search.samplers.pareto import best_positions, front

    values = np.random.default_rng(0).random((300, 2)).round(2)
    dominated = [(np.all(values <= v, 1) & np.any(values < v, 1)).any() for v in values]
    assert front(values).tolist() == np.flatnonzero(~np.array(dominated)).tolist()
    n = len(front(values))
    assert set(best_positions(values, n).tolist()) == set(front(values).tolist()) and len(set(best_positions(values, n + 5).tolist())) == n + 5
    ends = values[best_positions(values, 2)]
    assert ends[:, 0].min() == values[:, 0].min() and ends[:, 1].min() == values[:, 1].min()


@pytest.mark.parametrize("sampler", [search.random, search.sobol, search.tpe, search.gaussian_process])
def test_no_point_of_a_space_without_floats_is_given_twice(sampler):
    small = space({"seed": {"seed": 3}, "width": {"int": [8, 24], "step": 8}, "kind": {"choice": ["a", {"b": 1}]}})
    made, key = sampler(small), jax.random.key(1)
    state, seen = made.init(key), []
    for _ in range(5):
        ids, candidates, state = made.ask(key, state, 4)
        seen += [str(small.values(candidates, i)) for i in range(len(ids))]
        state = made.tell(state, ids, np.arange(float(len(ids)))[:, None], np.ones(len(ids), bool))
    assert len(seen) == len(set(seen)) == 18
    assert {"'width': 8", "'width': 16", "'width': 24"} == {one.split(", ")[1] for one in seen}
