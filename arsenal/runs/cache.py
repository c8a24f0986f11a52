"""XLA's compile cache: on by default, one per user, bounded, its hits and misses counted."""

import functools
import warnings
from collections import Counter

import jax
from arsenal_serving.compile_cache import use

from arsenal.storage.files import user_cache

COUNTED = {"/jax/compilation_cache/cache_hits": "hits", "/jax/compilation_cache/cache_misses": "misses"}


def compile_cache() -> Counter:
    """Keep compiled programs from run to run, unless JAX was told where. Call before the first array exists.

    Gives the `hits` and `misses` of this process, which go on counting.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        if (kept := user_cache()) is None:
            warnings.warn("This user has no home: compiled programs are not kept; XDG_CACHE_HOME names a folder.", stacklevel=2)
            jax.config.update("jax_compilation_cache_dir", "")
            return count_compilations()
        use(kept / "jax", seconds=0.1)
    return count_compilations()


@functools.cache
def count_compilations() -> Counter:
    """Count what JAX says of its cache, from the first call on."""
    counts: Counter = Counter()

    def note(event: str, **about):
        if event in COUNTED:
            counts[COUNTED[event]] += 1

    jax.monitoring.register_event_listener(note)
    return counts
