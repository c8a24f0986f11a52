"""Files that are either the old or the new, never half of one: written beside, synced, and moved into place."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def replace_file(path: Path, content: bytes, beside: Path | None = None, mode: int = 0o666) -> None:
    """Have a file hold this: a reader sees what it was or all of it. The partial one lies hidden, `beside` it."""
    partial = (beside or path.parent) / f".{secrets.token_hex(8)}.partial"
    try:
        write_file(partial, content, mode)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_file(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file that is not there yet, folders included, and wait until its bytes are on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: str | os.PathLike) -> None:
    """Wait until the names in a folder are on the disk."""
    if os.name == "nt":  # Windows cannot open a folder to sync it
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
