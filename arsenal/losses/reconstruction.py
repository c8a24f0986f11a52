"""The loss of models that restore what they read."""

import jax.numpy as jnp
import numpy as np

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
        shape = outputs["reconstruction"].shape
        if np.shape(rows.x) != shape:
            raise ValueError(
                f"`reconstruction_error` takes a reconstruction of x's shape {np.shape(rows.x)}; the model gives {shape}."
            )

    return Loss(
        value,
        readout={"predict": lambda outputs: outputs["reconstruction"], "embedding": lambda outputs: outputs["embedding"]},
        check=check,
    )
