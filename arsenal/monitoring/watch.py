"""What a served model was asked: the windows of a monitoring folder beside the reference of the artifact."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact.reference import FILE, MethodReference, ModelReference
from arsenal_serving.artifact.reference import read as read_reference
from arsenal_serving.artifact.versions import locate
from arsenal_serving.artifact.windows import Window, merge_windows, read_windows

from arsenal.refusal import Refusal


class MonitoringError(Refusal):
    """There is nothing to compare, or nothing to compare with."""


class Watched(NamedTuple):
    """A method of a served version: its reference, and where its windows lie."""

    model: str
    version: str
    method: str
    reference: MethodReference
    known: ModelReference
    folder: Path


def find_model(model: str | Path) -> Path:
    """The version that a path means, of an artifact, a model's folder or a run; or a name of the registry, models:/NAME@ALIAS."""
    named = str(model).removeprefix("models:/")
    if "@" not in named or Path(named).exists():
        return locate(model)
    from arsenal.runs.registry import open_registry

    registry = open_registry()
    return registry.path(*registry.resolve(named))


def read_watched(model: str | Path, folder: str | Path, method: str | None = None) -> Watched:
    """A method of an artifact (as `find_model` finds it) in a monitoring folder: unless named, the one asked most."""
    where = find_model(model)
    held = artifact.open_version(where).files
    manifest = artifact.read_manifest(where, held)
    if FILE not in held:
        raise MonitoringError(f"{where} has no {FILE}: it was exported without one, or without its data; export it again.")
    known = read_reference(held[FILE], str(where / FILE))
    if method is not None and method not in known.methods:
        methods = ", ".join(known.methods) or "none: the reference has no method"
        raise MonitoringError(f"`method` must be one of {methods}; got {method}.")
    version = str(manifest["version"])
    windows = Path(folder) / manifest["name"] / version
    if not windows.is_dir():
        there = sorted(f"{path.parent.name}/{path.name}" for path in Path(folder).glob("*/*") if path.is_dir())
        raise MonitoringError(f"{folder} has no windows of {manifest['name']}/{version}; there are {', '.join(there) or 'none'}.")
    if method is None:
        method = most_asked(windows, known, manifest["default"])
    return Watched(manifest["name"], version, method, known.methods[method], known, windows)


NEWEST = 100
"""Windows by which the method is known that is asked most."""


def most_asked(folder: Path, known: ModelReference, default: str) -> str:
    """The method of which most rows came in the newest windows; `default` where none came."""
    rows = {name: 0.0 for name in known.methods}
    for path in sorted(folder.glob("*/*.json"))[-NEWEST:]:
        with contextlib.suppress(ValueError, KeyError, TypeError):  # what is torn is said by who reads it
            for name, one in json.loads(path.read_bytes())["methods"].items():
                rows[name] += max((sum(sketch["counts"]) for sketch in one["inputs"].values()), default=0.0)
    best = max(rows, key=lambda name: rows[name], default=default)
    return best if rows.get(best) else default


class AnsweredTable(NamedTuple):
    """Rows that a model answered here: as a window, and the columns [n] that were asked."""

    watched: Watched
    window: Window
    asked: dict[str, np.ndarray]


def read_batch(model: str | Path, table: str | Path, method: str | None = None) -> AnsweredTable:
    """A table that arsenal reads as one window: its rows read as the server reads CSV, and the model's answers to them."""
    from arsenal_serving.artifact.reference import PortColumns
    from arsenal_serving.artifact.sketch import Sketch
    from arsenal_serving.model import load
    from arsenal_serving.protocols import tables

    from arsenal.data.delimited import Layout
    from arsenal.data.tabular import read_tables

    where = find_model(model)
    served = load(where)
    name = method or served.default
    if served.reference is None or name not in served.reference.methods:
        raise MonitoringError(f"{where} has no reference of the method {name}; export its run again, where its data is.")
    frame, _, files = read_tables(str(table), Layout())
    known, loaded = served.reference.methods[name], served.methods[name]
    inputs_made, outputs_made = ({column.name: Sketch(column) for column in part} for part in (known.inputs, known.outputs))
    entry, states = served.manifest["methods"][name], served.manifest["codecs"]
    asked: dict[str, list[np.ndarray]] = {}
    for at in range(0, len(frame), PIECE):
        inputs = tables.parse(loaded, frame[at : at + PIECE].to_csv(index=False).encode())
        both = (entry["inputs"], inputs, True), (entry["outputs"], served.infer(name, inputs), False)
        for sketches, (described, arrays, inward) in zip((inputs_made, outputs_made), both, strict=True):
            for one in described:
                for column, values in PortColumns(one, states, inward).split(arrays[one["name"]]):
                    if column in sketches:
                        sketches[column].add(values)
                        if inward:
                            asked.setdefault(column, []).append(values)
    ended = max(file.stat().st_mtime for file in files)
    watched = Watched(served.name, str(served.version), name, known, served.reference, Path(table))
    window = Window(ended, ended, len(frame), inputs_made, outputs_made)
    return AnsweredTable(watched, window, {column: np.concatenate(parts) for column, parts in asked.items()})


PIECE = 4096
"""Rows of a table that are answered at once."""


def windows_of(watched: Watched, since: float = 0.0, until: float = float("inf")) -> Iterator[Window]:
    """The windows as they were written."""
    return read_windows(watched.folder, watched.known, watched.method, since, until)


def slices_of(watched: Watched, seconds: float, since: float = 0.0, until: float = float("inf")) -> list[Window]:
    """The windows merged to slices of so many seconds, in order; slices in which nothing came are not there."""
    return merge_slices(windows_of(watched, since, until), seconds)


def merge_slices(windows: Iterable[Window], seconds: float) -> list[Window]:
    """Windows as `slices_of` gives them."""
    slices: dict[int, list[Window]] = {}
    for window in windows:
        slices.setdefault(int(window.since // seconds), []).append(window)
    merged = [merge_windows(several) for _, several in sorted(slices.items())]
    return [one for one in merged if one is not None]
