"""Tree-structured Parzen estimator: look where good trials are dense and others are not.

Bergstra et al., NeurIPS 2011; product kernels over all dimensions as in Falkner et al., ICML 2018 (1807.01774);
settings as compared by Watanabe 2023 (2304.11127), and as in Optuna's `TPESampler`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from arsenal.records import Search
from arsenal.search.samplers.pareto import best_positions
from arsenal.search.samplers.points import sobol_points
from arsenal.search.samplers.trials import DONE, generator, remembering
from arsenal.search.space import Dimension, Space

RECENT = 25
"""Trials that count fully; older ones less, down to 1 / n."""
POOL = 24_000
"""Draws for one ask, at most."""
AT_ONCE = 4_000_000
"""Pairs of a candidate and a kernel that are in memory together."""


class Mixture(NamedTuple):
    """A density on the unit cube: products over dimensions of a truncated normal or, for a choice, a table.

    A kernel made of a trial that lacks a dimension is uniform along it.
    """

    mean: Any
    """[k, d]."""
    scale: Any
    """[k, d]."""
    there: Any
    """[k, d] bool."""
    weight: Any
    """[k]: sums to 1."""


def tpe(space: Space, startup: int = 10, candidates: int = 100) -> Search:
    """Multivariate tree-structured Parzen estimator, for any space and any number of objectives.

    Sobol's points until `startup` trials have values. Then every trial is the best of `candidates` draws (24,000 for one
    ask, at most) from the density of the best tenth (25 at most), by its ratio to the density of all others. Trials without
    an answer count among the others, those that are asked for together included, so that a batch spreads; failed ones do as
    well. With several objectives the best are those of the first fronts. A seed is drawn and never modelled.
    """
    axes = list(space.dimensions.values())

    def suggest(key, trials, n):
        done = np.flatnonzero(trials.status == DONE)
        if len(done) < startup:
            return sobol_points(trials, n)
        rng, there = generator(key, len(trials.unit)), varying_dimensions(space, trials.unit)
        good = np.zeros(len(trials.unit), bool)
        good[done[best_positions(trials.values[done], min(-(-len(done) // 10), 25))]] = True
        below, above = (mixture(axes, trials.unit[side], there[side]) for side in (good, ~good))
        each = max(1, min(candidates, POOL // n))
        drawn = space.to_unit(space.from_unit(sample(rng, axes, below, n * each)))
        scales = widths(axes, above.mean[:-1], above.there[:-1], drawn)
        new = Mixture(drawn, scales, varying_dimensions(space, drawn), np.ones(len(drawn)))
        x, kernels = features(axes, drawn, new.there), kernel_coefficients(axes, new)
        gain, others = log_density(axes, below, x), log_density(axes, above, x)
        picks = np.empty(n, int)
        for i in range(n):
            mine, later = slice(i * each, (i + 1) * each), slice((i + 1) * each, None)
            picks[i] = mine.start + np.argmax(gain[mine] - others[mine])
            liar = np.log(above.weight[-1]) + x[later] @ kernels[picks[i]]
            others[later] = np.logaddexp(others[later], liar)
        return drawn[picks]

    return remembering(space, suggest)


def varying_dimensions(space: Space, unit: np.ndarray) -> np.ndarray:
    """Which dimensions of points [n, d] are there and more than noise, [n, d] bool."""
    active = space.active(space.from_unit(unit))
    return np.stack([active[name] & (one.kind != "seed") for name, one in space.dimensions.items()], 1)


def mixture(axes: Sequence[Dimension], unit: np.ndarray, there: np.ndarray) -> Mixture:
    """A kernel for each point [n, d], in the order of trials, and the prior: one that is broad, uniform over choices."""
    d = len(axes)
    weight = np.ones(len(unit) + 1)
    old = len(unit) - RECENT
    if old > 0:
        weight[:old] = np.linspace(1 / len(unit), 1, old)
    return Mixture(
        np.concatenate([unit, np.full((1, d), 0.5)]),
        np.concatenate([widths(axes, unit, there, unit), np.ones((1, d))]),
        np.concatenate([there, [[one.is_ordered for one in axes]]]),
        weight / weight.sum(),
    )


def widths(axes: Sequence[Dimension], unit: np.ndarray, there: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The scales of kernels at points [m, d] among points [n, d], which may be the same ones: [m, d].

    On a number the distance to the farther of the two neighbours, at least 1 / min(100, n + 2); on a choice the weight of
    every value beside the kernel's own.
    """
    made = np.empty(at.shape)
    for i, one in enumerate(axes):
        if not one.is_ordered:
            made[:, i] = 1 / (len(unit) + 1)
            continue
        known = np.sort(unit[there[:, i], i])
        ends = np.concatenate([[-np.inf], known, [np.inf]])
        down = at[:, i] - ends[np.searchsorted(known, at[:, i], "left")]
        up = ends[np.searchsorted(known, at[:, i], "right") + 1] - at[:, i]
        far = np.where(np.isfinite(down) & np.isfinite(up), np.maximum(down, up), np.minimum(down, up))
        made[:, i] = np.clip(far, 1 / min(100, len(unit) + 2), 1.0)
    return made


