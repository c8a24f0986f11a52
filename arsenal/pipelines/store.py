"""What steps gave, by the content that made it: written beside, and moved into its place whole or not at all.

ROOT/FLOW/outputs/STEP/KEY/ holds a step's files and step.json, which says what they are; what gave values only is KEY.json, which
says the same. Where that cannot be read there is nothing, so that one that was cut off counts for none.
ROOT/FLOW/executions/NUMBER/ holds the journal of an execution and its logs. The folders are the truth.
"""

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from arsenal.pipelines.content import Contents

RECORD = "step.json"
FORMAT = 1
DIGITS = 16
"""Of a key, in the name of a folder."""


class Product(NamedTuple):
    """An output as it came out."""

    kind: str
    value: Any
    """Of json the value, of everything else the path."""
    sha256: str


class Record(NamedTuple):
    """A step that is done."""

    key: str
    parts: dict[str, Any]
    """What makes the key."""
    outputs: dict[str, Product]
    seconds: float
    time: float
    """Seconds since 1970, when it was done."""


class FlowStore:
    """The folder of a flow."""

    def __init__(self, root: str | Path, flow: str):
        """`root`/`flow`, made when something is written."""
        self.folder = Path(root, flow)
        self.outputs, self.work = self.folder / "outputs", self.folder / "work"
        self.contents = Contents(self.folder / ".sums.json")

    def place(self, step: str, key: str, files: bool) -> str:
        """The file that says what was made by this, with files among it or not."""
        place = os.path.join(self.outputs, step, key[:DIGITS])
        return os.path.join(place, RECORD) if files else f"{place}.json"

    def read(self, step: str, key: str) -> Record | None:
        """What was made by this, without a look at the files; None where nothing was."""
        return self.read_record(self.place(step, key, False), key) or self.read_record(self.place(step, key, True), key)

    def read_record(self, path: str, key: str | None = None) -> Record | None:
        """What a file says that was made; None where it is of another key, of another format, or torn."""
        try:
            with open(path, "rb") as file:
                found = json.loads(file.read())
            if found["format"] != FORMAT or (key is not None and found["key"] != key):
                return None
            outputs, place = {}, os.path.dirname(path)
            for name, one in found["outputs"].items():
                value = os.path.join(place, one["value"]) if one["kind"] in ("file", "folder") else one["value"]
                outputs[name] = Product(one["kind"], value, one["sha256"])
            return Record(found["key"], found["parts"], outputs, found["seconds"], found["time"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def find(self, step: str, key: str) -> tuple[Record | None, str]:
        """What was made by this, if all of it is there as it was made; else None, and why where there was something."""
        found = self.read(step, key)
        if found is None:
            return None, ""
        for name, one in found.outputs.items():
            try:
                same = one.kind == "json" or self.sum(one.kind, one.value) == one.sha256
            except OSError:
                return None, f"its output `{name}` is gone"
            if not same:
                return None, f"its output `{name}` was changed"
        return found, ""

    def sum(self, kind: str, path: str) -> str:
        """The sum of what lies there."""
        by = {"file": self.contents.file, "folder": self.contents.folder, "run": self.contents.run}
        return by[kind](path)

    def latest(self, step: str) -> Record | None:
        """What the step made last, by whatever."""
        there = [self.read_record(path) for path in self.records(step)]
        return max((one for one in there if one is not None), key=lambda one: one.time, default=None)

    def records(self, step: str) -> list[str]:
        """The files that say what a step made."""
        try:
            return [os.path.join(one.path, RECORD) if one.is_dir() else one.path for one in os.scandir(self.outputs / step)]
        except OSError:
            return []

    def begin(self, step: str) -> Path:
        """An empty folder to work in."""
        place = self.work / f"{step}-{secrets.token_hex(6)}"
        place.mkdir(parents=True)
        return place

    def commit(self, step: str, work: Path | None, record: Record, files: dict[str, str]) -> Record:
        """Have what was made in its place, with what says so, by one rename; from then on it is done.

        work: the folder with its files, whose sums are `files` by path below it; None where all of it are values.
        """
        given = record.outputs
        inside = {name: os.path.relpath(one.value, work) for name, one in given.items() if one.kind in ("file", "folder")}
        outputs = {
            name: {"kind": one.kind, "value": inside.get(name, one.value), "sha256": one.sha256} for name, one in given.items()
        }
        text = json.dumps({"format": FORMAT, **record._asdict(), "outputs": outputs}).encode()
        if not inside or work is None:
            write_whole(self.place(step, record.key, False), text)
            if work is not None:
                shutil.rmtree(work, ignore_errors=True)
            return record
        (work / RECORD).write_bytes(text)
        place = os.path.dirname(self.place(step, record.key, True))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        try:
            os.rename(work, place)
        except OSError:
            if not os.path.isdir(place):
                raise
            os.rename(place, self.begin(step) / "old")  # what is torn, or of an earlier execution
            os.rename(work, place)
        for name, one in files.items():
            self.contents.remember(os.path.join(place, name), one)
        moved = {name: given[name]._replace(value=os.path.join(place, path)) for name, path in inside.items()}
        return record._replace(outputs=dict(given) | moved)

    def tidy(self, keep: set[str]) -> None:
        """Remove outputs of all keys but these."""
        names = {key[:DIGITS] for key in keep}
        for step in self.outputs.glob("*"):
            for path in step.iterdir():
                if path.stem not in names:
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def clear_work(self) -> None:
        """Remove what nobody finished; for whoever holds the flow's lock."""
        if self.work.is_dir():
            shutil.rmtree(self.work, ignore_errors=True)


def write_whole(path: str, content: bytes) -> None:
    """Write a JSON object, so that one that is cut off is none: its last letter closes it. Folders are made where they lack."""
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path))
        opened = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    with open(opened, "wb") as file:
        file.write(content)
