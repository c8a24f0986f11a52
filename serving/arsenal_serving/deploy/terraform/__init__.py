"""Terraform for a container service of AWS, Google Cloud or Azure: a module each, and the root that calls it.

The module's HCL lies beside this file, in CLOUD_module/, and is written as it is; what differs from deployment to
deployment is the arguments that the root gives it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from arsenal_serving.deploy import grammar, unheard
from arsenal_serving.deploy.commands import find, run
from arsenal_serving.deploy.description import ORIGIN, Deployment, arguments
from arsenal_serving.refused import Refused, show

__all__ = ["apply", "asked", "check", "hcl", "labels", "literal", "module", "notes", "root", "shared"]

HERE = Path(__file__).parent
OUTPUTS = ("image_registry", "cluster", "bucket", "url")
"""What every module gives besides who may push images."""
PATIENCE = 120.0
"""Seconds for terraform to keep what it has made when it is told to end."""
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def module(cloud: str) -> dict[str, str]:
    """The files of a cloud's module, as they lie in module/."""
    found = sorted((HERE / f"{cloud}_module").glob("*.tf"))
    return {f"module/{path.name}": path.read_text(encoding="utf-8") for path in found}


def check(made: Deployment, cloud: str, section: Any, longest: int, needed: Sequence[str]) -> None:
    """Refuse, in one line, what a container service does not do, and a section that lacks what it needs.

    longest: characters of the name and the environment, with a dash between.
    """
    if made.model.source != "inside":
        said = f"an image that holds the model, `model.source=inside`; got {made.model.source}"
        raise Refused(f"`to={cloud}` serves {said}.")
    if made.canary.weight:
        raise Refused(f"`canary.weight` is not for `to={cloud}`; to=kubernetes has it; got {made.canary.weight:g}.")
    if made.server.grpc_port:
        said = f"which lets calls in at one port; got {made.server.grpc_port}"
        raise Refused(f"`server.grpc_port` is not for `to={cloud}`, {said}.")
    if made.image.pull_secret:
        said = "which pulls by its own identity"
        raise Refused(f"`image.pull_secret` is not for `to={cloud}`, {said}; got {show(made.image.pull_secret)}.")
    if made.access.namespaces:
        said = f"which has none; got {show(list(made.access.namespaces))}"
        raise Refused(f"`access.namespaces` is not for `to={cloud}`, {said}.")
    if made.image.digest and not made.image.registry:
        raise Refused("`image.digest` needs `image.registry`: the one that is made here has no image yet.")
    if len(f"{made.name}-{made.env}") > longest:
        said = f"must be at most {longest - len(made.env) - 1} characters for `to={cloud}` in {made.env}"
        raise Refused(f"`name` {said}; got {made.name}.")
    for key in needed:
        if not getattr(section, key):
            raise Refused(f"`extra.{cloud}.{key}` is needed for `to={cloud}`; docs/deploy/{cloud}.md says what it is.")
    if section.repository and not REPOSITORY.fullmatch(section.repository):
        raise Refused(f"`extra.{cloud}.repository` must be OWNER/NAME on GitHub; got {show(section.repository)}.")
    if not EMAIL.fullmatch(section.email):
        raise Refused(f"`extra.{cloud}.email` must be an address, who hears of the budget; got {show(section.email)}.")
    budget = {f"extra.{cloud}.budget": section.budget}
    grammar.check_bounds(budget, {"budget": (1, 1_000_000_000, "a month")})


def shared(made: Deployment, section: Any) -> dict[str, Any]:
    """The arguments that every module takes."""
    keys = "/run/secrets/keys.json" if made.access.keys_secret else ""
    return {
        "name": made.name,
        "env": made.env,
        "image": made.image.reference if made.image.registry else "",
        "serve": section.serve,
        "words": arguments(made, f"/models/{made.model.name}", keys),
        "port": made.server.port,
        "accelerators": made.resources.accelerators,
        "least": made.scale.least,
        "most": made.scale.most,
        "start": made.timings.start,
        "keys_secret": made.access.keys_secret,
        "repository": section.repository,
        "log_days": section.log_days,
        "budget": section.budget,
        "email": section.email,
    }


