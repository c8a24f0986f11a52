"""Training elsewhere: SLURM's script is taken by SLURM itself, SkyPilot's task by SkyPilot's own reader."""

import os
import shutil
import subprocess

import pytest
import yaml

import arsenal_serving
from arsenal_serving.deploy import skypilot, slurm
from arsenal_serving.deploy.description import describe
from arsenal_serving.refused import Refused

ONE = {"words": ["+experiment=penguins", "data.path=my data.csv"]}
MANY = {**ONE, "hosts": 2, "folder": "/shared/runs", "accelerator": "A100", "accelerators": 8, "hours": 1.5}


def made(training, **more):
    return describe({"name": "penguins", "extra": {"training": training, **more}})


def test_a_script_says_what_is_asked_for(tmp_path):
    text = slurm.files(made(MANY, slurm={"partition": "gpu", "environment": "/shared/my venv", "modules": ["cuda/13"]}))["train.sbatch"]
    head = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH ")]
    assert head == [
        "job-name=penguins-train", "partition=gpu", "nodes=2", "ntasks-per-node=1", "cpus-per-task=4", "mem=16384M",
        "gpus-per-node=A100:8", "time=01:30:00", "signal=TERM@120", "output=%x-%j.log", "open-mode=append", "requeue",
    ]  # fmt: skip
    assert "arsenal train +experiment=penguins 'data.path=my data.csv' launcher=slurm run.root=/shared/runs ||" in text
    assert "source '/shared/my venv/bin/activate'" in text and "module load cuda/13" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
    assert "scontrol requeue" not in slurm.files(made(ONE, slurm={"requeue": False}))["train.sbatch"]


SRUN = '#!/bin/bash\n[ "$1" = --kill-on-bad-exit=1 ] && shift\nexec "$@"\n'
SQUEUE = "#!/bin/bash\necho {state}\n"
SCONTROL = '#!/bin/bash\necho "$@" >> {asked}\n'


@pytest.mark.parametrize(
    ("status", "state", "requeued"), [(143, "RUNNING", True), (143, "COMPLETING", False), (1, "RUNNING", False), (0, "RUNNING", False)]
)
def test_a_job_goes_on_only_after_it_was_told_to_save_and_nobody_cancelled_it(tmp_path, status, state, requeued):
    asked, programs = tmp_path / "asked", tmp_path / "bin"
    programs.mkdir()
    words = {
        "arsenal": f"#!/bin/bash\nexit {status}\n", "srun": SRUN, "squeue": SQUEUE.format(state=state), "scontrol": SCONTROL.format(asked=asked),
    }  # fmt: skip
    for name, text in words.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (tmp_path / "train.sbatch").write_text(slurm.files(made(ONE))["train.sbatch"])
    told = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    assert subprocess.run(["bash", "train.sbatch"], cwd=tmp_path, env=told).returncode == status
    assert asked.exists() == requeued
    assert not requeued or asked.read_text() == "requeue 7\n"


