"""Where to look next and who goes on: spaces, samplers, schedulers, and `minimize` for whoever has just a function."""

from arsenal.search.evolution import cma_es
from arsenal.search.gaussian import gaussian_process
from arsenal.search.parzen import tpe
from arsenal.search.plain import grid, random, sobol
from arsenal.search.space import Dimension, Space, space
from arsenal.search.trials import Trials, remembering

__all__ = [
    "Dimension",
    "Space",
    "Trials",
    "cma_es",
    "gaussian_process",
    "grid",
    "random",
    "remembering",
    "sobol",
    "space",
    "tpe",
]
