"""Boosting by several libraries on the host, by the settings that all of them have."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from arsenal.estimators.boosters.ensemble import Ensemble
from arsenal.estimators.boosters.histograms import read_histograms
from arsenal.estimators.boosters.lightgbm import read_lightgbm
from arsenal.estimators.boosters.xgboost import read_xgboost

OBJECTIVES = {
    "squared_error": ("regression", "reg:squarederror"), "absolute_error": ("regression_l1", "reg:absoluteerror"),
    "poisson": ("poisson", "count:poisson"), "gamma": ("gamma", "reg:gamma"),
}  # fmt: skip
"""LightGBM's and XGBoost's, by loss of numbers."""


class Growth(NamedTuple):
    """Rows that are there, and how trees grow of them."""

    x: np.ndarray
    """[n, d] float64, numbers first."""
    y: np.ndarray
    weight: np.ndarray
    numeric: int
    """How many columns are numbers; the others are codes of categories."""
    classes: int | None
    loss: str
    learning_rate: float
    l2: float
    rounds: int
    leaves: int
    min_leaf: int
    seed: int


def grow_scikit_learn(growth: Growth) -> Ensemble:
    """By scikit-learn's HistGradientBoosting."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    settings: dict[str, Any] = {
        "learning_rate": growth.learning_rate, "l2_regularization": growth.l2, "max_iter": growth.rounds,
        "max_leaf_nodes": growth.leaves, "min_samples_leaf": growth.min_leaf, "random_state": growth.seed,
        "categorical_features": np.arange(growth.x.shape[1]) >= growth.numeric,
    }  # fmt: skip
    if growth.classes is None:
        peer = HistGradientBoostingRegressor(loss=growth.loss, **settings)
    else:
        peer = HistGradientBoostingClassifier(**settings)
    # Weights of one say nothing, and make scikit-learn look for bins in a way that takes seconds: the same to the bit.
    weight = None if (growth.weight == 1).all() else growth.weight
    return read_histograms(peer.fit(growth.x, growth.y, weight))


def grow_lightgbm(growth: Growth) -> Ensemble:
    """By LightGBM."""
    import lightgbm

    codes = list(range(growth.numeric, growth.x.shape[1]))
    settings = {
        "objective": objective_of(growth, 0), "learning_rate": growth.learning_rate, "lambda_l2": growth.l2,
        "num_leaves": growth.leaves, "min_data_in_leaf": growth.min_leaf, "seed": growth.seed, "deterministic": True,
        "verbose": -1,
    }  # fmt: skip
    rows = lightgbm.Dataset(growth.x, growth.y, weight=growth.weight, categorical_feature=codes)
    return read_lightgbm(lightgbm.train(settings | classes_of(growth), rows, growth.rounds).dump_model())


def grow_xgboost(growth: Growth) -> Ensemble:
    """By XGBoost, leaf by leaf; what it bounds is a leaf's second derivative, which is its rows where errors are squared."""
    import xgboost

    kinds = ["float" if i < growth.numeric else "c" for i in range(growth.x.shape[1])]
    settings = {
        "objective": objective_of(growth, 1), "learning_rate": growth.learning_rate, "lambda": growth.l2, "max_depth": 0,
        "max_leaves": growth.leaves, "grow_policy": "lossguide", "tree_method": "hist", "min_child_weight": growth.min_leaf,
        "seed": growth.seed,
    }  # fmt: skip
    rows = xgboost.DMatrix(growth.x, growth.y, weight=growth.weight, feature_types=kinds, enable_categorical=True)
    grown = xgboost.train(settings | classes_of(growth), rows, growth.rounds)
    return read_xgboost(json.loads(bytes(grown.save_raw("json"))))


def objective_of(growth: Growth, library: int) -> str:
    """What the objective is called, by LightGBM (0) or XGBoost (1)."""
    if growth.classes is None:
        return OBJECTIVES[growth.loss][library]
    return (("binary", "binary:logistic") if growth.classes == 2 else ("multiclass", "multi:softprob"))[library]


def classes_of(growth: Growth) -> dict[str, Any]:
    """The setting that says how many classes there are, of more than two."""
    return {"num_class": growth.classes} if growth.classes is not None and growth.classes > 2 else {}


GROWERS: dict[str, Callable[[Growth], Ensemble]] = {
    "scikit-learn": grow_scikit_learn, "lightgbm": grow_lightgbm, "xgboost": grow_xgboost,
}  # fmt: skip
"""By library."""


def check_library(name: str) -> None:
    """Raise ImportError, with what installs it, where a library is not there."""
    if name != "scikit-learn" and find_spec(name) is None:
        raise ImportError(f'`library={name}` of `boosting` needs {name}: pip install "ml-arsenal[{name}]".')
