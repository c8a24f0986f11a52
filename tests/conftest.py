"""One compile cache for all tests, strict types, and programs that compile quickly where their speed is not what is tested."""

import mmap
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XDG_CACHE_HOME", str(Path(__file__).resolve().parents[1] / ".pytest_cache"))

import jax
import jaxlib
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")

QUICK = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",
)
"""Most of a cold test's CPU time goes into XLA's optimisations of programs that run once: without them it is less than half."""


def pytest_configure(config):
    """The slow tests, which train at length, and what they say of bits and speed, run as users' programs do."""
    if config.option.markexpr != "slow":
        flags = [os.environ.get("XLA_FLAGS", ""), *(flag for flag in QUICK if known(flag))]
        os.environ["XLA_FLAGS"] = " ".join(flags).strip()  # processes that tests start have them too


def known(flag: str) -> bool:
    """Whether this jaxlib has the flag: an unknown one ends the process."""
    with (Path(jaxlib.__file__).parent / "libjax_common.so").open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ).find(flag.strip("-").partition("=")[0].encode()) >= 0


@pytest.fixture(scope="session", autouse=True)
def cache():
    from arsenal.runs.cache import compile_cache

    compile_cache()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
