"""`arsenal tune` as its user meets it: killed, interrupted, through Ray, on a cluster that is not there."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SMALL = [
    "model.hidden=[8]", "length=60", "every.log=20", "every.evaluate=20", "optimizer=sgd", "run.tensorboard=false",
    "space={optimizer.learning_rate: {log: [1e-3, 1.0]}, seed: {seed: 3}}",
]  # fmt: skip


def command(root: Path, *words: str, experiment: str = "digits_mlp") -> list[str]:
    return [sys.executable, "-m", "arsenal", "tune", f"+experiment={experiment}", *SMALL, f"run.root={root}", *words]


def finished(root: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run(command(root, *words), capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def begun(root: Path, *words: str) -> subprocess.Popen:
    """In a group of its own, as a shell starts it."""
    return subprocess.Popen(command(root, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def until(what, process: subprocess.Popen, seconds: float = 180):
    """Wait for what it gives to be true, while the process runs."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "It took too long."
        time.sleep(0.05)
    return found


def lines(root: Path) -> list[dict]:
    path = next(root.glob("*/sweeps/*/trials.jsonl"), None)
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path else []


def table(root: Path) -> str:
    return next(root.glob("*/sweeps/*/report/trials.csv")).read_text()


def descendants(root: int) -> set[int]:
    """Every process below one, however deep."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = (int(after[1]), after[0])
    found: set[int] = set()
    while more := {pid for pid, (parent, state) in parents.items() if parent in {root, *found} and pid not in found and state != "Z"}:
        found |= more
    return found


def alive(pids: set[int]) -> set[int]:
    found = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.add(pid)
        except OSError:
            pass
    return found


@pytest.mark.slow
def test_a_sweep_killed_in_the_middle_ends_as_one_that_was_not(tmp_path):
    words = ["sweep.trials=6", "sweep.lanes=3", "every.save=20", "length=600"]
    finished(tmp_path / "whole", *words)
    process = begun(tmp_path / "killed", *words)
    until(lambda: list((tmp_path / "killed").glob("*/sweeps/*/chunks/1/*/commit.json")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert sum(line["kind"] == "complete" for line in lines(tmp_path / "killed")) == 3, "The first chunk was through."
    done = finished(tmp_path / "killed", *words)
    assert "Before: 3 complete, 3 running" in done.stdout
    after = lines(tmp_path / "killed")
    resumed = next(line for line in after if line["kind"] == "resume")
    assert resumed["step"] >= 20 and len(resumed["trials"]) == 3, "They went on from their checkpoint."
    assert table(tmp_path / "killed") == table(tmp_path / "whole")


@pytest.mark.slow
def test_ctrl_c_leaves_no_process_and_the_same_command_goes_on(tmp_path):
    words = ["sweep.engine=ray", "sweep.trials=3", "length=3000", "every.save=20"]
    process = begun(tmp_path, *words)
    until(lambda: any(line["kind"] == "validation" for line in lines(tmp_path)), process)
    tree = descendants(process.pid)
    assert len(tree) > 3, "Ray's processes are below ours."
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command resumes" in said
    assert "Traceback" not in said
    time.sleep(1)
    assert not alive(tree)
    done = finished(tmp_path, *words)
    assert "Trials: 3 complete" in done.stdout
    steps = [line["step"] for line in lines(tmp_path) if line["kind"] == "validation" and line["trials"] == [0]]
    assert len(steps) == len(set(steps)), "What was trained before was not trained again."


@pytest.mark.slow
def test_a_trial_whose_process_dies_is_counted_and_the_others_go_on(tmp_path):
    words = ["sweep.engine=ray", "sweep.trials=3", "length=3000"]
    process = begun(tmp_path, *words)
    first = until(lambda: next((line for line in lines(tmp_path) if line["kind"] == "validation"), None), process)["trials"][0]
    lock = next(tmp_path.glob(f"*/sweeps/*/runs/{first}/0/*/*/.lock"))
    os.kill(int(lock.read_text().split()[1]), signal.SIGKILL)
    out, said = process.communicate(timeout=240)
    assert process.returncode == 0, out + said
    assert "Trials: 2 complete, 1 failed" in out
    failed = next(line for line in lines(tmp_path) if line["kind"] == "failed")
    assert failed["trial"] == first
    place = next(tmp_path.glob(f"*/sweeps/*/trials/{failed['trial']}/failure.txt"))
    assert "died" in place.read_text()


@pytest.mark.slow
def test_a_trial_gets_its_cores_and_no_device_that_it_was_not_given(tmp_path):
    (tmp_path / "probing.py").write_text(
        "import json, os\n"
        "from arsenal.data import digits\n"
        "def data(place):\n"
        "    import jax\n"
        "    names = ('NPROC', 'OMP_NUM_THREADS')\n"
        "    told = {n: os.environ.get(n) for n in names} | {'platforms': jax.config.jax_platforms, 'cwd': os.getcwd()}\n"
        "    told['cache'] = jax.config.jax_compilation_cache_dir\n"
        "    open(f'{place}/told.{os.getpid()}', 'w').write(json.dumps(told))\n"
        "    return digits()\n"
    )
    words = ["sweep.engine=ray", "sweep.trials=1", "trusted=[probing]", "data._target_=probing.data", f"+data.place={tmp_path}", "sweep.cpus=2"]
    done = subprocess.run(command(tmp_path / "runs", *words), capture_output=True, text=True, timeout=200, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [json.loads(path.read_text()) for path in tmp_path.glob("told.*")]
    trial = next(one for one in told if one["NPROC"])
    assert trial["NPROC"] == trial["OMP_NUM_THREADS"] == "2" and trial["platforms"] == "cpu" and trial["cwd"] == str(tmp_path)
    assert trial["cache"] == next(one["cache"] for one in told if not one["NPROC"]), "The compile cache is shared."
