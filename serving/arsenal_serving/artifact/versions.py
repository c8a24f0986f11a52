"""The versions in a model's folder, NAME/1, NAME/2, ...: which there are, and which one a path means."""

from __future__ import annotations

import os
import re
from pathlib import Path

from arsenal_serving.refused import Refused, show

SUMS, MANIFEST = "SHA256SUMS", "manifest.json"
POLICY = "policy.json"  # beside the versions: how a server rolls them out
VERSION = re.compile(r"[1-9][0-9]{0,8}")
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
ALIAS = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
EVENTS, SERVERS = "events", "servers"  # beside the versions in a registry: what happened, and who serves them


def is_version(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is one version of a model, by the names of the files in it."""
    return any(os.path.lexists(Path(folder) / name) for name in (MANIFEST, SUMS))


def numbers(folder: str | os.PathLike[str]) -> list[int]:
    """The versions in a model's folder, oldest first; raises `Refused` for one that is a link or a file."""
    found = []
    with os.scandir(os.fspath(folder)) as entries:
        for entry in entries:
            if VERSION.fullmatch(entry.name):
                if not entry.is_dir(follow_symlinks=False):
                    raise Refused(f"{Path(folder) / entry.name} is a link or a file; a version is a folder.")
                found.append(int(entry.name))
    return sorted(found)


def locate(path: str | os.PathLike[str]) -> Path:
    """The version that a path means: itself, the newest in a model's folder, or that of the artifact/ of a run."""
    path = Path(path)
    for folder in (path, path / "artifact"):
        if is_version(folder):
            return folder
        if folder.is_dir() and (found := numbers(folder)):
            return folder / str(found[-1])
    named = show(str(path), 300)
    raise Refused(f"{named} is not an artifact folder, nor one with versions, nor a run that holds artifact/.")


def number_of(folder: str | os.PathLike[str]) -> int | None:
    """The version that a folder's name says it is, if it says one."""
    name = Path(os.path.abspath(folder)).name
    return int(name) if VERSION.fullmatch(name) else None
