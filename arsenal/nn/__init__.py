"""Layers that obey the laws, and the way from a Flax module to a `Model`."""

from flax.linen import Embed, GroupNorm, LayerNorm, RMSNorm

from arsenal.nn.attention import CrossAttention, SelfAttention, attend
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
from arsenal.nn.dense import Adapters, Dense, adapt
from arsenal.nn.dropout import Dropout, StochasticDepth
from arsenal.nn.experts import MixtureOfExperts
from arsenal.nn.fourier import FourierFeatures, grid_waves, time_waves, waves
from arsenal.nn.linen import as_model, linen
from arsenal.nn.normalization import BatchNorm, OffsetRMSNorm
from arsenal.nn.position import Rotary, sinusoids
from arsenal.nn.recurrent import GRU, LSTM
from arsenal.nn.spline import SplineDense, spline_basis
from arsenal.nn.stack import Layers, Sight, Stack, same_segment, segment_positions

__all__ = [
    "CBAM",
    "GRU",
    "LSTM",
    "Adapters",
    "BatchNorm",
    "Convolution",
    "CrossAttention",
    "Dense",
    "Dropout",
    "Embed",
    "FiLM",
    "FourierFeatures",
    "GroupNorm",
    "LayerNorm",
    "Layers",
    "MixtureOfExperts",
    "OffsetRMSNorm",
    "RMSNorm",
    "Rotary",
    "SelfAttention",
    "Sight",
    "SplineDense",
    "SqueezeExcite",
    "Stack",
    "StochasticDepth",
    "TransposedConvolution",
    "adapt",
    "as_model",
    "attend",
    "average_pool",
    "convolve",
    "convolve_up",
    "grid_waves",
    "linen",
    "max_pool",
    "pixel_shuffle",
    "pixel_unshuffle",
    "same_segment",
    "segment_positions",
    "sinusoids",
    "spline_basis",
    "time_waves",
    "upsample",
    "waves",
]  # fmt: skip
