"""Layers that obey the laws, and the way from a Flax module to a `Model`."""

from flax.linen import Embed, GroupNorm, LayerNorm, RMSNorm

from arsenal.nn.attention import CrossAttention, SelfAttention, attend
from arsenal.nn.convolution import Convolution, convolve, max_pool
from arsenal.nn.dropout import Dropout
from arsenal.nn.linear import Adapters, Linear, adapt
from arsenal.nn.linen import as_model, linen
from arsenal.nn.normalization import BatchNorm, OffsetRMSNorm
from arsenal.nn.position import Rotary, sinusoids
from arsenal.nn.recurrent import GRU, LSTM
from arsenal.nn.stack import Layers, Sight, Stack, same_segment, segment_positions

__all__ = [
    "GRU", "LSTM", "Adapters", "BatchNorm", "Convolution", "CrossAttention", "Dropout", "Embed", "GroupNorm", "LayerNorm",
    "Layers", "Linear", "OffsetRMSNorm", "RMSNorm", "Rotary", "SelfAttention", "Sight", "Stack", "adapt", "as_model",
    "attend", "convolve", "linen", "max_pool", "same_segment", "segment_positions", "sinusoids",
]  # fmt: skip
