"""Checkpoints: Orbax writes the arrays in the background, a marker with their SHA-256 sums makes them count."""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from arsenal.runs.folder import RunError
from arsenal.runs.processes import broadcast, is_writer
from arsenal.storage.files import read_json, sha256, write_json

MARKER = "commit.json"


class Keep(NamedTuple):
    """Which checkpoints stay when another one is written: those that any of these keeps."""

    last: int = 3
    """The newest, at least one."""
    every: int | None = None
    """Also the first of every so many steps,"""
    seconds: float | None = None
    """and of every so many seconds."""
    best: int = 0
    """Also this many of those that are judged best."""


class Saved(NamedTuple):
    """A checkpoint that counts."""

    step: int
    time: float
    """Seconds since 1970."""
    due: bool = True
    """False where it was written only since the run ended or was interrupted there."""
    path: Path = Path()


def select_checkpoints(saved: list[Saved], keep: Keep, best: Sequence[int] = ()) -> list[Saved]:
    """Those of the checkpoints that stay, newest first; `best` are the steps that were judged, best first.

    One that was not due stays as the newest only: a run that goes on leaves what one that never ended would leave.

    >>> [one.step for one in select_checkpoints([Saved(s, s) for s in (10, 20, 30, 40, 50)], Keep(last=1, every=20), [30])]
    [50, 40, 20, 10]
    >>> saved = [Saved(s, s, s != 40) for s in (10, 20, 30, 40, 50)]
    >>> [one.step for one in select_checkpoints(saved, Keep(last=2, best=1), [10, 30])]
    [50, 30, 10]
    """
    newest = sorted(saved, reverse=True)
    due = [one for one in newest if one.due or one is newest[0]]
    stay = set(due[: keep.last]) | set(checkpoints_at(saved, best)[: keep.best])
    for interval, of in ((keep.every, lambda one: one.step), (keep.seconds, lambda one: one.time)):
        if interval:
            # The oldest of each interval is met last, and stays.
            stay |= set({of(one) // interval: one for one in newest if one.due}.values())
    return [one for one in newest if one in stay]


def checkpoints_at(saved: list[Saved], best: Sequence[int]) -> list[Saved]:
    """The checkpoints of these steps, in their order."""
    there = {one.step: one for one in saved}
    return [there[step] for step in best if step in there]


class Checkpoints:
    """The folder `checkpoints/STEP/`: Orbax's `state/` and `commit.json`; without a marker it does not count."""

    def __init__(self, folder: Path, keep: Keep = Keep(), best: Callable[[], Sequence[int]] = list):  # noqa: B008
        """Use the folder, made if need be; `best()` are the steps that were judged so far, best first."""
        if keep.last < 1:
            raise ValueError(f"`last` of `keep` must be >= 1; got {keep.last}.")
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.CRITICAL)  # its errors are raised as well
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.keep, self.best = folder, keep, best
        self.orbax = ocp.StandardCheckpointer()
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self.pending: Future | None = None

    def save(self, step: int, tree: Any, due: bool = True) -> None:
        """Copy the arrays off the device and return; writing goes on. An earlier failure to write is raised here.

        `due`: whether it is one of those that a run saves by itself, not just where it ends.
        """
        self.wait()
        target = self.folder / f"{step:010d}"
        sound = (target / MARKER).exists() and not damage(target)
        if is_writer() and not sound:
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
        best = list(self.best())  # now: what is written in the background must not see later ones
        if broadcast(sound):
            self.pending = self.worker.submit(self.settle, target, due, best)
            return
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
        if shutil.disk_usage(target).free < size:  # Orbax would say so too, in hundreds of lines
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        self.orbax.save(target.absolute() / "state", jax.tree.map(lambda v: v if v.size else np.zeros(1, v.dtype), tree))
        self.pending = self.worker.submit(self.commit, target, leaf_types(tree), due, best)

    def commit(self, target: Path, leaves: dict[str, Any], due: bool, best: Sequence[int]) -> None:
        """Wait for Orbax, then write the marker and drop what is no longer kept: one process for all."""
        self.orbax.wait_until_finished()
        if not is_writer():
            return
        files = sorted(path for path in (target / "state").rglob("*") if path.is_file())
        sums = {str(path.relative_to(target)): sha256(path) for path in files}
        marker = {"leaves": leaves, "sums": sums, "sum": digest_of(leaves, sums), "time": time.time(), "due": due}
        write_json(target / MARKER, marker)
        self.settle(target, due, best)

    def settle(self, target: Path, due: bool, best: Sequence[int]) -> None:
        """Say that a checkpoint was due after all, if it was, and drop what is no longer kept."""
        if not is_writer():
            return
        marker = read_json(target / MARKER)
        if due and not marker.get("due", True):
            write_json(target / MARKER, marker | {"due": True})
        there = [read_marker(path) for path in self.list_saved()]
        for old in set(there) - set(select_checkpoints(there, self.keep, best)):
            (old.path / MARKER).unlink()  # first, so that a half-removed one does not count
            shutil.rmtree(old.path, ignore_errors=True)

    def wait(self) -> None:
        """Until the checkpoint under way counts; raises what kept it from that."""
        if self.pending:
            pending, self.pending = self.pending, None
            try:
                pending.result()
            except ValueError as error:  # TensorStore's words for what the operating system said
                number = re.search(r"os_error_code='(\d+)'", str(error))
                if not number:
                    raise
                raise OSError(int(number[1]), os.strerror(int(number[1])), str(self.folder)) from error

    def close(self) -> None:
        """Wait, then let go of the threads."""
        try:
            self.wait()
        finally:
            self.worker.shutdown()
            self.orbax.close()

    def list_saved(self) -> list[Path]:
        """The checkpoints that count, newest first."""
        return sorted((path.parent for path in self.folder.glob(f"*/{MARKER}")), reverse=True)

    def find(self, which: str | int) -> Path:
        """The checkpoint `best`, or that of a step; a `RunError` where there is none."""
        there = [read_marker(path) for path in self.list_saved()]
        if which == "best":
            found = checkpoints_at(there, self.best())[:1]
            missing = "No checkpoint was judged: `run.checkpoints.best` says how many of the best are kept."
        else:
            found = [one for one in there if str(one.step) == str(which)]
            missing = f"A checkpoint is last, best or one of the steps {', '.join(str(one.step) for one in there)}; got {which}."
        if not found:
            raise RunError(missing)
        return found[0].path

    def restore(self, like: Any, report: Callable[[str], None] = warnings.warn, which: str | int = "last") -> Any:
        """The newest sound checkpoint in the shapes of `like`, or the one called `which`; None where there is none.

        A damaged one is reported by its first bad file and the one before it used. One that holds other
        arrays than `like` is a `RunError`. Arrays lie as the leaves of `like` say, else on the first device, however
        many devices wrote them.
        """
        here = SingleDeviceSharding(jax.local_devices()[0])
        like = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=getattr(v, "sharding", None) or here), like)
        for path in self.list_saved() if which == "last" else [self.find(which)]:
            wrong = damage(path)
            if wrong:
                report(f"Checkpoint {path} is damaged ({wrong}); using the one before it.")
                continue
            found, wanted = read_json(path / MARKER)["leaves"], leaf_types(like)
            for name in sorted(found.keys() | wanted.keys()):
                if found.get(name) != wanted.get(name):
                    there, now = found.get(name, "missing"), wanted.get(name, "missing")
                    if there.replace("64[", "32[") == now.replace("64[", "32["):
                        how = "with" if "64[" in there else "without"
                        text = f"`{name}` is {there} there, {now} here"
                        raise RunError(f"Checkpoint {path} was written {how} JAX_ENABLE_X64: {text}.")
                    raise RunError(f"Checkpoint {path} is of another model: `{name}` is {there} there, {now} here.")
            # Orbax writes no array without values: a zero stands for it.
            filled = jax.tree.map(lambda v: v if v.size else jax.ShapeDtypeStruct((1,), v.dtype, sharding=v.sharding), like)
            restored = self.orbax.restore(path.absolute() / "state", filled)
            return jax.tree.map(lambda v, found: found if v.size else jnp.zeros(v.shape, v.dtype), like, restored)
        return None


