"""XLA's compile cache: on by default, one per user, bounded, its hits and misses counted."""

import functools
import time
import warnings
from collections import Counter
from pathlib import Path

import jax

from arsenal.storage.files import user_cache

BOUND = 2 * 2**30
"""Bytes."""

COUNTED = {"/jax/compilation_cache/cache_hits": "hits", "/jax/compilation_cache/cache_misses": "misses"}


def compile_cache() -> Counter:
    """Keep compiled programs from run to run, unless JAX was told where. Call before the first array exists.

    Gives the `hits` and `misses` of this process, which go on counting.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        if (kept := user_cache()) is None:
            warnings.warn("This user has no home: compiled programs are not kept; XDG_CACHE_HOME names a folder.", stacklevel=2)
            jax.config.update("jax_compilation_cache_dir", "")
            return counting()
        heal(kept / "jax")
        jax.config.update("jax_compilation_cache_dir", str(kept / "jax"))
        jax.config.update("jax_compilation_cache_max_size", BOUND)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return counting()


def heal(folder: Path, age: float = 60) -> None:
    """Remove entries without a time stamp, of which one keeps JAX from caching anything: a full disk leaves such, or a kill.

    Those younger than `age` seconds may be just being written.
    """
    for entry in folder.glob("*-cache"):
        stamp = entry.with_name(f"{entry.name.removesuffix('-cache')}-atime")
        try:
            if (not stamp.exists() or stamp.stat().st_size != 8) and time.time() - entry.stat().st_mtime > age:
                entry.unlink()
                stamp.unlink(missing_ok=True)
        except OSError:
            continue  # another process removed it, or it is not ours


@functools.cache
def counting() -> Counter:
    """Count what JAX says of its cache, from the first call on."""
    counts: Counter = Counter()

    def note(event: str, **about):
        if event in COUNTED:
            counts[COUNTED[event]] += 1

    jax.monitoring.register_event_listener(note)
    return counts
