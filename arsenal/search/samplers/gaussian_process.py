"""Gaussian process with expected improvement: a model of the objective says where the next trial gains most on average.

Jones, Schonlau & Welch, J. Global Optimization 13 (1998); the kernel is Matérn 5/2 with a length for every dimension
(Snoek et al., NeurIPS 2012), batches by kriging believer (Ginsbourger, Le Riche & Carraro 2010).
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.special import ndtr

from arsenal.records import Search
from arsenal.search.samplers.pareto import best_positions
from arsenal.search.samplers.points import sobol_points
from arsenal.search.samplers.trials import DONE, FAILED, PENDING, Trials, generator, remembering
from arsenal.search.space import Space

ROUNDS = 0.25 * 0.35 ** np.arange(8)
"""How far around the most promising points each round of candidates looks."""
FITTED = 150
"""Trials from which the parameters are estimated, evenly by rank."""
WORST = 0.75
"""Quantile of values beyond which all are the same: how bad the bad ones are says little about where the best is."""
PRIOR = 1.0, 2.0
"""Mean and deviation of the logarithm of an inverse squared length: lengths from a tenth to four times the cube."""
LEAST_NOISE = 1e-6
"""Variance, of values of variance 1: keeps the kernel's matrix positive."""


class KernelParameters(NamedTuple):
    """A kernel's parameters: inverse squared lengths [f], and the variances of signal and noise."""

    inverse: Any
    signal: float
    noise: float


def gaussian_process(space: Space, startup: int = 10, candidates: int = 512, most: int = 300) -> Search:
    """Bayesian optimisation by a Gaussian process; for tens to hundreds of trials that take seconds or longer.

    Sobol's points until `startup` trials have values. Then the values, the worst quarter cut to one and the rest made as
    normal as a power transform can, are modelled, with the parameters of largest penalised marginal likelihood. The trial of
    largest expected improvement is asked for: the best of `candidates` random points and of further rounds around the best
    of those. Of several that are asked for at once, and of those without an answer, each is believed to have the mean that
    the model gives it. A choice enters as indicators, a dimension that is not there at its middle, a seed not at all; a
    failed trial has the worst value. Several objectives are made one by a random Chebyshev weighting for every ask (Knowles
    2006, ParEGO).

    `most` trials are modelled: the best half of them, and the newest. Time grows with the cube of it.
    """

    def suggest(key, trials, n):
        if (trials.status == DONE).sum() < startup:
            return sobol_points(trials, n)
        rng = generator(key, len(trials.unit))
        rows, values = outcomes(rng, trials, most)
        x, pending = embed(space, trials.unit[rows]), embed(space, trials.unit[trials.status == PENDING][-most:])
        y = gaussianize(values)
        some = np.argsort(y)[np.linspace(0, len(y) - 1, min(len(y), FITTED)).astype(int)]
        fitted = fit_kernel(x[some], y[some])
        known = np.concatenate([x, pending])
        root = cholesky(kernel(fitted, known, known) + fitted.noise * np.eye(len(known)), lower=True)
        weights = cho_solve((root[: len(x), : len(x)], True), y)
        incumbent = (kernel(fitted, x, x) @ weights).min()

        def posterior(unit):
            """Points, the mean there, and what is known of them: the variance is the signal's less their squares."""
            z = embed(space, unit)
            across = kernel(fitted, known, z)
            return across[: len(x)].T @ weights, solve_triangular(root, across, lower=True)

        leaders = trials.unit[rows[np.argsort(y)[:5]]]
        pool = snap(space, np.concatenate([rng.random((candidates, leaders.shape[1])), leaders]))
        mean, explained = posterior(pool)
        for scale in ROUNDS:
            gain = log_improvement(mean, fitted.signal - (explained**2).sum(0), incumbent)
            more = snap(space, points_around(rng, space, pool[np.argsort(-gain)[:4]], scale, 32))
            new_mean, new_explained = posterior(more)
            pool, mean = np.concatenate([pool, more]), np.concatenate([mean, new_mean])
            explained = np.concatenate([explained, new_explained], 1)
        return pool[pick_points(embed(space, pool), fitted, mean, explained, incumbent, n)]

    return remembering(space, suggest)


