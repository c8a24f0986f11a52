"""Whether treated units differ from those of the control: y [n] of units, `treated` [n] 0 or 1, by SciPy where it has the test.

Effects are treatment - control. Units count by whole `weight` [n]: 0 is not there, though it be NaN, and 2 is the unit twice.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from arsenal.evaluation.bootstrap import as_comparison, bootstrap
from arsenal.evaluation.significance import (
    Comparison,
    auc_covariance,
    check_binary,
    check_confidence,
    count_rows,
    normal_comparison,
    t_comparison,
    two_sides,
    wilson,
)


def split_arms(test: str, treated: Any, weight: Any, least: int = 2, **columns: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of every column [n, ...] the control's rows and the treated ones, as often as they count."""
    values = count_rows(test, weight, treated=treated, **columns)
    check_binary(test, "treated", values[0])
    arm = values[0] == 1
    for name, rows in (("the control", int((~arm).sum())), ("the treatment", int(arm.sum()))):
        if rows < least:
            raise ValueError(f"`{test}` needs {least} units or more in {name}; got {rows}.")
    return [(column[~arm], column[arm]) for column in values[1:]]


def t_test(y: Any, treated: Any, weight: Any = None, equal_variances: bool = False, confidence: float = 0.95) -> Comparison:
    """Whether the means differ: Welch's t, or Student's where the variances are told to be equal. Effect: the difference.

    Welch, Biometrika 34 (1947).

    >>> found = t_test([1.0, 2.0, 3.0, 3.0, 4.0, 6.0], [0, 0, 0, 1, 1, 1])
    >>> round(found.effect, 3), round(found.p_value, 3)
    (2.333, 0.102)
    """
    check_confidence("t_test", confidence)
    ((control, treatment),) = split_arms("t_test", treated, weight, y=y)
    effect = float(treatment.mean() - control.mean())
    if np.ptp(control) == 0 and np.ptp(treatment) == 0:  # where SciPy warns
        return t_comparison(effect, 0.0, len(control) + len(treatment) - 2, confidence)
    found = stats.ttest_ind(treatment, control, equal_var=equal_variances)
    ends = found.confidence_interval(confidence)
    return Comparison(
        float(found.statistic), float(found.pvalue), effect, float(ends.low), float(ends.high), (float(found.df),)
    )


def z_test(y: Any, treated: Any, weight: Any = None, confidence: float = 0.95) -> Comparison:
    """Whether the shares of y [n] in {0, 1} differ, by the pooled z. Effect: the difference, with Newcombe's interval.

    Newcombe, Statistics in Medicine 17 (1998), method 10: it stays within -1..1 and holds for few units too.
    """
    check_confidence("z_test", confidence)
    ((control, treatment),) = split_arms("z_test", treated, weight, least=1, y=y)
    check_binary("z_test", "y", np.concatenate([control, treatment]))
    (p0, p1), (n0, n1) = (control.mean(), treatment.mean()), (len(control), len(treatment))
    pooled = (control.sum() + treatment.sum()) / (n0 + n1)
    found = normal_comparison(p1 - p0, pooled * (1 - pooled) * (1 / n0 + 1 / n1), confidence)
    (low0, high0), (low1, high1) = (wilson(p, n, two_sides(confidence)) for p, n in ((p0, n0), (p1, n1)))
    low, high = np.hypot(p1 - low1, high0 - p0), np.hypot(high1 - p1, p0 - low0)
    return found._replace(low=float(p1 - p0 - low), high=float(p1 - p0 + high))


def chi_square(y: Any, treated: Any, weight: Any = None) -> Comparison:
    """Whether outcomes of any number of classes, y [n], are distributed alike, by Pearson's chi-square without a correction.

    Effect: Cramér's V, 0..1, without an interval. `treated` may be the number of any variant.
    """
    y, treated = count_rows("chi_square", weight, y=y, treated=treated)
    table = stats.contingency.crosstab(treated, y).count
    if min(table.shape) < 2:
        raise ValueError(f"`chi_square` needs two variants and two outcomes or more; got {table.shape[0]} and {table.shape[1]}.")
    found = stats.chi2_contingency(table, correction=False)
    effect = float(stats.contingency.association(table, method="cramer"))
    return Comparison(float(found.statistic), float(found.pvalue), effect, degrees=(float(found.dof),))


