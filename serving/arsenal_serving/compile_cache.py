"""JAX's persistent cache of compiled programs, https://docs.jax.dev/en/latest/persistent_compilation_cache.html."""

from __future__ import annotations

import time
from pathlib import Path

BOUND = 2 << 30
"""Bytes that it takes at most; what was used least recently goes."""


def use(folder: Path, seconds: float = 0.0) -> None:
    """Let JAX keep here what took `seconds` to compile, unless it was told where. Call before any array exists."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        heal(folder)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_compilation_cache_max_size", BOUND)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)


def heal(folder: Path, age: float = 60) -> None:
    """Remove entries without a time stamp, of which one keeps JAX from caching anything.

    A full disk leaves such, or a kill between two writes. Those younger than `age` seconds may be just being written.
    """
    for entry in folder.glob("*-cache"):
        stamp = entry.with_name(f"{entry.name.removesuffix('-cache')}-atime")
        try:
            if (not stamp.exists() or stamp.stat().st_size != 8) and time.time() - entry.stat().st_mtime > age:
                entry.unlink()
                stamp.unlink(missing_ok=True)
        except OSError:
            continue  # another process removed it, or it is not ours
