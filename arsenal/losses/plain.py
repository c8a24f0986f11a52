"""A user's own function of outputs and targets as a `Loss`."""

from typing import Any, Literal

from arsenal.losses.classification import CLASSES
from arsenal.records import Loss


def as_loss(loss: Any, answers: Literal["outputs", "classes"] = "outputs") -> Loss:
    """A `Loss` as it is; a plain function `(outputs, y) -> [n]` as one whose answer `predict` is the model's output.

    With `answers="classes"` the outputs are logits [n, classes]: the answers are `predict` [n] and `predict_proba`
    [n, classes], which the metrics of classification read.
    """
    if isinstance(loss, Loss):
        return loss
    if not callable(loss):
        raise TypeError(f"`loss` must be a Loss or a function (outputs, y) -> [n]; got {type(loss).__name__}.")
    made = Loss(value=lambda outputs, rows, hp: loss(outputs, rows.y))
    return made._replace(readout=CLASSES) if answers == "classes" else made
