"""Layers that obey the laws, and the way from a Flax module to a `Model`."""

from flax.linen import Embed, GroupNorm, LayerNorm, RMSNorm

from arsenal.nn.attention import SelfAttention, attend
from arsenal.nn.convolution import Convolution, convolve, max_pool
from arsenal.nn.dropout import Dropout
from arsenal.nn.linen import as_model, linen
from arsenal.nn.normalization import BatchNorm
from arsenal.nn.recurrent import GRU, LSTM

__all__ = [
    "GRU", "LSTM", "BatchNorm", "Convolution", "Dropout", "Embed", "GroupNorm", "LayerNorm", "RMSNorm", "SelfAttention",
    "as_model", "attend", "convolve", "linen", "max_pool",
]  # fmt: skip
