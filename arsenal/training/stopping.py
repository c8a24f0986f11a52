"""Early stopping: whether what was measured so far says that more steps are of no use. Prechelt, 1998."""

from collections.abc import Sequence
from typing import Literal


def is_exhausted(
    values: Sequence[float | None], patience: int, min_delta: float = 0.0, mode: Literal["min", "max"] = "min"
) -> bool:
    """Whether the last `patience` values all fail to better the best one before them by more than `min_delta` >= 0.

    Values are in the order in which they were measured; None, and what is not finite, betters nothing.

    >>> is_exhausted([3.0, 2.0, 2.5, 2.1], patience=2), is_exhausted([3.0, 2.0, 2.5, 1.9], patience=2)
    (True, False)
    """
    best, waited = None, 0
    for value in values:
        signed = None if value is None or value != value else (value if mode == "min" else -value)
        if signed is not None and (best is None or signed < best - min_delta):
            best, waited = signed, 0
        else:
            waited += 1
        if waited >= patience:
            return True
    return False
