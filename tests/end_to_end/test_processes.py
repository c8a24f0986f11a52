"""One run of several processes: who writes, what happens when one dies, and that nothing is lost."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from arsenal_serving.deploy import kubernetes
from arsenal_serving.deploy.description import describe
from sklearn.datasets import load_digits

from arsenal import load
from arsenal.launchers.member import free_port
from arsenal.runs.checkpoints import digest

pytestmark = pytest.mark.slow
TWO = ("launcher=processes", "launcher.devices=4")
QUIET = ("run.progress=false", "run.tensorboard=false")
ON_HOST = "+metrics.roc_auc={_target_: arsenal.metrics.roc_auc}"


def command(root: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "arsenal.train", "+experiment=digits_mlp", f"run.root={root}", *QUIET, *more]


def run(root: Path, *more: str, env: dict | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(command(root, *more), capture_output=True, text=True, timeout=300, env=os.environ | (env or {}))


def folder(root: Path) -> Path:
    return next(path.parent for path in root.glob("*/*/config.yaml"))


def worker(parent: int, index: int) -> int:
    """The process with this number among the children of the launcher."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            mother = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            told = (path / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if mother == parent and f"ARSENAL_PROCESS={index}".encode() in told:
            return int(path.name)
    raise AssertionError(f"There is no process {index}.")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("unbroken")
    done = run(root, *TWO, "length=60", ON_HOST)
    assert done.returncode == 0, done.stderr
    assert "sharded, 8 devices: data 8" in done.stdout
    return folder(root)


def test_two_processes_give_what_one_gives_and_one_of_them_writes(unbroken, tmp_path):
    assert run(tmp_path, "length=60", "every.log=50 steps", ON_HOST).returncode == 0
    one, two = load(folder(tmp_path)), load(unbroken)
    kinds = [event["kind"] for event in map(json.loads, (unbroken / "events.jsonl").read_text().splitlines())]
    assert kinds.count("start") == kinds.count("complete") == 1
    for ours, theirs in zip(one.history, two.history, strict=True):
        assert ours["values"]["loss"] == pytest.approx(theirs["values"]["loss"], rel=1e-4)
        assert ours["values"].get("roc_auc") == pytest.approx(theirs["values"].get("roc_auc"), abs=1e-3)
    assert any("roc_auc" in entry["values"] for entry in two.history)
    assert two.metrics["test/accuracy"] == pytest.approx(one.metrics["test/accuracy"], abs=0.01)


