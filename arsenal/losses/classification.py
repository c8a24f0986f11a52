"""Cross entropies for exclusive classes and for a single yes or no."""

import math
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from annotated_types import Ge, Interval

from arsenal.losses.outputs import squeeze_last
from arsenal.records import Batch, Loss

Over = Literal["rows", "tokens"]
"""What a mean is taken over: rows, each the mean over its own positions, or all positions alike."""


def cross_entropy(label_smoothing: Annotated[float, Interval(ge=0, le=1)] = 0.0, over: Over = "rows") -> Loss:
    """`-log p(y)` of logits [n, classes] and labels [n] in 0..classes-1; `label_smoothing` is traced.

    Of tokens or pixels, logits [n, t, classes] and labels [n, t] (or more axes in place of t), a row's value is the mean
    over its positions. There a label of -1 is a position that does not count, and a row without any that does is not there.
    With `over` "tokens" rows count by their positions, so that the loss is the mean over all tokens, the logarithm of the
    perplexity. In place of labels y may hold probabilities, floats of the logits' shape.

    Answers: `predict` [n] int32, `predict_proba` [n, classes]; of tokens [n, t] and [n, t, classes]. Also measures
    `accuracy`, over tokens `token_accuracy`. Szegedy et al. 2016 (1512.00567) for smoothing: the target is
    `(1 - s) * onehot + s / classes`.
    """

    def value(logits, rows, hp):
        classes = logits.shape[-1]
        smooth = hp["label_smoothing"].astype(logits.dtype)
        target = (1 - smooth) * target_probabilities(rows.y, logits) + smooth / classes
        return over_positions(optax.softmax_cross_entropy(logits, target), rows.y)

    def check(outputs, rows):
        check_logits("cross_entropy", outputs)
        if is_soft(rows.y, outputs):
            check_probabilities("cross_entropy", outputs, rows)
        else:
            check_labels("cross_entropy", outputs.shape[-1], rows, outputs.shape[1:-1])

    return of_classes(value, check, {"label_smoothing": label_smoothing}, over)


def focal(gamma: Annotated[float, Ge(0)] = 2.0, over: Over = "rows") -> Loss:
    """`-(1 - p(y))^gamma log p(y)` of logits [n, classes] and labels [n]: what is known well counts little.

    `gamma >= 0` is traced; with 0 this is `cross_entropy()`. Logits [n, t, classes], labels of -1 and `over` are taken as
    there, and the answers are the same. Lin et al. 2017 (1708.02002), without their weights of classes: rows have a weight.
    """

    def value(logits, rows, hp):
        of_label = jax.nn.one_hot(rows.y, logits.shape[-1], dtype=bool)
        log_p = jax.nn.log_softmax(logits)
        known = jnp.where(of_label, log_p, 0).sum(-1)
        # log(1 - p) as the sum of the other classes: log1p(-p) would be -inf where p rounds to 1, and its slope NaN.
        unknown = jax.nn.logsumexp(jnp.where(of_label, -jnp.inf, log_p), axis=-1)
        return over_positions(-jnp.exp(hp["gamma"].astype(logits.dtype) * unknown) * known, rows.y)

    def check(outputs, rows):
        check_logits("focal", outputs)
        if outputs.shape[-1] < 2:
            raise ValueError(f"`focal` takes logits of two classes or more; the model gives {outputs.shape}.")
        check_labels("focal", outputs.shape[-1], rows, outputs.shape[1:-1])

    return of_classes(value, check, {"gamma": gamma}, over)


def of_classes(value: Callable, check: Callable, hp: dict, over: Over):
    """A loss of logits [n, ..., classes] with its answers, its accuracy and how rows count."""

    def counts(rows):
        y = rows.y
        if jnp.issubdtype(y.dtype, jnp.floating):  # probabilities of positions, all of which count
            labelled = jnp.full(y.shape[0], math.prod(y.shape[1:-1]), jnp.int32)
        else:
            labelled = (y >= 0).sum(tuple(range(1, y.ndim)), dtype=jnp.int32) if y.ndim > 1 else jnp.ones(y.shape, jnp.int32)
        return labelled if over == "tokens" else labelled > 0

    accuracy = "accuracy" if over == "rows" else "token_accuracy"
    return Loss(
        value, readout=CLASSES, measures={accuracy: is_right}, modes={accuracy: "max"}, counts=counts, check=check, hp=hp
    )  # fmt: skip


