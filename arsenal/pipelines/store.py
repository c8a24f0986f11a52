"""What steps gave, a folder for each by the content that made it: written beside, and moved into its place whole or not at all.

ROOT/FLOW/outputs/STEP/KEY/ holds a step's files and step.json, which says what they are; a folder without a readable step.json
counts for nothing. ROOT/FLOW/executions/NUMBER/ holds the journal of an execution and its logs. The folders are the truth.
"""

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from arsenal.pipelines.content import Contents, digest
from arsenal.pipelines.references import FlowError

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

    def place(self, step: str, key: str) -> Path:
        """Where the files of a step lie that was made by this."""
        return self.outputs / step / key[:DIGITS]

    def read(self, step: str, key: str) -> Record | None:
        """What was made by this, without a look at the files; None where nothing was."""
        return self.read_folder(self.place(step, key), key)

    def read_folder(self, place: Path, key: str | None = None) -> Record | None:
        """What lies in a folder; None where it is of another key, of another format, or torn."""
        try:
            found = json.loads((place / RECORD).read_bytes())
            if found["format"] != FORMAT or (key is not None and found["key"] != key):
                return None
            outputs = {}
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
        there = [self.read_folder(place) for place in self.folders(step)]
        return max((one for one in there if one is not None), key=lambda one: one.time, default=None)

    def folders(self, step: str) -> list[Path]:
        """The folders of all that a step made."""
        try:
            return [Path(one.path) for one in os.scandir(self.outputs / step) if one.is_dir()]
        except OSError:
            return []

    def begin(self, step: str) -> Path:
        """An empty folder to work in."""
        place = self.work / f"{step}-{secrets.token_hex(6)}"
        place.mkdir(parents=True)
        return place

    def commit(self, step: str, work: Path, record: Record, files: dict[str, str]) -> Record:
        """Move what was made into its place, with what says so; from then on it is done. `files`: sums by path below `work`."""
        outputs = {
            name: {"kind": one.kind, "value": os.path.relpath(one.value, work) if one.kind in ("file", "folder") else one.value,
                   "sha256": one.sha256}
            for name, one in record.outputs.items()
        }  # fmt: skip
        about = {"format": FORMAT, **record._asdict(), "outputs": outputs}
        (work / RECORD).write_text(json.dumps(about), encoding="utf-8")
        place = self.place(step, record.key)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(work, place)
        except OSError:
            if not place.is_dir():
                raise
            os.rename(place, self.begin(step) / "old")  # what is torn, or of an earlier execution
            os.rename(work, place)
        for name, one in files.items():
            self.contents.remember(place / name, one)
        found = self.read_folder(place, record.key)
        if found is None:
            raise FlowError(f"{place} does not hold what was just written there.")
        return found

    def tidy(self, keep: set[str]) -> None:
        """Remove outputs of all keys but these."""
        names = {key[:DIGITS] for key in keep}
        for step in self.outputs.glob("*"):
            for place in self.folders(step.name):
                if place.name not in names:
                    shutil.rmtree(place, ignore_errors=True)

    def clear_work(self) -> None:
        """Remove what nobody finished; for whoever holds the flow's lock."""
        if self.work.is_dir():
            shutil.rmtree(self.work, ignore_errors=True)


def key_of(parts: dict[str, Any]) -> str:
    """The key that these make."""
    return digest(parts)
