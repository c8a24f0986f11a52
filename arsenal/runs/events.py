"""`events.jsonl`: one JSON object a line, appended and never changed; what a resumed run repeats, replaces."""

import json
import operator
import os
import time
from pathlib import Path
from typing import Any

from arsenal.runs.journal import MEASURES, Tracker
from arsenal.storage.files import to_json, write_bytes


def events(folder: Path) -> Tracker:
    """The run's own log, `events.jsonl`; images lie beside it as `media/STEP_NAME.png`."""
    log = Events(folder / "events.jsonl")

    def note(kind: str, step: int, values: dict[str, Any]) -> None:
        if kind == "images":
            from arsenal.runs.pictures import strip

            (folder / "media").mkdir(exist_ok=True)
            paths = {name: f"media/{step:010d}_{name}.png" for name in values}
            for name, images in values.items():
                write_bytes(folder / paths[name], strip(images))
            values = paths
        log.write(kind, step, **({"values": values} if kind in MEASURES else values))

    return Tracker(note, log.close)


class Events:
    """The run's open log. Whole lines reach the file in one write; a torn last line is closed first."""

    def __init__(self, path: Path):
        """Open for appending."""
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        size = os.fstat(self.file).st_size
        if size and os.pread(self.file, 1, size - 1) != b"\n":
            os.write(self.file, b"\n")

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append one event; numbers that are not finite become null."""
        line = json.dumps({"time": round(time.time(), 3), "kind": kind, "step": step} | to_json(values), allow_nan=False)
        os.write(self.file, line.encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self.file)


def duration(log: list[dict[str, Any]]) -> float | None:
    """Seconds in which a run was trained: from each `start` to the last word before the next; None where none is known."""
    total, began, last = 0.0, None, None
    for event in log:
        if "time" not in event:
            return None
        if event["kind"] == "start":
            total += last - began if began is not None and last is not None else 0.0
            began = event["time"]
        last = event["time"]
    return None if began is None or last is None else total + last - began


def read_events(path: Path, tail: int | None = None) -> list[dict[str, Any]]:
    """The events as the run finally was: a `start` at a step drops what came before beyond that step.

    `tail` reads only whole lines among that many last bytes.
    """
    try:
        with path.open("rb") as file:
            skipped = max(0, file.seek(0, os.SEEK_END) - tail) if tail else 0
            file.seek(skipped)
            lines = file.read().split(b"\n")[bool(skipped) :]
    except FileNotFoundError:
        return []
    kept: list[dict[str, Any]] = []
    for line in lines:
        try:
            event = json.loads(line)
            kind, step = str(event["kind"]), operator.index(event["step"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue  # the line during which the process died
        if kind == "start":
            kept = [e for e in kept if e["step"] <= step]
        kept.append(event)
    return kept
