"""Transforms of the inputs that are learned from the training rows, and mixtures of rows."""

from arsenal.features.encoding import one_hot
from arsenal.features.mixing import cutmix, mixup
from arsenal.features.scaling import scale, standardize

__all__ = ["cutmix", "mixup", "one_hot", "scale", "standardize"]
