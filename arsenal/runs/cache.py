"""XLA's compile cache: on by default, one per user, bounded."""

import os
from pathlib import Path

import jax

BOUND = 2 * 2**30
"""Bytes."""


def compile_cache() -> None:
    """Keep compiled programs from run to run, unless JAX was told where. Call before the first array exists."""
    if jax.config.jax_compilation_cache_dir is None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "arsenal" / "jax"))
        jax.config.update("jax_compilation_cache_max_size", BOUND)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