def newest_sound(folder: Path) -> int | None:
    """The step of the newest checkpoint whose files are as they were written; None where there is none."""
    there = sorted((path.parent for path in folder.glob(f"*/{MARKER}")), reverse=True)
    return next((int(path.name) for path in there if not damage(path)), None)


def read_marker(path: Path) -> Saved:
    """What the marker says of a checkpoint; those of version 0.1.0 tell neither time nor whether they were due."""
    try:
        marker = read_json(path / MARKER)
    except ValueError:
        marker = {}
    return Saved(int(path.name), marker.get("time", (path / MARKER).stat().st_mtime), marker.get("due", True), path)


def damage(path: Path) -> str:
    """What is wrong with a checkpoint's files; empty when they are as they were written."""
    try:
        marker = read_json(path / MARKER)
        sums, sound = marker["sums"], marker["sum"] == digest_of(marker["leaves"], marker["sums"])
    except (ValueError, KeyError, TypeError):
        return f"{MARKER} cannot be read"
    if not sound:
        return f"{MARKER} changed"
    for name, expected in sums.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if sha256(path / name) != expected:
            return f"{name} changed"
    return ""


def digest_of(leaves: Any, sums: Any) -> str:
    """The marker's own sum."""
    return hashlib.sha256(json.dumps([leaves, sums], sort_keys=True).encode()).hexdigest()


def leaf_types(tree: Any) -> dict[str, str]:
    """Every leaf's type and shape by path, `float32[3,4]`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def digest(tree: Any) -> str:
    """SHA-256 over every leaf's path, type, shape and bits: equal exactly when the trees are."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
