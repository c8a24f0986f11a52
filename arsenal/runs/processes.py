"""The processes of one run: the first speaks and writes, and what only one can know all of them do as it says."""

from typing import TypeVar

import jax
import numpy as np

Number = TypeVar("Number", bool, int)


def first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def agreed(value: Number) -> Number:
    """The first process's number, for all; each waits until the first is here."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return type(value)(multihost_utils.broadcast_one_to_all(np.int32(value)))


def alike(word: str) -> bool:
    """Whether this process's word of hexadecimal digits is the first's."""
    number = int(word[:7], 16)
    return agreed(number) == number
