"""Architectures."""

from arsenal.models.adapted import frozen, lora, merge_adapters
from arsenal.models.answers import answer_likelihoods, answer_scores
from arsenal.models.autoencoder import autoencoder, variational, vector_quantized
from arsenal.models.bert import bert
from arsenal.models.clip import clip
from arsenal.models.contrastive import byol, two_views
from arsenal.models.convnext import convnext
from arsenal.models.convolutional import convolutional
from arsenal.models.dcgan import dcgan_discriminator, dcgan_generator
from arsenal.models.detector import center_net
from arsenal.models.distillation import student
from arsenal.models.dit import dit
from arsenal.models.efficientnet import efficientnet
from arsenal.models.generation import Sampling, beam_search, generate
from arsenal.models.masked import masked_autoencoder
from arsenal.models.perceptron import perceptron
from arsenal.models.recurrent import recurrent, sequence_to_sequence
from arsenal.models.resnet import resnet
from arsenal.models.t5 import t5
from arsenal.models.transformer import transformer
from arsenal.models.unet import segmentation_unet, unet
from arsenal.models.vit import vit

__all__ = [
    "Sampling", "answer_likelihoods", "answer_scores", "autoencoder", "beam_search", "bert", "byol", "center_net", "clip",
    "convnext", "convolutional", "dcgan_discriminator", "dcgan_generator", "dit", "efficientnet", "frozen", "generate",
    "lora", "masked_autoencoder", "merge_adapters", "perceptron", "recurrent", "resnet", "segmentation_unet",
    "sequence_to_sequence", "student", "t5", "transformer", "two_views", "unet", "variational", "vector_quantized", "vit",
]  # fmt: skip
