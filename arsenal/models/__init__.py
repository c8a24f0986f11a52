"""Architectures."""

from arsenal.models.adapted import frozen, lora, merge_adapters
from arsenal.models.answers import answer_likelihoods, answer_scores
from arsenal.models.autoencoder import autoencoder, variational, vector_quantized
from arsenal.models.bert import bert
from arsenal.models.clip import clip
from arsenal.models.contrastive import two_views
from arsenal.models.convnext import convnext
from arsenal.models.convolutional import convolutional
from arsenal.models.distillation import student
from arsenal.models.generation import Sampling, beam_search, generate
from arsenal.models.perceptron import perceptron
from arsenal.models.resnet import resnet
from arsenal.models.t5 import t5
from arsenal.models.transformer import transformer
from arsenal.models.unet import unet
from arsenal.models.vit import vit

__all__ = [
    "Sampling", "answer_likelihoods", "answer_scores", "autoencoder", "beam_search", "bert", "clip", "convnext", "convolutional",
    "frozen", "generate", "lora", "merge_adapters", "perceptron", "resnet", "student", "t5", "transformer", "two_views", "unet",
    "variational", "vector_quantized", "vit",
]  # fmt: skip
