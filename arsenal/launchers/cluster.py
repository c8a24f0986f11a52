"""A Ray cluster: one that exists, or one of this machine alone for as long as it is needed."""

import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any

from arsenal.runs.folder import RunError

ANSWER = 5.0
"""Seconds in which a cluster must answer."""


@contextlib.contextmanager
def connect(address: str | None) -> Iterator[Any]:
    """Ray, connected to the cluster at `address` (`host:port`, or auto for one that runs here); None: one made for this.

    A `RunError` where nobody answers within seconds. What was made for this ends with it.
    """
    import ray

    if address not in (None, "auto"):
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), ANSWER).close()
        except (OSError, ValueError) as error:
            raise RunError(f"No Ray cluster answers at `ray.address={address}`: {error}.") from error
    try:
        ray.init(address, log_to_driver=True, logging_level=logging.ERROR, include_dashboard=False if address is None else None)
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = str(error).splitlines()[0].rstrip(".")
        hint = "One that asks for tokens needs RAY_AUTH_MODE=token."
        raise RunError(f"No Ray cluster answers at `ray.address={address}`: {said}. {hint}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
