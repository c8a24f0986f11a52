"""The processes of one run: the first speaks and writes, and what only one can know all of them do as it says."""

import os
import re
from typing import TypeVar

import jax
import numpy as np

Number = TypeVar("Number", bool, int)


def enough_threads() -> None:
    """Give simulated devices threads to wait in, before the first array exists.

    A collective holds a thread for each device until all have come; with one for each, two collectives of one program can
    wait for each other for ever. XLA reads the number from NPROC.
    """
    if count := re.search(r"host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", "")):
        os.environ.setdefault("NPROC", str(4 * int(count[1])))


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
