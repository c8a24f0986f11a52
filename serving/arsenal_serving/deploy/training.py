"""What a training elsewhere is, said once for SLURM and SkyPilot: the section `extra.training`."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from arsenal_serving.deploy import grammar
from arsenal_serving.deploy.description import Deployment, read_section
from arsenal_serving.refused import Refused, show

COORDINATOR = 8476
"""The port at which the processes of a training find each other."""
KIND = re.compile(r"[A-Za-z][\w.-]*")
BOUNDS: grammar.Bounds = {
    "hosts": (1, 10_000, "hosts"), "cpu": (1, 1024, "cores"), "memory": (64, 16_777_216, "MiB"),
    "accelerators": (0, 1024, "of each host"), "hours": (0.01, 8784, "hours"),
}  # fmt: skip
RESERVED = ("launcher", "run.root")
"""Keys of the command line that the target gives itself."""


class RemoteTraining(NamedTuple):
    """A training by `arsenal train`, one process on each host, which has all of its accelerators.

    words: of the command line, `+experiment=NAME key=value`; those of the version's own run unless given. accelerator:
    its kind, as A100. cpu: cores and memory: MiB of each host. hours: after which it is told to save and end. folder:
    where runs are kept, which every host must see.
    """

    words: tuple[str, ...] = ()
    hosts: int = 1
    accelerator: str = ""
    accelerators: int = 0
    cpu: int = 4
    memory: int = 16384
    hours: float = 4.0
    folder: str = ""


def training(made: Deployment) -> RemoteTraining:
    """The section `extra.training`, checked; raises `Refused` in one line.

    >>> training(Deployment(extra={"training": {"words": ["+experiment=digits_mlp"], "hours": 2.5}})).hours
    2.5
    """
    given = made.extra.get("training", {})
    read: RemoteTraining = read_section(RemoteTraining, given, "extra.training")
    if not any(word.lstrip("+").startswith("experiment=") for word in read.words):
        got = show(list(read.words))
        raise Refused(f"`extra.training.words` must name an experiment, as +experiment=NAME; got {got}.")
    for word in read.words:
        if "\n" in word or (key := word.lstrip("+~").partition("=")[0]) in RESERVED:
            said = "has no line breaks" if "\n" in word else f"says nothing of `{key}`, which the target gives"
            raise Refused(f"`extra.training.words` {said}; got {show(word)}.")
    grammar.check_bounds({f"extra.training.{path}": getattr(read, path) for path in BOUNDS}, BOUNDS)
    if read.accelerator and not KIND.fullmatch(read.accelerator):
        raise Refused(f"`extra.training.accelerator` must be a kind, as A100; got {show(read.accelerator)}.")
    if bool(read.accelerator) and not read.accelerators:
        raise Refused(f"`extra.training.accelerator={read.accelerator}` needs `extra.training.accelerators`: how many?")
    if read.hosts > 1 and not read.folder:
        raise Refused("`extra.training.hosts` above 1 needs `extra.training.folder`: a folder that all of them see.")
    return read


def provenance(made: Deployment) -> str:
    """A comment that says which version is trained again."""
    model = made.model
    return f"# {model.name}@{model.version} again, for {made.env}{model.digest and f': {model.digest}'}"


def command(read: RemoteTraining, launcher: str) -> str:
    """The shell's words of `arsenal train`; an empty `launcher` is that of one process."""
    words = ["arsenal", "train", *read.words]
    words += [f"launcher={launcher}"] if launcher else []
    words += [f"run.root={read.folder}"] if read.folder else []
    return shlex.join(words)
