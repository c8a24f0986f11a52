"""A data version: the files below a path, by SHA-256, with the stamps by which an untouched one is known at once."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from arsenal.refusal import Refusal
from arsenal.storage.content import SETTLED, Content
from arsenal.storage.files import sha256

FORMAT = 1
THREADS = 4
"""Files that are read at once."""


class DataVersion(NamedTuple):
    """What a version holds."""

    source: str
    """The file or folder it was made of, absolute."""
    is_file: bool
    copied: bool
    """Whether the registry has the bytes; else they are where they were."""
    files: dict[str, Content]
    """By path within the source; of a file its name."""

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents, in the order of names: whatever has the same files has the same."""
        lines = "".join(f"{self.files[name].sha256}  {name}\n" for name in sorted(self.files))
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(one.size for one in self.files.values())


def list_stamps(source: Path) -> dict[str, tuple[int, int, int]]:
    """Size, time and inode of every file of a file or folder, by path; links are followed. ValueError for others."""
    if source.is_file():
        return {source.name: stamp(source.stat())}
    if not source.is_dir():
        raise ValueError(f"{source} is no file and no folder.")
    found: dict[str, tuple[int, int, int]] = {}
    waiting = [("", str(source))]
    while waiting:
        inside, path = waiting.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                name = f"{inside}{entry.name}"
                if entry.is_dir():
                    if entry.is_symlink():
                        raise ValueError(f"{entry.path} is a link to a folder; add that folder itself.")
                    waiting.append((f"{name}/", entry.path))
                elif entry.is_file():
                    found[name] = stamp(entry.stat())
                else:
                    raise ValueError(f"{entry.path} is a broken link or no plain file.")
    if not found:
        raise ValueError(f"{source} holds no file.")
    return found


def stamp(found: os.stat_result) -> tuple[int, int, int]:
    """Size in bytes, time of the last change in nanoseconds, inode."""
    return found.st_size, found.st_mtime_ns, found.st_ino


def stamps_digest(stamps: Mapping[str, tuple[int, int, int]]) -> str:
    """SHA-256 over names and stamps: as long as it stays, nothing was touched."""
    lines = [f"{name}\0{one[0]} {one[1]} {one[2]}\n" for name, one in sorted(stamps.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_contents(
    source: Path, known: Mapping[str, Content], stamps: Mapping[str, tuple[int, int, int]] | None = None
) -> dict[str, Content]:
    """Every file's content, by path; of those whose stamps are known the known one, of others as it is read now.

    A file that was written within the last two seconds keeps no time: a clock's tick could hide a change, so it is read again.
    """
    stamps, now = list_stamps(source) if stamps is None else stamps, time.time_ns()
    found: dict[str, Content] = {}
    unread = []
    for name, one in stamps.items():
        old = known.get(name)
        if old is not None and one == old[:3]:
            found[name] = old
        else:
            unread.append(name)
    place = source.parent if source.is_file() else source
    with ThreadPoolExecutor(THREADS) as threads:
        for name, total in zip(unread, threads.map(sha256, [place / name for name in unread]), strict=True):
            size, mtime, inode = stamps[name]
            if stamp((place / name).stat()) != stamps[name]:
                raise ValueError(f"{place / name} changed while it was read.")
            found[name] = Content(size, mtime if now - mtime > SETTLED * 1e9 else 0, inode, total)
    return found


def find_difference(version: DataVersion, contents: Mapping[str, Content]) -> str | None:
    """What is first otherwise than the version says, in words; None where all is as it was."""
    for name in sorted(version.files.keys() | contents.keys()):
        if name not in contents:
            return f"{name} is gone"
        if name not in version.files:
            return f"{name} is new"
        if contents[name].sha256 != version.files[name].sha256:
            return f"{name} changed"
    return None


def as_text(version: DataVersion) -> str:
    """The version as JSON: what is said of all on the first line, then a file a line."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(list(one))}" for name, one in sorted(version.files.items()))
    told = {
        "format": FORMAT, "source": version.source, "is_file": version.is_file, "copied": version.copied,
        "digest": version.digest, "bytes": version.size, "file_count": len(version.files),
    }  # fmt: skip
    return json.dumps(told)[:-1] + f', "files": {{\n{lines}\n}}}}\n'


class VersionHead(NamedTuple):
    """What the first line of a manifest says."""

    source: str
    is_file: bool
    copied: bool
    digest: str
    bytes: int
    file_count: int


def read_head(text: bytes, where: Path) -> VersionHead:
    """The first line of a manifest, without its files; see `read_text` for what is refused."""
    try:
        told = json.loads(text.partition(b"\n")[0] + b"}}")
        return VersionHead(*(told[key] for key in VersionHead._fields))
    except (ValueError, KeyError, TypeError):  # the whole of it says what is wrong
        version = read_text(text, where)
        return VersionHead(*version[:3], version.digest, version.size, len(version.files))


def read_text(text: str | bytes, where: Path) -> DataVersion:
    """The version in a text; UnreadableVersion for one that was cut off or edited, or is of a newer format."""
    try:
        told = json.loads(text)
        newer = told["format"] > FORMAT
        if not newer:
            files = {name: Content(*one) for name, one in told["files"].items()}
            version = DataVersion(told["source"], told["is_file"], told["copied"], files)
            why = None if version.digest == told["digest"] else "its digest is not that of its files"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        newer, why = False, f"{type(error).__name__}: {error}"
    if newer:
        found = told["format"]
        raise UnreadableVersion(f"{where} has format {found}, and this arsenal reads up to {FORMAT}; install a newer one.")
    if why is not None:
        raise UnreadableVersion(f"{where} is damaged ({why}); bring it back from a copy, or add the data again.")
    return version


class UnreadableVersion(Refusal, ValueError):
    """A manifest that cannot be used; the message says why and what to do."""
