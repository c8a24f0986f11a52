"""A Ray cluster: one that exists, or one of this machine alone for as long as it is needed."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from arsenal.runs.folder import RunError

ANSWER = 5.0
"""Seconds in which a cluster must answer."""


@contextlib.contextmanager
def connect(address: str | None) -> Iterator[Any]:
    """Ray, connected to the cluster at `address` (`host:port`, or auto for one that runs here).

    None: the one of `RAY_ADDRESS`, which jobs of Ray's have, else one made for this, which ends with it. A `RunError` where
    nobody answers within seconds.
    """
    import ray

    if address not in (None, "auto"):
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), ANSWER).close()
        except (OSError, ValueError) as error:
            raise RunError(f"No Ray cluster answers at `ray.address={address}`: {error}.") from error
    # Told nothing, Ray would join whatever cluster runs on this machine.
    found = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        ray.init(found, log_to_driver=True, logging_level=logging.ERROR, include_dashboard=False if found == "local" else None)
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = str(error).splitlines()[0].rstrip(".")
        hint = "One that asks for tokens needs RAY_AUTH_MODE=token."
        raise RunError(f"No Ray cluster answers at `ray.address={address}`: {said}. {hint}") from error
    print_lines(True)
    try:
        yield ray
    finally:
        ray.shutdown()


def print_lines(enabled: bool) -> None:
    """Whether what the cluster's processes print is printed here, as Ray's own debugger asks for it.

    Processes that are told to end print tracebacks of Ray's event loop, which say nothing to who ended them.
    """
    from ray._private import worker

    worker._worker_logs_enabled = enabled
