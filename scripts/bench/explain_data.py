"""What both sides of the figures of explanation explain: the same rows, models and backgrounds."""

import numpy as np

ROWS, FEATURES, BACKGROUND, REPEATS = 100, 30, 100, 30
TREE_ROWS, TREES, LEAVES = 1000, 100, 31


def cells():
    """scikit-learn's breast cancer data, standardised, and its labels."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32), y.astype(np.int32)


def line():
    """scikit-learn's logistic regression of them."""
    from sklearn.linear_model import LogisticRegression

    x, y = cells()
    return LogisticRegression().fit(x, y)


def grown():
    """Rows, and boosted trees of them by scikit-learn."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    draw = np.random.default_rng(0)
    x = draw.normal(size=(5000, 20)).astype(np.float32)
    y = 2 * x[:, 0] + np.sin(3 * x[:, 1]) + x[:, 2] * x[:, 3] + 0.1 * draw.normal(size=len(x))
    model = HistGradientBoostingRegressor(max_iter=TREES, max_leaf_nodes=LEAVES, early_stopping=False, random_state=0)
    return x, model.fit(x, y)


def rates(work, amount: int, windows: int) -> list[float]:
    """How much a second, time after time, the first not counted."""
    import time

    work()
    found = []
    for _ in range(windows):
        began = time.perf_counter()
        work()
        found.append(amount / (time.perf_counter() - began))
    return found


def measure(jobs: dict, given: dict, libraries: tuple[str, ...]) -> dict:
    """Rates of what is asked for, and what was found."""
    from importlib.metadata import version

    work, amount = jobs[given["what"]]()
    versions = {name: version(name) for name in libraries}
    return {"rates": rates(work, amount, given["windows"]), "setting": f"{work():.5f}", "versions": versions}
