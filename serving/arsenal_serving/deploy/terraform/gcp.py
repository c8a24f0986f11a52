"""Google Cloud: Cloud Run, on processors or with a GPU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from arsenal_serving.deploy import grammar, terraform
from arsenal_serving.deploy.description import Deployment, ReplicaResources, read_section
from arsenal_serving.deploy.terraform import apply
from arsenal_serving.refused import Refused, show

__all__ = ["Gcp", "apply", "files", "notes"]

LONGEST = 25
"""Of a name with its environment: an account's name is at most 30, with -push."""
SIZES = ((1, 4096), (2, 8192), (4, 16384), (6, 24576), (8, 32768))
"""Cores, and MiB at most: https://cloud.google.com/run/docs/configuring/services/memory-limits"""
BESIDE_GPU = (4, 16384)
"""Cores and MiB that a replica with an L4 has at least."""
GRACE = 10
"""Seconds that Cloud Run waits after it told a replica to stop: https://cloud.google.com/run/docs/container-contract"""
PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
ACCOUNT = re.compile(r"[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}")
BUCKET = grammar.Spelling(re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"), 222, "a bucket's name")
REGION = re.compile(r"[a-z]+-[a-z]+\d+")


class Gcp(NamedTuple):
    """What only Google Cloud knows: the section `extra.gcp`.

    serve: false makes the registry first. accelerator: the kind of GPU. repository: OWNER/NAME on GitHub whose
    workflows may push. state: a bucket for terraform's state. budget: an amount a month in the account's currency, of
    which `email` hears.
    """

    project: str = ""
    region: str = ""
    billing_account: str = ""
    accelerator: Literal["nvidia-l4"] = "nvidia-l4"
    serve: bool = True
    repository: str = ""
    state: str = ""
    log_days: int = 365
    budget: float = 100.0
    email: str = ""


def files(made: Deployment) -> dict[str, str]:
    """The module and its root, `main.tf`. Raises `Refused` in one line for what cannot be meant there."""
    own = settings(made)
    cpu, memory = size(made.resources)
    given = terraform.shared(made, own) | {
        "tag": f"{made.image.name}:{made.image.tag or 'latest'}",
        "cpu": cpu,
        "memory": memory,
        "scratch": made.resources.scratch,
        "accelerator": own.accelerator,
        "host": made.access.host,
        "project": own.project,
        "region": own.region,
        "billing_account": own.billing_account,
        "labels": terraform.labels(made),
    }
    backend = ("gcs", {"bucket": own.state, "prefix": f"{made.name}/{made.env}"}) if own.state else None
    billed = {"billing_project": own.project, "user_project_override": True}
    provider = {"project": own.project, "region": own.region, **billed}
    text = terraform.root("google", provider, backend, given, [*terraform.OUTPUTS, "push_identity"])
    return {"main.tf": text, **terraform.module("gcp")}


def settings(made: Deployment) -> Gcp:
    """The section `extra.gcp`, checked."""
    own: Gcp = read_section(Gcp, made.extra.get("gcp", {}), "extra.gcp")
    terraform.check(made, "gcp", own, LONGEST, ("project", "region", "billing_account", "email"))
    if not PROJECT.fullmatch(own.project):
        raise Refused(f"`extra.gcp.project` must be 6 to 30 letters, digits and -; got {show(own.project)}.")
    if not REGION.fullmatch(own.region):
        raise Refused(f"`extra.gcp.region` must be a region, as europe-west1; got {show(own.region)}.")
    if not ACCOUNT.fullmatch(own.billing_account):
        raise Refused(f"`extra.gcp.billing_account` must be as 012345-6789AB-CDEF01; got {show(own.billing_account)}.")
    grammar.check_bounds({"extra.gcp.log_days": own.log_days}, {"log_days": (1, 3650, "days")})
    grammar.check("extra.gcp.state", own.state, BUCKET)
    if made.access.host and not made.access.keys_secret:
        raise Refused("`access.host` needs `access.keys_secret`: nobody is let in from outside without an API key.")
    if made.resources.accelerators > 1:
        raise Refused(f"`resources.accelerators` must be 1 on Cloud Run; got {made.resources.accelerators}.")
    return own


def size(asked: ReplicaResources) -> tuple[int, int]:
    """Cores and MiB of a replica: the smallest that Cloud Run has, its volatile files in memory with the rest.

    >>> size(ReplicaResources(cpu=1.0, memory=1024, scratch=1024))
    (1, 2048)
    """
    memory = max(asked.memory + asked.scratch, 512)
    if asked.accelerators:
        memory = max(memory, BESIDE_GPU[1])
    for cpu, most in SIZES:
        if cpu >= asked.cpu and memory <= most and (not asked.accelerators or cpu >= BESIDE_GPU[0]):
            return cpu, memory
    said = "Cloud Run has at most 8 cores and 32768 MiB, of which what is scratch is a part"
    raise Refused(f"`resources` must be less: {said}; got {asked.cpu:g} cores, {asked.memory} and {asked.scratch} MiB.")


def notes(made: Deployment) -> Iterator[str]:
    """What is not as it was asked for, a line each."""
    cpu, memory = size(made.resources)
    has = f"a replica has {cpu} core{'s' * (cpu > 1)} and {memory} MiB"
    yield f"{terraform.asked(made)}: {has}, of which what it writes takes up to {made.resources.scratch} each"
    if made.timings.grace > GRACE:
        yield f"a replica is killed after {GRACE} s, not {made.timings.grace}: Cloud Run waits no longer"
    yield from terraform.notes("gcp", made, settings(made).state, "BUCKET")
