"""Whatever ends training, the same command gives the run that was never interrupted, bit for bit."""

import json
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arsenal.config import compose
from arsenal.road import fit, load
from arsenal.runs.checkpoints import digest

FEW, MANY = 1, 20
KILLS = [(i, FEW) for i in range(FEW)] + [pytest.param(i, MANY, marks=pytest.mark.slow) for i in range(MANY)]
STEPS = 2000
WORDS = [f"length={STEPS}", "every.save=100", "every.log=50", "every.evaluate=500"]


def command(root: Path) -> list[str]:
    return [sys.executable, "-m", "arsenal.train", "+experiment=digits_mlp", *WORDS, f"run.root={root}"]


def resumed(root: Path) -> str:
    """The hash of the run after the same command was given again, in this process."""
    return digest(load(fit(compose("digits_mlp", [*WORDS, f"run.root={root}"])).folder).restored)


def status(root: Path) -> dict:
    (path,) = root.glob("digits_mlp/*/status.json")
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[str, float]:
    """The hash of a run in one go, by the command, and how many seconds that took."""
    root, began = tmp_path_factory.mktemp("whole"), time.monotonic()
    done = subprocess.run(command(root), capture_output=True, text=True)
    taken = time.monotonic() - began
    assert (done.returncode, done.stderr) == (0, "")
    assert status(root)["state"] == "complete"
    (folder,) = root.glob("digits_mlp/*")
    return digest(load(folder).restored), taken


@pytest.mark.parametrize("number, kills", KILLS)
def test_a_kill_at_any_moment_changes_no_bit(number, kills, whole, tmp_path):
    """Moments are spread from the start of the process to after its end, at random within each one's share."""
    wanted, taken = whole
    delay = (number + random.Random(number).random()) / kills * 1.1 * taken
    process = subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(delay)
    process.kill()
    _, said = process.communicate()
    assert said == ""
    assert resumed(tmp_path) == wanted, f"Killed after {delay:.2f} s, the run ended otherwise."
    assert status(tmp_path)["state"] == "complete"


@pytest.mark.slow
def test_sigterm_saves_and_says_so(whole, tmp_path):
    process = subprocess.Popen(command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("digits_mlp/*/checkpoints/*/commit.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert re.fullmatch(r"arsenal: Interrupted at step \d+ and saved; the same command resumes .*\n", said)
    found = status(tmp_path)
    assert found["state"] == "interrupted"
    assert 0 < found["step"] < STEPS
    assert resumed(tmp_path) == whole[0]


@pytest.fixture
def full_disk(tmp_path):
    """A folder with too little space for the run's checkpoints, how to limit a process to it, and how to get more."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", tmp_path], capture_output=True).returncode == 0
    if mounted:
        yield tmp_path, None, lambda: subprocess.run(["mount", "-o", "remount,size=50m", tmp_path], check=True)
        subprocess.run(["umount", tmp_path], check=True)
    else:  # not root: no file may grow beyond 100 kB instead
        yield tmp_path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)), lambda: None


@pytest.mark.slow
def test_a_full_disk_loses_nothing(whole, full_disk):
    root, limit, more_space = full_disk
    done = subprocess.run(command(root), capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr, done.stderr
    assert re.search("No space left on device|File too large", done.stderr), done.stderr
    more_space()
    assert resumed(root) == whole[0]


@pytest.mark.slow
def test_verify_resume_proves_it(tmp_path):
    words = ["+experiment=digits_mlp", "length=300"]
    done = subprocess.run(
        [sys.executable, "-m", "arsenal", "verify-resume", *words], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    one, other = re.findall(r": +([0-9a-f]{64})$", done.stdout, re.MULTILINE)
    assert one == other
    assert "150, killed, 150 more" in done.stdout
    run = fit(compose("digits_mlp", ["length=300", f"run.root={tmp_path}"]))
    assert digest(load(run.folder).restored) == one, "It is the run that anybody gets."