@pytest.mark.skipif(shutil.which("sbatch") is None or "SLURM_CONF" not in os.environ, reason="no SLURM cluster answers here")
def test_slurm_would_take_the_script(tmp_path):
    small = {**ONE, "cpu": 1, "memory": 100}
    (tmp_path / "train.sbatch").write_text(slurm.files(made(small))["train.sbatch"])
    done = subprocess.run(["sbatch", "--test-only", "train.sbatch"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "to start at" in done.stderr, done.stderr


def test_a_task_says_who_is_who():
    task = yaml.safe_load(skypilot.files(made(MANY, skypilot={"volume": "runs", "infra": "aws/eu-west-1"}))["task.yaml"])
    assert (task["num_nodes"], task["resources"]["accelerators"], task["volumes"]) == (2, {"A100": 8}, {"/shared/runs": "runs"})
    ours = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "192.0.2.1\n192.0.2.2"}
    shown = task["run"].replace("timeout --signal=TERM 5400 arsenal", "printenv ARSENAL_PROCESSES ARSENAL_PROCESS ARSENAL_COORDINATOR; true")
    done = subprocess.run(["bash", "-c", shown], env=os.environ | ours, capture_output=True, text=True)
    assert done.stdout.split() == ["2", "1", "192.0.2.1:8476"], done.stderr
    assert task["run"].endswith("+experiment=penguins 'data.path=my data.csv' launcher=processes run.root=/shared/runs\n")
    alone = yaml.safe_load(skypilot.files(made(ONE))["task.yaml"])
    assert "launcher=" not in alone["run"] and "ARSENAL_PROCESS" not in alone["run"]


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("ARSENAL_SKYPILOT_PYTHON"), reason="$ARSENAL_SKYPILOT_PYTHON names no Python with skypilot")
@pytest.mark.parametrize(
    ("training", "own"),
    [(ONE, {}), (MANY, {"volume": "runs"}), ({**ONE, "folder": "/runs"}, {"bucket": "s3://a-bucket/runs", "spot": True, "infra": "aws"})],
)
def test_skypilot_reads_the_task(tmp_path, training, own):
    (tmp_path / "task.yaml").write_text(skypilot.files(made(training, skypilot=own))["task.yaml"])
    asked = "import sky; task = sky.Task.from_yaml('task.yaml'); print(task.name, task.num_nodes)"
    done = subprocess.run(
        [os.environ["ARSENAL_SKYPILOT_PYTHON"], "-c", asked], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env=os.environ | {"HOME": str(tmp_path), "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == [f"penguins-train {training.get('hosts', 1)}"], done.stderr


@pytest.mark.parametrize(
    ("more", "extras"),
    [({}, "remote"), ({"accelerator": "A100", "accelerators": 1}, "cuda,remote"), ({"accelerator": "tpu-v5e-8", "accelerators": 1}, "tpu,remote")],
)  # fmt: skip
def test_each_machine_gets_this_version_for_what_it_has(more, extras):
    wanted = f"pip install 'ml-arsenal[{extras}]=={arsenal_serving.__version__}'\n"
    assert yaml.safe_load(skypilot.files(made(ONE | more))["task.yaml"])["setup"] == wanted
    assert yaml.safe_load(skypilot.files(made(ONE, skypilot={"setup": "true"}))["task.yaml"])["setup"] == "true\n"


@pytest.mark.parametrize(
    ("target", "training", "own", "said"),
    [
        (slurm, {}, {}, "`extra.training.words` must name an experiment, as +experiment=NAME; got []."),
        (slurm, {**ONE, "host": 2}, {}, "unknown key 'host' of `extra.training`; did you mean 'hosts'?"),
        (slurm, {**ONE, "hosts": 2}, {}, "`extra.training.hosts` above 1 needs `extra.training.folder`"),
        (slurm, {**ONE, "hosts": 0}, {}, "`extra.training.hosts` must be 1 to 10,000, hosts; got 0."),
        (slurm, {**ONE, "memory": 1}, {}, "`extra.training.memory` must be 64 to 16,777,216, MiB; got 1."),
        (slurm, {**ONE, "accelerator": "A100"}, {}, "`extra.training.accelerator=A100` needs `extra.training.accelerators`"),
        (slurm, {"words": ["+experiment=a", "launcher=ray"]}, {}, "says nothing of `launcher`, which the target gives"),
        (slurm, {"words": ["+experiment=a\nrm -r x"]}, {}, "has no line breaks"),
        (slurm, ONE, {"partition": "a b"}, "`extra.slurm.partition` must be a name of letters"),
        (slurm, ONE, {"partitoin": "a"}, "unknown key 'partitoin' of `extra.slurm`; did you mean 'partition'?"),
        (skypilot, {**ONE, "accelerators": 1}, {}, "needs `extra.training.accelerator` on SkyPilot"),
        (skypilot, MANY, {}, "needs `extra.skypilot.volume`"),
        (skypilot, MANY, {"bucket": "s3://b"}, "`extra.skypilot.bucket` is of one host"),
        (skypilot, ONE, {"bucket": "s3://b"}, "`extra.training.folder` must say where it is mounted, from / on; got ''."),
        (skypilot, ONE, {"bucket": "/here"}, "`extra.skypilot.bucket` must begin with one of s3://"),
        (skypilot, ONE, {"disk": 0}, "`extra.skypilot.disk` must be 1 to 65,536, GB; got 0."),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(target, training, own, said):
    with pytest.raises(Refused) as refused:
        target.files(made(training, **{target.__name__.rpartition(".")[2]: own}))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