def fisher(y: Any, treated: Any, weight: Any = None, confidence: float = 0.95) -> Comparison:
    """Whether the odds of y [n] in {0, 1} differ, exactly. Statistic and effect: the odds ratio, treatment to control.

    The conditional estimate and its exact interval. Fisher, The Design of Experiments (1935).
    """
    check_confidence("fisher", confidence)
    ((control, treatment),) = split_arms("fisher", treated, weight, least=1, y=y)
    check_binary("fisher", "y", np.concatenate([control, treatment]))
    table = np.array([[part.sum(), (1 - part).sum()] for part in (treatment, control)]).astype(int)
    p = float(stats.fisher_exact(table).pvalue)
    if (table.sum(0) == 0).any():  # all units alike
        return Comparison(float("nan"), p, float("nan"), 0.0, float("inf"))
    odds = stats.contingency.odds_ratio(table)
    ends = odds.confidence_interval(confidence)
    return Comparison(float(odds.statistic), p, float(odds.statistic), float(ends.low), float(ends.high))


def mann_whitney(y: Any, treated: Any, weight: Any = None, confidence: float = 0.95) -> Comparison:
    """Whether treated units tend to have larger y [n], by ranks. Statistic: U of the treatment.

    Effect: how often a treated unit is above one of the control, ties half, less 1/2; its interval is a ROC area's (DeLong).
    Mann & Whitney, Annals of Mathematical Statistics 18 (1947).
    """
    check_confidence("mann_whitney", confidence)
    ((control, treatment),) = split_arms("mann_whitney", treated, weight, y=y)
    found = stats.mannwhitneyu(treatment, control)
    arm = np.repeat([0, 1], [len(control), len(treatment)])
    area = auc_covariance(arm, np.concatenate([control, treatment]))
    ends = normal_comparison(float(area.area[0]) - 0.5, float(area.covariance[0, 0]), confidence)
    return ends._replace(statistic=float(found.statistic), p_value=float(found.pvalue))


def bootstrap_means(
    key: jax.Array, y: Any, treated: Any, weight: Any = None, samples: int = 10_000, confidence: float = 0.95
) -> Comparison:
    """The difference of the means of y [n], with BCa's interval, by resamples of either arm; p as in `bootstrap_difference`."""
    check_confidence("bootstrap_means", confidence)
    ((control, treatment),) = split_arms("bootstrap_means", treated, weight, y=y)
    y = jnp.asarray(np.concatenate([control, treatment]), float)
    arm = np.repeat([0, 1], [len(control), len(treatment)])
    of_arm = jnp.asarray(np.stack([arm == 0, arm == 1]), float)

    def value(weight):
        count = of_arm * weight
        mean = count @ y / count.sum(1)
        return mean[1] - mean[0]

    return as_comparison(bootstrap(key, value, np.ones(len(arm)), strata=arm, samples=samples, confidence=confidence))


def ratio_test(numerator: Any, denominator: Any, treated: Any, weight: Any = None, confidence: float = 0.95) -> Comparison:
    """Whether ratios of sums over units differ, as clicks over views of people, of numerators and denominators [n].

    By the delta method, since a unit's views depend on each other. Effect: the difference of the ratios. Deng et al., KDD 2018.
    """
    check_confidence("ratio_test", confidence)
    top, bottom = split_arms("ratio_test", treated, weight, numerator=numerator, denominator=denominator)
    (ratio0, variance0), (ratio1, variance1) = (ratio_moments(a, b) for a, b in zip(top, bottom, strict=True))
    return normal_comparison(ratio1 - ratio0, variance0 + variance1, confidence)


def ratio_moments(numerator: np.ndarray, denominator: np.ndarray) -> tuple[float, float]:
    """A ratio of sums over units [n] and its variance by the delta method."""
    mean = denominator.mean()
    if not mean > 0:
        raise ValueError(f"`denominator` of `ratio_test` must have a mean > 0 in either arm; got {mean:g}.")
    ratio = numerator.mean() / mean
    spread = np.var(numerator - ratio * denominator, ddof=1)
    return float(ratio), float(spread / (mean**2 * len(numerator)))
