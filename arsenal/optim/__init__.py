"""Optimizers as functions of their hyperparameters, and what goes around them."""

from arsenal.optim.clipping import clipped
from arsenal.optim.gradient import adam, adamw, as_optimizer, from_optax, lamb, lion, rmsprop, sgd
from arsenal.optim.groups import Match, grouped, matches
from arsenal.optim.plateau import plateau
from arsenal.optim.schedule import (
    Schedule,
    constant,
    cosine,
    inverse_square_root,
    linear,
    one_cycle,
    piecewise,
    scheduled,
    warmup,
)

__all__ = [
    "Match",
    "Schedule",
    "adam",
    "adamw",
    "as_optimizer",
    "clipped",
    "constant",
    "cosine",
    "from_optax",
    "grouped",
    "inverse_square_root",
    "lamb",
    "linear",
    "lion",
    "matches",
    "one_cycle",
    "piecewise",
    "plateau",
    "rmsprop",
    "scheduled",
    "sgd",
    "warmup",
]
