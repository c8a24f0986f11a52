"""Layers that obey the laws, and the way from a Flax module to a `Model`."""

from flax.linen import Embed, GroupNorm, LayerNorm, RMSNorm

from arsenal.nn.attention import SelfAttention, attend
from arsenal.nn.channels import CBAM, FiLM, SqueezeExcite
from arsenal.nn.convolution import (
    Convolution,
    TransposedConvolution,
    average_pool,
    convolve,
    convolve_up,
    max_pool,
    pixel_shuffle,
    pixel_unshuffle,
    upsample,
)
from arsenal.nn.dropout import Dropout, StochasticDepth
from arsenal.nn.fourier import FourierFeatures, sinusoids
from arsenal.nn.linen import as_model, linen
from arsenal.nn.normalization import BatchNorm
from arsenal.nn.recurrent import GRU, LSTM

__all__ = [
    "CBAM", "GRU", "LSTM", "BatchNorm", "Convolution", "Dropout", "Embed", "FiLM", "FourierFeatures", "GroupNorm", "LayerNorm",
    "RMSNorm", "SelfAttention", "SqueezeExcite", "StochasticDepth", "TransposedConvolution", "as_model", "attend", "average_pool",
    "convolve", "convolve_up", "linen", "max_pool", "pixel_shuffle", "pixel_unshuffle", "sinusoids", "upsample",
]  # fmt: skip
