"""Run folders that were damaged, a home that is not there, a cache that was cut off: a line each, and nothing lost."""

import os
import subprocess
import sys
import time
import zlib

import pytest
from arsenal_serving.compile_cache import MARKER, is_whole, tidy

from arsenal import fit, load
from arsenal.refusal import Refusal
from arsenal.road import evaluate


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return fit("digits_mlp", ["length=2", "model.hidden=[4]", "run.tensorboard=false", f"run.root={root}"]).folder


@pytest.fixture
def copy(whole, tmp_path):
    subprocess.run(["cp", "-r", str(whole), str(tmp_path / "run")], check=True)
    return tmp_path / "run"


@pytest.mark.parametrize("name", ["config.yaml", "identity.json", "schema.json", "examples.npz", "status.json"])
def test_half_a_file_is_named(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(Refusal, match=rf"{name} is damaged \(.+\); bring it back from a copy, or begin the run anew"):
        evaluate(load(copy))


@pytest.mark.parametrize("name, content", [
    ("identity.json", "[]"), ("identity.json", "{}"), ("schema.json", "{}"), ("schema.json", "[]"), ("config.yaml", "a: 1"), ("config.yaml", ""),
    ("status.json", "[]"),
])  # fmt: skip
def test_a_file_that_says_something_else_is_named(copy, name, content):
    (copy / name).write_text(content)
    with pytest.raises(Refusal, match=f"{name} is damaged"):
        evaluate(load(copy))


@pytest.mark.slow
def test_without_a_status_a_run_is_judged_all_the_same(copy):
    (copy / "status.json").unlink()
    assert evaluate(load(copy))["test/loss"] > 0
    assert "unknown" in (copy / "report" / "index.html").read_text()


def test_what_is_missing_is_named(copy):
    (copy / "overrides.txt").unlink()
    with pytest.raises(Refusal, match=r"has no overrides\.txt"):
        load(copy)


def test_the_compile_cache_loses_what_was_cut_short_and_the_oldest_beyond_its_bound(tmp_path):
    program = zlib.compress(b"program" * 100)
    for name, content, age in (
        ("old", program, 9000), ("read", program, 8000), ("cut", program[:-3], 5000), ("empty", b"", 5000), ("fresh", program[:-3], 0),
    ):  # fmt: skip
        (tmp_path / f"{name}-cache").write_bytes(content)
        os.utime(tmp_path / f"{name}-cache", (time.time() - (100 if name == "read" else age), time.time() - age))
    (tmp_path / "old-atime").write_bytes(bytes(8))
    tidy(tmp_path, bound=2 * len(program))
    assert sorted(path.name for path in tmp_path.iterdir()) == [MARKER, "fresh-cache", "read-cache"]
    (tmp_path / "late-cache").write_bytes(b"")
    tidy(tmp_path, bound=0)
    assert (tmp_path / "late-cache").exists(), "It looks once in a period."
    tidy(tmp_path / "nowhere")


def test_what_jax_keeps_is_judged_whole(tmp_path):
    code = "import sys, jax; from pathlib import Path; from arsenal_serving.compile_cache import use; use(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", f"{code}; jax.jit(lambda x: x * 2)(1.0)", str(tmp_path)], check=True)
    kept = [path.read_bytes() for path in tmp_path.glob("*-cache")]
    assert kept and all(map(is_whole, kept)) and not is_whole(kept[0][:-3]) and not list(tmp_path.glob(".lock*"))


HOMELESS = """
import warnings, jax
from pathlib import Path
from arsenal.runs.cache import compile_cache
def home(): raise RuntimeError("Could not determine home directory.")
Path.home = staticmethod(home)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    compile_cache()
print(said[0].message, jax.jit(lambda x: x + 1)(1))
"""


def test_without_a_home_nothing_is_kept_and_that_is_said():
    env = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_CACHE", "JAX_COMPILATION"))}
    said = subprocess.run([sys.executable, "-c", HOMELESS], env=env, capture_output=True, text=True, check=True).stdout
    assert said == "This user has no home: compiled programs are not kept; XDG_CACHE_HOME names a folder. 2\n"


@pytest.mark.slow
def test_a_reader_that_leaves_does_not_end_the_run(tmp_path):
    """As `arsenal train … | head -1`."""
    words = ["+experiment=digits_mlp", "length=40", "every.evaluate=10", "model.hidden=[4]", "run.tensorboard=false", f"run.root={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "arsenal.train", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("Started")
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait() == 0 and "nobody reads the output any more; the run goes on" in said, said
    assert load(next(tmp_path.glob("*/*/config.yaml")).parent).step == 40
