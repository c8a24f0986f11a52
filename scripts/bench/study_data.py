"""What both sides of a study judge: bundled rows, and how many splits and penalties."""

import numpy as np

FOLDS, REPEATS = 10, 5
ALPHAS = np.logspace(-3, 3, 30)
FITS = FOLDS * REPEATS * len(ALPHAS)


def rows(what: str) -> tuple[np.ndarray, np.ndarray]:
    """Breast cancer for logistic regression, diabetes for ridge."""
    from sklearn.datasets import load_breast_cancer, load_diabetes

    x, y = (load_breast_cancer if what == "logistic" else load_diabetes)(return_X_y=True)
    return x, y.astype(np.int32 if what == "logistic" else float)
