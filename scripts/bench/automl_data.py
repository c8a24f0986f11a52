"""What both sides of AutoML are given: five sets of scikit-learn's, the rows that are kept from them, and how they are judged."""

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import train_test_split

TARGET = "target"


def frames(name: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows to search with, and 30 % that judge what was found."""
    rows = getattr(datasets, f"load_{name}")(as_frame=True).frame
    return train_test_split(rows, test_size=0.3, random_state=seed, stratify=None if is_number(name) else rows[TARGET])


def is_number(name: str) -> bool:
    """Whether the target is a number."""
    return name == "diabetes"


def loss(name: str, test: pd.DataFrame, answer: np.ndarray) -> float:
    """RMSE of predictions [n], log loss of probabilities [n, classes] in the order of the labels."""
    if is_number(name):
        return float(np.sqrt(mean_squared_error(test[TARGET], answer)))
    return float(log_loss(test[TARGET], answer, labels=np.unique(test[TARGET])))
