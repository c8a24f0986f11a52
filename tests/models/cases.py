"""What the laws are tried on in this room: a row for every public factory of a record."""

import jax.numpy as jnp
import pytest
from rows import ANSWERS, IMAGES, PAIRS, ROWS, WINDOWS, dense, floats, likely
from table import law_test

from arsenal import models
from arsenal.features import random_flip
from arsenal.testing import Case

NOISED = IMAGES._replace(x={"x": IMAGES.x, "time": jnp.linspace(0.1, 1, 6), "label": IMAGES.y})
PREFERRED = WINDOWS._replace(
    x={"chosen": WINDOWS.x, "rejected": WINDOWS.y, "begin": jnp.array([[1, 2], [2, 2], [3, 1], [1, 1]]), "end": jnp.full((4, 2), 5)}
)
SMALL = {"layers": 1, "heads": 2, "width": 8, "context": 6}
CASES = {
    "arsenal.models.answers.answer_likelihoods": lambda: [
        Case(models.answer_likelihoods(models.lora(models.transformer(7, **SMALL, dropout=0.2, generated=2))), PREFERRED)
    ],
    "arsenal.models.answers.answer_scores": lambda: [
        Case(models.answer_scores(models.transformer(7, **SMALL, head="sequence", output=1)), PREFERRED)
    ],
    "arsenal.models.distillation.student": lambda: [Case(models.student(dense(), models.perceptron(3, (5,), dropout=0.5)), ROWS)],
    "arsenal.models.adapted.frozen": lambda: [Case(models.frozen(dense(), ".*_0/.*"), ROWS)],
    "arsenal.models.adapted.lora": lambda: [
        Case(models.lora(models.transformer(7, layers=2, heads=2, width=8, context=6, dropout=0.2), rank=2), WINDOWS)
    ],
    "arsenal.models.autoencoder.autoencoder": lambda: [
        Case(models.autoencoder(models.perceptron(2, (4,)), models.perceptron(3, (4,), dropout=0.3)), ROWS)
    ],
    "arsenal.models.autoencoder.variational": lambda: [Case(likely(), ROWS), Case(likely(likelihood="gaussian"), ROWS)],
    "arsenal.models.autoencoder.vector_quantized": lambda: [
        Case(models.vector_quantized(models.perceptron((2, 3), (4,)), models.perceptron(3, (4,), dropout=0.3), 5, 3), ROWS)
    ],
    "arsenal.models.bert.bert": lambda: [
        Case(models.bert(7, layers=2, heads=2, width=8, context=6, types=2, padding=0, dropout=0.2), WINDOWS),
        Case(models.bert(7, "sequence", 3, layers=1, heads=2, width=8, context=6, offset=1), WINDOWS),
    ],
    "arsenal.models.contrastive.two_views": lambda: [
        Case(models.two_views(models.perceptron(3, (4,)), models.perceptron(2, (4,), dropout=0.3), random_flip()), IMAGES)
    ],
    "arsenal.models.contrastive.byol": lambda: [
        Case(
            models.byol(models.convolutional(3, (2,), 4), models.perceptron(2, (4,), dropout=0.3), models.perceptron(2, (4,)), random_flip()),
            IMAGES, tolerance=1e-4,
        )
    ],
    "arsenal.models.convolutional.convolutional": lambda: [Case(models.convolutional(3, (2,), 4), IMAGES)],
    "arsenal.models.clip.clip": lambda: [Case(models.clip(7, 4, 2, 3, layers=1, heads=2, width=8, text_layers=1, text_heads=2, text_width=8), PAIRS)],
    "arsenal.models.convnext.convnext": lambda: [Case(models.convnext(3, (1, 1), (2, 4), patch=2, layer_scale=1.0, drop=0.3), IMAGES)],
    "arsenal.models.recurrent.recurrent": lambda: [
        Case(models.recurrent(3, layers=2, width=4, dropout=0.3), IMAGES),
        Case(models.recurrent(3, 7, "gru", width=4, bidirectional=True, pool="each", padding=0), WINDOWS),
    ],
    "arsenal.models.recurrent.sequence_to_sequence": lambda: [
        Case(models.sequence_to_sequence(7, 4, generated=3, dropout=0.2), ANSWERS)
    ],
    "arsenal.models.dcgan.dcgan_generator": lambda: [
        Case(models.dcgan_generator((4, 4), 2, 1, 3), IMAGES._replace(x={"x": floats(6, 2), "label": IMAGES.y}))
    ],
    "arsenal.models.dcgan.dcgan_discriminator": lambda: [
        Case(models.dcgan_discriminator(2, 1, 3), IMAGES._replace(x={"x": IMAGES.x, "label": IMAGES.y}))
    ],
    "arsenal.models.dit.dit": lambda: [Case(models.dit(4, 2, 1, 2, 8, classes=3, dropout=0.3), NOISED)],
    "arsenal.models.efficientnet.efficientnet": lambda: [
        Case(
            models.efficientnet(3, 1.0, 1.0, (8,), (3,), (2,), (2,), (2,), "small", 8, 8), IMAGES, tolerance=1e-4,
        )
    ],
    "arsenal.models.masked.masked_autoencoder": lambda: [
        Case(models.masked_autoencoder(4, 2, 1, 2, 8, 1, 2, 8, 0.5, normalized=True), IMAGES)
    ],
    "arsenal.models.resnet.resnet": lambda: [
        Case(models.resnet(3, (1, 1), (2, 4), stem="small", zero_init=True), IMAGES),
        Case(models.resnet(3, (1,), (8,), "bottleneck", 2), IMAGES),
    ],
    "arsenal.models.detector.center_net": lambda: [Case(models.center_net(2, (2, 4)), IMAGES)],
    "arsenal.models.unet.segmentation_unet": lambda: [
        Case(models.segmentation_unet(3, 2, (1, 2), heads=1, dropout=0.3), IMAGES)
    ],
    "arsenal.models.unet.unet": lambda: [
        Case(models.unet(2, heads=1, classes=3, dropout=0.3), NOISED),
        Case(
            models.unet(4, heads=None, head_size=4, groups=2, downsample_padding=0, freq_shift=1, flip_sin_to_cos=True, classes=3),
            NOISED,
        ),
    ],
    "arsenal.models.perceptron.perceptron": lambda: [
        Case(dense(), ROWS),
        Case(models.perceptron((2, 2), (4,), dropout=0.5, norm="batch"), IMAGES, tolerance=1e-4),
    ],
    "arsenal.models.t5.t5": lambda: [
        Case(models.t5(7, layers=1, heads=2, head_size=4, width=8, generated=3, dropout=0.2), ANSWERS),
        Case(models.t5(7, layers=1, heads=2, head_size=4, width=8, gated=True, tied=False, scaled=False, generated=3), ANSWERS),
    ],
    "arsenal.models.transformer.transformer": lambda: [
        Case(models.transformer(7, layers=2, heads=2, width=8, context=6, dropout=0.2), WINDOWS),
        Case(
            models.transformer(
                7, 2, 4, 8, 6, kv_heads=2, hidden=12, activation="silu", gated=True, norm="rms", position="rotary", bias=False,
                qk_norm=True, window=3, tied=False, remat="products", dropout=0.2,
            ),
            WINDOWS._replace(x={"tokens": WINDOWS.x, "segments": WINDOWS.x // 3}),
        ),
        Case(models.transformer(7, 1, 2, 8, 6, position="alibi", norm="rms_offset", parallel=True, scaled=True), WINDOWS),
        Case(models.transformer(7, 2, 2, 8, 6, gated=True, experts=3, remat="everything", dropout=0.2), WINDOWS),
        Case(models.transformer(7, **SMALL, head="sequence", output=3), WINDOWS._replace(x={"tokens": WINDOWS.x, "length": jnp.array([5, 1, 3, 2])})),
    ],
    "arsenal.models.vit.vit": lambda: [
        Case(models.vit(3, 4, 2, layers=2, heads=2, width=8, pool="mean", dropout=0.2), IMAGES),
        Case(models.vit(3, 4, 2, layers=1, heads=2, width=8, distilled=True), IMAGES),
    ],
}

DEAR = {"arsenal.models.transformer.transformer": "it is five families by its settings, each a program of its own"}

test_laws = pytest.mark.slow(law_test(CASES, DEAR))
