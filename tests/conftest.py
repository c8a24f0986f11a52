"""One compile cache for all tests, strict types, and programs that compile quickly where their speed is not what is tested."""

import functools
import mmap
import os
import platform
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
    # What the older emitters fuse they may compute twice, with and without a fused multiply-add: a maximum is then none of the
    # values that it was taken of. AVX has none, and is what every x86 machine of these years has.
    *(["--xla_cpu_max_isa=AVX"] if platform.machine() in ("x86_64", "AMD64") else []),
)
"""Most of a cold test's CPU time goes into XLA's optimisations of programs that run once: without them it is less than half."""


def pytest_configure(config):
    """The slow tests, which train at length, and what they say of bits and speed, run as users' programs do.

    ARSENAL_TEST_QUICK=0 lets the others run so too, and 1 lets slow ones compile quickly.
    """
    if os.environ.get("ARSENAL_TEST_QUICK", "0" if config.option.markexpr == "slow" else "1") == "1":
        given = os.environ.get("XLA_FLAGS", "")
        flags = [flag for flag in QUICK if name_of(flag) not in given and known(flag)]
        os.environ["XLA_FLAGS"] = " ".join([given, *flags]).strip()  # processes that tests start have them too


def name_of(flag: str) -> str:
    """A flag without its value."""
    return flag.partition("=")[0]


def known(flag: str) -> bool:
    """Whether this jaxlib has the flag: an unknown one ends the process."""
    with (Path(jaxlib.__file__).parent / "libjax_common.so").open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ).find(name_of(flag).strip("-").encode()) >= 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `--dist loadfile` a file's tests stay together, but for the experiments, each of which stays together by itself."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFileOrExperiment(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.partition("::")
            return f"{file}[{test.partition('[')[2]}" if file.endswith("test_experiments.py") else file

    return ByFileOrExperiment(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """XLA has no float16 on processors without F16C, those before AVX."""
    try:
        return (yield)
    except jax.errors.JaxRuntimeError as error:
        if "Failed to materialize symbols" in str(error) and not has_float16():
            pytest.skip("This processor, or --xla_cpu_max_isa, has no float16.")
        raise


@functools.cache
def has_float16() -> bool:
    """Whether XLA can turn floats into float16 here."""
    try:
        jax.jit(lambda x: (x * 2).astype(jax.numpy.float16))(jax.numpy.ones(9, jax.numpy.float32)).block_until_ready()
    except jax.errors.JaxRuntimeError:
        return False
    return True


@pytest.fixture(scope="session", autouse=True)
def cache():
    from arsenal.runs.cache import compile_cache

    compile_cache()  # not of every small program: to store one takes longer than to compile it
