"""Architectures."""

from arsenal.models.autoencoder import autoencoder, variational
from arsenal.models.convnext import convnext
from arsenal.models.convolutional import convolutional
from arsenal.models.perceptron import perceptron
from arsenal.models.resnet import resnet
from arsenal.models.transformer import generate, transformer

__all__ = ["autoencoder", "convnext", "convolutional", "generate", "perceptron", "resnet", "transformer", "variational"]
