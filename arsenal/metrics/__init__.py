"""Metrics: what a set of answers is worth, counted by weight and in bounded memory."""

from arsenal.metrics.average import average
from arsenal.metrics.classification import (
    accuracy,
    balanced_accuracy,
    brier_score,
    calibration_error,
    f1_macro,
    log_loss,
    matthews,
    precision_macro,
    recall_macro,
    roc_auc,
    top_k_accuracy,
)
from arsenal.metrics.language import bits_per_byte, perplexity
from arsenal.metrics.regression import (
    explained_variance,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    r2_score,
    root_mean_squared_error,
)
from arsenal.metrics.samples import frechet_distance

__all__ = [
    "accuracy",
    "average",
    "balanced_accuracy",
    "bits_per_byte",
    "brier_score",
    "calibration_error",
    "explained_variance",
    "f1_macro",
    "frechet_distance",
    "log_loss",
    "matthews",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "perplexity",
    "precision_macro",
    "r2_score",
    "recall_macro",
    "roc_auc",
    "root_mean_squared_error",
    "top_k_accuracy",
]
