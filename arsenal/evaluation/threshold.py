"""Where to say yes: what a threshold of a probability costs, of two classes, and what it catches.

The threshold is found on one set of rows and judged on another. Elkan, The Foundations of Cost-Sensitive Learning, IJCAI 2001.
"""

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.evaluation.bootstrap import bootstrap
from arsenal.evaluation.plot import LIGHT, Theme, dress, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID = np.linspace(0, 1, 101)
SAMPLES = 2000


class Costs(NamedTuple):
    """What a mistake costs: a yes where the truth is no, and a no where it is yes."""

    false_alarm: float
    miss: float


class ThresholdCurve(NamedTuple):
    """What thresholds [m] do to rows: yes is said where the probability is at least the threshold."""

    at: np.ndarray
    flagged: np.ndarray
    """The share of the rows to which yes is said."""
    precision: np.ndarray
    """NaN where yes is said to none."""
    recall: np.ndarray
    f1: np.ndarray
    cost: np.ndarray
    """A row's mean cost; NaN without costs."""


class Thresholds(NamedTuple):
    """The threshold by costs, and the curves of the rows that judge it."""

    curve: ThresholdCurve
    costs: Costs | None = None
    positive: str = "1"
    """The class that yes is said to."""
    found_on: str = ""
    """The rows on which the threshold was found; empty where none was."""
    best: float = float("nan")
    found_cost: float = float("nan")
    """A row's mean cost at the best threshold, of the rows on which it was found: too low, since it was chosen by them."""
    cost: tuple[float, float, float] = (float("nan"),) * 3
    """The same, of the rows that judge it, and its 95 % interval."""
    plain: tuple[float, float, float] = (float("nan"),) * 3
    """At 1/2, of the rows that judge, and the interval."""
    saved: tuple[float, float, float] = (float("nan"),) * 3
    """How much the best threshold costs less than 1/2, and the interval, on the same resamples."""
    calibrated: float = float("nan")
    """The threshold that would be best were the probabilities true: false_alarm / (false_alarm + miss)."""


def read_costs(text: str) -> Costs:
    """The costs that `false_alarm:1,miss:5` says; ValueError for anything else.

    >>> read_costs("miss:5,false_alarm:1")
    Costs(false_alarm=1.0, miss=5.0)
    """
    told = dict(part.strip().rpartition(":")[::2] for part in text.split(","))
    try:
        made = {name: float(value) for name, value in told.items()}
    except ValueError:
        made = {}
    if made.keys() != set(Costs._fields) or not all(np.isfinite(v) and v >= 0 for v in made.values()) or not sum(made.values()):
        raise ValueError(f"`costs` must give both mistakes a number >= 0, as false_alarm:1,miss:5 does; got {text}.")
    return Costs(**made)


def threshold_curve(
    y: np.ndarray, score: np.ndarray, weight: np.ndarray, at: np.ndarray, costs: Costs | None = None
) -> ThresholdCurve:
    """What thresholds `at` [m] do to rows with y [n] in {0, 1} and probabilities [n]."""
    order = np.argsort(score, kind="stable")
    ranked, positive, weight = score[order], y[order] == 1, weight[order].astype(float)

    def above(weight):
        """The weight of the rows at or above each threshold."""
        total = np.append(np.cumsum(weight[::-1])[::-1], 0.0)
        return total[np.searchsorted(ranked, at, "left")]

    flagged, caught = above(weight), above(weight * positive)
    total, positives = weight.sum(), (weight * positive).sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = caught / flagged, caught / positives
        f1 = 2 * caught / (flagged + positives)
        wrong = (costs.false_alarm * (flagged - caught) + costs.miss * (positives - caught)) / total if costs else np.nan * at
        return ThresholdCurve(at, flagged / total, precision, recall, f1, wrong)


