"""XLA's compile cache: on by default, one per user, bounded, its hits and misses counted."""

import functools
from collections import Counter

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
        jax.config.update("jax_compilation_cache_dir", str(user_cache() / "jax"))
        jax.config.update("jax_compilation_cache_max_size", BOUND)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return counting()


@functools.cache
def counting() -> Counter:
    """Count what JAX says of its cache, from the first call on."""
    counts: Counter = Counter()

    def note(event: str, **about):
        if event in COUNTED:
            counts[COUNTED[event]] += 1

    jax.monitoring.register_event_listener(note)
    return counts
