"""Whether files and folders are as they were, by stamps alone: size, time and inode of a file, time and inode of a folder."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SETTLED = 0.05
"""Seconds since the last change after which a stamp is trusted: two changes within one tick of a clock look alike."""
BOOT = "/proc/sys/kernel/random/boot_id"
GONE = [-1, -1, -1]


def boot_id() -> str:
    """What differs from one start of this machine to the next, nothing where it does not say."""
    try:
        with open(BOOT, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def stamp(path: str) -> list[int]:
    """Size, time and inode; of what is not there `GONE`. Of a folder the size says nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return GONE
    return [0 if os.path.isdir(path) else found.st_size, found.st_mtime_ns, found.st_ino]


def surroundings() -> dict[str, Any]:
    """Where a process runs, as far as it decides what names mean: machine, Python, working folder, search path."""
    return {"boot": boot_id(), "python": sys.version, "folder": os.getcwd(), "path": os.environ.get("PYTHONPATH", "")}


def write_stamps(
    path: str, about: dict[str, Any], paths: Iterable[str], since: float, known: Mapping[str, Sequence[Any]] = {}
) -> bool:
    """Keep the stamps of all paths, folders with all below them, beside `about`, and say whether that was done.

    It is not where one of them changed after `since` (seconds since 1970) or just before, when whoever calls began to look at
    them, or has another stamp than the one `known` of when it was read.
    """
    stamps: dict[str, list[int]] = {}
    queue = list(paths)
    while queue:
        one = queue.pop()
        if one in stamps:
            continue
        stamps[one] = stamp(one)
        if one in known and list(known[one][:3]) != stamps[one]:
            return False
        if one.endswith("/"):
            queue += [os.path.join(one, name) + "/" * os.path.isdir(os.path.join(one, name)) for name in os.listdir(one)]
    newest = max((found[1] for found in stamps.values()), default=0)
    if newest / 1e9 > since - SETTLED:
        return False
    os.makedirs(os.path.dirname(path), exist_ok=True)
    partial = f"{path}.{os.getpid()}.partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump({"surroundings": surroundings(), "about": about, "stamps": stamps}, file)
    os.replace(partial, path)
    return True


def read_stamps(path: str) -> dict[str, Any] | None:
    """What was kept as `about`, if every path is as it was; None where anything is not, or nothing was kept."""
    try:
        with open(path, encoding="utf-8") as file:
            kept = json.load(file)
        if kept["surroundings"] == surroundings() and all(stamp(one) == found for one, found in kept["stamps"].items()):
            return kept["about"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None
