"""One process of a run among others: how it joins them, and what it says when another one is gone."""

import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import jax

from arsenal.config import Config
from arsenal.launchers.launcher import Here
from arsenal.runs.processes import OtherProcess, provide_threads

SILENCE = 10
"""Seconds without a word after which JAX calls a process dead; the launcher that sees it end is quicker."""
TIMEOUT = 300
"""Seconds in which all processes must have come."""
GONE = ("gloo", "connection", "unavailable", "deadline", "coordination", "heartbeat")
"""Words of JAX's errors that tell of another process, not of this one."""


TETHER = """
import os, runpy, signal, sys, threading

def watch():
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=watch, daemon=True).start()
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""What a process does beside its own work: it waits for a line that never comes, and ends when the pipe is closed, which is
when whoever started it is gone, however that ended."""


def tether(command: Sequence[str]) -> list[str]:
    """A module's name and its words as the command of a process that ends with its parent; its stdin must be a pipe."""
    return [sys.executable, "-c", TETHER, *command]


def join_from_environment(config: Config, here: Here) -> None:
    """The run in a process that a launcher started among others."""
    count, index = int(os.environ["ARSENAL_PROCESSES"]), int(os.environ["ARSENAL_PROCESS"])
    join(config, here, count, coordinator_address=os.environ["ARSENAL_COORDINATOR"], num_processes=count, process_id=index)


def join(config: Config, here: Here, count: int, **who: Any) -> None:
    """The run in this process once all the others are there."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    provide_threads()
    try:
        jax.distributed.initialize(**who, initialization_timeout=TIMEOUT, heartbeat_timeout_seconds=SILENCE)
        here(config)
    except jax.errors.JaxRuntimeError as error:
        said = str(error).splitlines()[0]
        if not any(word in said.lower() for word in GONE):
            raise
        raise OtherProcess(f"Another of the {count} processes of this run is gone: {said}") from error


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
