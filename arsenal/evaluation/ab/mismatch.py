"""Whether units were assigned as they were to be: an experiment whose arms have the wrong sizes is broken, whatever it says."""

from typing import Any

import numpy as np
from scipy import stats

from arsenal.evaluation.significance import Comparison

SUSPECT = 0.001
"""A p-value below this is a mismatch: the test is made of every experiment, on many units. Fabijan et al., KDD 2019."""


def sample_ratio_mismatch(counts: Any, shares: Any = None) -> Comparison:
    """Whether the units [variants] that were counted are in the shares [variants] that were planned, equal unless given.

    Pearson's chi-square. Effect: the share of the first variant less what was planned. Suspect below p = 0.001. Fabijan et al.,
    KDD 2019.

    >>> round(sample_ratio_mismatch([5000, 5300]).p_value, 4)
    0.0031
    """
    counts = np.asarray(counts, float)
    if counts.ndim != 1 or len(counts) < 2 or (counts < 0).any() or not counts.sum() > 0:
        told = counts.tolist()
        raise ValueError(f"`counts` of `sample_ratio_mismatch` must be two or more numbers >= 0 with a sum; got {told}.")
    shares = np.ones(len(counts)) if shares is None else np.asarray(shares, float)
    if shares.shape != counts.shape or not (shares > 0).all():
        raise ValueError(f"`shares` of `sample_ratio_mismatch` must be {len(counts)} numbers > 0; got {shares.tolist()}.")
    shares = shares / shares.sum()
    found = stats.chisquare(counts, shares * counts.sum())
    effect = float(counts[0] / counts.sum() - shares[0])
    return Comparison(float(found.statistic), float(found.pvalue), effect, degrees=(len(counts) - 1.0,))
