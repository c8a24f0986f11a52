"""Architectures."""

from arsenal.models.autoencoder import autoencoder, variational
from arsenal.models.convnext import convnext
from arsenal.models.convolutional import convolutional
from arsenal.models.perceptron import perceptron
from arsenal.models.resnet import resnet
from arsenal.models.transformer import generate, transformer
from arsenal.models.unet import unet

__all__ = ["autoencoder", "convnext", "convolutional", "generate", "perceptron", "resnet", "transformer", "unet", "variational"]