def best_threshold(y: np.ndarray, score: np.ndarray, weight: np.ndarray, costs: Costs) -> tuple[float, float]:
    """The threshold of the least mean cost and that cost.

    Of several as good the one nearest to false_alarm / (false_alarm + miss), which would be best were the probabilities true.
    Candidates lie halfway between neighbouring scores, and at 0 and above 1: yes to all, and to none.
    """
    known = np.unique(score[weight > 0])
    at = np.concatenate([[0.0], (known[1:] + known[:-1]) / 2, [np.nextafter(1.0, 2.0)]])
    cost = threshold_curve(y, score, weight, at, costs).cost
    good = np.flatnonzero(cost <= cost.min() * (1 + 1e-12))
    near = good[np.argmin(np.abs(at[good] - costs.false_alarm / sum(costs)))]
    return float(at[near]), float(cost[near])


def judge_thresholds(
    key: jax.Array, rows: tuple[np.ndarray, np.ndarray, np.ndarray], found_on: str = "",
    chosen: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None, costs: Costs | None = None, positive: str = "1",
) -> Thresholds:  # fmt: skip
    """The curves of rows, each (y [n], probability of class 1 [n], weight [n]), and with costs the threshold of `chosen` rows.

    Without rows to choose by, none is chosen. Raises ValueError for weights that are not whole, which a bootstrap cannot draw.
    """
    y, score, weight = (np.asarray(one) for one in rows)
    curve = threshold_curve(y, score, weight, GRID, costs)
    if costs is None or chosen is None:
        return Thresholds(curve, costs, positive)
    best, found_cost = best_threshold(np.asarray(chosen[0]), np.asarray(chosen[1]), np.asarray(chosen[2]), costs)

    def row_costs(at):
        alarm, miss = (score >= at) & (y == 0), (score < at) & (y == 1)
        return jnp.asarray(costs.false_alarm * alarm + costs.miss * miss, jnp.float32)

    def judge(of_row):
        return bootstrap(key, lambda w: (w * of_row).sum() / w.sum(), weight, samples=SAMPLES, method="percentile")[:3]

    mine, plain = row_costs(best), row_costs(0.5)
    cost, at_half, saved = judge(mine), judge(plain), judge(plain - mine)
    calibrated = costs.false_alarm / sum(costs)
    return Thresholds(curve, costs, positive, found_on, best, found_cost, cost, at_half, saved, calibrated)


def draw_thresholds(found: Thresholds, theme: Theme = LIGHT) -> "Figure":
    """Precision, recall, F1 and the share of yes over the threshold."""
    figure = new_figure(5.2, 4.0, theme)
    axes = figure.add_subplot()
    dress(axes, theme, "Over the threshold")
    colours, styles = (theme.right, theme.wrong, theme.third, theme.muted), ("-", "--", "-.", ":")
    for name, colour, dashes in zip(("precision", "recall", "f1", "flagged"), colours, styles, strict=True):
        label = {"f1": "F1", "flagged": "said yes"}.get(name, name)
        axes.plot(found.curve.at, getattr(found.curve, name), dashes, color=colour, linewidth=1.8, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=f"yes where the probability of {found.positive} is at least", ylabel="share")
    legend(axes, theme)
    return figure


def draw_costs(found: Thresholds, theme: Theme = LIGHT) -> "Figure":
    """A row's mean cost over the threshold, the threshold that was chosen, and its cost with the interval."""
    figure = new_figure(5.2, 4.0, theme)
    axes = figure.add_subplot()
    dress(axes, theme, "Cost of a row")
    axes.plot(found.curve.at, found.curve.cost, color=theme.right, linewidth=1.8, label="these rows")
    if found.found_on:
        axes.axvline(found.best, color=theme.wrong, linewidth=1.2, label=f"best of the {found.found_on} rows")
        axes.plot([found.best] * 2, found.cost[1:], color=theme.wrong, linewidth=3, solid_capstyle="round")
        axes.plot(found.best, found.cost[0], "o", color=theme.wrong, markersize=6)
    axes.set(xlim=(0, 1), xlabel=f"yes where the probability of {found.positive} is at least", ylabel="mean cost")
    legend(axes, theme)
    return figure
