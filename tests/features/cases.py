"""What the laws are tried on in this room: a row for every public factory of a record."""

import jax
import jax.numpy as jnp
import pytest
from gaps import CODED, GAPS, PROSE, SCHEMA, TABLE, TEXTS, TIMED, WITH_TEXT
from rows import CLASSES, IMAGES, MIXED, ROWS, WINDOWS, floats
from table import law_test

from arsenal import features
from arsenal.features.arrays import formula
from arsenal.features.selection import Part, Pick, beside
from arsenal.testing import Case

FLAT = ROWS._replace(x=ROWS.x[:, :2] @ floats(2, 4))
"""Rows of rank two, which two components hold."""
PAINTED = IMAGES._replace(x=jax.nn.sigmoid(floats(6, 4, 5, 3)))
PARTS = ROWS._replace(x=jnp.abs(floats(6, 1)) @ jnp.abs(floats(1, 4)))
MANY = IMAGES._replace(x=jnp.sign(floats(6, 2, 2)) * floats(6, 2, 2) ** 2)
CASES = {
    "arsenal.features.masking.mask_tokens": lambda: [Case(features.mask_tokens(7, 7, 0.5), WINDOWS)],
    "arsenal.features.mixing.mixup": lambda: [Case(features.mixup(0.2, 3), IMAGES)],
    "arsenal.features.mixing.cutmix": lambda: [Case(features.cutmix(1.0, 3), IMAGES)],
    "arsenal.features.distortion.in_turn": lambda: [
        Case(features.in_turn([features.random_flip(), features.random_crop(1), features.mixup(0.2, 3)]), IMAGES)
    ],
    "arsenal.features.distortion.random_crop": lambda: [Case(features.random_crop(1), IMAGES)],
    "arsenal.features.distortion.random_flip": lambda: [Case(features.random_flip(0.5, 0.3), IMAGES)],
    "arsenal.features.distortion.color_jitter": lambda: [Case(features.color_jitter(), PAINTED)],
    "arsenal.features.distortion.random_erasing": lambda: [Case(features.random_erasing(0.7), IMAGES)],
    "arsenal.features.distortion.rand_augment": lambda: [Case(features.rand_augment(), PAINTED)],
    "arsenal.features.encoding.one_hot": lambda: [Case(features.one_hot([4, 3]), MIXED), Case(features.one_hot(schema=SCHEMA), CODED)],
    "arsenal.features.encoding.ordinal": lambda: [Case(features.ordinal(schema=SCHEMA), CODED)],
    "arsenal.features.encoding.hash_levels": lambda: [Case(features.hash_levels(4, schema=SCHEMA), CODED)],
    "arsenal.features.kernels.nystroem": lambda: [
        Case(features.nystroem(3, gamma=0.5), ROWS, double=True),
        Case(features.nystroem(3, "polynomial", degree=2), ROWS, double=True),
    ],
    "arsenal.features.kernels.kernel_pca": lambda: [Case(features.kernel_pca(2, gamma=0.5), ROWS, double=True)],
    "arsenal.features.kernels.random_fourier": lambda: [Case(features.random_fourier(8), ROWS)],
    "arsenal.features.levels.target_mean": lambda: [
        Case(features.target_mean(schema=SCHEMA), CODED),
        Case(features.target_mean(2.0, 3, classes=3, sizes=[4, 3]), MIXED._replace(y=CLASSES.y)),
    ],
    "arsenal.features.levels.frequency": lambda: [Case(features.frequency(schema=SCHEMA), CODED)],
    "arsenal.features.levels.rare": lambda: [Case(features.rare(0.3, schema=SCHEMA), CODED, pace=0.8)],
    "arsenal.features.imputing.impute": lambda: [
        Case(features.impute(indicator=True), GAPS),
        Case(features.impute("median"), GAPS),
        Case(features.impute("most_frequent"), GAPS),
        Case(features.impute("constant", -1.0), GAPS),
    ],
    "arsenal.features.imputing.impute_neighbors": lambda: [Case(features.impute_neighbors(3), GAPS)],
    "arsenal.features.scaling.scale": lambda: [Case(features.scale(0.0625, 1.0), ROWS)],
    "arsenal.features.scaling.standardize": lambda: [Case(features.standardize(), ROWS), Case(features.standardize(), GAPS)],
    "arsenal.features.scaling.robust_scale": lambda: [Case(features.robust_scale(), GAPS)],
    "arsenal.features.scaling.min_max": lambda: [Case(features.min_max(-1.0, 1.0), GAPS)],
    "arsenal.features.scaling.clip": lambda: [Case(features.clip(0.2, 0.7), GAPS)],
    "arsenal.features.distribution.quantile": lambda: [Case(features.quantile("normal", 99), GAPS)],
    "arsenal.features.distribution.power": lambda: [Case(features.power(), GAPS, double=True)],
    "arsenal.features.decomposition.pca": lambda: [
        Case(features.pca(), ROWS), Case(features.pca(2, True), FLAT), Case(features.pca(), IMAGES._replace(x=floats(6, 1, 3))),
    ],
    "arsenal.features.decomposition.truncated_svd": lambda: [Case(features.truncated_svd(), FLAT)],
    "arsenal.features.decomposition.random_projection": lambda: [
        Case(features.random_projection(2), ROWS), Case(features.random_projection(3, "sparse"), IMAGES),
    ],
    "arsenal.features.factors.nmf": lambda: [Case(features.nmf(1), PARTS, double=True)],
    "arsenal.features.factors.sparse_pca": lambda: [Case(features.sparse_pca(2, 0.1), ROWS, double=True)],
    "arsenal.features.topics.latent_dirichlet": lambda: [Case(features.latent_dirichlet(2, 0.4, 0.3, 3), PARTS, double=True)],
    "arsenal.features.factors.fast_ica": lambda: [Case(features.fast_ica(max_iterations=5), ROWS, double=True)],
    "arsenal.features.factors.factor_analysis": lambda: [Case(features.factor_analysis(2), MANY, double=True)],
    "arsenal.features.binning.bins": lambda: [Case(features.bins(3), GAPS), Case(features.bins(3, "uniform", "ordinal"), GAPS)],
    "arsenal.features.binning.splines": lambda: [Case(features.splines(4), GAPS), Case(features.splines(3, 2, "quantile"), GAPS)],
    "arsenal.features.binning.polynomial": lambda: [Case(features.polynomial(), GAPS), Case(features.polynomial(3, True), GAPS)],
    "arsenal.features.time.date_parts": lambda: [Case(features.date_parts(cycles=True, indicator=True, schema=SCHEMA), TIMED)],
    "arsenal.features.texts.hash_text": lambda: [Case(features.hash_text(4), TEXTS)],
    "arsenal.features.texts.tfidf": lambda: [Case(features.tfidf(2, 4), TEXTS, double=True)],
    "arsenal.features.arrays.formula": lambda: [Case(formula(lambda state, x: x * 2, inverse=lambda state, x: x / 2), ROWS)],
    "arsenal.features.selection.beside": lambda: [Case(beside([Part([Pick("numeric", (2, 0))], features.standardize())], [Pick("time"), Pick("categorical")]), TABLE)],
    "arsenal.features.selection.columns": lambda: [
        Case(features.columns({"age,fare": features.min_max(), "town": features.one_hot, "time": "drop", "smokes": "drop"}, schema=SCHEMA), TABLE),
        Case(features.columns({"a": {"pc_*": features.standardize()}, "b": {"smokes": "keep"}}, schema=SCHEMA), TABLE),
    ],
    "arsenal.features.automatic.tabular": lambda: [
        Case(features.tabular("linear", 2, schema=SCHEMA), TABLE),
        Case(features.tabular("trees", 2, schema=WITH_TEXT), PROSE),
    ],
}

test_laws = pytest.mark.slow(law_test(CASES))
