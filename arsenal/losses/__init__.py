"""Losses: one value for every row, and how a model's outputs read as answers."""

from arsenal.losses.classification import binary_cross_entropy, cross_entropy
from arsenal.losses.plain import as_loss
from arsenal.losses.regression import squared_error

__all__ = ["as_loss", "binary_cross_entropy", "cross_entropy", "squared_error"]
