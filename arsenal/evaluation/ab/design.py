"""How many units an experiment needs, what power it has, and which effect it can find: of means, shares, ratios and clusters.

A `Design` says how large an effect is in standard deviations of a unit; `power`, `sample_size` and `detectable_effect` ask it.
Cohen, Statistical Power Analysis for the Behavioral Sciences (1988).
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import optimize, special, stats

from arsenal.evaluation.significance import check_rows, count_rows

Alternative = Literal["two-sided", "larger", "smaller"]
LARGEST = 1e12
"""Units; who needs more has asked for an effect of nothing."""


class Design(NamedTuple):
    """What is measured of a unit, and how units depend on each other."""

    standardize: Callable[[float], float]
    """An effect, treatment - control, in standard deviations of a unit."""
    effect: Callable[[float], float]
    """The other way round."""
    student: bool = False
    """Whether the deviation is estimated, so that the test is Student's."""
    inflation: float = 1.0
    """How many units count as one: the design effect of clusters."""


def means(deviation: float) -> Design:
    """A design on the mean of a number with this standard deviation in a unit; an effect is in the number's own units.

    >>> sample_size(means(deviation=10.0), effect=1.0)
    1571
    """
    check_positive("deviation", "means", deviation)
    return Design(lambda effect: effect / deviation, lambda size: size * deviation, student=True)


def proportions(share: float) -> Design:
    """A design on a share of units, such as a conversion rate, that is `share` in the control; an effect is in points of 1.

    By Cohen's `h = 2 asin sqrt(p1) - 2 asin sqrt(p0)`, whose deviation depends on no share.

    >>> sample_size(proportions(0.10), effect=0.02)
    3835
    """
    if not 0 < share < 1:
        raise ValueError(f"`share` of `proportions` must be in (0, 1); got {share:g}.")
    angle = 2 * math.asin(math.sqrt(share))

    def standardize(effect):
        if not 0 <= share + effect <= 1:
            raise ValueError(f"`effect` of a share of {share:g} must be in {-share:g}..{1 - share:g}; got {effect:g}.")
        return 2 * math.asin(math.sqrt(share + effect)) - angle

    def effect(size):
        return math.sin(min(max((size + angle) / 2, 0.0), math.pi / 2)) ** 2 - share

    return Design(standardize, effect)


def ratios(numerator: Any, denominator: Any, weight: Any = None) -> Design:
    """A design on a ratio of sums over units, as clicks over views, of earlier units' numerators and denominators [n].

    By the delta method: a unit's value is `(numerator - ratio * denominator) / mean denominator`. Deng et al., KDD 2018.
    """
    top, bottom = count_rows("ratios", weight, numerator=numerator, denominator=denominator)
    check_rows("ratios", len(top), 2)
    check_positive("the mean of `denominator`", "ratios", bottom.mean())
    deviation = float(np.std((top - top.mean() / bottom.mean() * bottom) / bottom.mean(), ddof=1))
    return means(deviation)._replace(student=False)


def clusters(design: Design, size: float, correlation: float, variation: float = 0.0) -> Design:
    """A design whose units come in clusters of `size` that are assigned whole, alike by `correlation` within.

    The design effect is `1 + ((variation² + 1) size - 1) correlation`, where `variation` is the sizes' standard deviation over
    their mean. Units stay units: divide by `size` for clusters. Eldridge et al., International Journal of Epidemiology 35 (2006).

    >>> sample_size(clusters(means(10.0), size=20, correlation=0.05), effect=1.0)
    3063
    """
    if not size >= 1:
        raise ValueError(f"`size` of `clusters` must be >= 1; got {size:g}.")
    if not 0 <= correlation <= 1:
        raise ValueError(f"`correlation` of `clusters` must be in 0..1; got {correlation:g}.")
    if not variation >= 0:
        raise ValueError(f"`variation` of `clusters` must be >= 0; got {variation:g}.")
    return design._replace(inflation=design.inflation * (1 + ((variation**2 + 1) * size - 1) * correlation))


def check_positive(name: str, of: str, value: float) -> None:
    """Raise ValueError for what is not above 0."""
    if not value > 0:
        raise ValueError(f"`{name}` of `{of}` must be > 0; got {value:g}.")


