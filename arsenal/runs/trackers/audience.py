"""A run told to somebody else's tracker: `events.jsonl` read on from where the last reading ended, by a thread of its own.

The log is the truth and the tracker an audience. One that is slow or down costs training nothing; `arsenal runs track` tells it
later what it missed. What a resumed run repeats is what was told before, to the bit, so nothing is told twice.
"""

import contextlib
import json
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from arsenal.nested import flatten
from arsenal.runs.folder import RunError, read_status
from arsenal.runs.journal import MEASURES, Tracker
from arsenal.storage.files import read_json, sha256, write_json

LINES = 500
"""Events that are told at once, at most."""
PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two looks at the log, and at most after failures, each of which doubles them."""
PATIENCE = 30.0
"""Seconds that the end of a run waits for what is still to be told."""
TEXT = 1000
"""Characters of a setting that are told."""


class Facts(NamedTuple):
    """What is known of a run before its first step."""

    folder: Path
    config: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Facts":
        """Of a run that was."""
        import yaml

        return cls(folder, yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))

    @property
    def name(self) -> str:
        """The experiment's."""
        return str(self.config.get("name") or self.folder.parent.name)

    @property
    def run(self) -> str:
        """The run's, which tells it from others of the experiment."""
        return self.folder.name

    @property
    def settings(self) -> dict[str, str]:
        """Every setting by its path, as text."""
        return {key: str(value)[:TEXT] for key, value in flatten(self.config)}

    @property
    def tags(self) -> list[str]:
        """The user's words."""
        return [str(tag) for tag in self.config.get("tags") or []]


class Moment(NamedTuple):
    """Numbers of one moment, by names such as `train/loss`; time is in seconds."""

    step: int
    time: float
    values: dict[str, float]


class Audience(NamedTuple):
    """A run that is open at a tracker."""

    run: str
    """Its name there, by which it is opened again."""
    measure: Callable[[list[Moment]], None]
    text: Callable[[int, str, str], None]
    """`(step, name, text)`."""
    file: Callable[[Path, str], None]
    """`(path, name)`: a file or a picture of the run's, as something called so; what has no place there is left out."""
    end: Callable[[str], None]
    """`(state)`: complete, interrupted or failed; it closes the run."""


Open = Callable[[Facts, str | None], Audience]
"""Open a run there, anew or the one of this name."""


class Told(NamedTuple):
    """How much of a log was told, and to which run there."""

    run: str | None = None
    offset: int = 0
    """Bytes of the log."""
    steps: dict[str, int] = {}
    """The last step that was told, by kind of event."""
    report: str | None = None
    """The sum of the report's metrics that were told."""


class NoLibrary(RunError):
    """The tracker's library is not installed."""


def follower(folder: Path, name: str, opened: Open, config: dict[str, Any]) -> Tracker:
    """A tracker that tells the log to an audience as it grows; `folder/trackers/NAME.json` says how far it came."""
    thread = Follower(folder, name, opened, config)

    def note(kind: str, step: int, values: dict[str, Any]) -> None:
        if kind not in MEASURES:  # numbers can wait a moment
            thread.wake.set()

    thread.start()
    return Tracker(note, thread.finish)


class Follower(threading.Thread):
    """The thread that tells."""

    def __init__(self, folder: Path, name: str, opened: Open, config: dict[str, Any]):
        """It opens the run there when it starts."""
        super().__init__(name=f"tracker {name}", daemon=True)
        self.facts, self.tracker, self.opened = Facts(folder, config), name, opened
        self.wake, self.last = threading.Event(), threading.Event()
        self.failure: Exception | None = None

    def run(self) -> None:
        """Tell until the last word was told; failures are tried again, ever more slowly."""
        audience, pause = None, PAUSE
        while True:
            last = self.last.is_set()
            try:
                audience = audience or begin(self.facts, self.tracker, self.opened)
                tell(audience, self.facts.folder, self.tracker)
                self.failure, pause = None, PAUSE
            except Exception as error:  # each library's own: the server is down, refuses, is too old
                self.failure, pause = error, min(2 * pause, LONGEST_PAUSE)
            if last:
                break
            self.wake.wait(pause)
            self.wake.clear()
        if audience is not None and self.failure is None:
            with contextlib.suppress(Exception):  # all that counts was told
                audience.end(state_of(self.facts.folder))

    def finish(self) -> None:
        """Wait for the last word, a while; one line says what was not told."""
        self.last.set()
        self.wake.set()
        self.join(PATIENCE)
        if self.is_alive() or self.failure is not None:
            why = f": {one_line(self.failure)}" if self.failure else f" in {PATIENCE:.0f} seconds"
            warnings.warn(
                f"The tracker {self.tracker} was not told all of {self.facts.folder}{why}. The log has it; "
                f"`arsenal runs track runs={self.facts.folder} to={self.tracker}` tells it the rest.",
                stacklevel=2,
            )


