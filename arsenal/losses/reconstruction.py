"""Losses of models that restore what they read."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge
from jax.lax import stop_gradient

from arsenal.losses.outputs import check_parts
from arsenal.losses.regression import over_row
from arsenal.records import Loss


def reconstruction_error() -> Loss:
    """`(reconstruction - x)²`, averaged over a row's numbers; y is not read.

    Outputs are a dict: `reconstruction` of x's shape [n, ...], and the `embedding` that it was made from. Answers:
    `predict`, the reconstruction, and `embedding`.
    """

    def value(outputs, rows, hp):
        return over_row(jnp.square(outputs["reconstruction"] - rows.x))

    def check(outputs, rows):
        check_parts("reconstruction_error", outputs, "reconstruction", "embedding")
        check_restored("reconstruction_error", outputs, rows)

    return Loss(
        value,
        readout={"predict": lambda outputs: outputs["reconstruction"], "embedding": lambda outputs: outputs["embedding"]},
        check=check,
    )


def quantization_error(beta: Annotated[float, Ge(0)] = 0.25) -> Loss:
    """`(reconstruction - x)² + (sg(encoded) - quantized)² + beta (encoded - sg(quantized))²`, each a mean over a row's numbers.

    sg: without a gradient. The second moves the codebook's vectors to what is encoded, the third, `beta >= 0`, traced, holds
    the encoder to its vectors. y is not read. Outputs are those of `arsenal.models.vector_quantized`. Answers: `predict`, the
    reconstruction; `codes` [n, ...] int32; `embedding`, the codes' vectors, flat [n, d]. Also measures `reconstruction`, the
    first term. van den Oord et al., NeurIPS 2017 (1711.00937), eq. 3, where all are sums.
    """

    def rebuild(outputs, rows):
        return over_row(jnp.square(outputs["reconstruction"] - rows.x))

    def value(outputs, rows, hp):
        encoded, quantized = outputs["encoded"], outputs["quantized"]
        book, commitment = (
            over_row(jnp.square(apart)) for apart in (stop_gradient(encoded) - quantized, encoded - stop_gradient(quantized))
        )
        return rebuild(outputs, rows) + book + hp["beta"].astype(book.dtype) * commitment

    def check(outputs, rows):
        check_parts("quantization_error", outputs, "encoded", "codes", "quantized", "reconstruction")
        check_restored("quantization_error", outputs, rows)

    return Loss(
        value,
        readout={
            "predict": lambda outputs: outputs["reconstruction"],
            "codes": lambda outputs: outputs["codes"],
            "embedding": lambda outputs: flatten_rows(outputs["quantized"]),
        },
        measures={"reconstruction": rebuild},
        modes={"reconstruction": "min"},
        check=check,
        hp={"beta": beta},
    )


def hidden_error() -> Loss:
    """`(said - target)²` of the patches of a picture that were hidden, averaged over their numbers; y is not read.

    Outputs are those of `arsenal.models.masked_autoencoder`: `said` and `target` [n, patches, d], `hidden` [n, patches], 1 or 0.
    Answers: `predict`, the picture with its hidden patches restored, and `embedding`. He et al., CVPR 2022 (2111.06377),
    section 3.
    """

    def value(outputs, rows, hp):
        each = jnp.square(outputs["said"] - outputs["target"]).mean(-1)
        hidden = outputs["hidden"].astype(each.dtype)
        return (each * hidden).sum(1) / jnp.maximum(hidden.sum(1), 1)

    return Loss(
        value,
        readout={"predict": lambda outputs: outputs["restored"], "embedding": lambda outputs: outputs["embedding"]},
        check=lambda outputs, rows: check_parts(
            "hidden_error", outputs, "said", "target", "hidden", "restored", "embedding"
        ),
    )


def flatten_rows(x: jax.Array) -> jax.Array:
    """[n, ...] as [n, d], also where n is a symbol, as in an export."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def check_restored(name: str, outputs, rows) -> None:
    """Raise ValueError unless the reconstruction is of x's shape."""
    shape = outputs["reconstruction"].shape
    if np.shape(rows.x) != shape:
        raise ValueError(f"`{name}` takes a reconstruction of x's shape {np.shape(rows.x)}; the model gives {shape}.")
