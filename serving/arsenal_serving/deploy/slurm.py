"""SLURM: a batch script that trains on one host or several and goes on from its checkpoint after its time was up.

Its tasks are those of `launcher=slurm`, which asks `jax.distributed` to find the others by SLURM's own environment.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from arsenal_serving.deploy import unheard
from arsenal_serving.deploy.commands import find, run
from arsenal_serving.deploy.description import ORIGIN, Deployment, read_section
from arsenal_serving.deploy.training import command, provenance, training
from arsenal_serving.refused import Refused, show

SCRIPT = "train.sbatch"
SAVE = 120
"""Seconds before the end of its time at which a job is told to save and end."""
WORD = re.compile(r"[A-Za-z0-9][\w.,-]*")


class Slurm(NamedTuple):
    """What only a SLURM cluster knows: the section `extra.slurm`. environment: a virtual one that all hosts see."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    environment: str = ""
    modules: tuple[str, ...] = ()
    requeue: bool = True


def files(made: Deployment) -> dict[str, str]:
    """`train.sbatch` of a deployment's `extra.training` and `extra.slurm`. Raises `Refused`."""
    read, own = training(made), settings(made)
    minutes = max(1, round(read.hours * 60))
    told = {
        "job-name": f"{made.name}-train",
        "partition": own.partition,
        "account": own.account,
        "qos": own.qos,
        "constraint": own.constraint,
        "nodes": read.hosts,
        "ntasks-per-node": 1,
        "cpus-per-task": read.cpu,
        "mem": f"{read.memory}M",
        "gpus-per-node": f"{read.accelerator}:{read.accelerators}".strip(":") if read.accelerators else "",
        "time": f"{minutes // 60:02}:{minutes % 60:02}:00",
        "signal": f"TERM@{SAVE}" if minutes * 60 > SAVE else "",
        "output": "%x-%j.log",
        "open-mode": "append",
    }
    lines = ["#!/bin/bash", ORIGIN, provenance(made)]
    lines += [f"#SBATCH --{key}={value}" for key, value in told.items() if value]
    lines += ["#SBATCH --requeue" if own.requeue else "#SBATCH --no-requeue", "set -euo pipefail"]
    lines += [f"module load {shlex.quote(name)}" for name in own.modules]
    lines += [f"source {shlex.quote(own.environment + '/bin/activate')}"] if own.environment else []
    several = "slurm" if read.hosts > 1 else ""
    lines += ["status=0", f"srun --kill-on-bad-exit=1 {command(read, several)} || status=$?"]
    if own.requeue:
        lines += [
            "# 143: told to save and end. A job whose time was up still runs; one that somebody cancelled does not.",
            'state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)',
            'if [ "$status" -eq 143 ] && [ "$state" = RUNNING ]; then scontrol requeue "$SLURM_JOB_ID"; fi',
        ]
    return {SCRIPT: "\n".join([*lines, 'exit "$status"', ""])}


def notes(made: Deployment) -> Iterator[str]:
    """What of a description it does not hear, and what may surprise, a line each."""
    return unheard.notes("slurm", made)


def settings(made: Deployment) -> Slurm:
    """The section `extra.slurm`, checked."""
    own: Slurm = read_section(Slurm, made.extra.get("slurm", {}), "extra.slurm")
    for path in ("partition", "account", "qos", "constraint"):
        if (word := getattr(own, path)) and not WORD.fullmatch(word):
            said = "must be a name of letters, digits, '.', ',', '_' and '-'"
            raise Refused(f"`extra.slurm.{path}` {said}; got {show(word)}.")
    for text in (own.environment, *own.modules):
        if "\n" in text:
            raise Refused(f"`extra.slurm` has no line breaks; got {show(text)}.")
    return own


def apply(folder: Path, made: Deployment, say: Callable[[str], None]) -> None:
    """Submit the script after SLURM said that it would take it; `Refused` in one line where it would not."""
    sbatch = find("sbatch", install="it is part of a SLURM cluster's login hosts")
    run([sbatch, "--test-only", SCRIPT], folder, seconds=60)
    run([sbatch, SCRIPT], folder, seconds=60, say=say)
