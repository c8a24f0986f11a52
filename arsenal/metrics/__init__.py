"""Metrics: what a set of answers is worth, counted by weight and in bounded memory."""

from arsenal.metrics.average import average
from arsenal.metrics.classification import accuracy, brier_score, calibration_error, f1_macro, log_loss, roc_auc
from arsenal.metrics.regression import mean_absolute_error, mean_squared_error, r2_score
from arsenal.metrics.samples import frechet_distance

__all__ = [
    "accuracy",
    "average",
    "brier_score",
    "calibration_error",
    "f1_macro",
    "frechet_distance",
    "log_loss",
    "mean_absolute_error",
    "mean_squared_error",
    "r2_score",
    "roc_auc",
]
