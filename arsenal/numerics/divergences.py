"""How far two distributions are apart: of shares of the same levels, and of weighted numbers. On the host, in float64."""

import numpy as np
from numpy.typing import ArrayLike

FLOOR = 1e-4
"""A share below this counts as this where a logarithm is taken of it."""


def as_shares(counts: ArrayLike) -> np.ndarray:
    """Weights [levels] >= 0 as shares that sum to 1."""
    counts = np.asarray(counts, float)
    if counts.ndim != 1 or not (np.isfinite(counts) & (counts >= 0)).all() or not counts.sum() > 0:
        raise ValueError("Weights of levels must be finite numbers [levels] >= 0, some of them above 0.")
    return counts / counts.sum()


def same_levels(p: ArrayLike, q: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as shares; ValueError where they are not of the same levels."""
    a, b = as_shares(p), as_shares(q)
    if a.shape != b.shape:
        raise ValueError(f"Weights must be of the same levels; got {len(a)} and {len(b)}.")
    return a, b


def population_stability(p: ArrayLike, q: ArrayLike) -> float:
    """The population stability index of weights p and q [levels]: `sum((p - q) log(p / q))` of their shares.

    Jeffreys' divergence, of shares no less than 0.0001. Below 0.1 is usually called stable, above 0.25 moved. Siddiqi, Credit
    Risk Scorecards (2006).

    >>> round(population_stability([50, 50], [60, 40]), 4)
    0.0405
    """
    a, b = (np.maximum(one, FLOOR) for one in same_levels(p, q))
    return float(((a - b) * np.log(a / b)).sum())


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> float:
    """The Jensen-Shannon distance of weights p and q [levels], 0..1: the root of the divergence in bits.

    Endres & Schindelin, IEEE Transactions on Information Theory 49 (2003).

    >>> jensen_shannon([1, 0], [0, 1]), jensen_shannon([1, 3], [2, 6])
    (1.0, 0.0)
    """
    p, q = same_levels(p, q)
    middle = (p + q) / 2

    def bits(one):
        there = one > 0
        return (one[there] * np.log2(one[there] / middle[there])).sum()

    return float(np.sqrt(max((bits(p) + bits(q)) / 2, 0.0)))


def kolmogorov_smirnov(x: ArrayLike, y: ArrayLike, x_weight: ArrayLike | None = None, y_weight: ArrayLike | None = None) -> float:
    """The largest distance of the distribution functions of x [n] and y [m], by weights: the statistic of Smirnov's test.

    >>> round(kolmogorov_smirnov([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]), 4)
    0.3333
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    at = np.unique(np.concatenate([x, y]))

    def below(values, weight):
        weight = np.ones(len(values)) if weight is None else np.asarray(weight, float)
        if not weight.sum() > 0:
            raise ValueError("`kolmogorov_smirnov` needs some weight on both sides.")
        return np.cumsum(np.bincount(np.searchsorted(at, values), weight, len(at))) / weight.sum()

    return float(np.abs(below(x, x_weight) - below(y, y_weight)).max())


def binned_smirnov(p: ArrayLike, q: ArrayLike) -> float:
    """`kolmogorov_smirnov` of weights p and q [bins] in rising bins: that of the values themselves is at least this.

    >>> binned_smirnov([1, 1, 2], [0, 2, 2])
    0.25
    """
    a, b = same_levels(p, q)
    return float(np.abs(np.cumsum(a - b)).max())


def binned_cramer_von_mises(p: ArrayLike, q: ArrayLike) -> float:
    """The two-sample Cramér-von Mises statistic of counts p and q [bins] of values that are tied within a bin.

    Anderson, Annals of Mathematical Statistics 33 (1962): `n m / (n + m)^2` times the summed squares of the differences of the
    distribution functions at all values.

    >>> round(binned_cramer_von_mises([2, 2], [1, 3]), 4)
    0.0469
    """
    a, b = np.asarray(p, float), np.asarray(q, float)
    same_levels(a, b)
    n, m = a.sum(), b.sum()
    apart = np.cumsum(a) / n - np.cumsum(b) / m
    return float(n * m / (n + m) ** 2 * (np.square(apart) * (a + b)).sum())
