"""Write serving/deploy: what each target's files are for an example model, in every environment.

`python scripts/deploy_examples.py` writes them; `python scripts/deploy_examples.py --check` ends with 1 if they are not as it
would write them.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from arsenal_serving.deploy import compose, helm, image, knative, kserve, kubernetes, kustomize, skypilot, slurm, systemd
from arsenal_serving.deploy.description import ENVIRONMENTS, Deployment, describe
from arsenal_serving.deploy.terraform import aws, azure, gcp

from arsenal.monitoring.exports import grafana_dashboard, prometheus_rules

HERE = Path(__file__).resolve().parents[1]
FOLDER = HERE / "serving" / "deploy"
PENGUINS: dict[str, Any] = {
    "name": "penguins",
    "owner": "research",
    "model": {
        "name": "penguins",
        "version": 1,
        "alias": "champion",
        "digest": "sha256:7d1a54127b222502f5b79b5fb0803061152a44f92b37e23c6527baf665d4da9a",
    },
    "image": {"registry": "registry.example.org/research", "name": "arsenal-penguins", "tag": "1"},
    "extra": {
        "aws": {
            "region": "eu-west-1", "vpc": "vpc-0123456789abcdef0", "email": "research@example.org",
            "private_subnets": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"], "repository": "research/penguins",
        },
        "gcp": {
            "project": "research-penguins", "region": "europe-west1", "billing_account": "012345-6789AB-CDEF01",
            "email": "research@example.org", "repository": "research/penguins",
        },
        "azure": {
            "subscription": "01234567-89ab-cdef-0123-456789abcdef", "location": "westeurope", "email": "research@example.org",
            "key_vault": "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/shared"
            "/providers/Microsoft.KeyVault/vaults/research",
            "repository": "research/penguins",
        },
        "training": {"words": ["+experiment=penguins", "data.path=penguins.csv"], "hours": 2.0, "folder": "/shared/runs"},
    },
}  # fmt: skip
"""What the examples say beyond their profile in conf/deployment."""


def images(*several: Deployment) -> dict[str, str]:
    """The build context of production, from which others differ by the words of its last line, and of one for GPUs."""
    made = several[-1]
    gpu = made._replace(image=made.image._replace(accelerator="cuda"))
    contexts = {"cpu": image.files(made), "cuda": image.files(gpu)}
    return {f"{kind}/{path}": text for kind, files in contexts.items() for path, text in files.items()}


def root_of(files: Mapping[str, str]) -> dict[str, str]:
    """Of a cloud's files the one that differs from deployment to deployment; the module is kept beside its code."""
    return {"main.tf": files["main.tf"]}


TARGETS: dict[str, Callable[[Deployment], dict[str, str]]] = {
    "compose": compose.files,
    "knative": knative.files,
    "kserve": kserve.files,
    "kubernetes": kubernetes.files,
    "skypilot": skypilot.files,
    "slurm": slurm.files,
    "systemd": systemd.files,
    "terraform/aws": lambda made: root_of(aws.files(made)),
    "terraform/azure": lambda made: root_of(azure.files(made)),
    "terraform/gcp": lambda made: root_of(gcp.files(made)),
}
"""Folders of serving/deploy, each with a folder for every environment: the target's function to its files."""
TOGETHER: dict[str, Callable[..., dict[str, str]]] = {"docker": images, "helm": helm.files, "kustomize": kustomize.files}
"""As `TARGETS`, of targets that are given all environments at once and write one folder."""


def example(env: str, more: Mapping[str, Any] = {}) -> Deployment:
    """The example in an environment, by its profile."""
    profile = yaml.safe_load((HERE / "conf" / "deployment" / f"{env}.yaml").read_text(encoding="utf-8"))
    return describe({**profile, **PENGUINS, **more})


def wanted() -> dict[str, str]:
    """Every file below serving/deploy that is made, by path, with its text."""
    found = {}
    for target, files in TARGETS.items():
        for env in ENVIRONMENTS:
            found |= {f"{target}/{env}/{path}": text for path, text in files(example(env)).items()}
    for target, together in TOGETHER.items():
        found |= {f"{target}/{path}": text for path, text in together(*map(example, ENVIRONMENTS)).items()}
    return found


def watched() -> dict[Path, str]:
    """What a server alone is watched by, package data of the server: arsenal's own rules and dashboard."""
    made = {"rules.json": prometheus_rules(), "dashboard.json": grafana_dashboard()}
    return {Path(compose.__file__).parent / "monitoring" / name: json.dumps(one, indent=1) + "\n" for name, one in made.items()}


def differences() -> list[str]:
    """What serving/deploy and the server's package data have otherwise, a line each."""
    made, data = wanted(), watched()
    there = {
        path.relative_to(FOLDER).as_posix(): path
        for target in (*TARGETS, *TOGETHER)
        for path in sorted((FOLDER / target).rglob("*"))
        if path.is_file()
    }
    said = [f"{name} is made by nothing" for name in there if name not in made]
    said += [f"{name} is not there" for name in made if name not in there]
    said += [f"{path.name} of the package differs" for path, text in data.items() if path.read_text("utf-8") != text]
    return said + [f"{name} differs" for name, text in made.items() if name in there and there[name].read_text("utf-8") != text]


def write() -> None:
    """Write what there is to write, and remove what nothing makes any more."""
    for path, text in watched().items():  # first, since examples are made of it
        path.write_text(text, encoding="utf-8")
    made = wanted()
    for target in (*TARGETS, *TOGETHER):
        for path in sorted((FOLDER / target).rglob("*"), reverse=True):
            if path.is_file() and path.relative_to(FOLDER).as_posix() not in made:
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()
    for name, text in made.items():
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_text(text, encoding="utf-8")


def main() -> int:
    """Write the files, or say what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, end with 1 where something differs")
    if not parser.parse_args().check:
        write()
        return 0
    said = differences()
    if said:
        print("\n".join([*said, "python scripts/deploy_examples.py writes them anew."]))
    return bool(said)


if __name__ == "__main__":
    sys.exit(main())
