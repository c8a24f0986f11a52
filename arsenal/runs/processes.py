"""The processes of one run: the first speaks and writes, and what only one can know all of them do as it says."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import TypeVar

import jax
import numpy as np

from arsenal.runs.folder import RunError

Number = TypeVar("Number", bool, int)
LOST = 75
"""Exit code of a process that failed by no fault of its own, but because another one did (EX_TEMPFAIL)."""


class OtherProcess(RunError):
    """Another process of the run is gone, or refused."""

    code = LOST


def provide_threads() -> None:
    """Give simulated devices threads to wait in, before the first array exists.

    A collective holds a thread for each device until all have come; with one for each, two collectives of one program can
    wait for each other for ever. XLA reads the number from NPROC.
    """
    if count := re.search(r"host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", "")):
        os.environ.setdefault("NPROC", str(4 * int(count[1])))


def is_writer() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def broadcast(value: Number) -> Number:
    """The first process's number, for all; each waits until the first is here."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return type(value)(multihost_utils.broadcast_one_to_all(np.int32(value)))


@contextlib.contextmanager
def raise_together() -> Iterator[None]:
    """What all processes do before the first step: where one raises, the others raise `OtherProcess` and wait for nobody."""
    error = None
    try:
        yield
    except Exception as raised:
        error = raised
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        refused = np.flatnonzero(multihost_utils.process_allgather(np.int32(error is not None)))
        if error is None and len(refused):
            raise OtherProcess(f"Process {refused[0]} of {jax.process_count()} cannot train this run.")
    if error is not None:
        raise error


def matches_first(word: str) -> bool:
    """Whether this process's word of hexadecimal digits is the first's."""
    number = int(word[:7], 16)
    return broadcast(number) == number