def begin(facts: Facts, name: str, opened: Open) -> Audience:
    """The run there, opened anew or again."""
    told = read_told(facts.folder, name)
    audience = opened(facts, told.run)
    if audience.run != told.run:  # it is not known there any more, or never was
        write_told(facts.folder, name, Told(audience.run))
        for file in ("config.yaml", "environment.json"):
            if (facts.folder / file).is_file():
                audience.file(facts.folder / file, file)
    return audience


def tell(audience: Audience, folder: Path, name: str) -> int:
    """Tell what the log has beyond what was told; returns how many lines that were."""
    count = 0
    while True:
        told = read_told(folder, name)
        lines, end = read_lines(folder / "events.jsonl", told.offset)
        if not lines:
            return count
        steps, rows = dict(told.steps), []
        for event in lines:
            kind, step = str(event.get("kind")), int(event.get("step", 0))
            if kind not in (*MEASURES, "images", "text") or step <= steps.get(kind, -1):
                continue
            steps[kind] = step
            values = event["values"] if kind in (*MEASURES, "images") else {k: v for k, v in event.items() if k not in KEYS}
            if kind in MEASURES:
                rows.append(Moment(step, float(event["time"]), dict(numbers(kind, values))))
                continue
            for what, value in values.items():
                if kind == "text":
                    audience.text(step, str(what), str(value))
                elif (folder / str(value)).is_file():
                    audience.file(folder / str(value), str(value))
        if rows:
            audience.measure(rows)
        write_told(folder, name, told._replace(run=audience.run, offset=end, steps=steps))
        count += len(lines)


KEYS = ("time", "kind", "step")


def tell_report(audience: Audience, folder: Path, name: str) -> None:
    """Tell what the report says, once: its metrics, at the last step, and its files."""
    report, told = folder / "report", read_told(folder, name)
    if not (report / "metrics.json").is_file() or told.report == (sum_ := sha256(report / "metrics.json")):
        return
    status, measured = read_json(folder / "status.json"), read_json(report / "metrics.json")
    values = {name: float(value) for name, value in measured.items() if isinstance(value, int | float)}
    audience.measure([Moment(int(status.get("step", 0)), float(status.get("time", 0)), values)])
    for path in sorted(path for path in report.rglob("*") if path.is_file()):
        audience.file(path, str(path.relative_to(folder)))
    write_told(folder, name, told._replace(report=sum_))


def numbers(kind: str, values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Names such as `train/loss` and their numbers; of a population `train/loss.0`, `train/loss.1`, …. Gaps are left out."""
    for name, value in values.items():
        parts = {f".{i}": part for i, part in enumerate(value)} if isinstance(value, list) else {"": value}
        for end, part in parts.items():
            if isinstance(part, int | float):
                yield f"{kind}/{name}{end}", float(part)


def read_lines(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Whole lines of a log from a byte on, at most `LINES`, and the byte after them; a torn one is passed over."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = [line for _, line in zip(range(LINES), file, strict=False)]
    except FileNotFoundError:
        return [], offset
    if content and not content[-1].endswith(b"\n"):
        content.pop()
    found = []
    for line in content:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found, offset + sum(map(len, content))


def read_told(folder: Path, name: str) -> Told:
    """How much a tracker was told."""
    path = folder / "trackers" / f"{name}.json"
    return Told(**read_json(path)) if path.is_file() else Told()


def write_told(folder: Path, name: str, told: Told) -> None:
    """Keep how much a tracker was told."""
    (folder / "trackers").mkdir(exist_ok=True)
    write_json(folder / "trackers" / f"{name}.json", told._asdict())


def state_of(folder: Path) -> str:
    """What became of the run."""
    return str(read_status(folder).get("state", "interrupted"))


def needs(package: str) -> NoLibrary:
    """What to say where a library is not there."""
    return NoLibrary(f"The tracker {package} needs its library: pip install {package}.")


def one_line(error: Exception | None) -> str:
    """What a library said, short."""
    return " ".join(str(error).split())[:200] or type(error).__name__
