"""Optimizers as functions of their hyperparameters."""

from arsenal.optim.gradient import adam, adamw, from_optax, sgd

__all__ = ["adam", "adamw", "from_optax", "sgd"]
