"""What a data file holds, as a SHA-256 sum that is remembered as long as the file is untouched, and whether it still does."""

import contextlib
import hashlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from arsenal.storage.files import read_json, sha256, user_cache, write_json

REMEMBERED = 16 * 2**20
"""Bytes from which on the sums of files are kept in the user's cache."""
SETTLED = 2.0
"""Seconds since the last change after which a file's stamp is trusted: two changes within one tick of a clock look alike."""


class Content(NamedTuple):
    """A file as it was found."""

    size: int
    mtime_ns: int
    inode: int
    sha256: str


def contents(paths: Iterable[Path]) -> dict[Path, Content]:
    """Every file's stamp and sum, by path; the sums of big ones are taken from the user's cache if all are untouched since."""
    stamps = {Path(path): file_stamp(Path(path)) for path in paths}
    big = sum(stamp[0] for stamp in stamps.values()) >= REMEMBERED
    name = hashlib.sha256(repr([(str(path.resolve()), *stamp) for path, stamp in stamps.items()]).encode()).hexdigest()
    cache = user_cache()
    kept = cache / "content" / f"{name}.json" if cache else None
    if big and kept and kept.is_file():
        sums = read_json(kept)
    else:
        sums = [sha256(path) for path in stamps]
        settled = all(time.time() - stamp[1] / 1e9 > SETTLED and file_stamp(path) == stamp for path, stamp in stamps.items())
        if big and kept and settled:
            with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_json(kept, sums)
    return {path: Content(*stamp, one) for (path, stamp), one in zip(stamps.items(), sums, strict=True)}


def file_stamp(path: Path) -> tuple[int, int, int]:
    """Size in bytes, time of the last change in nanoseconds, inode."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def find_changed(files: dict[Path, Content]) -> Path | None:
    """The first file that holds something else than it did, or is gone; one that was only touched has not changed."""
    for path, found in files.items():
        if not path.is_file() or (file_stamp(path) != found[:3] and sha256(path) != found.sha256):
            return path
    return None
