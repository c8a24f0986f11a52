"""One subject's rows taken out of logs: of requests the rows, of other lines what they said; the audit log's chain holds on.

A subject is found where a value is the word, or holds it between other words, whatever its case and however its accents are
coded. Numbers are not compared: a number that is equal is somebody else's age. Of what a server counted (`--monitor`) the names
of levels go.
"""

import contextlib
import fnmatch
import os
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
from arsenal_serving.files import write_file
from arsenal_serving.telemetry import audit
from arsenal_serving.telemetry.request_log import NAME

from arsenal.monitoring.logs import LogError, log_files, read_line
from arsenal.storage.files import read_json, write_json

SETTLES = 0.3
"""Seconds in which a writer that has just looked whether its file is there has written its line."""


def subject_matcher(subject: str) -> Callable[[Any], bool]:
    """Whether a value, or any value in it, speaks of a subject.

    >>> subject_matcher("Ann")({"a": [1, "for ANN, now"]}), subject_matcher("Ann")("Anna")
    (True, False)
    """
    if not subject.strip():
        raise LogError("`erase` must name a subject; it is empty.")
    pattern = re.compile(rf"(?<!\w){re.escape(fold(subject))}(?!\w)")

    def fits(value: Any) -> bool:
        if isinstance(value, str):
            return bool(pattern.search(fold(value)))
        if isinstance(value, dict):
            return any(fits(one) for one in value.values()) or any(fits(key) for key in value)
        return isinstance(value, list) and any(fits(one) for one in value)

    return fits


