"""What alerts know, on disk: a line of JSON for all that changed, whole or not at all, so that a kill loses no page.

A page is written down in the same line as the findings that it came of, before it leaves, and again when it was taken. What was
written and not taken leaves again after a restart, under the same id. The first line holds all that was known when it was begun.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from arsenal_serving.files import replace_file

from arsenal.monitoring.alerts.machine import (
    Acknowledged,
    Advance,
    Alert,
    AlertMemory,
    FlowRun,
    Notice,
    Silence,
    replace_silence,
)
from arsenal.monitoring.alerts.policy import is_whole, read_labels
from arsenal.monitoring.findings import Finding, read_finding
from arsenal.refusal import Refusal
from arsenal.storage.files import to_json

FILE, WORDS = "journal.jsonl", "words.jsonl"
BEGUN = 16 << 20
"""Bytes after which the file is begun anew."""
CHUNK = 4 << 20
"""Bytes of findings that are taken in at once."""


class AlertsError(Refusal):
    """A folder of alerts that cannot be used."""


class Waiting(NamedTuple):
    """A page that a channel has not taken yet."""

    notice: Notice
    channel: str
    """Of a flow that is to start, its rule."""


class AlertsKnown(NamedTuple):
    """What a journal tells."""

    memory: AlertMemory
    read: dict[str, int]
    """How many bytes of each file of findings and words were taken in."""
    waiting: dict[tuple[str, str], Waiting]


def read_known(folder: Path) -> AlertsKnown:
    """What the journal of a folder tells; nothing where there is none."""
    known = AlertsKnown(AlertMemory(), {}, {})
    with contextlib.suppress(FileNotFoundError), (folder / FILE).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break  # a kill cut it off, and nothing was done of it
            try:
                known = follow(known, json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                if line.strip():
                    raise AlertsError(f"{folder / FILE}: line {number} is damaged; bring it back from a copy, or move it away: "
                                      "what fires then is paged anew.") from error  # fmt: skip
    return known


def follow(known: AlertsKnown, line: Mapping[str, Any]) -> AlertsKnown:
    """What is known after a line."""
    waiting = known.waiting
    if line["kind"] == "taken":
        waiting.pop((line["id"], line["channel"]), None)
        return known
    memory = known.memory
    whole = line["kind"] == "all"
    alerts = {} if whole else dict(memory.alerts)
    for key, given in line["alerts"].items():
        alerts[key] = Alert(**{**given, "reached": tuple(given["reached"])})
    for key in line.get("gone", ()):
        alerts.pop(key, None)
    silences = tuple(Silence(**one) for one in line["silences"])
    starts = {rule: tuple(times) for rule, times in line["starts"].items()}
    flows = {id: FlowRun(**{**one, "keys": tuple(one["keys"])}) for id, one in line.get("flows", {}).items()}
    rules = tuple(line.get("rules", ()))
    memory = AlertMemory(line["now"], alerts, line["groups"], silences, line["heard"], starts, flows, rules)
    if whole:
        waiting = {}
    for given in line["notices"]:
        channels = given.pop("waits")
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        notice = Notice(**values)
        waiting |= {(notice.id, channel): Waiting(notice, channel) for channel in channels}
    return AlertsKnown(memory, known.read | line["read"], waiting)


class AlertJournal:
    """The journal of a folder while one process goes on with it; another one is refused."""

    def __init__(self, folder: Path):
        """Read what is known, and go on."""
        import fcntl

        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.held = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self.held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self.held)
            raise AlertsError(f"Another `arsenal alerts run` holds {folder}.") from error
        self.known = read_known(folder)
        self.file = -1
        self.begin()

    def begin(self) -> None:
        """Write all that is known into a file of its own, which takes the place of the old one at once."""
        known = self.known
        notices: dict[str, tuple[Notice, list[str]]] = {}
        for one in known.waiting.values():
            notices.setdefault(one.notice.id, (one.notice, []))[1].append(one.channel)
        line = self.line("all", AlertMemory(), known.memory, known.read, list(notices.values()))
        if self.file >= 0:
            os.close(self.file)
        replace_file(self.folder / FILE, line)
        self.file = os.open(self.folder / FILE, os.O_WRONLY | os.O_APPEND)
        self.size, self.most = len(line), max(BEGUN, 4 * len(line))

    def line(
        self, kind: str, old: AlertMemory, new: AlertMemory, read: Mapping[str, int], notices: list[tuple[Notice, list[str]]]
    ) -> bytes:  # fmt: skip
        """What changed, as a line."""
        content = {
            "kind": kind, "now": new.now, "read": dict(read), "groups": new.groups, "heard": new.heard, "starts": new.starts,
            "alerts": {key: one._asdict() for key, one in new.alerts.items() if one is not old.alerts.get(key)},
            "gone": [key for key in old.alerts if key not in new.alerts],
            "silences": [one._asdict() for one in new.silences],
            "flows": {id: one._asdict() for id, one in new.flows.items()}, "rules": list(new.rules),
            "notices": [{**notice._asdict(), "waits": channels} for notice, channels in notices],
        }  # fmt: skip
        return json.dumps(to_json(content)).encode() + b"\n"

    def write(self, advance: Advance, read: Mapping[str, int]) -> None:
        """Write down what came of findings that were read up to there."""
        old, new = self.known.memory, advance.memory
        if not advance.notices and not read and new._replace(now=old.now) == old:
            return
        notices = [(one, list(one.channels) or [one.group]) for one in advance.notices]
        line = self.line("advance", old, new, read, notices)
        self.append(line)
        waiting = self.known.waiting
        waiting |= {(one.id, channel): Waiting(one, channel) for one, channels in notices for channel in channels}
        self.known = AlertsKnown(new, self.known.read | dict(read), waiting)
        if self.size > self.most:
            self.begin()

    def take(self, waiting: Waiting, how: str) -> None:
        """A channel took a page, or it was given up."""
        words = {"kind": "taken", "id": waiting.notice.id, "channel": waiting.channel, "how": how}
        self.append(json.dumps(words).encode() + b"\n")
        self.known.waiting.pop((waiting.notice.id, waiting.channel), None)

    def append(self, line: bytes) -> None:
        """Write a line and wait until the disk has it."""
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self.file, left) :]
            os.fsync(self.file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.file, self.size)  # half a line would spoil the next
            raise
        self.size += len(line)

    def close(self) -> None:
        """Let another process go on."""
        os.close(self.file)
        os.close(self.held)


def read_on(path: Path, begun: int) -> tuple[list[dict[str, Any] | None], int]:
    """The JSON lines of a file from a byte on, and up to where they reach: a line that is not whole yet is left for later.

    A file that is shorter than it was is another one, and is read from its beginning. None stands for a line that is no mapping.
    """
    try:
        with path.open("rb") as file:
            begun = begun if begun <= file.seek(0, os.SEEK_END) else 0
            file.seek(begun)
            content = file.read(CHUNK)
            if len(content) == CHUNK and b"\n" not in content:
                content += file.readline()
    except FileNotFoundError:
        return [], begun
    whole = content[: content.rfind(b"\n") + 1]
    return [read_mapping(line) for line in whole.split(b"\n") if line.strip()], begun + len(whole)


def read_mapping(line: bytes | str) -> dict[str, Any] | None:
    """What a line of JSON holds; None where that is no mapping."""
    with contextlib.suppress(ValueError):
        given = json.loads(line)
        return given if isinstance(given, dict) else None
    return None


def read_came(given: Mapping[str, Any] | None) -> Finding | Silence | Acknowledged | None:
    """A finding or a word of somebody's; None where it is neither."""
    if given is None:
        return None
    with contextlib.suppress(TypeError, ValueError, KeyError, Refusal):
        if given.get("word") == "silence":
            read_labels("where", given["where"])
            return Silence(given["where"], float(given["until"]), given["by"], given["why"])
        if given.get("word") == "ack":
            return Acknowledged(given["key"], given["by"])
        finding = read_finding(dict(given))
        return finding if is_whole(finding) else None
    return None


def read_silences(folder: Path, known: AlertsKnown, now: float) -> list[Silence]:
    """Silences that are on, those among them that the process has not taken in yet."""
    found, at = list(known.memory.silences), 0
    while True:
        lines, ended = read_on(folder / WORDS, at)
        for one in map(read_came, lines):
            if isinstance(one, Silence):
                found = replace_silence(found, one)
        if ended == at:
            return [one for one in found if one.until > now]
        at = ended


def say_word(folder: Path, word: Silence | Acknowledged) -> None:
    """Leave a word for the process that runs the alerts."""
    kind = "silence" if isinstance(word, Silence) else "ack"
    line = json.dumps({"word": kind, **word._asdict()}).encode() + b"\n"
    file = os.open(folder / WORDS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, line)
        os.fsync(file)
    finally:
        os.close(file)
