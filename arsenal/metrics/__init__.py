"""Metrics: what a set of answers is worth, counted by weight and in bounded memory."""

from arsenal.metrics.average import average
from arsenal.metrics.classification import (
    accuracy,
    average_precision,
    balanced_accuracy,
    brier_score,
    calibration_error,
    f1,
    f1_macro,
    log_loss,
    matthews,
    precision,
    precision_macro,
    recall,
    recall_macro,
    roc_auc,
    top_k_accuracy,
)
from arsenal.metrics.clustering import adjusted_rand_index, normalized_mutual_information
from arsenal.metrics.density import negative_log_likelihood
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
    "adjusted_rand_index",
    "average",
    "average_precision",
    "balanced_accuracy",
    "bits_per_byte",
    "brier_score",
    "calibration_error",
    "explained_variance",
    "f1",
    "f1_macro",
    "frechet_distance",
    "log_loss",
    "matthews",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "negative_log_likelihood",
    "normalized_mutual_information",
    "perplexity",
    "precision",
    "precision_macro",
    "r2_score",
    "recall",
    "recall_macro",
    "roc_auc",
    "root_mean_squared_error",
    "top_k_accuracy",
]
