"""What happened to a model, one event a file, made exclusively: whoever comes second takes the next number.

The form and its reading are `arsenal_serving.repository.registry`'s; a server needs none of this.
"""

import getpass
import json
import os
import re
import socket
import time
from collections.abc import Callable
from typing import Any

from arsenal_serving.repository.registry import State, event_path, ranges, read_state
from arsenal_serving.repository.store import Store

from arsenal.refusal import Refusal

KIND = re.compile(r"[a-z][a-z_]{0,39}")
STATED = ("number", "time", "who", "process", "kind", "why", "versions", "last", "aliases", "before", "uploads")
"""What every event says; the first five of it who and when, the last five what holds after it."""

Change = Callable[[State], tuple[dict[str, Any], State]]
"""What holds -> what the event says besides, and what holds after it; raises to refuse it."""


class RegistryError(Refusal, ValueError):
    """The registry cannot be used as asked; the message says why and what to do."""


def append(
    store: Store, folder: str, kind: str, change: Change, why: str = "", known: State | None = None
) -> tuple[dict[str, Any], State]:
    """Add an event to a model's and return it with what holds now; `known` is from an earlier look.

    `change` is asked again whenever somebody else was first.
    """
    if not KIND.fullmatch(kind):
        raise RegistryError(f"the kind of an event must be small letters and '_'; got {kind!r}.")
    while True:
        known = read_state(store, folder, known)
        about, after = change(known)
        if taken := sorted(about.keys() & set(STATED)):
            raise RegistryError(f"an event says `{taken[0]}` itself; call what you add otherwise.")
        after = after._replace(number=known.number + 1)
        event = {
            "number": after.number, "time": round(time.time(), 6), "who": who(), "process": os.getpid(), "kind": kind, "why": why,
            **about, "versions": ranges(after.versions), "last": after.last, "aliases": dict(after.aliases),
            "before": {alias: list(past) for alias, past in after.before.items()},
            "uploads": {str(number): content for number, content in after.uploads.items()},
        }  # fmt: skip
        try:
            store.create(event_path(folder, after.number), (json.dumps(event, indent=1) + "\n").encode())
        except FileExistsError:
            continue
        return event, after


def who() -> str:
    """The user and the machine, `user@host`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
