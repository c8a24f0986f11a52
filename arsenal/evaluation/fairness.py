"""Fairness: what a classifier of two does to groups of people, and how far apart the groups are.

Demographic parity and equalised odds: Hardt, Price and Srebro, NeurIPS 2016 (1610.02413); the differences are Fairlearn's.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class GroupRates(NamedTuple):
    """What is done to a group; NaN where it has no row of the kind."""

    name: str
    rows: float
    """Weight."""
    selection_rate: float
    """The share that is said to be class 1."""
    true_positive_rate: float
    false_positive_rate: float
    accuracy: float
    base_rate: float
    """The share that is class 1."""


class Fairness(NamedTuple):
    """The groups, and how far the furthest are apart, each with an interval (low, high) of a bootstrap."""

    groups: list[GroupRates]
    demographic_parity_difference: tuple[float, float, float]
    """Of selection rates, 0 the same for all: value, low, high."""
    demographic_parity_ratio: tuple[float, float, float]
    """The smallest rate over the largest, 1 the same for all."""
    equalized_odds_difference: tuple[float, float, float]
    """The larger of the gaps in true and false positive rates."""
    equal_opportunity_difference: tuple[float, float, float]
    """The gap in true positive rates."""


def fairness(
    y: Any, predict: Any, group: Any, weight: Any = None, names: Sequence[str] | None = None, *, seed: int = 0,
    samples: int = 1000, confidence: float = 0.95,
) -> Fairness:  # fmt: skip
    """What labels `predict` [n] in {0, 1} do to the groups `group` [n], y [n] being what is true; weights count rows.

    Intervals are percentiles of `samples` bootstraps of the rows within their groups. `names` are those of groups that are whole
    numbers. Raises ValueError for labels other than 0 and 1 or a single group.

    >>> found = fairness([1, 0, 1, 0], [1, 1, 1, 0], ["a", "a", "b", "b"], samples=10)
    >>> found.demographic_parity_difference[0], found.groups[0].selection_rate
    (0.5, 1.0)
    """
    y, predict, group = np.asarray(y), np.asarray(predict), np.asarray(group)
    weight = np.ones(len(y)) if weight is None else np.asarray(weight, float)
    for name, column in (("predict", predict), ("group", group), ("weight", weight)):
        if column.shape != y.shape:
            raise ValueError(f"`{name}` of `fairness` must be [{len(y)}], as y is; got {list(column.shape)}.")
    there = weight > 0
    for name, column in (("y", y), ("predict", predict)):
        if (wrong := there & ~np.isin(column, (0, 1))).any():
            raise ValueError(f"`{name}` of `fairness` must be 0 or 1; got {column[wrong][0]} in row {int(wrong.argmax()) + 1}.")
    levels, code = np.unique(group[there], return_inverse=True)
    if len(levels) < 2:
        raise ValueError(f"`group` of `fairness` must hold two groups or more; got {len(levels)}.")
    counts = np.stack([
        np.bincount(code * 4 + 2 * y[there].astype(int) + predict[there].astype(int), weight[there], 4 * len(levels))
    ]).reshape(len(levels), 2, 2)  # fmt: skip
    rates = group_rates(counts)
    # A bootstrap of rows within their groups draws the four counts of each group from a multinomial distribution.
    draw, whole = np.random.default_rng(seed), np.maximum(np.rint(counts.sum((1, 2))), 1).astype(int)
    drawn = np.stack([
        draw.multinomial(n, table.ravel() / table.sum(), samples).reshape(samples, 2, 2)
        for n, table in zip(whole, counts, strict=True)
    ], 1)  # fmt: skip
    many = group_rates(drawn.astype(float))

    def told(distance: Callable) -> tuple[float, float, float]:
        low, high = np.nanquantile(distance(many), [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(distance(rates)), float(low), float(high)

    def named(level):
        known = names is not None and int(level) < len(names)
        return str(names[int(level)]) if known else f"{level:g}" if isinstance(level, np.floating) else str(level)

    groups = [
        GroupRates(named(level), float(counts[i].sum()), *(float(rates[key][i]) for key in GroupRates._fields[2:]))
        for i, level in enumerate(levels)
    ]
    return Fairness(
        groups, told(lambda r: gap(r["selection_rate"])), told(lambda r: ratio(r["selection_rate"])),
        told(lambda r: np.fmax(gap(r["true_positive_rate"]), gap(r["false_positive_rate"]))),
        told(lambda r: gap(r["true_positive_rate"])),
    )  # fmt: skip


def group_rates(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The rates [..., groups] of counts [..., groups, true, said]."""
    with np.errstate(invalid="ignore", divide="ignore"):
        total = counts.sum((-2, -1))
        return {
            "selection_rate": counts[..., 1].sum(-1) / total,
            "true_positive_rate": counts[..., 1, 1] / counts[..., 1, :].sum(-1),
            "false_positive_rate": counts[..., 0, 1] / counts[..., 0, :].sum(-1),
            "accuracy": (counts[..., 0, 0] + counts[..., 1, 1]) / total,
            "base_rate": counts[..., 1, :].sum(-1) / total,
        }


def gap(rate: np.ndarray) -> np.ndarray:
    """The largest less the smallest of the groups' rates, of those that are known."""
    return np.fmax.reduce(rate, -1) - np.fmin.reduce(rate, -1)


def ratio(rate: np.ndarray) -> np.ndarray:
    """The smallest over the largest of the groups' rates; 0 where no group is selected, as Fairlearn has it."""
    largest = np.fmax.reduce(rate, -1)
    return np.where(largest > 0, np.fmin.reduce(rate, -1) / np.where(largest > 0, largest, 1), 0.0)
