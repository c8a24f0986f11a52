"""Rows with labels and rows that are others: three bundled tables, the same to the bit on both sides."""

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.naive_bayes import GaussianNB

SETS = {"breast_cancer": load_breast_cancer, "wine": load_wine, "digits": load_digits}


def worlds(name: str, seeds: int, strength: float, rows: int):
    """For each seed the known columns, probabilities and labels, and those of drawn rows that are moved along a random column."""
    x, y = SETS[name](return_X_y=True)
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-9)
    for seed in range(seeds):
        draw = np.random.default_rng(seed)
        order = draw.permutation(len(y))
        learned, known, pool = np.split(order, [len(y) * 3 // 10, len(y) * 6 // 10])
        model = GaussianNB(var_smoothing=1e-2).fit(x[learned], y[learned])
        # Kept coarse, so that no last bit of another version decides which rows are drawn.
        toward = np.round(x[pool] @ draw.choice([-1.0, 0.0, 1.0], x.shape[1]) / np.sqrt(x.shape[1]), 6)
        odds = np.exp(np.clip(strength * toward / max(toward.std(), 1e-9), -20, 20))
        came = pool[draw.choice(len(pool), rows, p=odds / odds.sum())]
        yield (x[known], model.predict_proba(x[known]), y[known]), (x[came], model.predict_proba(x[came]), y[came])