def test_a_killed_process_ends_the_others_within_seconds_and_the_restart_resumes_exactly(unbroken, tmp_path):
    launcher = subprocess.Popen(command(tmp_path, *TWO, "length=60", "every.save=20"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while launcher.poll() is None and not list(tmp_path.glob("*/*/checkpoints/*/commit.json")):
        time.sleep(0.02)
    lost = worker(launcher.pid, 1)
    others = worker(launcher.pid, 0)
    os.kill(lost, signal.SIGKILL)
    began = time.monotonic()
    _, said = launcher.communicate(timeout=60)
    assert time.monotonic() - began < 15
    assert launcher.returncode == 128 + signal.SIGKILL
    assert said.splitlines()[-1] == "arsenal: Process 1 of 2 was ended by signal 9. The same command resumes."
    assert not Path(f"/proc/{others}").exists()
    done = run(tmp_path, *TWO, "length=60", "every.save=20")
    assert done.returncode == 0 and "Resumed at step" in done.stdout, done.stderr
    assert digest(load(folder(tmp_path)).restored) == digest(load(unbroken).restored)


def test_with_restarts_a_lost_process_is_only_a_delay(unbroken, tmp_path):
    asked = (*TWO, "length=60", "every.save=20", "launcher.restarts=1")
    launcher = subprocess.Popen(command(tmp_path, *asked), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while launcher.poll() is None and not list(tmp_path.glob("*/*/checkpoints/*/commit.json")):
        time.sleep(0.02)
    os.kill(worker(launcher.pid, 0), signal.SIGKILL)
    _, said = launcher.communicate(timeout=200)
    assert launcher.returncode == 0, said
    assert "Process 0 of 2 was ended by signal 9. The same command resumes. Beginning anew" in said
    assert digest(load(folder(tmp_path)).restored) == digest(load(unbroken).restored)


def test_sigterm_saves_and_ends_all(tmp_path):
    launcher = subprocess.Popen(command(tmp_path, *TWO, "length=100000", "every.save=20"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while launcher.poll() is None and not list(tmp_path.glob("*/*/checkpoints/*/commit.json")):
        time.sleep(0.02)
    launcher.terminate()
    out, said = launcher.communicate(timeout=100)
    assert launcher.returncode == 128 + signal.SIGTERM
    assert "and saved; the same command resumes" in said, out
    assert load(folder(tmp_path)).step > 0
    assert json.loads((folder(tmp_path) / "status.json").read_text())["state"] == "interrupted"


def test_what_the_config_gets_wrong_is_said_once(tmp_path):
    done = run(tmp_path, *TWO, "parallel=pmap", "batch_size=100")
    assert done.returncode == 1
    assert done.stderr.count("`batch_size` must be a multiple of 8 (8 devices); got 100.") == 1, done.stderr
    done = run(tmp_path, "launcher=slurm")
    assert done.returncode == 1 and "is for a task that srun started; the environment lacks SLURM_PROCID" in done.stderr


def test_of_rows_that_are_read_as_they_go_each_process_reads_its_share(tmp_path):
    x, y = load_digits(return_X_y=True)
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "x.npy", x.reshape(-1, 8, 8)[:400].astype(np.float32))
    np.save(tmp_path / "arrays" / "y.npy", y[:400])
    rows = ("data=memmap", f"data.path={tmp_path}/arrays", "batch_size=32", "length=24", "every.log=8 steps", "every.evaluate=8 steps")
    for name, more in (("one", ()), ("two", TWO)):
        done = run(tmp_path / name, *rows, *more)
        assert done.returncode == 0, done.stderr
    one, two = load(folder(tmp_path / "one")), load(folder(tmp_path / "two"))
    for ours, theirs in zip(one.history, two.history, strict=True):
        assert ours["values"]["loss"] == pytest.approx(theirs["values"]["loss"], rel=1e-4)
        assert ours["values"].get("calibration_error") == pytest.approx(theirs["values"].get("calibration_error"), abs=1e-3)
    assert any("calibration_error" in entry["values"] for entry in two.history)


def test_slurm_tells_each_task_who_it_is(tmp_path):
    told = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "4711", "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_NODES": "1"}
    flags = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"}
    tasks = [
        subprocess.Popen(
            command(tmp_path, "launcher=slurm", "length=20"), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | told | flags | {"SLURM_PROCID": str(i)},
        )
        for i in range(2)
    ]  # fmt: skip
    said = [task.communicate(timeout=200) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert "sharded, 4 devices: data 4" in said[0][0] and "Started" not in said[1][0]


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two machines, as far as Ray can tell."""
    from ray.cluster_utils import Cluster

    own = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=own)
    made.add_node(num_cpus=1, object_store_memory=80_000_000)
    yield made.address
    made.shutdown()


def test_ray_places_a_process_on_each_machine_and_begins_anew_when_one_is_lost(cluster, unbroken, tmp_path):
    asked = ("launcher=ray", f"ray.address={cluster}", "length=600", "every.save=20", "launcher.restarts=2")
    launcher = subprocess.Popen(command(tmp_path, *asked), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while launcher.poll() is None and not list(tmp_path.glob("*/*/checkpoints/*/commit.json")):
        time.sleep(0.02)
    os.kill(holder(tmp_path), signal.SIGKILL)
    out, said = launcher.communicate(timeout=400)
    assert launcher.returncode == 0, out + said
    assert "was ended by signal 9. The same command resumes. Beginning anew, 1 more times at most." in said
    assert "sharded, 2 devices: data 2" in out and "Resumed at step" in out
    assert load(folder(tmp_path)).step == 600


def holder(root: Path) -> int:
    """The first process of the run, which holds its folder."""
    return int(next(root.glob("*/*/.lock")).read_text().split()[1])


def test_a_cluster_that_does_not_answer_is_said_within_seconds(tmp_path):
    began = time.monotonic()
    done = run(tmp_path, "launcher=ray", "ray.address=127.0.0.1:1")
    assert done.returncode == 1 and time.monotonic() - began < 20
    assert done.stderr.startswith("arsenal: No Ray cluster answers at `ray.address=127.0.0.1:1`")


def test_processes_end_with_the_launcher_that_started_them(tmp_path):
    launcher = subprocess.Popen(command(tmp_path, *TWO, "length=100000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while launcher.poll() is None and not list(tmp_path.glob("*/*/status.json")):
        time.sleep(0.05)
    children = [worker(launcher.pid, index) for index in (0, 1)]
    launcher.kill()
    launcher.wait()
    ended = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < ended:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_what_one_process_refuses_ends_all_with_its_words(unbroken, tmp_path):
    from arsenal.runs.folder import lock

    with lock(unbroken):
        done = run(unbroken.parents[1], *TWO, "length=90")
    assert done.returncode == 1 and "is held by process" in done.stderr, done.stderr
    assert "SIGABRT" not in done.stderr and "*** Check failure" not in done.stderr


def test_hosts_of_a_kubernetes_job_are_one_run(tmp_path):
    """Each pod's command and environment as the manifest has them, the first one's name for this machine's."""
    words = ["+experiment=digits_mlp", f"run.root={tmp_path}", *QUIET, "length=20"]
    work = {"image": "arsenal", "claim": "runs", "hosts": 2, "words": words}
    made = describe({"name": "digits", "extra": {"kubernetes": {"training": work}}})
    job = kubernetes.manifests(made)["job-training"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    said = {one["name"]: one.get("value", "") for one in container["env"] if one["name"].startswith("ARSENAL_")}
    assert re.fullmatch(r"digits-training-[0-9a-f]{8}-0\.digits-training:\d+", said["ARSENAL_COORDINATOR"])
    said["ARSENAL_COORDINATOR"] = f"127.0.0.1:{free_port()}"
    program = [sys.executable, "-c", "from arsenal.cli import arsenal; arsenal()", *container["command"][1:], *container["args"]]
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    started = [
        subprocess.Popen(program, env=os.environ | said | devices | {"ARSENAL_PROCESS": str(index)}, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
        for index in range(job["completions"])
    ]  # fmt: skip
    texts = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], texts
    assert "sharded, 8 devices: data 8" in texts[0]
    assert load(folder(tmp_path)) is not None
