"""Public test functions of optimisation, with their domains and known minima.

Formulas, domains and minima as in Surjanovic & Bingham, Virtual Library of Simulation Experiments (2013),
https://www.sfu.ca/~ssurjano/optimization.html.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.search.space import Space, space


class Problem(NamedTuple):
    """A function to be minimised, where to look, and what there is to find."""

    value: Callable
    """`candidate -> []`, traced; the candidate has `x0`, `x1`, ..."""
    space: Space
    minimum: float
    at: Any
    """[d]: a point that has the minimum."""


def problem(value: Callable[[jax.Array], jax.Array], bounds: list, minimum: float, at: Any) -> Problem:
    """A problem from a function of x [d] and the bounds of each entry."""
    names = [f"x{i}" for i in range(len(bounds))]
    dimensions = space({name: {"float": list(ends)} for name, ends in zip(names, bounds, strict=True)})
    return Problem(lambda candidate: value(jnp.stack([candidate[name] for name in names])), dimensions, minimum, np.asarray(at))


def sphere(dimensions: int = 5) -> Problem:
    """The sum of squares, on [-5.12, 5.12]; 0 at 0."""
    return problem(lambda x: (x**2).sum(), [(-5.12, 5.12)] * dimensions, 0.0, np.zeros(dimensions))


def rosenbrock(dimensions: int = 2) -> Problem:
    """A bent valley, on [-5, 10]; 0 at 1. Rosenbrock, Computer Journal 3 (1960)."""

    def value(x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    return problem(value, [(-5.0, 10.0)] * dimensions, 0.0, np.ones(dimensions))


def rastrigin(dimensions: int = 2) -> Problem:
    """A bowl with a minimum at every whole point, on [-5.12, 5.12]; 0 at 0. Rastrigin 1974."""

    def value(x):
        return (x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10).sum()

    return problem(value, [(-5.12, 5.12)] * dimensions, 0.0, np.zeros(dimensions))


def ackley(dimensions: int = 2) -> Problem:
    """A funnel in a ripple, on [-32.768, 32.768]; 0 at 0. Ackley 1987."""

    def value(x):
        ripple = jnp.exp(jnp.cos(2 * jnp.pi * x).mean())
        return 20 + jnp.e - 20 * jnp.exp(-0.2 * jnp.sqrt((x**2).mean())) - ripple

    return problem(value, [(-32.768, 32.768)] * dimensions, 0.0, np.zeros(dimensions))


def branin() -> Problem:
    """Three minima in two dimensions, on [-5, 10] x [0, 15]; 0.397887. Branin 1972."""

    def value(x):
        parabola = x[1] - 5.1 / (4 * jnp.pi**2) * x[0] ** 2 + 5 / jnp.pi * x[0] - 6
        return parabola**2 + 10 * (1 - 1 / (8 * jnp.pi)) * jnp.cos(x[0]) + 10

    return problem(value, [(-5.0, 10.0), (0.0, 15.0)], 0.397887, (np.pi, 2.275))


HEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
WIDTHS = np.array([
    [10, 3, 17, 3.5, 1.7, 8],
    [0.05, 10, 17, 0.1, 8, 14],
    [3, 3.5, 1.7, 10, 17, 8],
    [17, 8, 0.05, 10, 0.1, 14],
])  # fmt: skip
CENTRES = 1e-4 * np.array([
    [1312, 1696, 5569, 124, 8283, 5886],
    [2329, 4135, 8307, 3736, 1004, 9991],
    [2348, 1451, 3522, 2883, 3047, 6650],
    [4047, 8828, 8732, 5743, 1091, 381],
])  # fmt: skip


def hartmann6() -> Problem:
    """Four wells in six dimensions, on [0, 1]; -3.32237. Hartmann 1973."""

    def value(x):
        heights, widths, centres = (jnp.asarray(table, x.dtype) for table in (HEIGHTS, WIDTHS, CENTRES))
        return -(heights * jnp.exp(-(widths * (x - centres) ** 2).sum(1))).sum()

    at = (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573)
    return problem(value, [(0.0, 1.0)] * 6, -3.32237, at)
