"""Architectures."""

from arsenal.models.autoencoder import autoencoder, variational
from arsenal.models.convolutional import convolutional
from arsenal.models.perceptron import perceptron
from arsenal.models.transformer import generate, transformer

__all__ = ["autoencoder", "convolutional", "generate", "perceptron", "transformer", "variational"]
