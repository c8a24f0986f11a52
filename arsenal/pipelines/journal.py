"""The journal of an execution: a line of JSON for all that happens, added at once, so that whatever ends it the rest is there."""

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

FILE = "events.jsonl"
ENDS = ("complete", "failed")
"""Kinds of events behind which nothing goes on."""
Listener = Callable[[dict[str, Any]], None]
"""What hears each event."""


class Execution(NamedTuple):
    """An execution of a flow, as its journal tells it."""

    number: int | str
    folder: Path
    events: list[dict[str, Any]]

    @property
    def state(self) -> str:
        """begun (running or killed), interrupted, complete or failed."""
        kind = self.events[-1]["kind"] if self.events else "begun"
        return kind if kind in (*ENDS, "interrupted") else "begun"


class FlowJournal:
    """A journal that is written."""

    def __init__(self, folder: Path, listener: Listener):
        """`folder`: of the execution. `listener` hears what is written."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.listener = folder, listener
        self.file = os.open(folder / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        if (size := os.fstat(self.file).st_size) and (folder / FILE).read_bytes()[size - 1 :] != b"\n":
            os.write(self.file, b"\n")  # what a kill cut off

    def say(self, kind: str, **values: Any) -> None:
        """Add an event."""
        event = {"time": time.time(), "kind": kind} | values
        os.write(self.file, json.dumps(event).encode() + b"\n")
        self.listener(event)

    def close(self) -> None:
        """Write no more."""
        os.close(self.file)


def read_events(path: Path) -> list[dict[str, Any]]:
    """All events of a journal; lines that a kill cut off are left out."""
    found = []
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and "kind" in event:
                    found.append(event)
    return found


def last_execution(folder: Path) -> Execution | None:
    """The newest execution in a flow's folder."""
    numbers = [int(one.name) for one in folder.glob("executions/*") if one.name.isdecimal()]
    return read_execution(folder, max(numbers)) if numbers else None


def read_execution(folder: Path, name: int | str) -> Execution:
    """An execution by its number, or by the name that another scheduler gave it."""
    place = folder / "executions" / (f"{int(name):08d}" if str(name).isdecimal() else str(name))
    return Execution(name, place, read_events(place / FILE))
