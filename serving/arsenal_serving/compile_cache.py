"""JAX's persistent cache of compiled programs, https://docs.jax.dev/en/latest/persistent_compilation_cache.html."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import time
import zlib
from contextlib import suppress
from pathlib import Path

BOUND = 2 << 30
"""Bytes that it is cut back to; what was used least recently goes."""
PERIOD = 3600
"""Seconds between two looks through the folder."""
LOOKED = 64 << 20
"""Bytes of the newest entries that are read then, to see whether they are whole."""
MARKER = "arsenal-tidied"
MACHINE = "machine"
"""Beside entries that travel, in an image: for which processor they were compiled."""


def use(folder: Path, seconds: float = 0.0) -> None:
    """Let JAX keep here what took `seconds` to compile, unless it was told where. Call before any array exists.

    JAX's own bound on its size is not used: with it each write reads the whole folder, under a lock for which every
    other process waits.
    """
    import jax

    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        tidy(folder)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
        if os.environ.get("ARSENAL_COMPILED"):
            # XLA's own caches lie below this folder, whose path then is part of every key: entries could not travel.
            jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def tidy(folder: Path, bound: int = BOUND, age: float = 60) -> None:
    """Remove entries that a kill or a full disk cut short, of which JAX would warn, and the oldest beyond `bound`.

    Nothing is done within `PERIOD` of the last time. Entries younger than `age` seconds may be just being written.
    """
    marker, now = folder / MARKER, time.time()
    before = marker.stat().st_mtime if marker.exists() else 0.0
    if not folder.is_dir() or now - before < PERIOD:
        return
    kept, unread = [], LOOKED
    try:
        marker.touch()
        found = [(entry, entry.stat()) for entry in folder.glob("*-cache")]
        for entry, about in sorted(found, key=lambda one: -one[1].st_mtime):
            unread -= about.st_size
            if before - age < about.st_mtime < now - age and unread > 0 and not is_whole(entry.read_bytes()):
                remove(entry)
            else:
                kept.append((max(about.st_atime, about.st_mtime), about.st_size, entry))
        beyond = sum(size for _, size, _ in kept) - bound
        for _, size, entry in sorted(kept, key=lambda one: one[0]):
            if beyond <= 0:
                break
            remove(entry)
            beyond -= size
    except OSError:
        return  # another process tidies too, or the folder is not ours


def remove(entry: Path) -> None:
    """Remove an entry, and the time stamp that JAX keeps beside it where it has a bound of its own."""
    entry.unlink(missing_ok=True)
    entry.with_name(f"{entry.name.removesuffix('-cache')}-atime").unlink(missing_ok=True)


def is_whole(entry: bytes) -> bool:
    """Whether compressed bytes end where they should; others than zlib's, as with zstandard, are not judged."""
    if entry[:1] != b"\x78":
        return len(entry) > 0
    try:
        reader = zlib.decompressobj()
        reader.decompress(entry)
    except zlib.error:
        return False
    return reader.eof


def machine() -> str:
    """What programs for this processor hang on: those for another may use instructions that it does not have.

    JAX's own keys do not tell processors of one kind apart.
    """
    told = [platform.machine()]
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told += sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def stamp() -> None:
    """Note beside the entries of the cache in use for which processor they are, so that `plant` can tell."""
    import jax

    if folder := jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        Path(folder, MACHINE).write_text(machine())


def plant(folder: Path | None) -> Path | None:
    """Put the entries that an image brought, in the folder that ARSENAL_COMPILED names, where they are not yet.

    Returns the cache to use: `folder`, or where there is none that can be written, the image's own to read from.
    """
    source = Path(os.environ.get("ARSENAL_COMPILED", ""))
    if not (source / MACHINE).is_file() or (source / MACHINE).read_text() != machine():
        return folder
    if folder is None:
        return source
    with suppress(OSError):  # a disk that is full: it is compiled anew
        for entry in source.glob("*-cache"):
            if not (folder / entry.name).exists():
                partial = folder / f".{entry.name}.{os.getpid()}.partial"
                shutil.copyfile(entry, partial)
                os.replace(partial, folder / entry.name)
    return folder
