"""A user's own function of outputs and targets as a `Loss`."""

from collections.abc import Callable

from arsenal.records import Loss


def as_loss(loss: Loss | Callable) -> Loss:
    """A `Loss` as it is; a plain function `(outputs, y) -> [n]` as one whose answer is the model's output."""
    if isinstance(loss, Loss):
        return loss
    if not callable(loss):
        raise TypeError(f"`loss` must be a Loss or a function (outputs, y) -> [n]; got {type(loss).__name__}.")
    return Loss(value=lambda outputs, rows, hp: loss(outputs, rows.y))