def labels(made: Deployment) -> dict[str, str]:
    """What every resource says of itself, in the letters that all three clouds take."""
    told = {
        "arsenal-deployment": f"{made.name}-{made.env}",
        "arsenal-model": made.model.name,
        "arsenal-version": str(made.model.version),
        "arsenal-digest": made.model.digest.removeprefix("sha256:"),
        "arsenal-owner": made.owner,
        "managed-by": "arsenal",
    }
    return {key: re.sub(r"[^a-z0-9_-]", "-", value.lower())[:63] for key, value in told.items() if value}


def asked(made: Deployment) -> str:
    """What was asked for of a replica, as a note begins."""
    return f"resources.cpu={made.resources.cpu:g} and resources.memory={made.resources.memory}"


def notes(cloud: str, made: Deployment, state: str, where: str) -> Iterator[str]:
    """What a container service does otherwise than asked, a line each. state, where: it, and what it would be."""
    if not state:
        yield f"terraform's state lies in the folder; extra.{cloud}.state={where} shares it"
    if made.server.monitor or made.server.sample:
        yield "what the server monitors and logs of requests lies in /var/lib/arsenal and goes with a replica"
    yield from unheard.notes(cloud, made)


def root(
    provider: str, settings: Mapping[str, Any], backend: tuple[str, Mapping[str, Any]] | None, given: Mapping[str, Any],
    outputs: Sequence[str],
) -> str:  # fmt: skip
    """The root's HCL: the provider, where terraform keeps its state, the module with its arguments, the outputs.

    settings: the provider's block, text as `hcl` writes it. A state without a backend lies in the folder.
    """
    kept = f'\n  backend "{backend[0]}" {{\n{hcl(backend[1], 4)}\n  }}\n' if backend else ""
    parts = [
        f'terraform {{\n  required_version = ">= 1.10"\n{kept}}}',
        f'provider "{provider}" {{\n{hcl(settings)}\n}}',
        'module "server" {\n  source = "./module"\n\n' + hcl(given) + "\n}",
        *(f'output "{name}" {{\n  value = module.server.{name}\n}}' for name in outputs),
    ]
    return f"{ORIGIN}\n\n" + "\n\n".join(parts) + "\n"


def hcl(entries: Mapping[str, Any], indent: int = 2) -> str:
    """Arguments and blocks as `terraform fmt` leaves them; a mapping of mappings is a block, any other an object.

    >>> print(hcl({"name": "a ${b}", "most": 2, "tags": {"env": "staging"}}))
      name = "a $${b}"
      most = 2
    <BLANKLINE>
      tags = {
        env = "staging"
      }
    """
    blank, groups = " " * indent, []
    plain = {key: value for key, value in entries.items() if not isinstance(value, Mapping)}
    if plain:
        width = max(map(len, plain))
        groups.append("\n".join(f"{blank}{key:<{width}} = {literal(value)}" for key, value in plain.items()))
    for key, value in entries.items():
        if isinstance(value, Mapping):
            is_block = not value or any(isinstance(one, Mapping) for one in value.values())
            inner = f"\n{hcl(value, indent + 2)}\n{blank}" if value else ""
            groups.append(f"{blank}{key} {'' if is_block else '= '}{{{inner}}}")
    return "\n\n".join(groups)


def literal(value: Any) -> str:
    """A text, number, truth or list as HCL; `${` and `%{` in a text stay what they are."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("${", "$${").replace("%{", "%%{") if isinstance(value, str) else text


def apply(folder: Path, made: Deployment, say: Callable[[str], None]) -> dict[str, Any]:
    """Plan and apply a folder; gives the outputs. `Refused` in one line where terraform fails.

    What was made before a failure is in terraform's state: the same command goes on from there.
    """
    terraform = find("terraform", "tofu", install="https://developer.hashicorp.com/terraform/install")
    quiet = ("-input=false", "-no-color")
    run([terraform, "init", *quiet], folder, seconds=600)
    planned = run([terraform, "plan", *quiet, "-out=plan.tfplan"], folder, patience=PATIENCE)
    said = [line for line in planned.splitlines() if line.startswith(("Plan:", "No changes."))]
    say(said[0] if said else "planned")
    try:
        run([terraform, "apply", *quiet, "plan.tfplan"], folder, seconds=3600, patience=PATIENCE)
    finally:
        (folder / "plan.tfplan").unlink(missing_ok=True)
    told = json.loads(run([terraform, "output", "-json", "-no-color"], folder, seconds=60))
    found = {name: one["value"] for name, one in told.items() if not one.get("sensitive")}
    for name, value in found.items():
        say(f"{name}: {value}")
    return found
