"""The law of every target: whatever is asked of it changes its files, is told in a note, or is refused by name."""

import functools
import importlib

import pytest
import yaml
from clusters import CONF

from arsenal_serving.deploy import unheard
from arsenal_serving.deploy.description import SECTIONS, Deployment, describe, find_section, leaves
from arsenal_serving.refused import Refused

DIGEST = "sha256:" + "5f" * 32
MODULES = {cloud: f"terraform.{cloud}" for cloud in ("aws", "gcp", "azure")}
TARGETS = {name: importlib.import_module(f"arsenal_serving.deploy.{MODULES.get(name, name)}") for name in unheard.TABLE}
OWN = {
    "aws": {
        "region": "eu-west-1", "vpc": "vpc-0123456789abcdef0", "email": "a@example.org",
        "private_subnets": ["subnet-01234567", "subnet-01234568"],
    },
    "gcp": {"project": "research-1", "region": "europe-west1", "billing_account": "012345-6789AB-CDEF01", "email": "a@example.org"},
    "azure": {
        "subscription": "01234567-89ab-cdef-0123-456789abcdef", "location": "westeurope", "email": "a@example.org",
        "key_vault": "/subscriptions/0/resourceGroups/shared/providers/Microsoft.KeyVault/vaults/research",
    },
    "training": {"words": ["+experiment=penguins"], "folder": "/runs"},
}  # fmt: skip
"""What a target cannot do without."""
CHANGED = {
    "name": "zebras", "env": "staging", "namespace": "zoo", "owner": "science", "model.name": "zebras", "model.version": 3,
    "model.digest": DIGEST, "model.source": "mounted", "model.url": "https://models.example.org/penguins/1",
    "image.registry": "registry.example.org", "image.name": "zebras", "image.tag": "1.10", "image.digest": DIGEST,
    "image.accelerator": "cuda", "image.pull_secret": "pull", "server.port": 8100, "server.admin_port": 8200,
    "server.grpc_port": 9000, "server.workers": 2, "server.max_batch": 32, "server.monitor": False, "server.sample": 0.5,
    "server.redact": ["x.name"], "server.rate": 5.0, "server.more": ["--control"], "resources.cpu": 2.5, "resources.memory": 3000,
    "resources.scratch": 3000, "resources.accelerators": 1, "timings.start": 300, "timings.detach": 9, "timings.drain": 60,
    "scale.least": 0, "scale.most": 3, "scale.cpu": 50, "scale.queue": 99, "scale.latency": 0.5, "access.host": "a.example.org",
    "access.tls_secret": "tls", "access.keys_secret": "keys", "access.namespaces": ["shop"], "canary.version": 2,
    "canary.weight": 0.5, "canary.by": "traffic",
}  # fmt: skip
HOW = {"model.alias"}
"""How the version was asked for; the registry's event keeps it, and two ways to one version make the same files."""
ACTS = {
    ("local", "timings.start"), ("compose", "image.accelerator"), ("helm", "owner"),
    *((target, "extra.kubernetes.context") for target in (*unheard.PULLS, "helm")),
    ("helm", "extra.kubernetes.namespace"),
}  # fmt: skip
"""What the act hears and the files do not tell: how long it waits, where it goes, and the image that it makes."""
KUBERNETES = {
    "context": "c", "namespace": "have", "entry": "gateway", "entry_namespace": "gateways", "ingress_class": "traefik",
    "gateway": "gateways/public", "claim": "models", "state_claim": "state", "autoscaler": "keda",
    "prometheus": "http://prometheus.example.org", "monitoring": "pods", "monitoring_namespace": "watch",
    "metrics_secret": "metrics", "rules": {"groups": []}, "pre_stop": "exec", "priority_class": "urgent",
    "node_selector": {"kubernetes.io/arch": "arm64"}, "canary_image": "registry.example.org/zebras:2", "canary_errors": 0.05,
}  # fmt: skip
JOB = {"image": "registry.example.org/arsenal:1", "words": ["run=/data/a"], "claim": "runs"}
JOBS = {
    "image": "registry.example.org/arsenal:2", "words": ["run=/data/b"], "claim": "more", "cpu": 3.0, "memory": 9000,
    "accelerators": 1, "hosts": 2, "kind": "ray", "ray": "2.50.0", "ray_namespace": "ray", "schedule": "0 4 * * *",
    "attempts": 5, "seconds": 600,
}  # fmt: skip
SECTION = {
    "kserve": {"claim": "models"},
    "knative": {"calls": 9, "seconds": 60, "canary_image": "registry.example.org/zebras:2", "stable": "x-v1"},
    "compose": {"address": "0.0.0.0", "port": 9000, "models": "./m", "secrets": "./s"},
    "local": {"model": "m", "secrets": "s"},
    "systemd": {"environment": "/opt/a", "models": "/srv/m", "secrets": "/etc/s", "address": "0.0.0.0"},
    "aws": {
        "region": "eu-west-2", "vpc": "vpc-0123456789abcdef1", "private_subnets": ["subnet-01234567", "subnet-01234569"],
        "public_subnets": ["subnet-11234567"], "callers": ["203.0.113.0/24"], "instance_type": "g6.xlarge",
        "certificate": "arn:aws:acm:eu-west-1:123456789012:certificate/ab-12",
    },
    "gcp": {"project": "research-2", "region": "europe-west4", "billing_account": "012345-6789AB-CDEF02", "accelerator": "nvidia-h100"},
    "azure": {
        "subscription": "01234567-89ab-cdef-0123-456789abcdee", "location": "northeurope", "profile": "NC48-A100",
        "key_vault": "/subscriptions/1/resourceGroups/shared/providers/Microsoft.KeyVault/vaults/research",
    },
    "training": {
        "words": ["+experiment=zebras"], "hosts": 2, "accelerator": "A100", "accelerators": 2, "cpu": 5, "memory": 9000,
        "hours": 2.0, "folder": "/other",
    },
    "slurm": {
        "partition": "gpu", "account": "a", "qos": "b", "constraint": "c", "environment": "/shared/venv", "modules": ["cuda"],
        "requeue": False,
    },
    "skypilot": {
        "infra": "aws", "spot": True, "disk": 100, "bucket": "s3://b", "volume": "v", "setup": "true", "workdir": ".",
    },
}  # fmt: skip
CLOUD = {"serve": False, "repository": "research/penguins", "log_days": 400, "budget": 50.0, "email": "b@example.org"}
STATE = {"aws": "states", "gcp": "states", "azure": "shared/states/terraform"}
SECTION |= {cloud: SECTION[cloud] | CLOUD | {"state": STATE[cloud]} for cloud in STATE}
SECTION["kubernetes"] = KUBERNETES | {
    f"{job}.{key}": value for job in ("training", "prediction", "retraining") for key, value in JOBS.items()
}