def binary_cross_entropy() -> Loss:
    """`-log p(y)` of one logit per row, [n] or [n, 1], and labels [n] in {0, 1}.

    Answers: `predict` [n] int32, `predict_proba` [n, 2]. Also measures `accuracy`.
    """

    def value(logits, rows, hp):
        logits = squeeze_last(logits)
        return optax.sigmoid_binary_cross_entropy(logits, rows.y.astype(logits.dtype))

    def check(outputs, rows):
        if outputs.shape[1:] not in ((), (1,)):
            raise ValueError(f"`binary_cross_entropy` takes one logit per row; the model gives {outputs.shape}.")
        check_labels("binary_cross_entropy", 2, rows)

    return Loss(
        value,
        readout={
            "predict": lambda z: (squeeze_last(z) > 0).astype(jnp.int32),
            "predict_proba": lambda z: jax.nn.softmax(jnp.stack([jnp.zeros_like(squeeze_last(z)), squeeze_last(z)], -1)),
        },
        measures={"accuracy": lambda z, rows: ((squeeze_last(z) > 0) == (rows.y > 0)).astype(z.dtype)},
        modes={"accuracy": "max"},
        check=check,
    )


CLASSES = {"predict": lambda z: jnp.argmax(z, -1).astype(jnp.int32), "predict_proba": jax.nn.softmax}
"""How logits [n, ..., classes] read as answers."""


def is_soft(y, logits) -> bool:
    """Whether y holds probabilities of the classes, not labels."""
    return getattr(y, "ndim", None) == logits.ndim and jnp.issubdtype(y.dtype, jnp.floating)


def target_probabilities(y: jax.Array, logits: jax.Array) -> jax.Array:
    """The probabilities that y holds, or the one-hot of its labels, of which -1 is zeros. [n, ..., classes]."""
    return y.astype(logits.dtype) if is_soft(y, logits) else jax.nn.one_hot(y, logits.shape[-1], dtype=logits.dtype)


def is_right(logits: jax.Array, rows: Batch) -> jax.Array:
    """1 where the largest logit is the label's, or that of the largest probability, else 0; averaged over positions. [n]."""
    label = jnp.argmax(rows.y, -1) if is_soft(rows.y, logits) else rows.y
    hit = jnp.argmax(logits, -1).astype(jnp.int32) == label.astype(jnp.int32)
    return over_positions(hit.astype(logits.dtype), rows.y)


def over_positions(each: jax.Array, y: jax.Array) -> jax.Array:
    """The mean [n] of each [n, ...] over the positions whose label is not -1; 0 where there is none."""
    if each.ndim == 1:
        return each
    axes = tuple(range(1, each.ndim))
    if y.ndim > each.ndim:  # probabilities
        return each.mean(axes)
    counts = y >= 0
    return jnp.where(counts, each, 0).sum(axes) / jnp.maximum(counts.sum(axes), 1).astype(each.dtype)


def check_logits(name: str, outputs) -> None:
    """Raise ValueError unless the outputs can be logits [n, ..., classes]."""
    if getattr(outputs, "ndim", 0) < 2:
        got = getattr(outputs, "shape", type(outputs).__name__)
        raise ValueError(f"`{name}` takes logits [n, classes] or [n, t, classes]; the model gives {got}.")


def check_labels(name: str, classes: int, rows, positions: tuple[int, ...] = ()) -> None:
    """Raise ValueError unless the living rows' labels [n, *positions] are whole numbers in 0..classes-1.

    Where a row has positions, -1 is allowed too.
    """
    labels = np.asarray(rows.y)
    if labels.ndim == 0 or labels.shape[1:] != positions or not np.issubdtype(labels.dtype, np.integer):
        wanted = ", ".join(["n", *map(str, positions)])
        logits = ", ".join([wanted, str(classes)])
        raise ValueError(
            f"`{name}` takes whole labels [{wanted}]; got {labels.dtype} of shape {labels.shape}, beside logits [{logits}]."
        )
    alive = np.asarray(rows.weight) > 0
    labels, least = labels[alive], -1 if positions else 0
    if labels.size and not (labels.min() >= least and labels.max() < classes):
        wrong = ((labels < least) | (labels >= classes)).reshape(len(labels), -1).any(1)
        bad = int(np.asarray(rows.row)[alive][wrong.argmax()])
        unlabelled = " (-1 where a position does not count)" if positions else ""
        raise ValueError(
            f"Labels of `{name}` must be in 0..{classes - 1}{unlabelled}, since there are {classes} outputs; "
            f"got labels from {labels.min()} to {labels.max()}, the first that does not fit in the row with id {bad}."
        )


def check_probabilities(name: str, outputs, rows) -> None:
    """Raise ValueError unless the living rows' y are probabilities of the outputs' shape."""
    y = np.asarray(rows.y)
    if y.shape[1:] != outputs.shape[1:]:
        raise ValueError(f"`{name}` takes probabilities of the logits' shape {outputs.shape}; got {y.shape}.")
    y = y[np.asarray(rows.weight) > 0]
    off = np.abs(y.sum(-1, dtype=float) - 1).max(initial=0)
    if not (y.min(initial=0) >= 0 and off < 1e-2):
        raise ValueError(
            f"Probabilities of `{name}` must be >= 0 and sum to 1 over the classes; "
            f"got {y.min(initial=0):.3g} for the smallest and a sum that is {off:.3g} from 1."
        )
