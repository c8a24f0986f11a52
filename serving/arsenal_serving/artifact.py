"""The artifact folder: written whole or not at all, and read only after every byte of it has been checked.

    manifest.json            what the artifact is: methods, inputs, outputs, codecs, calling data
    SHA256SUMS               sha256sum's text format, over every other file
    parameters.safetensors   the arrays that every program takes first
    golden.safetensors       inputs and the answers they gave when the artifact was made
    programs/METHOD.exported jax's versioned form
    programs/METHOD.mlir     the durable form: a raw portable StableHLO module
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors

from arsenal_serving.refused import Refused, shown

SUMS, MANIFEST = "SHA256SUMS", "manifest.json"
PARAMETERS, GOLDEN = "parameters.safetensors", "golden.safetensors"
FORMAT = 1

SUMS_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^\x00-\x1f\x7f\\]+)")
STORED = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"} | {
    f"{letter}{bits}": f"{word}{bits}" for letter, word in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
}


def write(folder: str | os.PathLike, files: Mapping[str, bytes]) -> None:
    """Write `files` (relative path -> bytes) and their sums as `folder`, replacing an artifact that is there.

    The files are written and synced in a hidden sibling, which then takes the name: a reader, or a machine that
    stops half way, sees the old artifact or the new one. Raises `Refused` when `folder` holds something else.
    """
    folder = Path(os.path.abspath(folder))
    if folder.is_symlink() or (folder.exists() and not _replaceable(folder)):
        raise Refused(f"{folder} exists and is not an artifact folder; it is not replaced.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
    partial.mkdir()
    try:
        for path, content in files.items():
            _write_synced(partial / path, content)
        sums = "".join(f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in sorted(files))
        _write_synced(partial / SUMS, sums.encode())
        for inner in (partial, *(path for path in partial.rglob("*") if path.is_dir())):
            _sync_folder(inner)
        _take_name(partial, folder)
        _sync_folder(folder.parent)
    finally:
        # After a success this is the old artifact, after a failure the half-written new one.
        shutil.rmtree(partial, ignore_errors=True)


def read(folder: str | os.PathLike) -> dict[str, bytes]:
    """Every file of the artifact (relative path -> bytes) after its hash held; nothing is parsed before.

    The bytes returned are the bytes that were hashed, so a file changed later changes nothing. Raises `Refused`,
    naming the file, for one that is missing, unlisted, changed, a link, not a plain file or outside the folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise Refused(f"{folder} is not a folder.")
    found = _plain_files(folder)
    if SUMS not in found:
        raise Refused(f"{folder}: {SUMS} is missing.")
    listed = _listed(folder, _bytes(folder, SUMS))
    for path in sorted(found - listed.keys() - {SUMS}):
        raise Refused(f"{folder}: {shown(path)} is not listed in {SUMS}.")
    for path in sorted((listed.keys() | {MANIFEST}) - found):
        raise Refused(f"{folder}: {shown(path)} is missing.")
    if MANIFEST not in listed:
        raise Refused(f"{folder}: '{MANIFEST}' is not listed in {SUMS}.")
    files = {}
    for path, wanted in listed.items():
        files[path] = _bytes(folder, path)
        got = hashlib.sha256(files[path]).hexdigest()
        if got != wanted:
            raise Refused(f"{folder}: {shown(path)} has changed: its hash is {got[:12]}..., not {wanted[:12]}...")
    return files


def manifest_text(manifest: dict) -> bytes:
    """The manifest as it is stored; raises ValueError for NaN, TypeError for what JSON cannot hold."""
    return (json.dumps(manifest, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def manifest_of(files: Mapping[str, bytes]) -> dict:
    """The parsed manifest of files that `read` returned; raises `Refused` for another format."""
    try:
        manifest = json.loads(files[MANIFEST])
    except (ValueError, RecursionError) as error:
        raise Refused(f"{MANIFEST} is not JSON: {error}.") from error
    form = manifest.get("format") if isinstance(manifest, dict) else None
    if form != FORMAT:
        raise Refused(f"{MANIFEST} must have format {FORMAT}; got {shown(form)}.")
    return manifest


def arrays(content: bytes, what: str) -> dict[str, np.ndarray]:
    """The arrays in the bytes of a safetensors file called `what`, bfloat16 included; raises `Refused`."""
    import jax  # noqa: F401  (makes numpy know bfloat16 by name)

    try:
        stored = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise Refused(f"{what} is not a safetensors file: {error}.") from error
    found = {}
    for name, entry in stored:
        if entry["dtype"] not in STORED:
            raise Refused(f"array {shown(name)} in {what} is {entry['dtype']}; allowed are {', '.join(STORED)}.")
        found[name] = np.frombuffer(entry["data"], np.dtype(STORED[entry["dtype"]])).reshape(entry["shape"])
    return found


def _replaceable(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    inside = {path.name for path in folder.iterdir()}
    return not inside or {SUMS, MANIFEST} <= inside


def _write_synced(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder to sync it
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _take_name(partial: Path, folder: Path) -> None:
    """Let `partial` have the name `folder`; what had it before, if anything, is left under the name `partial`."""
    if not folder.exists():
        os.rename(partial, folder)
        return
    if _exchange(partial, folder):
        return
    # No atomic exchange here: for an instant the name is free, and the old folder comes back if the second step fails.
    aside = partial.with_suffix(".replaced")
    os.rename(folder, aside)
    try:
        os.rename(partial, folder)
    except BaseException:
        os.rename(aside, folder)
        raise
    os.rename(aside, partial)


def _exchange(one: Path, other: Path) -> bool:
    if sys.platform != "linux":
        return False
    with contextlib.suppress(OSError, AttributeError):
        current, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        return ctypes.CDLL(None).renameat2(current, os.fsencode(one), current, os.fsencode(other), exchange) == 0
    return False


def _plain_files(folder: Path) -> set[str]:
    found, waiting = set(), [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                path = f"{inside}{entry.name}"
                if entry.is_symlink():
                    raise Refused(f"{folder}: {shown(path)} is a link; an artifact holds plain files only.")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{path}/")
                elif entry.is_file(follow_symlinks=False):
                    found.add(path)
                else:
                    raise Refused(f"{folder}: {shown(path)} is not a plain file.")
    return found


def _listed(folder: Path, text: bytes) -> dict[str, str]:
    listed: dict[str, str] = {}
    try:
        lines = text.decode().split("\n")
    except UnicodeDecodeError as error:
        raise Refused(f"{folder}: {SUMS} is not text.") from error
    if lines.pop() != "":
        raise Refused(f"{folder}: {SUMS} is cut off: its last line does not end.")
    for number, line in enumerate(lines, 1):
        match = SUMS_LINE.fullmatch(line)
        if not match:
            raise Refused(f"{folder}: line {number} of {SUMS} is not `<sha256>  <path>`: {shown(line)}.")
        wanted, path = match.groups()
        if path.startswith("/") or ":" in path or any(part in ("", ".", "..") for part in path.split("/")):
            raise Refused(f"{folder}: {SUMS} lists {shown(path)}, which lies outside the folder.")
        if path in listed or path == SUMS:
            raise Refused(f"{folder}: {SUMS} lists {shown(path)} twice or lists itself.")
        listed[path] = wanted
    return listed


def _bytes(folder: Path, path: str) -> bytes:
    # O_NOFOLLOW and the second look close the gap between the walk and the read.
    try:
        opened = os.open(folder / path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise Refused(f"{folder}: {shown(path)} cannot be read: {error.strerror}.") from error
    with os.fdopen(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Refused(f"{folder}: {shown(path)} is not a plain file.")
        return file.read()
