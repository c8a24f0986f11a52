"""Logs of all sorts as events of one form: of a server (its log, its requests, its audits), of runs, of flows, of monitoring.

An event has a time in seconds, a source, a level and a word for what happened; by `id` (of a request), `run` and `trace`
events of several sources belong together. What else a line says keeps its name, with dots where it lies deeper; tensors are
only searched.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from arsenal.refusal import Refusal
from arsenal.runs.index import cell
from arsenal.runs.query import Cell, Condition

SOURCES = ("server", "request", "audit", "run", "flow", "finding")
FIELDS = ("time", "source", "level", "event", "id", "run", "trace", "model", "version")
ENDINGS = (".jsonl", ".log")
PASSED = {"journal.jsonl", "words.jsonl"}
"""What alerts know; `arsenal alerts list` tells it."""
LEVELS = {"ok": "info", "warning": "warning", "breach": "error"}


class LogError(Refusal):
    """There is no such log, or it cannot be asked so."""


class LogEvent(NamedTuple):
    """What happened."""

    time: float
    source: str
    level: str
    event: str
    id: str = ""
    """Of the request."""
    run: str = ""
    trace: str = ""
    model: str = ""
    version: str = ""
    fields: dict[str, Any] = {}
    raw: bytes = b""

    def cell(self, key: str) -> Cell | None:
        """A value for a condition; None where the event has none."""
        value = getattr(self, key) if key in FIELDS else self.fields.get(key, "")
        return None if value == "" or value is None else cell(value)


def read_line(line: bytes, run: str = "") -> LogEvent | None:
    """The event of a line; None where it holds none. `run`: whose folder the file lies in."""
    try:
        given = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(given, dict) or (at := read_instant(given.get("time"))) is None:
        return None

    def take(*keys: str) -> tuple[str, ...]:
        return tuple(str(given.pop(key, "") or "") for key in keys)

    given.pop("time")
    if "sequence" in given and "before" in given:
        details, (event,) = given.pop("details", {}), take("event")
        said = {"sequence": given["sequence"], "principal": given.get("principal")}
        given = said | (details if isinstance(details, dict) else {})
        source, level = "audit", "warning" if event in ("denied", "truncated", "erased") else "info"
    elif "inputs" in given and "operation" in given:
        source, (event,), status = "request", take("operation"), given.get("status")
        given = {key: value for key, value in given.items() if key not in ("inputs", "outputs")}
        level = "info" if status in (200, "OK") else "error"
    elif "level" in given:
        source, (level, event) = "server", take("level", "event")
    elif isinstance(given.get("step"), int) and "kind" in given:  # of a flow it is a name
        source, level, (event,) = "run", "info", take("kind")
        given.setdefault("run", run)
        if isinstance(given.get("values"), dict):
            given |= given.pop("values")
    elif "state" in given and "kind" in given and "model" in given:
        source, (event,), level = "finding", take("kind"), LEVELS.get(given["state"], "info")
    elif "kind" in given:
        source, (event, row) = "flow", take("kind", "id")
        given |= {"row": row} if row not in ("", given.get("step")) else {}  # no request has this id
        level = "error" if event in ("failed", "failed_step") else "info"
    else:
        return None
    id, named, trace, model, version = take("id", "run", "trace", "model", "version")
    return LogEvent(at, source, level, event, id, named, trace, model, version, dict(flatten(given)), line)


def flatten(given: dict[str, Any], head: str = "") -> Iterator[tuple[str, Any]]:
    """Values by names with dots.

    >>> dict(flatten({"a": {"b": 1}, "c": [2]}))
    {'a.b': 1, 'c': [2]}
    """
    for key, value in given.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{head}{key}.")
        elif value is not None:
            yield f"{head}{key}", value


def read_instant(given: Any) -> float | None:
    """Seconds of a number or of a time as RFC 3339 has it; None of anything else."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    with contextlib.suppress(ValueError, TypeError):
        found = datetime.fromisoformat(given)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return None


def log_files(folders: Sequence[Path]) -> list[Path]:
    """The logs in some folders and below them, and files that are named; `LogError` where nothing is."""
    found: list[Path] = []
    for folder in folders:
        if not folder.exists():
            raise LogError(f"There is no log at {folder}.")
        found += [folder] if folder.is_file() else [
            path for path in sorted(folder.rglob("*")) if path.suffix in ENDINGS and path.name not in PASSED and path.is_file()
        ]  # fmt: skip
    return list(dict.fromkeys(found))


class LogReader:
    """Logs that are read on from where they were: files that come later and that turn over are found."""

    def __init__(self, folders: Sequence[Path]):
        """Of folders and files."""
        self.folders, self.places = folders, dict[tuple[int, int], int]()
        if not log_files(folders):
            raise LogError(f"{', '.join(map(str, folders))} holds no log: no file ends with {' or '.join(ENDINGS)}.")

    def read(self, whole: bool = True) -> list[LogEvent]:
        """What came since it was last asked, by time; a line that has no end yet is left for later unless `whole`."""
        found: list[LogEvent] = []
        for path in log_files(self.folders):
            run = str(path.parent) if path.name == "events.jsonl" and (path.parent / "config.yaml").is_file() else ""
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                about = os.fstat(file.fileno())
                place = (about.st_dev, about.st_ino)
                begun = self.places.get(place, 0)
                file.seek(begun if begun <= about.st_size else 0)
                at = file.tell()
                for line in file:
                    if not line.endswith(b"\n") and not whole:
                        break
                    at += len(line)
                    if (one := read_line(line.rstrip(b"\n"), run)) is not None:
                        found.append(one)
                self.places[place] = at
        return sorted(found, key=lambda one: one.time)


def choose_events(
    found: Iterable[LogEvent], asked: Sequence[Condition] = (), text: str = "", since: float = 0.0, until: float = float("inf")
) -> list[LogEvent]:  # fmt: skip
    """Events of a span that keep to all conditions, and whose line holds the text."""
    # A line of JSON may have written letters beyond ASCII as escapes.
    words = {text.encode(), json.dumps(text)[1:-1].encode(), json.dumps(text, ensure_ascii=False)[1:-1].encode()}
    return [
        one
        for one in found
        if since <= one.time < until and (not text or any(word in one.raw for word in words))
        and all(condition.holds(one.cell(condition.key)) for condition in asked)
    ]  # fmt: skip


def known_keys(found: Iterable[LogEvent]) -> list[str]:
    """What events can be asked for."""
    return list(dict.fromkeys([*FIELDS, *(key for one in found for key in one.fields)]))


def event_text(one: LogEvent) -> str:
    """An event on a line."""
    seconds, thousandth = divmod(round(one.time * 1000), 1000)
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) + f".{thousandth:03d}"
    facts = {key: getattr(one, key) for key in FIELDS[4:]} | one.fields
    facts = {key: value for key, value in facts.items() if value != ""}
    said = " ".join(f"{key}={fact_text(value)}" for key, value in facts.items())
    return f"{at}  {one.source:<7}  {one.level:<7}  {one.event}  {said}"


def fact_text(value: Any) -> str:
    """A value as a word."""
    text = value if isinstance(value, str) else json.dumps(value)
    return json.dumps(text) if not text or set(text) & set(' "\n\r\t') else text


def event_json(one: LogEvent) -> str:
    """An event as JSON."""
    return json.dumps({key: getattr(one, key) for key in FIELDS if getattr(one, key) != ""} | {"fields": one.fields})
