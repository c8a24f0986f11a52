"""What models were asked, window by window, as servers with `--monitor FOLDER` write it.

    FOLDER/MODEL/VERSION/20261130/205000-1234-567890.json  when it began, UTC; the process; a number of its own
    {"format": 1, "since": 1796070600.0, "until": 1796070660.0, "rows": 812,
     "methods": {"predict": {"inputs": {COLUMN: sketch, ...}, "outputs": {...}, "redacted": [COLUMN, ...]}}}
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from arsenal_serving.artifact.reference import ModelReference
from arsenal_serving.artifact.sketch import Sketch, merge_all
from arsenal_serving.refused import Refused


class Window(NamedTuple):
    """Sketches of one method over a span of time: columns by name, of inputs and of outputs."""

    since: float
    until: float
    rows: int
    inputs: dict[str, Sketch]
    outputs: dict[str, Sketch]
    redacted: frozenset[str] = frozenset()
    """Columns that were not counted because nobody may know them."""


def read_windows(
    folder: Path, known: ModelReference, method: str, since: float = 0.0, until: float = float("inf")
) -> Iterator[Window]:
    """The windows of FOLDER/MODEL/VERSION in the order of their times, those of several processes one after another.

    A file that is torn is left out, with a warning that names it; one of another reference raises `Refused`.
    """
    columns = known.methods[method]
    for path in sorted(folder.glob("*/*.json")):
        try:
            body = json.loads(path.read_bytes())
        except ValueError:
            warnings.warn(f"{path} is torn and left out.", stacklevel=2)
            continue
        try:
            began, ended = float(body["since"]), float(body["until"])
            if ended <= since or began >= until or method not in body["methods"]:
                continue
            one = body["methods"][method]
            inputs, outputs = (
                {known.name: Sketch.read(known, one[way][known.name]) for known in listed if known.name in one[way]}
                for way, listed in (("inputs", columns.inputs), ("outputs", columns.outputs))
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(f"{path} is no window of this model: {error}.") from error
        yield Window(began, ended, int(body["rows"]), inputs, outputs, frozenset(one.get("redacted", ())))


def merge_windows(windows: Iterable[Window]) -> Window | None:
    """All of them as one, and they as they were; None of none."""
    several = list(windows)
    if not several:
        return None

    def merge(sketches: list[dict[str, Sketch]]) -> dict[str, Sketch]:
        by_name: dict[str, list[Sketch]] = {}
        for one in sketches:
            for name, sketch in one.items():
                by_name.setdefault(name, []).append(sketch)
        return {name: merge_all(found[0].column, found) for name, found in by_name.items()}

    return Window(
        min(window.since for window in several),
        max(window.until for window in several),
        sum(window.rows for window in several),
        merge([window.inputs for window in several]),
        merge([window.outputs for window in several]),
        frozenset[str]().union(*(window.redacted for window in several)),
    )
