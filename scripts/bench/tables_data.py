"""What both sides of the tables' figures fit."""

import numpy as np
from sklearn import datasets
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

C = np.logspace(-4, 4, 60)
CLUSTERS, COMPONENTS = range(2, 21), range(2, 11)


def breast_cancer(scaled: bool = False):
    """x [569, 30], y [569] of 0 and 1."""
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return (StandardScaler().fit_transform(x) if scaled else x), y.astype(np.int32)


def diabetes():
    """x [442, 10], y [442]."""
    return datasets.load_diabetes(return_X_y=True)


def digits():
    """x [1797, 64]."""
    return datasets.load_digits().data


def held_out(y):
    """Which rows each of five folds holds out, [5, n]."""
    held = np.zeros((5, len(y)))
    for fold, (_, test) in enumerate(StratifiedKFold(5).split(y, y)):
        held[fold, test] = 1
    return held


def positions(n):
    """The rows of a thousand resamples, [1000, n]."""
    return np.random.default_rng(0).integers(0, n, (1000, n))


def resamples(n):
    """The same as weights [1000, n]."""
    return np.stack([np.bincount(one, minlength=n) for one in positions(n)]).astype(float)
