"""One process of a run among others: how it joins them, and what it says when another one is gone."""

import os
import socket
from typing import Any

import jax

from arsenal.config import Config
from arsenal.launchers.launcher import Here
from arsenal.runs.folder import RunError
from arsenal.runs.processes import enough_threads

LOST = 75
"""Exit code of a process that lost another one: it failed by no fault of its own (EX_TEMPFAIL)."""
SILENCE = 10
"""Seconds without a word after which JAX calls a process dead; the launcher that sees it end is quicker."""
TIMEOUT = 300
"""Seconds in which all processes must have come."""
GONE = ("gloo", "connection", "unavailable", "deadline", "coordination", "heartbeat")
"""Words of JAX's errors that tell of another process, not of this one."""


class LostProcess(RunError):
    """Another process of the run is gone."""

    code = LOST


def join_as_told(config: Config, here: Here) -> None:
    """The run in a process that a launcher started among others."""
    count, index = int(os.environ["ARSENAL_PROCESSES"]), int(os.environ["ARSENAL_PROCESS"])
    join(config, here, count, coordinator_address=os.environ["ARSENAL_COORDINATOR"], num_processes=count, process_id=index)


def join(config: Config, here: Here, count: int, **who: Any) -> None:
    """The run in this process once all the others are there."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    enough_threads()
    try:
        jax.distributed.initialize(**who, initialization_timeout=TIMEOUT, heartbeat_timeout_seconds=SILENCE)
        here(config)
    except jax.errors.JaxRuntimeError as error:
        said = str(error).splitlines()[0]
        if not any(word in said.lower() for word in GONE):
            raise
        raise LostProcess(f"Another of the {count} processes of this run is gone: {said}") from error


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
