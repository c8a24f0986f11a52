"""Against the libraries that people use: Optuna and pycma. scripts/bench/search_quality.py is the same at full length."""

import jax
import numpy as np
import pytest

from arsenal import search
from arsenal.search import functions

KEY = jax.random.key(0)


def lowest(make, problem, trials, seed):
    return search.minimize(problem.value, problem.space, make, trials, key=jax.random.key(seed)).value


def test_optunas_samplers_are_searches():
    """Conditions, failures and trials without an answer go through; the same key and trials give the same candidates."""
    space = search.space({
        "kind": {"choice": [None, [1, 2]]}, "rate": {"log": [1e-3, 1]}, "n": {"int": [1, 9], "when": {"kind": None}}, "seed": {"seed": 2},
    })  # fmt: skip
    sampler = search.optuna(space, n_startup_trials=5)
    state, rates = sampler.init(KEY), []
    for _ in range(12):
        ids, candidates, grown = sampler.ask(KEY, state, 3)
        assert all(np.array_equal(candidates[n], sampler.ask(KEY, state, 3)[1][n]) for n in space.dimensions)
        values = [space.values(candidates, i) for i in range(3)]
        assert all(("n" in v) == (v["kind"] is None) for v in values)
        rates += [v["rate"] for v in values]
        losses = np.array([[abs(np.log10(v["rate"]) + 2)] for v in values])
        state = sampler.tell(grown, ids[:2], losses[:2], [True, len(rates) % 2 == 0])
    assert np.median(np.abs(np.log10(rates[18:]) + 2)) < np.median(np.abs(np.log10(rates[:15]) + 2))
    with pytest.raises(ValueError, match="must be one of TPESampler, GPSampler, RandomSampler; got CmaEsSampler"):
        search.optuna(space, "CmaEsSampler")


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ImportError, match=r'pip install "ml-arsenal\[optuna\]"'):
        search.optuna(search.space({"x": {"float": [0, 1]}}))


@pytest.mark.slow
def test_the_gaussian_process_finds_no_less_than_optunas_tpe():
    for problem in (functions.rosenbrock(), functions.hartmann6()):
        ours = np.median([lowest(search.gaussian_process, problem, 40, seed) for seed in range(5)])
        theirs = np.median([lowest(search.optuna, problem, 40, seed) for seed in range(5)])
        assert ours <= theirs


@pytest.mark.slow
def test_cma_es_converges_as_fast_as_pycma():
    """Decades that are left above the minimum of an ill-conditioned bowl after 1,200 evaluations."""
    import cma

    scales = 10 ** np.linspace(0, 3, 4)

    def bowl(u):
        return float((scales * (np.asarray(u) - 0.35) ** 2).sum())

    space, ours, theirs = search.space({f"x{i}": {"float": [0, 1]} for i in range(4)}), [], []
    for seed in range(5):
        sampler = search.cma_es(space)
        state, best = sampler.init(jax.random.key(seed)), np.inf
        peer, peers = cma.CMAEvolutionStrategy([0.5] * 4, 0.3, {"bounds": [0, 1], "seed": seed + 1, "verbose": -9}), np.inf
        for _ in range(150):
            ids, _, state = sampler.ask(jax.random.key(seed), state, 8)
            values = [bowl(u) for u in state.trials.unit[ids]]
            state, best = sampler.tell(state, ids, np.array(values)[:, None], np.ones(8, bool)), min(best, *values)
            asked = peer.ask()
            values = [bowl(u) for u in asked]
            peer.tell(asked, values)
            peers = min(peers, *values)
        ours.append(np.log10(best))
        theirs.append(np.log10(peers))
    assert np.median(ours) < np.median(theirs) + 1 and np.median(ours) < -10
