"""A sharper effect of the same units, by what was known of them before: CUPED, and regression with interactions."""

from typing import Any

import numpy as np

from arsenal.evaluation.ab.two_samples import split_arms, t_test
from arsenal.evaluation.significance import Comparison, check_confidence, count_rows, normal_comparison


def cuped_values(y: Any, covariate: Any, weight: Any = None) -> np.ndarray:
    """The y [n] less what a covariate [n] of before the experiment explains, `y - slope (covariate - mean)`: the mean stays.

    Rows of weight 0 are NaN. Deng, Xu, Kohavi & Walker, WSDM 2013.

    >>> cuped_values([1.0, 2.0, 3.0], [0.0, 1.0, 2.0]).tolist()
    [2.0, 2.0, 2.0]
    """
    counted_y, counted = count_rows("cuped_values", weight, y=y, covariate=covariate)
    spread = counted - counted.mean()
    square = spread @ spread
    slope = spread @ counted_y / square if square > 0 else 0.0
    live = np.ones(len(y), bool) if weight is None else np.asarray(weight) > 0
    return np.where(live, np.asarray(y, float) - slope * (np.asarray(covariate, float) - counted.mean()), np.nan)


def cuped_test(y: Any, treated: Any, covariate: Any, weight: Any = None, confidence: float = 0.95) -> Comparison:
    """Welch's t of y [n] less what a covariate [n] of before the experiment explains.

    The variance is `1 - correlation²` of the plain one's. The covariate must not know the treatment. Deng et al., WSDM 2013.
    """
    return t_test(cuped_values(y, covariate, weight), treated, weight, confidence=confidence)


def regression_adjustment(y: Any, treated: Any, covariates: Any, weight: Any = None, confidence: float = 0.95) -> Comparison:
    """The effect on y [n] by a regression on treatment, covariates [n, d] and their interactions; of many units never less sharp.

    Covariates are centred, so that the treatment's coefficient is the mean effect; errors are Huber and White's of kind HC2,
    the test is of the normal distribution. Lin, Annals of Applied Statistics 7 (2013).
    """
    check_confidence("regression_adjustment", confidence)
    covariates = np.asarray(covariates, float)
    columns = {"y": y, "covariates": covariates.reshape(len(covariates), -1)}
    (y0, y1), (x0, x1) = split_arms("regression_adjustment", treated, weight, **columns)
    y, x = np.concatenate([y0, y1]), np.concatenate([x0, x1])
    arm = np.repeat([0.0, 1.0], [len(y0), len(y1)])
    centred = x - x.mean(0)
    design = np.column_stack([np.ones(len(y)), arm, centred, arm[:, None] * centred])
    n, k = design.shape
    inverse, rank = np.linalg.pinv(design), np.linalg.matrix_rank(design)
    if rank < k or n <= k:
        said = f"must be independent with fewer columns than units; got rank {rank} of {k}."
        raise ValueError(f"`covariates` of `regression_adjustment` {said}")
    slope = inverse @ y
    leverage = np.einsum("ij,ji->i", design, inverse)
    square = np.square(y - design @ slope) / np.maximum(1 - leverage, 1e-12)
    return normal_comparison(float(slope[1]), float(np.square(inverse[1]) @ square), confidence)
