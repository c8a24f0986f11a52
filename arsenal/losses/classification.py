"""Cross entropies for exclusive classes and for a single yes or no."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
from annotated_types import Interval

from arsenal.records import Loss


def cross_entropy(label_smoothing: Annotated[float, Interval(ge=0, le=1)] = 0.0) -> Loss:
    """`-log p(y)` of logits [n, classes] and labels [n] in 0..classes-1; `label_smoothing` is traced.

    Answers: `predict` [n] int32, `predict_proba` [n, classes]. Also measures `accuracy`. Szegedy et al. 2016
    (1512.00567) for smoothing: the target is `(1 - s) * onehot + s / classes`.
    """

    def value(logits, labels, hp):
        classes = logits.shape[-1]
        smooth = hp["label_smoothing"].astype(logits.dtype)
        target = (1 - smooth) * jax.nn.one_hot(labels, classes, dtype=logits.dtype) + smooth / classes
        return optax.softmax_cross_entropy(logits, target)

    def check(outputs, rows):
        if outputs.ndim != 2:
            raise ValueError(f"`cross_entropy` takes logits [n, classes]; the model gives {outputs.shape}.")
        check_labels("cross_entropy", outputs.shape[-1], rows)

    return Loss(
        value,
        readout={"predict": lambda z: jnp.argmax(z, -1).astype(jnp.int32), "predict_proba": jax.nn.softmax},
        measures={"accuracy": lambda z, y: (jnp.argmax(z, -1) == y).astype(z.dtype)},
        check=check,
        hp={"label_smoothing": label_smoothing},
    )


def binary_cross_entropy() -> Loss:
    """`-log p(y)` of one logit per row, [n] or [n, 1], and labels [n] in {0, 1}.

    Answers: `predict` [n] int32, `predict_proba` [n, 2]. Also measures `accuracy`.
    """

    def value(logits, labels, hp):
        logits = flat(logits)
        return optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype))

    def check(outputs, rows):
        if outputs.shape[1:] not in ((), (1,)):
            raise ValueError(f"`binary_cross_entropy` takes one logit per row; the model gives {outputs.shape}.")
        check_labels("binary_cross_entropy", 2, rows)

    return Loss(
        value,
        readout={
            "predict": lambda z: (flat(z) > 0).astype(jnp.int32),
            "predict_proba": lambda z: jax.nn.softmax(jnp.stack([jnp.zeros_like(flat(z)), flat(z)], -1)),
        },
        measures={"accuracy": lambda z, y: ((flat(z) > 0) == (y > 0)).astype(z.dtype)},
        check=check,
    )


def flat(logits: jax.Array) -> jax.Array:
    """[n] from [n] or [n, 1]."""
    return logits.reshape(logits.shape[0])


def check_labels(name: str, classes: int, rows) -> None:
    """Raise ValueError unless the living rows' labels [n] are whole numbers in 0..classes-1."""
    labels = np.asarray(rows.y)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"`{name}` takes whole labels [n]; got {labels.dtype} of shape {labels.shape}.")
    labels = labels[np.asarray(rows.weight) > 0]
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"Labels of `{name}` must be in 0..{classes - 1}, since there are {classes} outputs; "
            f"got labels from {labels.min()} to {labels.max()}."
        )
