"""Transforms of the inputs that are learned from the training rows, and changes that only training sees."""

from arsenal.features.automatic import tabular
from arsenal.features.binning import bins, polynomial, splines
from arsenal.features.decomposition import pca, random_projection, truncated_svd
from arsenal.features.distortion import color_jitter, in_turn, rand_augment, random_crop, random_erasing, random_flip
from arsenal.features.distribution import power, quantile
from arsenal.features.encoding import hash_levels, one_hot, ordinal
from arsenal.features.factors import factor_analysis, fast_ica, nmf, sparse_pca
from arsenal.features.imputing import impute, impute_neighbors
from arsenal.features.kernels import kernel_pca, nystroem, random_fourier
from arsenal.features.levels import frequency, rare, target_mean
from arsenal.features.masking import mask_tokens
from arsenal.features.mixing import cutmix, mix_rows, mixup, paste_boxes
from arsenal.features.scaling import clip, min_max, robust_scale, scale, standardize
from arsenal.features.selection import columns
from arsenal.features.texts import hash_text, tfidf
from arsenal.features.time import date_parts
from arsenal.features.topics import latent_dirichlet

__all__ = [
    "bins",
    "clip",
    "color_jitter",
    "columns",
    "cutmix",
    "date_parts",
    "factor_analysis",
    "fast_ica",
    "frequency",
    "hash_levels",
    "hash_text",
    "impute",
    "impute_neighbors",
    "in_turn",
    "kernel_pca",
    "latent_dirichlet",
    "mask_tokens",
    "min_max",
    "mix_rows",
    "mixup",
    "nmf",
    "nystroem",
    "one_hot",
    "ordinal",
    "paste_boxes",
    "pca",
    "polynomial",
    "power",
    "quantile",
    "rand_augment",
    "random_crop",
    "random_erasing",
    "random_flip",
    "random_fourier",
    "random_projection",
    "rare",
    "robust_scale",
    "scale",
    "sparse_pca",
    "splines",
    "standardize",
    "tabular",
    "target_mean",
    "tfidf",
    "truncated_svd",
]  # fmt: skip
