"""SkyPilot: a task that trains on one machine or several of whichever cloud has them, `sky launch task.yaml`.

Format: https://docs.skypilot.co/en/latest/reference/yaml-spec.html
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import arsenal_serving
from arsenal_serving.deploy import grammar, unheard
from arsenal_serving.deploy.commands import find, run
from arsenal_serving.deploy.description import Deployment, read_section
from arsenal_serving.deploy.training import COORDINATOR, RemoteTraining, command, provenance, training
from arsenal_serving.deploy.yaml_text import to_yaml
from arsenal_serving.refused import Refused, show

TASK = "task.yaml"
BUCKETS = ("s3://", "gs://", "https://", "r2://", "cos://", "oci://", "nebius://")
"""What a bucket's URL begins with, as SkyPilot reads them."""


class Skypilot(NamedTuple):
    """What only SkyPilot knows: the section `extra.skypilot`.

    infra: where, as aws/eu-west-1; wherever it is cheapest unless given. spot: machines that may be taken away; as a
    managed job the task comes back and resumes. bucket: its URL, mounted at `extra.training.folder`, of one host;
    volume: a volume's name, for several. setup: what each machine runs first; this version of arsenal, for its
    accelerators, is installed from an index unless given. workdir: a folder that is sent there.
    """

    infra: str = ""
    spot: bool = False
    disk: int = 256
    bucket: str = ""
    volume: str = ""
    setup: str = ""
    workdir: str = ""


def files(made: Deployment) -> dict[str, str]:
    """`task.yaml` of a deployment's `extra.training` and `extra.skypilot`. Raises `Refused`."""
    read, own = training(made), settings(made)
    resources: dict[str, Any] = {"infra": own.infra} if own.infra else {}
    resources |= {"cpus": f"{read.cpu}+", "memory": f"{math.ceil(read.memory / 1024)}+"}
    if read.accelerators:
        resources["accelerators"] = {read.accelerator: read.accelerators}
    resources |= {"use_spot": own.spot, "disk_size": own.disk}
    resources["autostop"] = {"idle_minutes": 10, "down": True}
    resources["labels"] = {"arsenal-model": made.model.name.lower(), "arsenal-env": made.env}
    task: dict[str, Any] = {"name": f"{made.name}-train", "num_nodes": read.hosts, "resources": resources}
    task |= {"workdir": own.workdir} if own.workdir else {}
    if own.volume:
        task["volumes"] = {read.folder: own.volume}
    if own.bucket:
        task["file_mounts"] = {read.folder: {"source": own.bucket, "mode": "MOUNT_CACHED"}}
    lines = ["set -euo pipefail"]
    if read.hosts > 1:
        lines += [
            'export ARSENAL_PROCESSES="$SKYPILOT_NUM_NODES" ARSENAL_PROCESS="$SKYPILOT_NODE_RANK"',
            f'export ARSENAL_COORDINATOR="$(head -n 1 <<< "$SKYPILOT_NODE_IPS"):{COORDINATOR}"',
        ]
    seconds = round(read.hours * 3600)
    # timeout's SIGTERM has it save and end; the same task goes on from there.
    lines.append(f"timeout --signal=TERM {seconds} {command(read, 'processes' if read.hosts > 1 else '')}")
    lines[:0] = [provenance(made)]
    return {TASK: to_yaml(task | {"setup": (own.setup or _setup(read)) + "\n", "run": "\n".join(lines) + "\n"})}


def _setup(read: RemoteTraining) -> str:
    extras = ["tpu" if read.accelerator.lower().startswith("tpu") else "cuda"] if read.accelerators else []
    return f"pip install 'ml-arsenal[{','.join([*extras, 'remote'])}]=={arsenal_serving.__version__}'"


def notes(made: Deployment) -> Iterator[str]:
    """What of a description it does not hear, and what may surprise, a line each."""
    return unheard.notes("skypilot", made)


def settings(made: Deployment) -> Skypilot:
    """The section `extra.skypilot`, checked with the training."""
    own: Skypilot = read_section(Skypilot, made.extra.get("skypilot", {}), "extra.skypilot")
    read = training(made)
    if read.accelerators and not read.accelerator:
        raise Refused("`extra.training.accelerators` needs `extra.training.accelerator` on SkyPilot: which, as A100?")
    grammar.check_bounds({"extra.skypilot.disk": own.disk}, {"disk": (1, 65_536, "GB")})
    grammar.check_password("extra.skypilot.bucket", own.bucket)
    if own.bucket and not own.bucket.startswith(BUCKETS):
        raise Refused(f"`extra.skypilot.bucket` must begin with one of {', '.join(BUCKETS)}; got {show(own.bucket)}.")
    if own.bucket and own.volume:
        raise Refused("`extra.skypilot` takes a bucket or a volume for the runs; got both.")
    if (own.bucket or own.volume) and not read.folder.startswith("/"):
        said = "where it is mounted, from / on"
        raise Refused(f"`extra.training.folder` must say {said}; got {show(read.folder)}.")
    if own.bucket and read.hosts > 1:
        raise Refused("`extra.skypilot.bucket` is of one host: several need a folder that all see at once, `volume`.")
    if read.hosts > 1 and not own.volume:
        raise Refused("`extra.training.hosts` above 1 needs `extra.skypilot.volume`: a folder that all hosts see.")
    return own


def apply(folder: Path, made: Deployment, say: Callable[[str], None]) -> None:
    """Launch the task; spot machines as a managed job, which comes back. `Refused` in one line where it cannot."""
    sky = find("sky", install="pip install skypilot")
    words = ["jobs", "launch"] if settings(made).spot else ["launch", "--cluster", f"{made.name}-train"]
    run([sky, *words, "--yes", "--detach-run", TASK], folder, say=say)
