"""CMA-ES: a normal distribution that moves, grows and turns towards where the better half of its draws lay.

Hansen, The CMA Evolution Strategy: A Tutorial (1604.00772), with negative weights; results from earlier generations enter
as in Hansen, Injecting External Solutions Into CMA-ES (1110.4181); restarts with a larger population as in Auger & Hansen,
CEC 2005 (IPOP).
"""

from typing import Any, NamedTuple

import numpy as np

from arsenal.records import Search
from arsenal.search.samplers.trials import DONE, PENDING, Trials, add_points, generator, no_trials, record_values
from arsenal.search.space import Space

CONVERGED = 1e-11
"""Largest deviation along any axis of the unit cube: nothing more to be found here. As in pycma."""
BROADEST = 1 / 3
"""Largest deviation along an axis: beyond it draws are mostly reflections. As in pycma."""
TRIES = 10
"""How often a draw beyond a bound is drawn again."""
LEAST_CELLS = 0.3
"""Deviation of a whole number, in cells: every tenth draw leaves a cell from its middle."""


class Evolution(NamedTuple):
    """The distribution N(mean, sigma² covariance) on the unit cube, and the trials."""

    trials: Trials
    generation: Any
    """[n] int32: in which a trial was drawn."""
    used: Any
    """[n] bool: whether the distribution has learned of its result, or never shall."""
    mean: Any
    """[d]."""
    sigma: Any
    covariance: Any
    """[d, d]."""
    path: Any
    """[d]: the evolution path of the covariance."""
    conjugate: Any
    """[d]: that of sigma."""
    now: Any
    """The generation."""
    population: Any
    """Results in a generation, at least."""


class Rates(NamedTuple):
    """What table 1 of the tutorial sets for a dimension and a population."""

    weights: np.ndarray
    """[population], best first: positive for the better half, which sums to 1, negative for the rest."""
    mass: float
    sigma: float
    damping: float
    path: float
    one: float
    many: float


def cma_es(space: Space, sigma: float = 0.3, population: int | None = None) -> Search:
    """Covariance matrix adaptation, for floats and ints; for hundreds of trials and more.

    The distribution starts at the middle with deviation `sigma` of the range. It learns whenever `population` results have
    come (4 + 3 log d unless given; all of them where more come at once), in whatever order: those of an earlier generation
    count from where the distribution is now, those that never come are not waited for, failed ones rank last. What falls
    beyond a bound is drawn again, in the end reflected. Ints are rounded, with a deviation that always lets them change;
    seeds are drawn. When it has converged it starts again, at a random point and with twice the population. Raises
    ValueError for a space with a choice, and for several objectives.
    """
    names = list(space.dimensions)
    for name, one in space.dimensions.items():
        if one.kind == "choice":
            raise ValueError(f"`cma_es` takes floats and ints; `{name}` is a choice. `tpe` and `gaussian_process` take choices.")
    modelled = np.array([one.is_ordered for one in space.dimensions.values()])
    least = np.array([LEAST_CELLS / one.size if one.size else 0.0 for one in space.dimensions.values()])[modelled]
    d = int(modelled.sum())
    if not d:
        raise ValueError(f"`cma_es` needs a float or an int; the space has only {', '.join(names)}.")

    def init(key):
        trials, none = no_trials(key, len(names)), np.zeros(0, np.int32)
        first = population or 4 + int(3 * np.log(d))
        return begun(trials, none, np.zeros(0, bool), np.full(d, 0.5), np.int32(0), np.int32(first))

    def begun(trials, generation, used, mean, now, size):
        broad = np.diag((np.maximum(sigma, least) / sigma) ** 2)
        nowhere = np.zeros(d)
        return Evolution(trials, generation, used, mean, np.float64(sigma), broad, nowhere, nowhere, now, size)

    def ask(key, state, n):
        rng = generator(key, len(state.used))
        factor = state.sigma * roots(state.covariance)[0]
        free = state.mean + rng.standard_normal((n, d)) @ factor
        for _ in range(TRIES):
            out = ((free < 0) | (free > 1)).any(1)
            free[out] = state.mean + rng.standard_normal((out.sum(), d)) @ factor
        unit = rng.random((n, len(names)))
        unit[:, modelled] = 1 - np.abs(free % 2 - 1)  # a mirror at either bound
        ids, trials = add_points(state.trials, unit)
        generation = np.concatenate([state.generation, np.full(n, state.now, np.int32)])
        used = np.concatenate([state.used, np.zeros(n, bool)])
        return ids, space.from_unit(unit), state._replace(trials=trials, generation=generation, used=used)

    def tell(state, ids, values, valid):
        state = state._replace(trials=record_values(state.trials, ids, values, valid))
        if state.trials.values.shape[1] != 1:
            raise ValueError(f"`cma_es` takes one objective; got {state.trials.values.shape[1]}.")
        new = np.flatnonzero((state.trials.status != PENDING) & ~state.used)
        if len(new) < state.population or not (state.trials.status[new] == DONE).any():
            return state
        state = update_distribution(state, state.trials.unit[:, modelled], new, least)
        deviations = state.sigma * np.sqrt(np.diag(state.covariance))[least == 0]
        if not deviations.size or deviations.max() > CONVERGED:
            return state
        again = generator(state.trials.seed, int(state.now)).random(d)
        return begun(state.trials, state.generation, np.ones_like(state.used), again, state.now, 2 * state.population)

    return Search(init, ask, tell)


