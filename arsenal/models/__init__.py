"""Architectures."""

from arsenal.models.convolutional import convolutional
from arsenal.models.perceptron import perceptron

__all__ = ["convolutional", "perceptron"]
