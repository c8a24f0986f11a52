"""Where to look next and who goes on: spaces, samplers, schedulers, and `minimize` for whoever has just a function."""

from arsenal.search import functions
from arsenal.search.minimize import Found, minimize
from arsenal.search.samplers.cma_es import cma_es
from arsenal.search.samplers.gaussian_process import gaussian_process
from arsenal.search.samplers.optuna import optuna
from arsenal.search.samplers.points import grid, random, sobol
from arsenal.search.samplers.tpe import tpe
from arsenal.search.samplers.trials import Trials, remembering
from arsenal.search.schedulers.halving import asha, hyperband, successive_halving
from arsenal.search.schedulers.population import explore, population_based
from arsenal.search.space import Dimension, Space, space

__all__ = [
    "Dimension",
    "Found",
    "Space",
    "Trials",
    "asha",
    "cma_es",
    "explore",
    "functions",
    "gaussian_process",
    "grid",
    "hyperband",
    "minimize",
    "optuna",
    "population_based",
    "random",
    "remembering",
    "sobol",
    "space",
    "successive_halving",
    "tpe",
]
