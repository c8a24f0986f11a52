"""The audit log: who changed what, one line of JSON each, with the hash of what stands before it.

A line is written and synced before what it tells takes effect; one that cannot be written refuses the change. Several
processes append to one file in turns (flock) and make one chain, which goes on after a restart. Order is that of
`sequence`; clocks jump. `before` is the SHA-256 of all that stands from the beginning of the last whole line to this
one: that line, and what a crash left after it, which is kept and told by a line `truncated`. A chain holds against who
changes a part of it; against who writes all of it anew holds the hash of its last line, kept elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from arsenal_serving.calls import Call, Stop
from arsenal_serving.files import replace_file, sync_folder
from arsenal_serving.refused import Refused
from arsenal_serving.telemetry.background import Background
from arsenal_serving.telemetry.logs import stamp, write_all

FIELDS = ("sequence", "time", "principal", "event", "details", "before")
ERASED, ERASURE = "erased", "erasure"
NOTHING = "0" * 64  # before the first line
TAIL = 1 << 20  # bytes from the end in which the last whole line is looked for
DENIED = {401, 403, "UNAUTHENTICATED", "PERMISSION_DENIED"}
EVERY = 1.0  # seconds between two lines of one address that is denied
ADDRESSES = 4096  # whose denials are told apart in that time


class Audit:
    """A file that is appended to; `record` is also what a repository's `on_change` may be, and `observe` an observer.

    Raises `Refused` where the file cannot be had or is no audit log.
    """

    def __init__(self, path: str | os.PathLike):
        try:
            import fcntl
        except ImportError as error:
            raise Refused("--audit needs flock, which this system has not.") from error
        self._flock, self._exclusive, self._free = fcntl.flock, fcntl.LOCK_EX, fcntl.LOCK_UN
        self.path = os.fspath(path)
        self.failures = 0
        self._lock = threading.Lock()  # flock is of the open file: the threads of a process have it together
        try:
            os.makedirs(os.path.dirname(self.path) or ".", mode=0o700, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            sync_folder(os.path.dirname(os.path.abspath(self.path)))
        except OSError as error:
            raise Refused(f"the audit log {self.path} cannot be opened: {error.strerror}.") from error
        self._denied = Background(self._write_denied, ADDRESSES, EVERY)

    @property
    def dropped(self) -> int:
        """Denials that did not get into a line."""
        return self._denied.dropped

    def record(self, event: str, details: dict[str, Any]) -> None:
        """Append what is about to happen, `by` whom; raises `Stop` where that cannot be done. Slow: it syncs."""
        principal = str(details.get("by", "")).encode(errors="replace").decode()
        self._append([(principal, event, {key: value for key, value in details.items() if key != "by"})])

    def observe(self, call: Call) -> None:
        """Note a call that was denied: one line a second for each address, with how many they were."""
        if call.status in DENIED:
            self._denied.put((call.address, call.status))

    def close(self) -> None:
        """Write the denials that still wait."""
        if self._denied.close():
            os.close(self._file)

    def _write_denied(self, taken: list[tuple[str, int | str]]) -> None:
        counts = Counter(taken).items()
        rows = [{"address": address, "status": status, "count": count} for (address, status), count in counts]
        self._append([("", "denied", row) for row in rows])

    def _append(self, what: list[tuple[str, str, dict[str, Any]]]) -> None:
        with self._lock:
            try:
                self._flock(self._file, self._exclusive)
                try:
                    self._chain(what)
                finally:
                    self._flock(self._file, self._free)
            except (OSError, Refused, TypeError) as error:
                self.failures += 1
                why = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
                raise Stop(503, f"the audit log cannot be written: {why}; nothing was changed.") from error

    def _chain(self, what: list[tuple[str, str, dict[str, Any]]]) -> None:
        if not os.path.samestat(os.stat(self.path), os.fstat(self._file)):
            raise Refused(f"{self.path} is another file than when the server started.")
        last = _last(self._file, self.path)
        length = os.fstat(self._file).st_size
        text = b"" if last.whole else b"\n"
        sequence, before = last.sequence, last.hash
        if last.broken:
            what = [("", "truncated", {"bytes": last.broken}), *what]
        now = stamp(time.time())
        for principal, event, details in what:
            sequence += 1
            line = orjson.dumps(dict(zip(FIELDS, (sequence, now, principal, event, details, before), strict=True)))
            text, before = text + line + b"\n", sha256(line).hexdigest()
        try:
            write_all(self._file, text)
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):  # half a line is taken back, or is told of by who writes next
                os.ftruncate(self._file, length)
            raise


class Last(NamedTuple):
    """How a file ends: the number of its last whole line, the hash that the next one has as `before`, how many bytes
    of a broken line stand after it, and whether the file ends with the end of a line."""

    sequence: int
    hash: str
    broken: int
    whole: bool


def _last(file: int, path: str) -> Last:
    length = os.fstat(file).st_size
    start = max(0, length - TAIL)
    tail = os.pread(file, length - start, start) if length else b""
    lines = tail.removesuffix(b"\n").split(b"\n") if tail else []
    for back in range(len(lines)):
        first = len(lines) - 1 - back
        if (found := _parsed(lines[first])) is not None and (first or not start):
            rest = b"\n".join(lines[first:])
            broken = len(rest) - len(lines[first])
            return Last(found["sequence"], sha256(rest).hexdigest(), broken, tail.endswith(b"\n"))
    if start or (lines and not lines[0].startswith(b'{"sequence":1,'[: len(lines[0])])):
        raise Refused(f"{path} is not an audit log, or its end is damaged.")
    rest = b"\n".join(lines)
    return Last(0, sha256(rest).hexdigest() if rest else NOTHING, len(rest), not tail or tail.endswith(b"\n"))


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line's fields; None where it is no line of an audit log."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    whole = isinstance(found, dict) and tuple(found) == FIELDS and type(found["sequence"]) is int
    return found if whole else None


class Verified(NamedTuple):
    """A file whose chain holds: how many lines, and the hash of the last. broken: lines that a crash cut short."""

    lines: int
    head: str
    broken: int


def erase(path: str | os.PathLike, fits: Callable[[dict[str, Any]], bool], by: str) -> int:
    """Take the contents of lines out that fit, and say so in the chain; how many they were.

    A line `erased` keeps its number, its time and the hash of what stood there, so the chain holds as it did; a line
    `erasure` at the end, with the hash of all of them, says who did it, and without one `verify` refuses them. The file
    stays the one that servers append to. What was cut short goes on when it is asked again. Raises `Refused` for a
    chain that does not hold.
    """
    import fcntl

    place, beside = os.fspath(path), f"{os.fspath(path)}.erasing"
    file = os.open(place, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(beside):
            with contextlib.suppress(Refused):  # a chain that holds was either not begun or is whole
                verify(path)
                os.unlink(beside)
            if os.path.exists(beside):
                with open(beside, "rb") as held:
                    _replace_content(file, held.read())
                os.unlink(beside)
        sequence = verify(path).lines
        blocks = list[tuple[dict[str, Any], bytes]]()
        for line in _lines(path):
            if (found := _parsed(line)) is not None:
                blocks.append((found, line))
            elif blocks:  # what a crash left belongs to the line before it
                blocks[-1] = (blocks[-1][0], blocks[-1][1] + b"\n" + line)
        gone, content = dict[int, bytes](), list[bytes]()
        for found, block in blocks:
            if found["event"] not in (ERASED, ERASURE) and fits(found):
                details = {"event": found["event"], "hash": sha256(block).hexdigest()}
                values = (found["sequence"], found["time"], "", ERASED, details, found["before"])
                block = gone[found["sequence"]] = orjson.dumps(dict(zip(FIELDS, values, strict=True)))
            content.append(block)
        if not gone:
            return 0
        before = _hash_of(orjson.loads(content[-1]), content[-1])
        details = {"lines": list(gone), "hash": sha256(b"\n".join(gone.values())).hexdigest()}
        values = (sequence + 1, stamp(time.time()), by, ERASURE, details, before)
        content.append(orjson.dumps(dict(zip(FIELDS, values, strict=True))))
        whole = b"".join(line + b"\n" for line in content)
        replace_file(Path(beside), whole, mode=0o600)
        _replace_content(file, whole)
        os.unlink(beside)
        return len(gone)
    finally:
        os.close(file)


def _replace_content(file: int, content: bytes) -> None:
    at = 0
    while at < len(content):
        at += os.pwrite(file, content[at:], at)
    os.ftruncate(file, len(content))
    os.fsync(file)


def _hash_of(found: dict[str, Any], held: bytes) -> str:
    """What the next line has as `before`: of a line that was erased, the hash that it had."""
    if found["event"] == ERASED and isinstance(found["details"], dict):
        return str(found["details"].get("hash"))
    return sha256(held).hexdigest()


def verify(path: str | os.PathLike, head: str | None = None) -> Verified:
    """Follow a log's chain; raises `Refused` with the first line that does not hold.

    head: the hash of its last line at some earlier time, which must be in the chain still.
    """
    at = last = broken = 0
    held, hash_of_last, known = b"", NOTHING, head in (None, NOTHING)
    erased = dict[int, bytes]()  # lines that were, and that no `erasure` has told of yet
    open_since = 0  # the first of the lines that do not parse, which only a line `truncated` may follow
    for at, line in enumerate(_lines(path), 1):
        found = _parsed(line)
        if found is None:
            open_since = open_since or at
            held += (b"\n" if last or open_since < at else b"") + line
            broken += 1
            continue
        wanted = sha256(held).hexdigest() if held else NOTHING
        if last in erased:
            wanted = hash_of_last
        if found["sequence"] != last + 1:
            raise Refused(f"{path}: line {at} has the number {found['sequence']}; {last + 1} must follow.")
        if found["before"] != wanted:
            raise Refused(f"{path}: line {at} does not hold: what stands before it was changed.")
        if open_since and found["event"] != "truncated":
            raise Refused(f"{path}: line {open_since} is no line of an audit log.")
        last, held, open_since = last + 1, line, 0
        hash_of_last = _hash_of(found, line)
        if found["event"] == ERASED:
            erased[last] = line
        elif found["event"] == ERASURE:
            told = [erased.pop(one, b"") for one in found["details"].get("lines", ())]
            if sha256(b"\n".join(told)).hexdigest() != found["details"].get("hash"):
                raise Refused(f"{path}: line {at} tells of an erasure that is another one than was done.")
        known = known or hash_of_last == head
    if open_since:
        raise Refused(f"{path}: line {open_since}, near the end, is cut short; a server that goes on with it says so.")
    if erased:
        raise Refused(f"{path}: line {min(erased)} was erased, and no line says by whom.")
    if not known:
        raise Refused(f"{path}: no line has the hash {head}: lines are missing, or all was written anew.")
    return Verified(last, hash_of_last, broken)


def _lines(path: str | os.PathLike) -> Iterator[bytes]:
    with open(path, "rb") as file:
        for line in file:
            yield line.removesuffix(b"\n")


def main(words: Sequence[str], about: str) -> int:
    """The verb `audit`: 0 where a log's chain holds, 1 where it does not."""
    parser = argparse.ArgumentParser(prog="arsenal-serve audit", description=about)
    parser.add_argument("file", metavar="FILE", help="what --audit wrote")
    parser.add_argument("--head", metavar="HASH", help="of its last line, as it was told earlier")
    given = parser.parse_args(words)
    try:
        found = verify(given.file, given.head)
    except (Refused, OSError) as error:
        why = f"{given.file}: {error.strerror}." if isinstance(error, OSError) else error
        sys.stderr.write(f"arsenal-serve: {why}\n")
        return 1
    cut = f", {found.broken} of a crash" if found.broken else ""
    sys.stdout.write(f"{found.lines} lines hold{cut}; head {found.head}\n")
    return 0
