"""Layers that obey the laws, and the way from a Flax module to a `Model`."""

from arsenal.nn.convolution import Convolution, convolve, max_pool
from arsenal.nn.dropout import Dropout
from arsenal.nn.linen import as_model, linen
from arsenal.nn.normalization import BatchNorm

__all__ = ["BatchNorm", "Convolution", "Dropout", "as_model", "convolve", "linen", "max_pool"]
