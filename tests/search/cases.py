"""What the laws are tried on in this room: a row for every public factory of a record."""

import numpy as np
import pytest
from table import law_test

from arsenal import search
from arsenal.search.schedulers import halving
from arsenal.testing import Case

SPACE = search.space({
    "rate": {"log": [1e-4, 1.0]}, "width": {"int": [1, 9]}, "kind": {"choice": ["a", "b"]},
    "part": {"float": [0, 1], "when": {"kind": "b"}}, "seed": {"seed": 3},
})  # fmt: skip
NUMBERS = search.space({name: entry for name, entry in SPACE.describe().items() if name in ("rate", "width", "seed")})

CASES = {f"arsenal.search.{name}": make for name, make in {
    "samplers.points.grid": lambda: [Case(search.grid(SPACE))],
    "samplers.points.random": lambda: [Case(search.random(SPACE))],
    "samplers.points.sobol": lambda: [Case(search.sobol(SPACE))],
    "samplers.trials.remembering": lambda: [Case(search.remembering(SPACE, lambda key, trials, n: np.full((n, 5), 0.5)))],
    "samplers.tpe.tpe": lambda: [Case(search.tpe(SPACE)), Case(search.tpe(SPACE, startup=2))],
    "samplers.gaussian_process.gaussian_process": lambda: [
        Case(search.gaussian_process(SPACE)),
        Case(search.gaussian_process(SPACE, startup=2)),
    ],
    "samplers.cma_es.cma_es": lambda: [Case(search.cma_es(NUMBERS)), Case(search.cma_es(NUMBERS, population=2))],
    "samplers.optuna.optuna": lambda: [Case(search.optuna(SPACE)), Case(search.optuna(SPACE, n_startup_trials=2))],
    "schedulers.halving.asha": lambda: [Case(search.asha(factor=2))],
    "schedulers.halving.successive_halving": lambda: [Case(search.successive_halving(4, factor=2))],
    "schedulers.halving.hyperband": lambda: [Case(search.hyperband(9))],
    "schedulers.halving.synchronous_halving": lambda: [Case(halving.synchronous_halving(lambda number: halving.Bracket(0, 4, (1, 2)), 2, None, 4))],
    "schedulers.population.population_based": lambda: [Case(search.population_based(4))],
}.items()}  # fmt: skip

test_laws = pytest.mark.slow(law_test(CASES))
