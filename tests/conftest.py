"""One compile cache for all tests, strict types, warnings as errors."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XDG_CACHE_HOME", str(Path(__file__).resolve().parents[1] / ".pytest_cache"))

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session", autouse=True)
def cache():
    from arsenal.runs.cache import compile_cache

    compile_cache()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