def fold(text: str) -> str:
    """A text without its case, each of its letters coded in the one way (Unicode's NFKC)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def erase_line(line: bytes, fits: Callable[[Any], bool], by: str = "") -> tuple[bytes, int]:
    """The line without the subject, and how many rows or lines that were.

    Of a request the rows in which a text speaks of it are null in all its tensors; any other line that does keeps its time alone.
    Either says by whom.
    """
    try:
        given = orjson.loads(line)
    except orjson.JSONDecodeError:
        return (b"", 1) if fits(line.decode(errors="replace")) else (line, 0)
    if not fits(given):
        return line, 0
    if isinstance(given, dict) and "inputs" in given and "operation" in given:
        tensors = [*given["inputs"], *given["outputs"]]
        rest = {key: value for key, value in given.items() if key not in ("inputs", "outputs")}
        rows = {at // width(one) for one in tensors for at, value in enumerate(one.get("data", ())) if fits(value)}
        if rows and not fits(rest) and len({one["shape"][0] for one in tensors if one["shape"]}) == 1:
            for one in tensors:
                if "data" in one:
                    for row in rows:
                        one["data"][row * width(one) : (row + 1) * width(one)] = [None] * width(one)
                    held = one.get("parameters", {})
                    one["parameters"] = held | {"redacted": held.get("redacted", True), "erased": len(rows), "by": by}
            if not fits(given):
                return orjson.dumps(given), len(rows)
    at = given.get("time") if isinstance(given, dict) else None
    kept = {"time": at, "level": "info", "event": "erased", "by": by}
    return orjson.dumps(kept if at is not None and not fits(at) else {"event": "erased"}), 1


def width(tensor: dict[str, Any]) -> int:
    """Values of a row."""
    found = 1
    for size in tensor["shape"][1:]:
        found *= size
    return max(found, 1)


def is_audit(path: Path) -> bool:
    """Whether a file is an audit log."""
    with path.open("rb") as file:
        return file.read(14).startswith(b'{"sequence":1,')


def count_subject(folders: Sequence[Path], subject: str) -> dict[Path, int]:
    """By file, how many lines speak of a subject."""
    fits, found = subject_matcher(subject), dict[Path, int]()
    for path in log_files(folders):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            count = sum(erase_line(line.rstrip(b"\n"), fits)[1] > 0 for line in file)
            if count:
                found[path] = count
    for path in window_files(folders):
        if count := erase_levels(read_json(path), fits):
            found[path] = count
    return found


def window_files(folders: Sequence[Path]) -> list[Path]:
    """The files below folders in which a server with `--monitor` counted."""
    return sorted({path for folder in folders for path in folder.rglob("[0-9]*/[0-9]*-*-*.json")})


def erase_levels(window: Any, fits: Callable[[Any], bool]) -> int:
    """Take the names of levels that speak of a subject out of a window, whose counts stay; how many those were."""
    count = 0
    for method in window.get("methods", {}).values() if isinstance(window, dict) else ():
        for sketch in [*method.get("inputs", {}).values(), *method.get("outputs", {}).values()]:
            for level in [one for one in sketch.get("new", ()) if fits(one)]:
                del sketch["new"][level]
                count += 1
    return count


def erase_subject(folders: Sequence[Path], subject: str, by: str) -> dict[Path, int]:
    """Take a subject out of all logs; by file, how many rows and lines that were. A search after it finds none, or `LogError`."""
    fits, found = subject_matcher(subject), dict[Path, int]()
    if fits(by):
        raise LogError("`by` must not name the subject: the audit log says who erased.")
    for path in log_files(folders):
        count = audit.erase(path, fits, by) if is_audit(path) else rewrite_log(path, lambda line: erase_line(line, fits, by))
        if count:
            found[path] = count
    for path in window_files(folders):
        window = read_json(path)
        if count := erase_levels(window, fits):
            write_json(path, window)
            found[path] = count
    left = count_subject(folders, subject)
    if left:
        raise LogError(f"{', '.join(map(str, left))} still holds the subject: it came again while it was erased; erase again.")
    return found


def erase_old(folders: Sequence[Path], keep: float, now: float) -> dict[Path, int]:
    """Take out what is older than `keep` seconds; by file, how many lines. A file without younger lines goes; audits stay."""

    def old(line: bytes) -> bool:
        found = read_line(line)
        return found is not None and found.time < now - keep

    counts: dict[Path, int] = {}
    for path in log_files(folders):
        if is_audit(path):
            continue
        with path.open("rb") as file:
            ages = [old(line.rstrip(b"\n")) for line in file if line.strip()]
            settled = os.fstat(file.fileno()).st_mtime < now - keep
        if ages and all(ages) and settled:
            path.unlink(missing_ok=True)
            counts[path] = len(ages)
        elif any(ages):
            counts[path] = rewrite_log(path, lambda line: (b"", 1) if old(line) else (line, 0))
    return counts


Rewriter = Callable[[bytes], tuple[bytes, int]]
"""What is left of a line, and how many rows or lines were taken out."""


def rewrite_log(path: Path, rewrite: Rewriter) -> int:
    """Rewrite a log that is no audit log; how much was taken out."""
    # A server that finds its request log gone begins another; what else writes would go on with the old file.
    return replace_log(path, rewrite) if fnmatch.fnmatchcase(path.name, NAME) else blank_lines(path, rewrite)


def blank_lines(path: Path, rewrite: Rewriter) -> int:
    """Rewrite lines where they stand, filled up to their length: who writes the file or reads on goes on."""
    count = at = 0
    with path.open("r+b", buffering=0) as file:
        for line in file.read().split(b"\n"):
            left, number = rewrite(line)
            if number:
                left = left if len(left) <= len(line) else b"{}"
                os.pwrite(file.fileno(), left[: len(line)].ljust(len(line)), at)
                count += number
            at += len(line) + 1
        os.fsync(file.fileno())
    return count


def join_lines(lines: Iterable[bytes]) -> bytes:
    """Lines that are not empty, each with its end; of a last one that is torn, none."""
    *whole, last = lines
    return b"".join(line + b"\n" for line in whole if line) + last


def replace_log(path: Path, rewrite: Rewriter) -> int:
    """Have another file take a log's place. Lines that came meanwhile are taken along."""
    with path.open("rb") as file:
        lines = file.read().split(b"\n")
        kept = [rewrite(line) for line in lines]
        count = sum(number for _, number in kept)
        if not count:
            return 0
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            write_file(partial, join_lines(line for line, _ in kept), os.fstat(file.fileno()).st_mode & 0o777)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        time.sleep(SETTLES)  # the server sees that its file is gone, and begins another
        late = [rewrite(line) for line in file.read().split(b"\n")]
    if any(line for line, _ in late):
        with path.open("ab") as file:
            file.write(join_lines(line for line, _ in late))
    return count + sum(number for _, number in late)