def sample(rng: np.random.Generator, axes: Sequence[Dimension], density: Mixture, m: int) -> np.ndarray:
    """Points [m, d] of a mixture."""
    d = len(axes)
    kernel = rng.choice(len(density.weight), m, p=density.weight)
    uniform, keep = rng.random((m, d)), rng.random((m, d))
    mean, scale, there = density.mean[kernel], density.scale[kernel], density.there[kernel]
    low, high = ndtr(-mean / scale), ndtr((1 - mean) / scale)
    numbers = np.clip(mean + scale * ndtri(low + uniform * (high - low)), 0, 1)
    size = np.array([one.size or 1 for one in axes])
    own = keep * (1 + scale * size) < 1
    drawn = np.where([one.is_ordered for one in axes], numbers, np.where(own, mean, uniform))
    return np.where(there, drawn, uniform)


def features(axes: Sequence[Dimension], unit: np.ndarray, there: np.ndarray) -> np.ndarray:
    """What a kernel's logarithm is linear in, [m, f]: powers of a number, the indicator of a choice; zeros where not there."""
    columns = []
    for i, one in enumerate(axes):
        made = unit[:, i : i + 1] ** np.arange(3) if one.is_ordered else np.eye(one.levels)[one.from_unit(unit[:, i])]
        columns.append(np.where(there[:, i : i + 1], made, 0))
    return np.concatenate(columns, 1)


def kernel_coefficients(axes: Sequence[Dimension], density: Mixture) -> np.ndarray:
    """Of every kernel, [k, f]: the logarithm of its density at x is `features(x) @ coefficients`."""
    columns = []
    for i, one in enumerate(axes):
        mean, scale, there = density.mean[:, i], density.scale[:, i], density.there[:, i : i + 1]
        if one.is_ordered:  # log of the normal density over the mass that it has in [0, 1]
            mass = ndtr((1 - mean) / scale) - ndtr(-mean / scale)
            constant = -0.5 * (mean / scale) ** 2 - np.log(scale * mass * np.sqrt(2 * np.pi))
            made, absent = np.stack([constant, mean / scale**2, -0.5 / scale**2], 1), 0.0
        else:
            made = np.log((np.eye(one.levels)[one.from_unit(mean)] + scale[:, None]) / (1 + scale[:, None] * one.levels))
            absent = -np.log(one.levels)
        columns.append(np.where(there, made, absent))
    return np.concatenate(columns, 1)


def log_density(axes: Sequence[Dimension], density: Mixture, x: np.ndarray) -> np.ndarray:
    """The logarithm of a mixture's density at points given by their features [m, f], [m]."""
    kernels, weight = kernel_coefficients(axes, density).T.astype(np.float32), np.log(density.weight).astype(np.float32)
    x, made = x.astype(np.float32), np.empty(len(x))
    step = max(1, AT_ONCE // len(weight))
    for first in range(0, len(x), step):
        each = x[first : first + step] @ kernels + weight
        top = each.max(1)
        made[first : first + step] = top + np.log(np.exp(each - top[:, None]).sum(1))
    return made
