"""Whether an effect differs between slices of the units, as countries are: each slice's effect, and a test that they are one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from arsenal.evaluation.ab.two_samples import t_test
from arsenal.evaluation.multiplicity import Correction, adjust_p_values
from arsenal.evaluation.significance import Comparison


class SliceEffects(NamedTuple):
    """The effect in each slice, by name, and whether they differ."""

    names: list[str]
    effects: list[Comparison]
    adjusted: np.ndarray
    """[slices]: p-values as they hold for all slices together; NaN for a slice with fewer than two units in an arm."""
    interaction: Comparison
    """Cochran's Q: that all slices have one effect."""


def effects_by_slice(
    y: Any, treated: Any, slices: Any, weight: Any = None, method: Correction = "holm", confidence: float = 0.95,
    test: Callable[..., Comparison] = t_test,
) -> SliceEffects:  # fmt: skip
    """The effect on y [n, ...] within every slice [n], sorted by name, with corrected p-values and a test of interaction.

    `test` is `(y, treated, weight, confidence=...) -> Comparison`, Welch's t unless another is given.

    To look at slices is to look often: an effect in one of them means something only if its adjusted p-value or the interaction's
    says so. A slice with fewer than two units in an arm has no effect (NaN). Cochran, Biometrics 10 (1954).
    """
    slices = np.asarray(slices)
    weight = np.ones(len(slices)) if weight is None else np.asarray(weight, float)
    treated, y = np.asarray(treated), np.asarray(y, float)
    names = np.unique(slices[weight > 0])
    effects = []
    for name in names:
        here = np.where(slices == name, weight, 0)
        few = min((here * (treated == arm)).sum() for arm in (0, 1)) < 2
        nothing = Comparison(float("nan"), float("nan"))
        effects.append(nothing if few else test(y, treated, here, confidence=confidence))
    adjusted = adjust_p_values([one.p_value for one in effects], method)
    return SliceEffects([str(name) for name in names], effects, adjusted, heterogeneity(effects, confidence))


def heterogeneity(effects: list[Comparison], confidence: float = 0.95) -> Comparison:
    """Cochran's Q of effects with their intervals: squared distances from the mean by precision, in standard errors.

    Effect: that mean. Those without an interval, or with one of no width, do not count; NaN for fewer than two.
    """
    there = [one for one in effects if np.isfinite(one.effect) and one.high > one.low]
    if len(there) < 2:
        return Comparison(float("nan"), float("nan"))
    reach = np.array([stats.t.ppf((1 + confidence) / 2, one.degrees or (np.inf,))[0] for one in there])
    error = np.array([one.high - one.low for one in there]) / (2 * reach)
    effect, precision = np.array([one.effect for one in there]), 1 / np.square(error)
    mean = (precision * effect).sum() / precision.sum()
    q, degrees = float((precision * np.square(effect - mean)).sum()), len(there) - 1.0
    return Comparison(q, float(stats.chi2.sf(q, degrees)), float(mean), degrees=(degrees,))