def update_distribution(state: Evolution, points: np.ndarray, new: np.ndarray, least: np.ndarray) -> Evolution:
    """The distribution after the results of the trials at positions `new` of points [n, d]; no deviation is below `least` [d]."""
    d = len(state.mean)
    rates = default_rates(d, len(new))
    values = np.where(state.trials.status[new] == DONE, state.trials.values[new, 0], np.inf)
    new = new[np.argsort(values, kind="stable")]
    _, whitening = roots(state.covariance)
    steps = (points[new] - state.mean) / state.sigma
    length = np.linalg.norm(steps @ whitening, axis=1)
    old = state.generation[new] != state.now
    steps = steps * np.where(old, np.minimum(1, (np.sqrt(d) + 2 * d / (d + 2)) / np.maximum(length, 1e-300)), 1)[:, None]
    better = np.maximum(rates.weights, 0)
    step = better @ steps
    mean = state.mean + state.sigma * step

    gain = np.sqrt(rates.sigma * (2 - rates.sigma) * rates.mass)
    conjugate = (1 - rates.sigma) * state.conjugate + gain * whitening @ step
    expected = np.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d**2))  # of the length of a standard normal
    long = np.linalg.norm(conjugate)
    calm = float(long < (1.4 + 2 / (d + 1)) * expected)  # whether the path may grow
    path = (1 - rates.path) * state.path + calm * np.sqrt(rates.path * (2 - rates.path) * rates.mass) * step
    worse = d / np.maximum(np.square(steps @ whitening).sum(1), 1e-300)
    weights = np.where(rates.weights >= 0, rates.weights, rates.weights * worse)
    kept = 1 + rates.one * (1 - calm) * rates.path * (2 - rates.path) - rates.one - rates.many * rates.weights.sum()
    covariance = kept * state.covariance + rates.one * np.outer(path, path) + rates.many * (steps.T * weights) @ steps
    sigma = state.sigma * np.exp(min(1.0, rates.sigma / rates.damping * (long / expected - 1)))

    deviations = np.maximum(sigma * np.sqrt(np.diag(covariance)), 1e-300)
    stretch = np.clip(deviations, least, np.maximum(least, BROADEST)) / deviations
    used = state.used.copy()
    used[new] = True
    return state._replace(
        mean=mean, sigma=sigma, covariance=covariance * np.outer(stretch, stretch), path=path, conjugate=conjugate,
        now=np.int32(state.now + 1), used=used,
    )  # fmt: skip


def default_rates(d: int, population: int) -> Rates:
    """Table 1 of the tutorial."""
    raw = np.log((population + 1) / 2) - np.log(np.arange(1, population + 1))
    up, down = np.maximum(raw, 0), np.maximum(-raw, 0)
    mass, lost = up.sum() ** 2 / np.square(up).sum(), down.sum() ** 2 / max(np.square(down).sum(), 1e-300)
    path = (4 + mass / d) / (d + 4 + 2 * mass / d)
    sigma = (mass + 2) / (d + mass + 3)  # 3 as in pycma; the tutorial has 5
    one = 2 / ((d + 1.3) ** 2 + mass)
    many = min(1 - one, 2 * (0.25 + mass + 1 / mass - 2) / ((d + 2) ** 2 + mass))
    negative = min(1 + one / max(many, 1e-300), 1 + 2 * lost / (mass + 2), (1 - one - many) / (d * max(many, 1e-300)))
    weights = up / up.sum() - max(negative, 0.0) * down / max(down.sum(), 1e-300)
    damping = 1 + 2 * max(0.0, np.sqrt((mass - 1) / (d + 1)) - 1) + sigma
    return Rates(weights, mass, sigma, damping, path, one, many)


def roots(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric square root and its inverse; the condition number is at most 1e14."""
    eigenvalues, axes = np.linalg.eigh((covariance + covariance.T) / 2)
    deviations = np.sqrt(np.maximum(eigenvalues, eigenvalues.max() * 1e-14))
    return (axes * deviations) @ axes.T, (axes / deviations) @ axes.T