TRAFFIC = {"version": 3, "weight": 0.25, "by": "traffic"}
HOST = {"host": "penguins.example.org", "tls_secret": "penguins-tls", "keys_secret": "penguins-keys"}
CERTIFICATE = {
    "extra.aws.certificate": SECTION["aws"]["certificate"], "extra.aws.public_subnets": ["subnet-01234567", "subnet-01234568"],
}  # fmt: skip
BASES = {
    "fetched": {"model.source": "fetched", "model.url": "https://models.example.org/penguins/1"},
    "mounted": {"model.source": "mounted", "extra.kubernetes.claim": "claim", "extra.kserve.claim": "claim", "canary.version": 3,
                "canary.weight": 0.25},
    "gpu": {"image.accelerator": "cuda", "resources.accelerators": 1, "resources.cpu": 4.0, "resources.memory": 16384},
    "scaled": {"scale.most": 4, "scale.queue": 5, "extra.kubernetes.autoscaler": "keda"},
    "gateway": {"access": HOST, "extra.kubernetes.entry": "gateway", "extra.kubernetes.gateway": "a"} | CERTIFICATE,
    "ingress": {"access": HOST, "canary": TRAFFIC, "extra.kubernetes.canary_image": "registry.example.org/penguins:3",
                "extra.knative.canary_image": "registry.example.org/penguins:3", "extra.kubernetes.monitoring": "pods",
                "extra.kubernetes.metrics_secret": "metrics"},
    "pushed": {"image.registry": "registry.example.com", "image.digest": "sha256:" + "1" * 64},
}  # fmt: skip
"""Where what else a field may need is there."""
CLOUDS = ("aws", "gcp", "azure")
REFUSED = {
    "fetched": ("kserve", "knative", *CLOUDS),
    "mounted": ("kserve", "knative", "compose", "local", "systemd", *CLOUDS),
    "gpu": ("knative",),
    "gateway": ("kserve", "compose", "azure"),
    "ingress": ("kserve", "compose", "local", "systemd", *CLOUDS),
}
"""Targets that do not do what a base of `BASES` asks, and refuse the whole; arsenal's own profiles are for every target."""


def sections(target):
    """Sections of `extra` that a target reads."""
    if target in unheard.PULLS:
        return list(dict.fromkeys(["kubernetes", *({target} & SECTIONS.keys())]))
    return [target, "training"] if target in ("slurm", "skypilot") else [target]


def base(target, name="default"):
    """A profile of a target: as it is by default, arsenal's own, or one of `BASES`."""
    profile = yaml.safe_load((CONF / f"{name}.yaml").read_text()) if name in ("staging", "production") else {}
    own = {name: OWN[name] for name in sections(target) if name in OWN}
    profile |= {"name": "penguins", "model": {"name": "penguins", "digest": "sha256:" + "0" * 64}, "extra": own}
    for path, value in BASES.get(name, {}).items():
        if not path.startswith("extra.") or path.split(".")[1] in sections(target):
            profile = change(profile, path, value)
    return profile


def change(profile, path, value):
    """A profile with another value at a path."""
    first, _, rest = path.partition(".")
    inner = change(profile.get(first) or {}, rest, value) if rest else value
    return profile | {first: inner}


def look(profile, path):
    """The value at a path; None where there is none."""
    first, _, rest = path.partition(".")
    return look(profile.get(first) or {}, rest) if rest else profile.get(first)