def pick_points(
    z: np.ndarray, fitted: KernelParameters, mean: np.ndarray, explained: np.ndarray, incumbent: float, n: int
) -> np.ndarray:
    """Which n of the points [m, f] to take: each that is taken counts as known, at its mean, for those after it."""
    variance, picks = fitted.signal - (explained**2).sum(0), []
    buffer = np.concatenate([explained, np.zeros((n - 1, len(z)))])
    for i in range(n):
        one = int(np.argmax(log_improvement(mean, variance, incumbent)))
        picks.append(one)
        if i + 1 < n:
            rows = len(explained) + i
            left = kernel(fitted, z[one : one + 1], z)[0] - buffer[:rows, one] @ buffer[:rows]
            buffer[rows] = left / np.sqrt(max(variance[one], 0.0) + fitted.noise)
            variance = variance - buffer[rows] ** 2
            variance[one] = 0.0
            incumbent = min(incumbent, mean[one])
    return np.array(picks)


def outcomes(rng: np.random.Generator, trials: Trials, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions [m] and values [m] of the trials to model."""
    done, failed = np.flatnonzero(trials.status == DONE), np.flatnonzero(trials.status == FAILED)
    if len(done) + len(failed) > most:
        good = done[best_positions(trials.values[done], most // 2)]
        new = np.setdiff1d(np.concatenate([done, failed]), good)[-(most - len(good)) :]
        done, failed = np.union1d(good, new[trials.status[new] == DONE]), new[trials.status[new] == FAILED]
    values = trials.values[done]
    if values.shape[1] > 1:
        scaled = (values - values.min(0)) / np.maximum(np.ptp(values, 0), 1e-300)
        weighted = rng.dirichlet(np.ones(values.shape[1])) * scaled
        values = (weighted.max(1) + 0.05 * weighted.sum(1))[:, None]
    return np.concatenate([done, failed]), np.concatenate([values[:, 0], np.full(len(failed), values.max())])


def gaussianize(values: np.ndarray) -> np.ndarray:
    """Values [n] of mean 0 and variance 1, the worst cut, made as normal as the power transform of Yeo & Johnson (2000) can."""
    from scipy.stats import yeojohnson

    def standard(y):
        return (y - y.mean()) / max(y.std(), 1e-12)

    y = standard(np.minimum(values, np.quantile(values, WORST)))
    if np.ptp(y) < 1e-9:
        return np.zeros_like(y)
    return standard(yeojohnson(y)[0])


def embed(space: Space, unit: np.ndarray) -> np.ndarray:
    """Points [n, d] as the kernel sees them, [n, f]."""
    candidates = space.from_unit(unit)
    active, columns = space.active(candidates), []
    for i, (name, one) in enumerate(space.dimensions.items()):
        if one.kind == "choice":
            columns.append(np.where(active[name][:, None], np.eye(one.levels)[candidates[name]] / np.sqrt(2), 0))
        elif one.is_ordered:
            columns.append(np.where(active[name], unit[:, i], 0.5)[:, None])
    return np.concatenate(columns, 1)


def snap(space: Space, unit: np.ndarray) -> np.ndarray:
    """Points [n, d] with whole numbers and choices at the middle of their cells."""
    return space.to_unit(space.from_unit(unit))


def points_around(rng: np.random.Generator, space: Space, centres: np.ndarray, scale: float, n: int) -> np.ndarray:
    """n points around each centre [m, d]: some coordinates moved by about `scale`, choices seldom drawn anew."""
    points = np.repeat(centres, n, 0)
    m, d = points.shape
    ordered = np.array([one.is_ordered for one in space.dimensions.values()])
    cell = np.array([1.0 / (one.size or np.inf) for one in space.dimensions.values()])
    moved = rng.random((m, d)) < np.where(ordered, rng.choice([2 / d, 1.0], (m, 1)), 1 / (2 * d))
    steps = points + np.maximum(scale, cell) * rng.standard_normal((m, d))
    steps = np.clip(steps, 0, 1)
    return np.where(moved, np.where(ordered, steps, rng.random((m, d))), points)


def kernel(fitted: KernelParameters, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matérn 5/2, [n, m]."""
    return fitted.signal * matern(squared_distances(a * np.sqrt(fitted.inverse), b * np.sqrt(fitted.inverse)))[0]


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances of rows, [n, m]."""
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)


def matern(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matérn 5/2 of squared distances, and its derivative by them."""
    r = np.sqrt(5 * square)
    decay = np.exp(-r)
    return (1 + r + r**2 / 3) * decay, -5 / 6 * (1 + r) * decay


def fit_kernel(x: np.ndarray, y: np.ndarray) -> KernelParameters:
    """The parameters of largest marginal likelihood times a mild prior, from two starts. x [n, f], y [n]."""
    from scipy.optimize import minimize

    n, f = x.shape

    def negative(theta):
        inverse, signal, noise = np.exp(theta[:f]), np.exp(theta[f]), np.exp(theta[f + 1]) + LEAST_NOISE
        scaled = x * np.sqrt(inverse)
        shape, slope = matern(squared_distances(scaled, scaled))
        try:
            root = cholesky(signal * shape + noise * np.eye(n), lower=True)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(theta)
        precision = cho_solve((root, True), np.eye(n))
        weights = precision @ y
        value = 0.5 * y @ weights + np.log(np.diag(root)).sum()
        change = 0.5 * (precision - np.outer(weights, weights))  # the value's derivative by the matrix
        pull = signal * change * slope
        # Σ_ij pull_ij (x_i - x_j)² = 2 (Σ_i x_i² Σ_j pull_ij - x' pull x)
        lengths = 2 * (pull.sum(1) @ x**2 - (x * (pull @ x)).sum(0)) * inverse
        gradient = np.concatenate([lengths, [signal * (change * shape).sum(), (noise - LEAST_NOISE) * np.trace(change)]])
        # Lengths are log-normal; the signal's variance is gamma(2, 1), the noise's gamma(1.1, 1/30), as Optuna has them.
        value += 0.5 * np.square((theta[:f] - PRIOR[0]) / PRIOR[1]).sum() - np.log(signal) + signal
        value += 30 * np.exp(theta[f + 1]) - 0.1 * theta[f + 1]
        gradient[:f] += (theta[:f] - PRIOR[0]) / PRIOR[1] ** 2
        gradient[f:] += [signal - 1, 30 * np.exp(theta[f + 1]) - 0.1]
        return value, gradient

    starts = [np.array([*[inverse] * f, 0.0, noise]) for inverse, noise in ((0.0, -9.0), (2.0, -5.0))]
    bounds = [(-7.0, 9.0)] * f + [(-5.0, 5.0), (-18.0, 0.0)]
    found = [minimize(negative, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 50}) for start in starts]
    theta = min(found, key=lambda one: one.fun).x
    return KernelParameters(np.exp(theta[:f]), float(np.exp(theta[f])), float(np.exp(theta[f + 1]) + LEAST_NOISE))


def log_improvement(mean: np.ndarray, variance: np.ndarray, incumbent: float) -> np.ndarray:
    """The logarithm of the expected improvement on the incumbent, [n]; of a variance of 0, minus infinity.

    log(z Φ(z) + φ(z)) + log σ; far below 0 by its asymptote, φ(z) / z². Ament et al., NeurIPS 2023.
    """
    scale = np.sqrt(np.maximum(variance, 1e-300))
    z = (incumbent - mean) / scale
    log_phi = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    near = np.maximum(z, -6)
    exact = np.log(near * ndtr(near) + np.exp(-0.5 * near**2) / np.sqrt(2 * np.pi))
    return np.log(scale) + np.where(z > -6, exact, log_phi - 2 * np.log(np.abs(np.minimum(z, -6))))
