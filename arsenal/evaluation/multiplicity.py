"""Many p-values at once: what remains when it counts that so many were looked at."""

from typing import Any, Literal

import numpy as np
from scipy import stats

Correction = Literal["holm", "bonferroni", "benjamini_hochberg", "benjamini_yekutieli"]


def adjust_p_values(p: Any, method: Correction = "holm") -> np.ndarray:
    """The p-values [m] as they hold for all together; NaN is not there.

    holm and bonferroni: the chance of a single false finding is within the level. benjamini_hochberg: of all findings the share
    of false ones is, where tests are independent or depend positively; benjamini_yekutieli: whatever the dependence. Holm,
    Scandinavian Journal of Statistics 6 (1979); Benjamini & Hochberg, JRSS B 57 (1995); Benjamini & Yekutieli, Annals of
    Statistics 29 (2001).

    >>> adjust_p_values([0.01, 0.02, 0.04]).tolist()
    [0.03, 0.04, 0.04]
    """
    p = np.asarray(p, float)
    if ((p < 0) | (p > 1)).any():
        wrong = p[(p < 0) | (p > 1)][0]
        raise ValueError(f"`p` of `adjust_p_values` must be in 0..1; got {wrong:g}.")
    there = ~np.isnan(p)
    found, m = np.full(p.shape, np.nan), int(there.sum())
    values = p[there]
    match method:
        case "bonferroni":
            found[there] = np.minimum(m * values, 1)
        case "holm":
            order = np.argsort(values, kind="stable")
            stepped = np.maximum.accumulate(np.minimum((m - np.arange(m)) * values[order], 1))
            found[there] = stepped[np.argsort(order, kind="stable")]
        case "benjamini_hochberg" | "benjamini_yekutieli":
            found[there] = stats.false_discovery_control(values, method={"h": "bh", "y": "by"}[method[10]]) if m else values
        case _:
            known = "holm, bonferroni, benjamini_hochberg or benjamini_yekutieli"
            raise ValueError(f"`method` of `adjust_p_values` must be {known}; got {method}.")
    return found