def check_levels(of: str, alpha: float, ratio: float, alternative: str, power: float | None = None) -> None:
    """Raise ValueError for what is no level, no ratio or no alternative."""
    if not 0 < alpha < 1:
        raise ValueError(f"`alpha` of `{of}` must be in (0, 1); got {alpha:g}.")
    if power is not None and not alpha < power < 1:
        raise ValueError(f"`power` of `{of}` must be above alpha and below 1; got {power:g}.")
    check_positive("ratio", of, ratio)
    if alternative not in ("two-sided", "larger", "smaller"):
        raise ValueError(f"`alternative` of `{of}` must be two-sided, larger or smaller; got {alternative}.")


def rejection_rate(n: float, size: float, student: bool, alpha: float, ratio: float, alternative: Alternative) -> float:
    """The power of n units in the control, `ratio` times as many in the treatment, for an effect in standard deviations."""
    shift = size * math.sqrt(n * ratio / (1 + ratio))
    tail = alpha / 2 if alternative == "two-sided" else alpha
    degrees = n * (1 + ratio) - 2
    if not student or degrees > 1e7:
        limit = -special.ndtri(tail)
        above, below = special.ndtr(shift - limit), special.ndtr(-shift - limit)
    else:
        limit = stats.t.isf(tail, degrees)
        above, below = stats.nct.sf(limit, degrees, shift), stats.nct.cdf(-limit, degrees, shift)
    # Where one side is nearly impossible, the noncentral t has no number for it.
    sides = {"larger": np.nan_to_num(above), "smaller": np.nan_to_num(below)}
    return float(sides.get(alternative, sides["larger"] + sides["smaller"]))


def power(
    design: Design, n: float, effect: float, alpha: float = 0.05, ratio: float = 1.0, alternative: Alternative = "two-sided"
) -> float:
    """How likely a test at `alpha` finds an effect, treatment - control, with n units in the control and `ratio` n treated.

    >>> round(power(means(10.0), n=1571, effect=1.0), 3)
    0.8
    """
    check_levels("power", alpha, ratio, alternative)
    if not n * (1 + ratio) / design.inflation > 2:
        raise ValueError(f"`n` of `power` must be more than 2 units that count, in both groups together; got {n:g}.")
    return rejection_rate(n / design.inflation, design.standardize(effect), design.student, alpha, ratio, alternative)


def sample_size(
    design: Design, effect: float, power: float = 0.8, alpha: float = 0.05, ratio: float = 1.0,
    alternative: Alternative = "two-sided",
) -> int:  # fmt: skip
    """How many units the control needs, and the treatment `ratio` times, for `power` to find an effect, treatment - control."""
    check_levels("sample_size", alpha, ratio, alternative, power)
    size = design.standardize(effect)
    wanted = {"larger": size > 0, "smaller": size < 0}.get(alternative, size != 0)
    if not wanted:
        raise ValueError(f"`effect` of `sample_size` must not be 0 and on the side of `alternative`; got {effect:g}.")

    def short_of(n):
        return rejection_rate(n, size, design.student, alpha, ratio, alternative) - power

    few = 2 / (1 + ratio) + 1e-3 if design.student else 1e-9
    many = max(2 * few, 2.0)
    while short_of(many) < 0:
        many *= 2
        if many > LARGEST:
            raise ValueError(f"`effect` of `sample_size` is so small that {LARGEST:g} units do not find it; got {effect:g}.")
    n = few if short_of(few) >= 0 else optimize.brentq(short_of, few, many, xtol=1e-6)
    return math.ceil(n * design.inflation - 1e-6)


def detectable_effect(
    design: Design, n: float, power: float = 0.8, alpha: float = 0.05, ratio: float = 1.0,
    alternative: Alternative = "two-sided",
) -> float:  # fmt: skip
    """The least effect, treatment - control, that n units in the control find with `power`; below 0 for `smaller`.

    >>> round(detectable_effect(means(10.0), n=1571), 3)
    1.0
    """
    check_levels("detectable_effect", alpha, ratio, alternative, power)
    units = n / design.inflation
    if not units * (1 + ratio) > 2:
        raise ValueError(f"`n` of `detectable_effect` must be more than 2 units that count, in both groups together; got {n:g}.")
    sign = -1 if alternative == "smaller" else 1

    def short_of(size):
        return rejection_rate(units, sign * size, design.student, alpha, ratio, alternative) - power

    large = 1.0
    while short_of(large) < 0:
        large *= 2
        if large > LARGEST:
            raise ValueError(f"`n` of `detectable_effect` finds no effect; got {n:g}.")
    return design.effect(sign * optimize.brentq(short_of, 1e-12, large, xtol=1e-12))
