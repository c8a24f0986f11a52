"""Architectures."""

from arsenal.models.autoencoder import autoencoder, variational
from arsenal.models.bert import bert
from arsenal.models.convolutional import convolutional
from arsenal.models.perceptron import perceptron
from arsenal.models.transformer import generate, transformer
from arsenal.models.vit import vit

__all__ = ["autoencoder", "bert", "convolutional", "generate", "perceptron", "transformer", "variational", "vit"]