def hears(target, before, profile, path, value):
    """How a target hears of a field: "files" that are others than before, "note" or "refused"; None where it is silent."""
    module = TARGETS[target]
    try:
        made = describe(change(profile, path, value))
        after = module.files(made)
    except Refused as refused:
        parts = path.split(".")
        names = {path, f"{'.'.join(parts[:-1])}`"} if parts[0] == "extra" else {path, f"`{parts[0]}`"}
        assert any(name in str(refused) for name in names), f"{path}: {refused}"
        return "refused"
    told = "\n".join(line for line in module.notes(made) if f"{path}=" in line)
    return "note" if told else "files" if after != before else None


def every(target):
    """The path of every field that a target may be asked for, and another value."""
    yield from ((path, CHANGED[path]) for path in leaves(Deployment()) if path not in HOW)
    for name in sections(target):
        yield from ((f"extra.{name}.{path}", SECTION[name][path]) for path in leaves(find_section(name)()))


@pytest.mark.parametrize("name", ["default", "staging", "production", *(pytest.param(one, marks=pytest.mark.slow) for one in BASES)])
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_accepted_and_passed_over(target, name):
    made = describe(base(target, name))  # which holds for all: what is refused is the target's to say
    if target in REFUSED.get(name, ()):
        with pytest.raises(Refused):
            TARGETS[target].files(made)
        return
    silent, start = [], TARGETS[target].files(made)
    for path, value in every(target):
        if (target, path) in ACTS:
            continue
        profile = base(target, name)
        job = path.split(".")[2] if path.startswith("extra.kubernetes.") and path.count(".") == 3 else ""
        if job:
            given = JOB | ({"schedule": "0 3 * * *"} if job == "retraining" else {})
            profile = change(profile, f"extra.kubernetes.{job}", given)
        value = "development" if value == profile.get("env") else value
        if path == "model.version" and name == "fetched":  # whose address ends in it
            profile = change(profile, "model.url", f"https://models.example.org/penguins/{value}")
        before = TARGETS[target].files(describe(profile)) if job else start
        if value != look(profile, path) and not hears(target, before, profile, path, value):
            silent.append(f"{path}={value}")
    assert not silent


def told(target, **more):
    return list(TARGETS[target].notes(describe(base(target) | more)))


def test_what_is_as_it_usually_is_says_nothing():
    """As `arsenal deploy` describes a version for the profile development."""
    image = {"name": "arsenal-penguins", "tag": "1"}
    for target in ("local", "systemd", "compose", "kubernetes", "kserve", "slurm"):
        pulled = {"registry": "registry.example.org"} if target in unheard.PULLS else {}
        assert told(target, namespace="arsenal-development", image=image | pulled, timings={"detach": 0}) == [], target


def test_a_name_that_was_made_is_told():
    def note(name, model):
        return [one for one in told("local", name=name, model={"name": model}) if one.startswith("name=")]

    assert note("my-penguins", "My_Penguins") == [
        "name=my-penguins was made of 'My_Penguins': another model's may become the same; name= gives My_Penguins one of its own"
    ]
    assert note("m-1penguins", "1penguins") and not note("penguins", "penguins") and not note("birds", "My_Penguins")


@pytest.mark.parametrize("target", unheard.PULLS)
def test_an_image_without_a_registry_is_told(target):
    assert "image.registry is not given: arsenal-serve:latest would be asked of docker.io/library" in told(target)
    assert not [one for one in told(target, image={"registry": "registry.example.org"}) if "docker.io" in one]


def test_keys_that_travel_in_the_clear_are_told_and_refused():
    access = {"host": "a.example.org", "keys_secret": "keys"}
    clear = "access.host has no access.tls_secret: API keys travel in the clear, unless the entry has TLS itself"
    assert clear in told("kubernetes", access=access) and clear not in told("kubernetes", access=access | {"tls_secret": "tls"})
    for env in ("staging", "production"):
        with pytest.raises(Refused, match=r"`access\.host` needs `access\.tls_secret`"):
            TARGETS["kubernetes"].files(describe(base("kubernetes") | {"env": env, "access": access}))


@pytest.mark.parametrize("target", unheard.AT_LEAST_ONE)
def test_none_at_least_is_one(target):
    assert "scale.least=0 is not heard here: one replica is kept" in told(target, scale={"least": 0})


def test_the_guide_names_every_field_with_its_default():
    page = (CONF.parents[1] / "docs" / "guide" / "deploy.md").read_text()
    rows = {row.split("|")[1].strip(" `"): row for row in page.splitlines() if row.startswith("| `")}
    for path in leaves(Deployment()):
        section, _, key = path.rpartition(".")
        row = rows[section] if section else next(text for text in rows.values() if f"`{path}`" in text)
        assert f"`{key}`" in row, path
        value = functools.reduce(getattr, path.split("."), Deployment())
        if section in ("server", "resources", "timings", "scale"):
            said = "true" if value is True else "[]" if value == () else f"{value:g}"
            assert f"`{key}` {said}" in row, path
