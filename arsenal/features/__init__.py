"""Transforms of the inputs that are learned from the training rows."""

from arsenal.features.scaling import scale, standardize

__all__ = ["scale", "standardize"]
