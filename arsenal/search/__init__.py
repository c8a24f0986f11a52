"""Where to look next and who goes on: spaces, samplers, schedulers, and `minimize` for whoever has just a function."""

from arsenal.search import functions
from arsenal.search.bridge import optuna
from arsenal.search.evolution import cma_es
from arsenal.search.exploit import explore, population_based
from arsenal.search.gaussian import gaussian_process
from arsenal.search.halving import asha, hyperband, successive_halving
from arsenal.search.minimize import Found, minimize
from arsenal.search.parzen import tpe
from arsenal.search.plain import grid, random, sobol
from arsenal.search.space import Dimension, Space, space
from arsenal.search.trials import Trials, remembering

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
