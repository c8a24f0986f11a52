"""Files of a folder that are appended to, one after another, and are bounded in all: the oldest go."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from arsenal_serving.telemetry.logs import write_all

FILE, ALL = 64 << 20, 1 << 30  # bytes of one file, and of all


class TurningFiles:
    """HEAD-TIME-PROCESS-NUMBER.jsonl in a folder, as several processes write them side by side. Raises OSError.

    most: bytes of all files of that head.
    """

    def __init__(self, folder: str | os.PathLike, head: str, most: int = ALL):
        self._folder, self._head, self._most, self._most_of_file = Path(folder), head, most, min(FILE, most // 8)
        self._file, self._written, self._number = -1, 0, 0
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._open()

    @property
    def piece(self) -> int:
        """Bytes that are written at once at most, so that files are of about one size."""
        return self._most_of_file // 2

    def append(self, content: bytes) -> None:
        """Append whole lines, however many; raises OSError where the disk does not take them."""
        while len(content) > self._most_of_file:
            end = content.rfind(b"\n", 0, self._most_of_file) + 1 or content.find(b"\n") + 1
            if not 0 < end < len(content):  # one line that is longer
                break
            self._append(content[:end])
            content = content[end:]
        self._append(content)

    def _append(self, content: bytes) -> None:
        full = self._written and self._written + len(content) > self._most_of_file
        if full or not os.fstat(self._file).st_nlink:  # another worker may have removed it
            self._open()
        try:
            write_all(self._file, content)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._written)  # half a line would spoil the next one
            raise
        self._written += len(content)

    def close(self) -> None:
        """Write no more."""
        os.close(self._file)

    def _open(self) -> None:
        """Begin another file, and remove the oldest that are too much."""
        self._number += 1
        # By time, then by process and number: several workers write side by side.
        name = f"{self._head}-{time.time_ns() // 1_000_000:014d}-{os.getpid()}-{self._number}.jsonl"
        made = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._written = made, 0
        sizes = {}
        for path in sorted(self._folder.glob(f"{self._head}-*.jsonl")):
            with contextlib.suppress(FileNotFoundError):
                sizes[path] = path.stat().st_size
        for path in list(sizes)[:-1]:
            if sum(sizes.values()) + self._most_of_file > self._most:
                path.unlink(missing_ok=True)
                del sizes[path]
