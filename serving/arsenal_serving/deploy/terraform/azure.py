"""Azure: Container Apps, on processors or on machines with GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from arsenal_serving.deploy import grammar, terraform
from arsenal_serving.deploy.description import Deployment, ReplicaResources, read_section
from arsenal_serving.deploy.terraform import apply
from arsenal_serving.refused import Refused, show

__all__ = ["Azure", "apply", "files", "notes"]

LONGEST = 32
"""Of a name with its environment, as a container app has it."""
STEPS, MOST = 0.25, 4.0
"""Cores of the consumption profile, with twice as many GiB: https://learn.microsoft.com/azure/container-apps/containers"""
REPLICAS = 1000
PROFILE = re.compile(r"(Consumption-GPU-)?NC[0-9]+[a-z]*-[A-Z]+[0-9]+")
LOCATION = re.compile(r"[a-z][a-z0-9]+")
DIGITS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
VAULT = re.compile(r"/subscriptions/[\w-]+/resourceGroups/[\w.()-]+/providers/Microsoft\.KeyVault/vaults/[\w-]+")
STATE = re.compile(r"[\w.()-]+/[a-z0-9]{3,24}/[a-z0-9-]+")


class Azure(NamedTuple):
    """What only Azure knows: the section `extra.azure`.

    key_vault: identifier of the vault that holds the API keys. profile: kind of machines with GPUs. serve: false makes
    the registry first. repository: OWNER/NAME on GitHub whose workflows may push. state: GROUP/ACCOUNT/CONTAINER for
    terraform's state. budget: an amount a month in the account's currency, of which `email` hears.
    """

    subscription: str = ""
    location: str = ""
    key_vault: str = ""
    profile: str = "NC24-A100"
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
        "cpu_target": made.scale.cpu,
        "grace": made.timings.grace,
        "profile": own.profile,
        "key_vault": own.key_vault,
        "subscription": own.subscription,
        "location": own.location,
        "labels": terraform.labels(made),
    }
    group, account, container = own.state.split("/") if own.state else ("", "", "")
    place = {"resource_group_name": group, "storage_account_name": account, "container_name": container}
    place |= {"key": f"{made.name}/{made.env}.tfstate", "use_azuread_auth": True}  # type: ignore[dict-item]
    provider = {"subscription_id": own.subscription, "storage_use_azuread": True, "features": {}}
    text = terraform.root(
        "azurerm", provider, ("azurerm", place) if own.state else None, given, [*terraform.OUTPUTS, "push_identity"]
    )
    return {"main.tf": text, **terraform.module("azure")}


def settings(made: Deployment) -> Azure:
    """The section `extra.azure`, checked."""
    own: Azure = read_section(Azure, made.extra.get("azure", {}), "extra.azure")
    needed = ("subscription", "location", "email", *(("key_vault",) if made.access.keys_secret else ()))
    terraform.check(made, "azure", own, LONGEST, needed)
    if not DIGITS.fullmatch(own.subscription):
        raise Refused(f"`extra.azure.subscription` must be an identifier, as 0000…-0000; got {show(own.subscription)}.")
    if own.key_vault and not VAULT.fullmatch(own.key_vault):
        raise Refused(f"`extra.azure.key_vault` must be a vault's /subscriptions/...; got {show(own.key_vault)}.")
    if own.state and not STATE.fullmatch(own.state):
        raise Refused(f"`extra.azure.state` must be GROUP/ACCOUNT/CONTAINER; got {show(own.state)}.")
    if not PROFILE.fullmatch(own.profile):
        raise Refused(f"`extra.azure.profile` must be machines with GPUs, as NC24-A100; got {show(own.profile)}.")
    if not LOCATION.fullmatch(own.location):
        raise Refused(f"`extra.azure.location` must be a region, as westeurope; got {show(own.location)}.")
    grammar.check_bounds({"extra.azure.log_days": own.log_days}, {"log_days": (30, 730, "days")})
    if made.scale.most > REPLICAS:
        raise Refused(f"`scale.most` must be at most {REPLICAS:,} on Container Apps; got {made.scale.most}.")
    if made.access.host:
        said = "bind it to the app after its name points there"
        raise Refused(f"`access.host` is not for `to=azure`: {said}; got {show(made.access.host)}.")
    if made.timings.grace > 600:
        raise Refused(f"`timings` must be at most 600 s from being told to stop to the kill; got {made.timings.grace}.")
    return own


def size(asked: ReplicaResources) -> tuple[float, int]:
    """Cores and MiB of a replica: on processors the smallest of the consumption profile, which has 2 GiB for each core.

    >>> size(ReplicaResources(cpu=1.0, memory=1024))
    (1.0, 2048)
    """
    if asked.accelerators:
        return asked.cpu, asked.memory
    cpu = max(-(-asked.cpu // STEPS), -(-asked.memory // (2048 * STEPS))) * STEPS
    if cpu > MOST:
        said = f"the consumption profile has at most {MOST:g} cores and {MOST * 2048:g} MiB"
        raise Refused(f"`resources` must be less: {said}; got {asked.cpu:g} cores and {asked.memory} MiB.")
    return cpu, round(cpu * 2048)


def notes(made: Deployment) -> Iterator[str]:
    """What is not as it was asked for, a line each."""
    cpu, memory = size(made.resources)
    if (cpu, memory) != (made.resources.cpu, made.resources.memory):
        said = f"a replica has {cpu:g} cores and {memory} MiB, the next that the consumption profile has"
        yield f"{terraform.asked(made)}: {said}"
    yield from terraform.notes("azure", made, settings(made).state, "GROUP/ACCOUNT/CONTAINER")
