"""Losses of sequences whose alignment with the frames is not known. Graves et al., ICML 2006."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
from annotated_types import Ge

from arsenal.losses.outputs import check_parts
from arsenal.records import Loss


def ctc(blank: Annotated[int, Ge(0)] = 0) -> Loss:
    """`-log p(y)` in nats, summed over every alignment of labels y [n, l] with logits [n, t, classes] of t frames.

    y is filled up with -1 behind its last label and never holds `blank`. A model whose rows have fewer than t frames
    gives a dict: `logits` and `padding` [n, t], 1 behind the row's last frame, else 0. A row of more labels than frames
    (two equal neighbours need a third frame between them) has no alignment and a value of about 1e5.

    Answers: `predict` [n, t] int32, the labels along the best path, filled up with -1. Also measures `exact_match`, the
    share of rows where they are y.
    """

    def value(outputs, rows, hp):
        logits, padding = frames(outputs)
        logits = logits.astype(float)
        label = rows.y >= 0
        filled = jnp.where(label, rows.y, blank)
        # Optax mixes its own floats of 32 bits with those of the mode in force.
        with jax.numpy_dtype_promotion("standard"):
            return optax.ctc_loss(
                logits, padding.astype(logits.dtype), filled, (~label).astype(logits.dtype), blank_id=blank
            ).astype(logits.dtype)

    def best_path(outputs):
        logits, padding = frames(outputs)
        best = jnp.argmax(logits, -1).astype(jnp.int32)
        before = jnp.pad(best[:, :-1], ((0, 0), (1, 0)), constant_values=blank)
        kept = (best != blank) & (best != before) & (padding == 0)
        order = jnp.argsort(~kept, axis=1, stable=True)
        return jnp.take_along_axis(jnp.where(kept, best, -1), order, axis=1)

    def exact(outputs, rows):
        found, y = best_path(outputs), rows.y.astype(jnp.int32)
        longest = max(found.shape[1], y.shape[1])

        def fill(labels):
            return jnp.pad(labels, ((0, 0), (0, longest - labels.shape[1])), constant_values=-1)

        return (fill(found) == fill(y)).all(1).astype(frames(outputs)[0].dtype)

    def check(outputs, rows):
        if isinstance(outputs, dict):
            check_parts("ctc", outputs, "logits", "padding")
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs
        if getattr(logits, "ndim", None) != 3:
            got = getattr(logits, "shape", type(logits).__name__)
            raise ValueError(f"`ctc` takes logits [n, t, classes]; the model gives {got}.")
        if isinstance(outputs, dict) and outputs["padding"].shape != logits.shape[:2]:
            raise ValueError(f"`ctc` takes padding [n, t], here {logits.shape[:2]}; the model gives {outputs['padding'].shape}.")
        check_sequences(blank, *logits.shape[1:], rows)

    return Loss(value, readout={"predict": best_path}, measures={"exact_match": exact}, modes={"exact_match": "max"}, check=check)


def frames(outputs) -> tuple[jax.Array, jax.Array]:
    """Logits [n, t, classes] and padding [n, t] of outputs that are logits or a dict of both."""
    if isinstance(outputs, dict):
        return outputs["logits"], outputs["padding"]
    return outputs, jnp.zeros(outputs.shape[:2], outputs.dtype)


def check_sequences(blank: int, longest: int, classes: int, rows) -> None:
    """Raise ValueError unless the living rows' labels are whole, within the classes, filled up with -1 and not too many."""
    y = np.asarray(rows.y)
    if y.ndim != 2 or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"`ctc` takes whole labels [n, l]; got {y.dtype} of shape {y.shape}.")
    if blank >= classes:
        raise ValueError(f"`blank` of `ctc` must be in 0..{classes - 1}, since there are {classes} outputs; got {blank}.")
    y = y[np.asarray(rows.weight) > 0]
    if y.size and not (y.min() >= -1 and y.max() < classes):
        raise ValueError(f"Labels of `ctc` must be in 0..{classes - 1}, or -1 behind the last; got {y.min()} to {y.max()}.")
    if (y == blank).any():
        raise ValueError(f"Labels of `ctc` must not be the blank, {blank}.")
    label = y >= 0
    if (label[:, 1:] & ~label[:, :-1]).any():
        raise ValueError("Labels of `ctc` are filled up behind the last with -1; got a label behind -1.")
    needed = label.sum(1) + (label[:, 1:] & (y[:, 1:] == y[:, :-1])).sum(1)
    if needed.max(initial=0) > longest:
        raise ValueError(f"`ctc` needs {needed.max()} frames for the longest labels; the model gives {longest}.")
