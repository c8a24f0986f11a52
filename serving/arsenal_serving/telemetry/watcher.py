"""What a server is asked, counted as it answers: a window each minute in a folder, which `artifact.windows` reads.

A model without `reference.json` is not counted, and is named once. Counting is for a thread of its own.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from arsenal_serving.artifact.reference import MethodReference, PortColumns
from arsenal_serving.artifact.sketch import FORMAT, ReferenceColumn, Sketch
from arsenal_serving.calls import Call
from arsenal_serving.files import replace_file
from arsenal_serving.refused import Refused
from arsenal_serving.repository.models import Missing, Repository, Unready
from arsenal_serving.telemetry.background import Background
from arsenal_serving.telemetry.redaction import NOTHING, Redaction

MOST_WAITING = 1 << 16  # inferences
EVERY = 0.25  # seconds between two times that the thread counts
WINDOW = 60.0  # seconds


class Inference(NamedTuple):
    """What is kept of an inference until it is counted."""

    when: float
    model: tuple[str, str, str]
    inputs: dict[str, Any]
    answers: dict[str, Any]


class Counting:
    """The sketches of one method of one version in a window that is open."""

    def __init__(
        self, known: MethodReference, entry: dict[str, Any], states: dict[str, Any], redaction: Redaction
    ):
        self._ports = {
            way: [PortColumns(one, states, way == "inputs") for one in entry[way]] for way in ("inputs", "outputs")
        }
        self._columns: dict[str, list[ReferenceColumn]] = {}
        self._redacted: list[str] = []
        for way, columns in (("inputs", known.inputs), ("outputs", known.outputs)):
            gone = redaction.columns(entry[way], [column.name for column in columns], way == "inputs")
            self._columns[way] = [column for column in columns if column.name not in gone]
            self._redacted += gone
        self.rows = 0
        self.clear()

    def clear(self) -> None:
        """Begin a window."""
        self.rows = 0
        self._sketches = {
            way: {column.name: Sketch(column) for column in columns} for way, columns in self._columns.items()
        }

    def add(self, several: list[Inference]) -> None:
        """Count inferences."""
        for way, arrays in (("inputs", [one.inputs for one in several]), ("outputs", [one.answers for one in several])):
            for port in self._ports[way]:
                found = [array for one in arrays if (array := one.get(port.name)) is not None and np.ndim(array)]
                if not found:
                    continue
                for name, values in port.split(np.concatenate(found)):
                    if (sketch := self._sketches[way].get(name)) is not None:
                        sketch.add(values)
        self.rows += sum(len(next(iter(one.inputs.values()))) for one in several if one.inputs)

    def state(self) -> dict[str, Any]:
        """As a window's file has it."""
        made: dict[str, Any] = {"redacted": self._redacted} if self._redacted else {}
        for way, sketches in self._sketches.items():
            made[way] = {name: sketch.state() for name, sketch in sketches.items()}
        return made


class Watcher:
    """An observer that counts inferences. Raises `Refused` for a folder that cannot be written."""

    def __init__(
        self,
        folder: str | os.PathLike,
        repository: Repository,
        window: float = WINDOW,
        redaction: Redaction = NOTHING,
    ):
        self._folder, self._repository, self._window = Path(folder), repository, window
        self._redaction = redaction
        self._counting: dict[tuple[str, str], dict[str, Counting]] = {}  # by model and version
        self._called: dict[tuple[str, str], dict[str, Counting]] = {}  # by NAME or NAME.METHOD, as clients call it
        self._began = _begin(time.time(), window)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(f"the monitoring folder {folder} cannot be written: {error.strerror}.") from error
        self.failed = 0  # windows that the disk did not take
        self._background = Background(self._take, MOST_WAITING, EVERY)

    @property
    def dropped(self) -> int:
        """Inferences that were not counted: they came too fast."""
        return self._background.dropped

    def observe(self, call: Call) -> None:
        """Count a call whose inputs were read and that was answered."""
        if call.inputs is not None and call.answers is not None:
            named = (call.model, str(call.version), call.method)
            self._background.put(Inference(time.time(), named, call.inputs, call.answers))

    def close(self) -> None:
        """Write the window that is open."""
        self._background.close()
        self._write(time.time())

    def tick(self) -> None:
        """Write the window whose time is over, also where nobody asks."""
        if time.time() >= self._began + self._window:
            self._background.put(None)

    def _take(self, taken: list[Inference | None]) -> None:
        grouped: dict[tuple[str, str, str], list[Inference]] = defaultdict(list)
        for one in taken:
            if one is not None:
                if not self._began <= one.when < self._began + self._window:
                    self._count(grouped)
                    grouped.clear()
                    self._write(one.when)
                grouped[one.model].append(one)
        self._count(grouped)
        if time.time() >= self._began + self._window:
            self._write(time.time())

    def _count(self, grouped: dict[tuple[str, str, str], list[Inference]]) -> None:
        for (model, version, method), several in grouped.items():
            found = self._find(model, version)
            if found is not None and method in found:
                found[method].add(several)

    def _find(self, called: str, version: str) -> dict[str, Counting] | None:
        """What counts the methods of a version; nothing of one without a reference."""
        if (called, version) in self._called:
            return self._called[called, version]
        try:
            served = self._repository.find(called, version).model
        except (Missing, Unready):  # unloaded since
            return None
        key = (served.name, version)
        if key not in self._counting:
            known = served.reference.methods if served.reference is not None else {}
            entries, states = served.manifest["methods"], served.manifest["codecs"]
            self._counting[key] = {
                name: Counting(one, entries[name], states, self._redaction)
                for name, one in known.items()
                if name in entries
            }
        self._called[called, version] = self._counting[key]
        return self._counting[key]

    def _write(self, now: float) -> None:
        """Write the windows that hold something, and begin the next."""
        began, until = self._began, min(now, self._began + self._window)
        self._began = _begin(now, self._window)
        for (model, version), methods in self._counting.items():
            rows = sum(one.rows for one in methods.values())
            if not rows:
                continue
            body: dict[str, Any] = {"format": FORMAT, "since": began, "until": max(until, began), "rows": rows}
            body["methods"] = {name: one.state() for name, one in methods.items() if one.rows}
            for one in methods.values():
                one.clear()
            at = time.gmtime(began)
            folder = self._folder / model / version / time.strftime("%Y%m%d", at)
            name = f"{time.strftime('%H%M%S', at)}-{os.getpid()}-{time.time_ns() % 1_000_000:06d}.json"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                replace_file(folder / name, json.dumps(body).encode())
            except OSError:
                self.failed += 1


def _begin(now: float, window: float) -> float:
    return now - now % window
