"""AWS: ECS on Fargate, or on instances with GPUs, behind an application load balancer."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

from arsenal_serving.deploy import grammar, terraform
from arsenal_serving.deploy.description import Deployment, ReplicaResources, read_section
from arsenal_serving.deploy.terraform import apply
from arsenal_serving.refused import Refused, show

__all__ = ["Aws", "apply", "files", "notes"]

LONGEST = 41
"""Of a name with its environment: a bucket's name is at most 63, with an account's number."""
FARGATE = (
    (256, 512, 2048, 512), (512, 1024, 4096, 1024), (1024, 2048, 8192, 1024), (2048, 4096, 16384, 1024),
    (4096, 8192, 30720, 1024), (8192, 16384, 61440, 4096), (16384, 32768, 122880, 8192),
)  # fmt: skip
"""Units, and MiB at least, at most and by steps: Amazon ECS, developer guide, "Fargate task sizes"."""
DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
"""That CloudWatch keeps logs for."""
CERTIFICATE = re.compile(r"arn:aws[\w-]*:acm:[\w-]+:\d{12}:certificate/[\w-]+")
BUCKET = grammar.Spelling(re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"), 63, "a bucket's name")
INSTANCE = re.compile(r"[a-z][a-z0-9-]*\.[a-z0-9-]+")
REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")


class Aws(NamedTuple):
    """What only AWS knows: the section `extra.aws`.

    vpc, private_subnets: where tasks run, with a way out for images and logs. certificate: ARN in ACM, with which the
    load balancer is public, in `public_subnets`; without one it is internal. callers: ranges of addresses that may
    call; all with a certificate and those of the VPC without one unless given. serve: false makes the registry first.
    instance_type: of the pool with GPUs. repository: OWNER/NAME on GitHub whose workflows may push. state: a bucket for
    terraform's state. budget: US dollars a month, of which `email` hears.
    """

    region: str = ""
    vpc: str = ""
    private_subnets: tuple[str, ...] = ()
    public_subnets: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    certificate: str = ""
    instance_type: str = "g5.xlarge"
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
        "tag": made.image.tag or "latest",
        "cpu": cpu,
        "memory": memory,
        "cpu_target": made.scale.cpu,
        "detach": made.timings.detach,
        "grace": made.timings.grace,
        "instance_type": own.instance_type,
        "vpc": own.vpc,
        "private_subnets": own.private_subnets,
        "public_subnets": own.public_subnets,
        "callers": own.callers,
        "certificate": own.certificate,
    }
    place = {"bucket": own.state, "key": f"{made.name}/{made.env}.tfstate", "region": own.region}
    backend = ("s3", place | {"encrypt": True, "use_lockfile": True}) if own.state else None
    provider = {"region": own.region, "default_tags": {"tags": terraform.labels(made)}}
    text = terraform.root("aws", provider, backend, given, [*terraform.OUTPUTS, "push_role"])
    return {"main.tf": text, **terraform.module("aws")}


def settings(made: Deployment) -> Aws:
    """The section `extra.aws`, checked."""
    own: Aws = read_section(Aws, made.extra.get("aws", {}), "extra.aws")
    terraform.check(made, "aws", own, LONGEST, ("region", "vpc", "private_subnets", "email"))
    if not REGION.fullmatch(own.region):
        raise Refused(f"`extra.aws.region` must be a region, as eu-west-1; got {show(own.region)}.")
    identifiers = (("vpc", (own.vpc,)), ("subnet", own.private_subnets), ("subnet", own.public_subnets))
    for path, (kind, given) in zip(("vpc", "private_subnets", "public_subnets"), identifiers, strict=True):
        for one in given:
            if not re.fullmatch(rf"{kind}-([0-9a-f]{{8}}|[0-9a-f]{{17}})", one):
                said = f"must be {kind}- and 8 or 17 hexadecimal digits"
                raise Refused(f"`extra.aws.{path}` {said}; got {show(one)}.")
    for one in own.callers:
        _check_range(one)
    if not INSTANCE.fullmatch(own.instance_type):
        raise Refused(f"`extra.aws.instance_type` must be a type, as g5.xlarge; got {show(own.instance_type)}.")
    grammar.check("extra.aws.state", own.state, BUCKET)
    if len(own.private_subnets) < 2:
        got = len(own.private_subnets)
        raise Refused(f"`extra.aws.private_subnets` must be two or more, in several zones; got {got}.")
    if own.certificate and not CERTIFICATE.fullmatch(own.certificate):
        raise Refused(f"`extra.aws.certificate` must be the ARN of a certificate in ACM; got {show(own.certificate)}.")
    if own.certificate and len(own.public_subnets) < 2:
        raise Refused("`extra.aws.certificate` needs two `extra.aws.public_subnets` or more, for its load balancer.")
    if own.certificate and not made.access.keys_secret:
        raise Refused("`extra.aws.certificate` needs `access.keys_secret`: who calls from outside has an API key.")
    if made.access.host and not own.certificate:
        raise Refused("`access.host` needs `extra.aws.certificate` on AWS: the load balancer speaks TLS by it.")
    if own.log_days not in DAYS:
        raise Refused(f"`extra.aws.log_days` must be one of {', '.join(map(str, DAYS))}; got {own.log_days}.")
    return own


def _check_range(given: str) -> None:
    """Refuse what is no range of addresses of IP."""
    try:
        ipaddress.IPv4Network(given)
    except ValueError:
        said = "must be ranges of addresses, as 203.0.113.0/24"
        raise Refused(f"`extra.aws.callers` {said}; got {show(given)}.") from None


def size(asked: ReplicaResources) -> tuple[int, int]:
    """Units and MiB of a task: the smallest that Fargate has and that is enough, on instances what was asked for.

    >>> size(ReplicaResources(cpu=1.0, memory=1024))
    (1024, 2048)
    """
    units = round(asked.cpu * 1024)
    if asked.accelerators:
        return units, asked.memory
    for has, least, most, step in FARGATE:
        memory = max(least, -(-asked.memory // step) * step)
        if has >= units and memory <= most:
            return has, memory
    said = "Fargate has at most 16 cores and 122880 MiB"
    raise Refused(f"`resources` must be less: {said}; got {asked.cpu:g} cores and {asked.memory} MiB.")


def notes(made: Deployment) -> Iterator[str]:
    """What is not as it was asked for, a line each."""
    cpu, memory = size(made.resources)
    if (cpu, memory) != (made.resources.cpu * 1024, made.resources.memory):
        yield f"{terraform.asked(made)}: a task has {cpu / 1024:g} cores and {memory} MiB, the next that Fargate has"
    if made.timings.grace > 120:
        yield f"a task is killed after 120 s, not {made.timings.grace}: Fargate waits no longer"
    yield from terraform.notes("aws", made, settings(made).state, "BUCKET")
