"""Help comes at once: nothing heavy is imported before there is work for it."""

import os
import re
import subprocess
import sys
import time

import pytest

from arsenal.cli import VERBS

HEAVY = {"jax", "jaxlib", "flax", "optax", "orbax", "ray", "pandas", "sklearn", "matplotlib", "tensorboard"}


def imported(tmp_path, *words: str) -> tuple[set[str], str]:
    """The top-level packages that `python *words` imports, and what it prints."""
    done = subprocess.run([sys.executable, "-X", "importtime", *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    names = re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$", done.stderr, re.MULTILINE)
    assert "arsenal" in names
    return {name.split(".")[0] for name in names}, done.stdout


@pytest.mark.parametrize("words", [["-c", "import arsenal"], ["-m", "arsenal", "--help"]], ids=" ".join)
def test_importing_arsenal_loads_nothing_heavy(words, tmp_path):
    packages, _ = imported(tmp_path, *words)
    assert packages & (HEAVY | {"hydra", "omegaconf", "numpy", "pydantic"}) == set()


@pytest.mark.parametrize("verb", VERBS)
def test_a_verbs_help_loads_no_jax(verb, tmp_path):
    packages, said = imported(tmp_path, "-m", "arsenal", verb, "--help")
    assert packages & HEAVY == set()
    assert any(word in said for word in ("experiment", "run=", "SHELL", "FOLDER", "files=", "NAME", "folder=", "policy="))


def test_help_is_there_at_once(tmp_path):
    """Under 0.2 s on a quiet machine; the limit here leaves room for a busy one."""
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "arsenal", "--help"], capture_output=True, text=True, cwd=tmp_path)
        taken.append(time.perf_counter() - began)
    assert all(verb in done.stdout for verb in VERBS)
    assert min(taken) < 0.5, f"The best of five took {min(taken):.2f} s."


def test_the_command_is_installed():
    command = os.path.join(os.path.dirname(sys.executable), "arsenal")
    assert os.path.exists(command), "The environment has no command `arsenal`; install the package into it."
