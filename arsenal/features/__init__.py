"""Transforms of the inputs that are learned from the training rows."""

from arsenal.features.encoding import one_hot
from arsenal.features.scaling import scale, standardize

__all__ = ["one_hot", "scale", "standardize"]
