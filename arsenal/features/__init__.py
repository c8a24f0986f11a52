"""Transforms of the inputs that are learned from the training rows, and mixtures of rows."""

from arsenal.features.encoding import one_hot
from arsenal.features.mixing import cutmix, mix_rows, mixup, paste_boxes
from arsenal.features.scaling import scale, standardize

__all__ = ["cutmix", "mix_rows", "mixup", "one_hot", "paste_boxes", "scale", "standardize"]
