"""What a ranking of customers is worth to who can reach only some of them: gain, lift, separation and profit."""

from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval

from arsenal.metrics.average import as_float, average
from arsenal.metrics.calibration import running_sums
from arsenal.metrics.probabilities import two_probabilities
from arsenal.metrics.scores import check_scores, score_of_two
from arsenal.metrics.whole import whole_rows
from arsenal.records import Metric

Share = Annotated[float, Interval(gt=0, le=1)]


def gain(share: Share = 0.1) -> Metric:
    """The share of class 1 that is among the `share` of rows with the highest probability of it, 0..1.

    `predict_proba` [n, 2], y [n] in {0, 1}. Exact, on the host; of rows with one probability at the border each counts in part,
    as if they were drawn by chance. NaN where no row is of class 1.

    >>> from arsenal.metrics import measure
    >>> p = np.array([0.1, 0.4, 0.6, 0.8])
    >>> measure(gain(0.5), [0, 1, 0, 1], predict_proba=np.stack([1 - p, p], 1))["gain"]
    0.5
    """
    check_share("gain", share)
    return of_two_scores("gain", lambda score, y, weight: share_above(score, y, weight, share), "max")


def lift(share: Share = 0.1) -> Metric:
    """How many times as frequent class 1 is among the `share` of rows with the highest probability of it as among all.

    Answers and ties as of `gain`, which is `share` times it.

    >>> from arsenal.metrics import measure
    >>> p = np.array([0.1, 0.4, 0.6, 0.8])
    >>> measure(lift(0.25), [0, 1, 0, 1], predict_proba=np.stack([1 - p, p], 1))["lift"]
    2.0
    """
    check_share("lift", share)
    return of_two_scores("lift", lambda score, y, weight: share_above(score, y, weight, share) / share, "max")


def kolmogorov_smirnov() -> Metric:
    """The largest distance of the distributions of the probability in the two classes, 0..1: how far they can be told apart.

    `predict_proba` [n, 2], y [n] in {0, 1}. Exact, on the host. NaN where a class has no row.

    >>> from arsenal.metrics import measure
    >>> p = np.array([0.1, 0.4, 0.6, 0.8])
    >>> measure(kolmogorov_smirnov(), [0, 1, 0, 1], predict_proba=np.stack([1 - p, p], 1))["kolmogorov_smirnov"]
    0.5
    """

    def value(score, y, weight):
        every, positive = running_sums(score, weight, weight * y)
        negative = every - positive
        return np.abs(positive / positive[-1] - negative / negative[-1]).max() if positive[-1] and negative[-1] else np.nan

    return of_two_scores("kolmogorov_smirnov", value, "max")


def profit(benefit: float, cost: Annotated[float, Ge(0)], threshold: float | None = None) -> Metric:
    """The mean profit per row of reaching all whose probability of class 1 is `threshold` or more.

    Reaching one costs `cost` and brings `benefit` where it is of class 1; where nothing else is said the threshold is where the
    two are even, `cost / benefit`. `predict_proba` [n, 2], y [n] in {0, 1}.

    >>> from arsenal.metrics import measure
    >>> measure(profit(benefit=10.0, cost=4.0), [0, 1], predict_proba=np.full((2, 2), 0.5))["profit"]
    1.0
    """
    check_benefit("profit", benefit, cost)
    least = cost / benefit if threshold is None else threshold

    def value(outputs, batch):
        p = two_probabilities(outputs, batch, "profit")
        return as_float(p >= least) * (benefit * as_float(batch.y > 0) - cost)

    return average("profit", value, "max")


def maximum_profit(benefit: float, cost: Annotated[float, Ge(0)]) -> Metric:
    """The mean profit per row at the best of all thresholds, none reached included: what the ranking could bring, >= 0.

    `benefit`, `cost` and answers as of `profit`. Exact, on the host.

    >>> from arsenal.metrics import measure
    >>> p = np.array([0.1, 0.2])
    >>> measure(maximum_profit(benefit=10.0, cost=4.0), [0, 1], predict_proba=np.stack([1 - p, p], 1))["maximum_profit"]
    3.0
    """
    check_benefit("maximum_profit", benefit, cost)

    def value(score, y, weight):
        every, positive = running_sums(-score, weight, weight * y)
        return (benefit * positive - cost * every).max() / every[-1]

    return of_two_scores("maximum_profit", value, "max")


def share_above(score: np.ndarray, y: np.ndarray, weight: np.ndarray, share: float) -> float:
    """The share of what is of class 1 that is within a share of the weight, the highest scores first."""
    every, positive = running_sums(-score, weight, weight * y)
    return np.interp(share * every[-1], every, positive) / positive[-1] if positive[-1] else np.nan


def of_two_scores(name: str, value, mode: str):
    """The metric `value(score, y, weight) -> number` of the probability of class 1 of all rows at once."""
    check_shapes = check_scores(name)

    def check(outputs, batch):
        check_shapes(outputs, batch)
        if outputs["predict_proba"].shape[1] != 2 or batch.y.ndim != 1:
            raise ValueError(f"`{name}` takes `predict_proba` [n, 2] and labels [n]; got {outputs['predict_proba'].shape}.")

    def of_rows(outputs, batch):
        return float(value(score_of_two(outputs["predict_proba"]), (batch.y > 0).astype(float), batch.weight.astype(float)))

    return whole_rows(name, of_rows, ("predict_proba",), mode, check=check)


def check_share(metric: str, share: float) -> None:
    """Raise ValueError unless a share is in (0, 1]."""
    if not 0 < share <= 1:
        raise ValueError(f"`share` of `{metric}` must be above 0 and at most 1; got {share:g}.")


def check_benefit(metric: str, benefit: float, cost: float) -> None:
    """Raise ValueError unless something is to be won."""
    if not benefit > 0:
        raise ValueError(f"`benefit` of `{metric}` must be > 0; got {benefit:g}.")
    if cost < 0:
        raise ValueError(f"`cost` of `{metric}` must be >= 0; got {cost:g}.")
