"""Losses: one value for every row, and how a model's outputs read as answers."""

from arsenal.losses.alignment import ctc
from arsenal.losses.classification import binary_cross_entropy, cross_entropy, focal
from arsenal.losses.detection import center_points
from arsenal.losses.distillation import distillation
from arsenal.losses.embedding import contrastive, cosine_distance, info_nce, nt_xent, triplet
from arsenal.losses.plain import as_loss
from arsenal.losses.preference import bradley_terry, dpo
from arsenal.losses.ranking import listwise_softmax, pairwise_logistic
from arsenal.losses.reconstruction import hidden_error, quantization_error, reconstruction_error
from arsenal.losses.regression import absolute_error, huber, poisson, squared_error
from arsenal.losses.variational import elbo

__all__ = [
    "absolute_error",
    "as_loss",
    "binary_cross_entropy",
    "bradley_terry",
    "center_points",
    "contrastive",
    "cosine_distance",
    "cross_entropy",
    "ctc",
    "distillation",
    "dpo",
    "elbo",
    "focal",
    "hidden_error",
    "huber",
    "info_nce",
    "listwise_softmax",
    "nt_xent",
    "pairwise_logistic",
    "poisson",
    "quantization_error",
    "reconstruction_error",
    "squared_error",
    "triplet",
]
