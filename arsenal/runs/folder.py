"""One folder for each run, named by what defines its mathematics and held by one process at a time."""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arsenal.refusal import Refusal
from arsenal.storage.files import Damaged, read_json, sha256, write_json, write_text


class RunError(Refusal):
    """A run folder cannot be used as asked; the message says why and what to do."""


def identity(mathematics: dict[str, Any]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of what defines the run."""
    return hashlib.sha256(json.dumps(mathematics, sort_keys=True).encode()).hexdigest()[:12]


@contextlib.contextmanager
def claim(root: Path, name: str, mathematics: dict[str, Any], sources: dict[str, str], fresh: bool) -> Iterator[Path]:
    """Hold the run's folder `root/name/hash`, made if need be, as long as the context lasts.

    `sources` are SHA-256 sums of the user's files by name. A folder made from other files is refused, unless
    `fresh`, which puts the old folder aside under a numbered name and begins anew.
    """
    with claim_at(root / name / identity(mathematics), mathematics, sources, fresh) as path:
        yield path


@contextlib.contextmanager
def claim_at(path: Path, mathematics: dict[str, Any], sources: dict[str, str], fresh: bool) -> Iterator[Path]:
    """As `claim`, of a folder at this path."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"The run folder {path} cannot be made: {error.strerror}.") from error
    with lock(path):
        known = path / "identity.json"
        if known.exists() and fresh:
            set_aside(path)
        if known.exists():
            found = read_identity(path)
            if found["mathematics"] != mathematics:
                raise RunError(f"The run folder {path} is of another run with the same hash; name this one differently.")
            changed = sorted(n for n in sources.keys() | found["sources"].keys() if sources.get(n) != found["sources"].get(n))
            if changed:
                raise RunError(f"{', '.join(changed)} changed since {path} began; undo that, or start anew with fresh=true.")
        else:
            write_json(known, {"mathematics": mathematics, "sources": sources})
        yield path


def read_identity(path: Path) -> dict[str, Any]:
    """What `identity.json` says: the run's mathematics, and the sums of the user's files that it began with."""
    found = read_json(path / "identity.json")
    if not isinstance(found, dict) or not all(isinstance(found.get(key), dict) for key in ("mathematics", "sources")):
        raise Damaged(path / "identity.json", "it lacks mathematics or sources")
    return found


def read_mathematics(path: Path) -> dict[str, Any]:
    """What defines the run in the folder."""
    return read_identity(path)["mathematics"]


@contextlib.contextmanager
def lock(path: Path, what: str = "The run folder") -> Iterator[None]:
    """Hold the folder's lock, or raise a `RunError` that says `what` it is and names the process which does."""
    try:
        file = (path / ".lock").open("a+")
    except OSError as error:
        raise RunError(f"{what} {path} cannot be written: {error.strerror}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise RunError(f"{what} {path} is held by {file.read().strip() or 'another process'}.") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def set_aside(path: Path) -> None:
    """Move what the folder holds, the lock apart, to the first free `folder.1`, `folder.2`, …."""
    number = next(n for n in range(1, sys.maxsize) if not path.with_name(f"{path.name}.{n}").exists())
    aside = path.with_name(f"{path.name}.{number}")
    aside.mkdir()
    for item in path.iterdir():
        if item.name != ".lock":
            item.rename(aside / item.name)


def write_config(path: Path, config: str, overrides: list[str], environment: dict[str, Any]) -> None:
    """Write `config.yaml`, `overrides.txt` and `environment.json`."""
    write_text(path / "config.yaml", config)
    write_text(path / "overrides.txt", "".join(f"{override}\n" for override in overrides))
    write_json(path / "environment.json", environment)


def set_status(path: Path, state: str, **more: Any) -> None:
    """Replace `status.json`; state is running, complete, interrupted or failed."""
    write_json(
        path / "status.json", {"state": state, "time": time.time(), "process": os.getpid(), "host": socket.gethostname()} | more
    )


def read_status(path: Path) -> dict[str, Any]:
    """What `status.json` says; empty before the first one."""
    found = read_json(path / "status.json") if (path / "status.json").exists() else {}
    if not isinstance(found, dict):
        raise Damaged(path / "status.json", "it is no JSON object")
    return found


def environment() -> dict[str, Any]:
    """Versions, devices and the machine, as JSON."""
    import importlib.metadata

    import jax

    versions = {}
    for package in ("ml-arsenal", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "host": socket.gethostname(),
        **({"git": git} if (git := commit()) else {}),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "packages": versions,
    }


def commit() -> dict[str, str]:
    """The git commit of the working directory, and whether anything differs from it; empty outside a repository."""
    try:
        asked = {"capture_output": True, "text": True, "timeout": 5, "check": True}
        head = subprocess.run(["git", "rev-parse", "HEAD"], **asked).stdout.strip()  # type: ignore[call-overload]
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], **asked).stdout  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": head, "state": "dirty: files differ from the commit" if changed else "clean"}


def fingerprints(packages: list[str]) -> dict[str, str]:
    """SHA-256 of every loaded source file that belongs to these top-level packages, by module name."""
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.split(".")[0] in packages and file and file.endswith(".py"):
            found[f"{name} ({Path(file).name})"] = sha256(Path(file))
    return found
