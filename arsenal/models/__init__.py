"""Architectures."""

from arsenal.models.convolutional import convolutional
from arsenal.models.perceptron import perceptron
from arsenal.models.transformer import generate, transformer

__all__ = ["convolutional", "generate", "perceptron", "transformer"]
