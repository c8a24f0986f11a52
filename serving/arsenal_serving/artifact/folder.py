"""The artifact folder NAME/VERSION: written once, whole or not at all, and read only after every byte was checked.

    manifest.json            what the artifact is: methods, inputs, outputs, codecs, calling data
    SHA256SUMS               sha256sum's text format, over every other file
    SHA256SUMS.sig           an Ed25519 signature over SHA256SUMS, if somebody signed it
    parameters.safetensors   the arrays that every program takes first
    golden.safetensors       inputs and the answers they gave when the artifact was made
    programs/METHOD.exported jax's versioned form
    programs/METHOD.mlir     the durable form: a raw portable StableHLO module
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors

from arsenal_serving.artifact import manifest as manifests
from arsenal_serving.artifact import signing
from arsenal_serving.artifact.versions import (
    EVENTS,
    MANIFEST,
    POLICY,
    SERVERS,
    SUMS,
    VERSION,
    is_version,
    locate,
    number_of,
    numbers,
)
from arsenal_serving.files import replace_file, sync_folder, write_file
from arsenal_serving.refused import Refused, show

SIGNATURE = "SHA256SUMS.sig"
ABANDONED = 3600.0  # seconds after which nobody writes to a partial version any more
PARAMETERS, GOLDEN = "parameters.safetensors", "golden.safetensors"
SUMS_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^\x00-\x1f\x7f\\]+)")
STORED = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"} | {
    f"{letter}{bits}": f"{word}{bits}" for letter, word in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
}


def write(
    folder: str | os.PathLike[str], manifest: Mapping[str, Any], files: Mapping[str, bytes], version: int | None = None
) -> Path:
    """Write `files` (relative path -> bytes) and the manifest as a version of the model `folder`; returns its folder.

    The version, the next free number unless given, goes into the manifest. Everything is written and synced in a
    hidden folder beside the versions and renamed into place: a reader, or a machine that stops half way, sees all of
    a version or nothing, and of two who write at once each gets a number. Raises `Refused` for a version that exists.
    """
    folder = Path(folder)
    if version is not None and (type(version) is not int or not VERSION.fullmatch(str(version))):
        raise Refused(f"`version` must be a whole number of 1 to {10**9 - 1}; got {show(version)}.")
    if is_version(folder):
        raise Refused(
            f"{folder} is one version itself, not a folder of versions; move it to {folder / '1'} or name another."
        )
    if folder.exists() and not folder.is_dir():
        raise Refused(f"{folder} exists and is not a folder.")
    if folder.exists() and (others := sorted(name for name in os.listdir(folder) if not _of_versions(name))):
        raise Refused(f"{folder} is not an artifact's folder of versions: it holds {show(others[0])}.")
    _make_folder(folder)
    _sweep(folder)
    partial = folder / f".{secrets.token_hex(8)}.partial"
    partial.mkdir()
    try:
        for path, content in files.items():
            write_file(partial / path, content)
        while True:
            number = version or max(numbers(folder), default=0) + 1
            if version is not None and (folder / str(number)).exists():
                raise Refused(f"{folder / str(number)} exists; a version is never overwritten.")
            for path, content in seal(manifest, files, number).items():
                (partial / path).unlink(missing_ok=True)
                write_file(partial / path, content)
            for inner in (partial, *(path for path in partial.rglob("*") if path.is_dir())):
                sync_folder(inner)
            try:
                # A folder cannot take the name of one that holds something: whoever comes second learns it here.
                os.rename(partial, folder / str(number))
            except OSError:
                if not (folder / str(number)).exists():
                    raise
                continue
            sync_folder(folder)
            return folder / str(number)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def seal(manifest: Mapping[str, Any], files: Mapping[str, bytes], version: int) -> dict[str, bytes]:
    """The manifest and the sums that make `files` a version; raises `Refused` for a manifest that is none."""
    described = {MANIFEST: manifests.text({**manifest, "version": version})}
    manifests.parse(described[MANIFEST])
    everything = {**files, **described}
    sums = "".join(f"{_sha256(everything[path])}  {path}\n" for path in sorted(everything))
    return {**described, SUMS: sums.encode()}


def sign(folder: str | os.PathLike[str], private_key: bytes) -> Path:
    """Sign what an artifact's sums say, after they held, with a PEM of an Ed25519 key; returns the signature's path."""
    folder = locate(folder)
    if os.path.lexists(folder / SIGNATURE):
        raise Refused(f"{folder} is signed already; remove {SIGNATURE} first if it is to be signed anew.")
    replace_file(folder / SIGNATURE, signing.sign(open_version(folder).sums, private_key), folder.parent)
    return folder / SIGNATURE


class Opened(NamedTuple):
    """A version that held: its files (relative path -> bytes), its sums, and which known key signed them, if any."""

    files: dict[str, bytes]
    sums: bytes
    signer: str | None

    @property
    def digest(self) -> str:
        """What tells this version from every other: the hash of its sums."""
        return _sha256(self.sums)


def open_version(folder: str | os.PathLike[str], keys: Sequence[bytes] = ()) -> Opened:
    """Every file of the artifact after its hash held; nothing is parsed before.

    The bytes returned are the bytes that were hashed, so a file changed later, by another name of it as well, changes
    nothing. keys: PEMs of Ed25519 public keys, one of which must have signed. Raises `Refused`, naming the file, for
    one that is missing, unlisted, changed, a symbolic link, not a plain file or outside the folder, and for a
    signature that is missing or a stranger's.
    """
    folder = Path(folder)
    if not folder.is_dir() or (VERSION.fullmatch(folder.name) and folder.is_symlink()):
        raise Refused(f"{folder} is not a folder.")
    found = _plain_files(folder)
    if SUMS not in found:
        raise Refused(f"{folder}: {SUMS} is missing.")
    sums, signer = _bytes(folder, SUMS), None
    if keys:
        if SIGNATURE not in found:
            raise Refused(f"{folder}: {SIGNATURE} is missing; only artifacts signed by a known key are taken.")
        try:
            signer = signing.check(sums, _bytes(folder, SIGNATURE, signing.LENGTH + 1), keys)
        except Refused as error:
            raise Refused(f"{folder}: {SIGNATURE}: {error}") from error
    listed = read_sums(sums, str(folder))
    for path in sorted(found - listed.keys() - {SUMS, SIGNATURE}):
        raise Refused(f"{folder}: {show(path)} is not listed in {SUMS}.")
    for path in sorted((listed.keys() | {MANIFEST}) - found):
        raise Refused(f"{folder}: {show(path)} is missing.")
    if MANIFEST not in listed:
        raise Refused(f"{folder}: '{MANIFEST}' is not listed in {SUMS}.")
    files = {}
    for path, wanted in listed.items():
        files[path] = _bytes(folder, path)
        got = _sha256(files[path])
        if got != wanted:
            raise Refused(f"{folder}: {show(path)} has changed: its hash is {got[:12]}..., not {wanted[:12]}...")
    return Opened(files, sums, signer)


def read_manifest(folder: str | os.PathLike[str], files: Mapping[str, bytes]) -> dict[str, Any]:
    """The manifest of files that held, checked; raises `Refused` for one that is not this folder's.

    An artifact from before there were versions is the version that its folder is called, or 1.
    """
    manifest = manifests.parse(files[MANIFEST])
    called = number_of(folder)
    manifest["version"] = manifest["version"] or called or 1
    if called not in (None, manifest["version"]):
        raise Refused(f"{MANIFEST} is of version {manifest['version']}, but its folder is called {called}.")
    programs = {path for method in manifest["methods"].values() for path in method["programs"].values()}
    for path in sorted({PARAMETERS, GOLDEN, *programs} - files.keys()):
        raise Refused(f"{show(path)} is missing, though {MANIFEST} names it.")
    return manifest


def read_arrays(content: bytes, what: str) -> dict[str, np.ndarray]:
    """The arrays in the bytes of a safetensors file called `what`, bfloat16 included; raises `Refused`."""
    import jax  # noqa: F401  (makes numpy know bfloat16 by name)

    try:
        stored = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise Refused(f"{what} is not a safetensors file: {error}.") from error
    found = {}
    for name, entry in stored:
        if entry["dtype"] not in STORED:
            raise Refused(f"array {show(name)} in {what} is {entry['dtype']}; allowed are {', '.join(STORED)}.")
        found[name] = np.frombuffer(entry["data"], np.dtype(STORED[entry["dtype"]])).reshape(entry["shape"])
    return found


def _of_versions(name: str) -> bool:
    return name.startswith(".") or name in (POLICY, EVENTS, SERVERS) or bool(VERSION.fullmatch(name))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sweep(folder: Path) -> None:
    """Remove what an export that was killed left behind; one that still writes has done so within the hour."""
    for partial in folder.glob(".*.partial"):
        with suppress(OSError):
            latest = max(path.stat().st_mtime for path in (partial, *partial.rglob("*")))
            if time.time() - latest > ABANDONED:
                shutil.rmtree(partial, ignore_errors=True)


def _make_folder(folder: Path) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def _plain_files(folder: Path) -> set[str]:
    found, waiting = set(), [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                path = f"{inside}{entry.name}"
                if entry.is_symlink():
                    raise Refused(f"{folder}: {show(path)} is a link; an artifact holds plain files only.")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{path}/")
                elif entry.is_file(follow_symlinks=False):
                    found.add(path)
                else:
                    raise Refused(f"{folder}: {show(path)} is not a plain file.")
    return found


def read_sums(text: bytes, folder: str) -> dict[str, str]:
    """The files that the sums of a folder list, and their hashes; raises `Refused` for a path outside of it."""
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
            raise Refused(f"{folder}: line {number} of {SUMS} is not `<sha256>  <path>`: {show(line)}.")
        wanted, path = match.groups()
        if path.startswith("/") or ":" in path or any(part in ("", ".", "..") for part in path.split("/")):
            raise Refused(f"{folder}: {SUMS} lists {show(path)}, which lies outside the folder.")
        if path in listed or path in (SUMS, SIGNATURE):
            raise Refused(f"{folder}: {SUMS} lists {show(path)} twice or lists itself.")
        listed[path] = wanted
    return listed


def _bytes(folder: Path, path: str, most: int = -1) -> bytes:
    # O_NOFOLLOW and the second look close the gap between the walk and the read.
    try:
        opened = os.open(folder / path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise Refused(f"{folder}: {show(path)} cannot be read: {error.strerror}.") from error
    with os.fdopen(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Refused(f"{folder}: {show(path)} is not a plain file.")
        return file.read(most)
