"""Drift: columns whose values are distributed otherwise in the rows that judge a model than in those that train it.

Numbers by Smirnov's test of two samples, levels by Pearson's chi-square; p-values hold for all columns and splits (Holm).
How far: the population stability index, of tenths of the training rows or of levels, and the Jensen-Shannon distance of the same.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from arsenal.evaluation.multiplicity import adjust_p_values
from arsenal.numerics.divergences import jensen_shannon, kolmogorov_smirnov, population_stability

BINS, LEVELS, EXPECTED = 10, 20, 5
"""Parts of a column of numbers; values up to which such a column is one of levels; rows that a level needs for chi-square."""
MOVED, SURE = 0.1, 0.05
"""A column has moved where its population stability index and its p-value are beyond these."""

Columns = Mapping[str, np.ndarray]


class Drift(NamedTuple):
    """A column in a split beside the training rows."""

    column: str
    split: str
    test: str
    """Smirnov or chi-square."""
    statistic: float
    p_value: float
    """As it holds for all columns and splits that are looked at."""
    stability: float
    """The population stability index."""
    distance: float
    """Jensen and Shannon's, 0..1."""
    moved: bool
    """Whether both the index and the p-value say so."""


def find_drift(splits: Mapping[str, tuple[Columns, np.ndarray]]) -> list[Drift]:
    """How far each column [n] of each other split, with its weights [n] as counts, is from the training rows; furthest first.

    Gaps (NaN) are a part of their own for the index and the distance, and are left out of Smirnov's test.
    """
    columns, weight = splits["train"]
    found = []
    for split, (others, other_weight) in splits.items():
        if split != "train" and (other_weight > 0).any():
            found += [compare_column(name, split, columns[name], weight, others[name], other_weight) for name in columns]
    adjusted = adjust_p_values([one.p_value for one in found])
    found = [
        one._replace(p_value=float(p), moved=bool(p < SURE and one.stability > MOVED))
        for one, p in zip(found, adjusted, strict=True)
    ]
    return sorted(found, key=lambda one: (not one.moved, -one.stability))


def compare_column(
    name: str, split: str, mine: np.ndarray, weight: np.ndarray, other: np.ndarray, other_weight: np.ndarray
) -> Drift:
    """One column of training rows [n] and of others [m], by weights as counts."""
    mine, weight = mine[weight > 0], weight[weight > 0].astype(float)
    other, other_weight = other[other_weight > 0], other_weight[other_weight > 0].astype(float)
    both = np.concatenate([mine, other])
    if both.dtype.kind == "f" and len(np.unique(both[~np.isnan(both)])) > LEVELS:
        known, other_known = ~np.isnan(mine), ~np.isnan(other)
        edges = np.unique(np.quantile(mine[known], np.arange(1, BINS) / BINS)) if known.any() else np.zeros(0)
        counts = [count_parts(mine, weight, edges), count_parts(other, other_weight, edges)]
        statistic = p = float("nan")
        if known.any() and other_known.any():
            statistic = kolmogorov_smirnov(mine[known], other[other_known], weight[known], other_weight[other_known])
            n, m = weight[known].sum(), other_weight[other_known].sum()
            p = float(stats.kstwo.sf(statistic, max(round(n * m / (n + m)), 1)))
        test = "Smirnov"
    else:
        level, place = np.unique(both, return_inverse=True)
        first, second = place[: len(mine)], place[len(mine) :]
        counts = [np.bincount(first, weight, len(level)), np.bincount(second, other_weight, len(level))]
        test, (statistic, p) = "chi-square", level_test(np.stack(counts))
    return Drift(name, split, test, statistic, p, population_stability(*counts), jensen_shannon(*counts), False)


def count_parts(values: np.ndarray, weight: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The weight of the parts between the edges, and of the gaps."""
    there = ~np.isnan(values)
    parts = np.bincount(np.searchsorted(edges, values[there]), weight[there], len(edges) + 1)
    return np.append(parts, weight[~there].sum())


def level_test(table: np.ndarray) -> tuple[float, float]:
    """Pearson's statistic of counts [2, levels] and its p; rare levels are one, and a single level is no evidence (1)."""
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    rare = expected.min(0) < EXPECTED
    merged = np.concatenate([table[:, ~rare], table[:, rare].sum(1, keepdims=True)], 1)
    merged = merged[:, merged.sum(0) > 0]
    if merged.shape[1] < 2:
        return 0.0, 1.0
    found = stats.chi2_contingency(merged, correction=False)
    return float(found.statistic), float(found.pvalue)
