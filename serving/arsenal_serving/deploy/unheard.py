"""What a target does not hear of a description: one table, by target, and the `note:` lines that are made of it.

A field that is as it usually is says nothing. What must not be passed over, since somebody's safety hangs on it, is
refused by the target instead and is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from arsenal_serving.deploy.description import (
    Deployment,
    find_section,
    image_name,
    label,
    leaves,
    read_section,
    value_at,
)
from arsenal_serving.refused import show


class Unheard(NamedTuple):
    """Fields, or sections of them, by path; why they change nothing; and where that is so."""

    paths: tuple[str, ...]
    why: str
    where: Callable[[Deployment], bool] = lambda made: True


def _cluster(*keys: str) -> tuple[str, ...]:
    return tuple(f"extra.kubernetes.{key}" for key in keys)


def _section(made: Deployment, name: str) -> Any:
    return read_section(find_section(name), made.extra.get(name, {}), f"extra.{name}")


def _not_scaled(made: Deployment) -> bool:
    return made.scale.most <= made.scale.least


def _no_gpu(made: Deployment) -> bool:
    return not made.resources.accelerators


def _asks_prometheus(made: Deployment) -> bool:
    keda = _section(made, "kubernetes").autoscaler == "keda"
    return keda and not _not_scaled(made) and bool(made.scale.queue or made.scale.latency)


def _files(target: str) -> tuple[Unheard, ...]:
    """Secrets of one machine are files of one name; those that arsenal's own profiles name surprise nobody."""
    where = f"in `extra.{target}.secrets`, whatever the secret's name"
    return (
        Unheard(("access.keys_secret",), f"keys.json is {where}", lambda m: m.access.keys_secret != "arsenal-keys"),
        Unheard(("access.tls_secret",), f"tls.crt is {where}", lambda m: m.access.tls_secret != "arsenal-tls"),
    )


ENTRY = ("entry", "entry_namespace", "ingress_class", "gateway")
WATCHED = ("autoscaler", "prometheus", "monitoring", "monitoring_namespace", "metrics_secret", "rules")
JOBS = ("training", "prediction", "retraining")
MEASURES = ("scale.queue", "scale.latency")
PROCESS = ("namespace", "owner", "scale.cpu", *MEASURES)
CLOUD_IMAGE = Unheard(("image.accelerator",), "`resources.accelerators` is 0", _no_gpu)
CLOUD = (
    Unheard(("namespace",), "a container service has none"),
    Unheard(MEASURES, "the service scales by its own measure"),
    Unheard(("access.tls_secret",), "the front end has its own certificate"),
    CLOUD_IMAGE,
)
SERVING = (
    Unheard(("canary.version", "canary.by"), "`canary.weight` is 0", lambda made: not made.canary.weight),
    Unheard(("scale.cpu", *MEASURES), "`scale.most` is `scale.least`", _not_scaled),
    Unheard(("image.tag",), "`image.digest` says which", lambda made: bool(made.image.digest)),
)
"""Of whatever serves."""
CLUSTER = (
    Unheard(_cluster(*ENTRY), "there is no `access.host`", lambda made: not made.access.host),
    Unheard(
        _cluster("gateway"), "`extra.kubernetes.entry` is ingress",
        lambda made: _section(made, "kubernetes").entry == "ingress",
    ),
    Unheard(
        ("access.tls_secret", *_cluster("ingress_class")), "the gateway has its own class and certificate",
        lambda made: bool(made.access.host) and _section(made, "kubernetes").entry == "gateway",
    ),
    Unheard(_cluster("claim"), "`model.source` is not mounted", lambda made: made.model.source != "mounted"),
    Unheard(_cluster("autoscaler"), "`scale.most` is `scale.least`", _not_scaled),
    Unheard(
        _cluster("prometheus"), "no autoscaler of KEDA's has a queue or a latency to ask for",
        lambda made: not _asks_prometheus(made),
    ),
    Unheard(
        _cluster("monitoring_namespace"), "`server.admin_port` is 0", lambda made: not made.server.admin_port
    ),
    Unheard(
        _cluster("metrics_secret"), "metrics are read by no PodMonitor with an API key",
        lambda made: _section(made, "kubernetes").monitoring == "none" or not made.access.keys_secret,
    ),
    Unheard(_cluster("pre_stop"), "`timings.detach` is 0", lambda made: not made.timings.detach),
    Unheard(
        _cluster("canary_image"), "no canary is by traffic",
        lambda made: not made.canary.weight or made.canary.by != "traffic",
    ),
    Unheard(
        _cluster("canary_errors"), "no canary is by the server",
        lambda made: not made.canary.weight or made.canary.by != "server",
    ),
    Unheard(
        _cluster("training.ray", "training.ray_namespace"), "`extra.kubernetes.training.kind` is not ray",
        lambda made: _section(made, "kubernetes").training.kind != "ray",
    ),
    Unheard(
        _cluster(*(f"{job}.{key}" for job in JOBS[1:] for key in ("ray", "ray_namespace"))), "only a training is by Ray"
    ),
    *SERVING,
)  # fmt: skip
TRAINED = Unheard(
    ("namespace", "owner", "model", "image", "server", "resources", "timings", "scale", "access", "canary"),
    "a training serves nothing",
)
TABLE: dict[str, tuple[Unheard, ...]] = {
    "kubernetes": CLUSTER,
    "kustomize": CLUSTER,
    "helm": (Unheard(_cluster(*JOBS), "jobs are not the chart's; to=kubernetes writes them"), *CLUSTER),
    "kserve": (
        Unheard(MEASURES, "KServe scales by cores"),
        Unheard(("access.tls_secret",), "TLS is of the cluster's own gateway"),
        Unheard(
            _cluster(*ENTRY, *WATCHED, "claim", "canary_image", "canary_errors", *JOBS), "KServe does it, or nobody",
        ),
        Unheard(_cluster("pre_stop"), "`timings.detach` is 0", lambda made: not made.timings.detach),
        Unheard(("extra.kserve.claim",), "`model.source` is not mounted", lambda made: made.model.source != "mounted"),
        *SERVING,
    ),
    "knative": (
        Unheard(("scale.cpu", *MEASURES), "Knative counts calls, `extra.knative.calls`"),
        Unheard(
            ("access.tls_secret",), "TLS is of the cluster's own gateway", lambda made: not made.access.host
        ),
        Unheard(("timings.detach",), "Knative's own proxy waits before the signal"),
        Unheard(
            _cluster(*ENTRY, *WATCHED, "claim", "state_claim", "pre_stop", "priority_class", "node_selector",
                     "canary_image", "canary_errors", *JOBS), "Knative as it is installed does it, or takes none",
        ),
        Unheard(("image.registry", "image.name", "image.tag", "image.digest"),
                "the next revision is of `extra.knative.canary_image`", lambda made: bool(made.canary.weight)),
        Unheard(
            ("extra.knative.canary_image", "extra.knative.stable"), "`canary.weight` is 0",
            lambda made: not made.canary.weight,
        ),
        *SERVING,
    ),
    "compose": (
        Unheard(("namespace", "scale.most", "scale.cpu", *MEASURES), "compose keeps `scale.least` replicas"),
        Unheard(("access.host",), "a host name is nginx', in staging and production",
                lambda made: made.env == "development"),
        *_files("compose"),
        Unheard(("image.pull_secret",), "images are pulled as this machine is logged in"),
        Unheard(("image.accelerator",), "`resources.accelerators` is 0, and the image is made elsewhere",
                lambda made: _no_gpu(made) and bool(made.image.registry or made.model.source != "inside")),
        Unheard(("extra.compose.models",), "`model.source` is not mounted",
                lambda made: made.model.source != "mounted"),
        *SERVING,
    ),
    "local": (
        Unheard((*PROCESS, "scale.most"), "there are `scale.least` processes of this machine"),
        Unheard(("resources", "image"), "a process runs here as it is, and takes what it needs"),
        Unheard(("model.source", "model.url"), "the version lies beside the plan, or in `extra.local.model`"),
        Unheard(("access.host",), "the server answers on the loopback address alone"),
        Unheard(("timings.detach",), "nothing stands before the server"),
        *_files("local"),
        Unheard(("extra.local.secrets",), "there is neither `access.keys_secret` nor `access.tls_secret`",
                lambda made: not (made.access.keys_secret or made.access.tls_secret)),
        *SERVING,
    ),
    "systemd": (
        Unheard((*PROCESS, "scale.most"), "there are `scale.least` units of this machine"),
        Unheard(("image", "resources.scratch"), "a unit runs what is in `extra.systemd.environment`"),
        Unheard(("access.host",), "what stands before the units has the name"),
        Unheard(("server.admin_port",), "an instance's is its own port with a 1 before it"),
        Unheard(("extra.systemd.models",), "the version is fetched", lambda made: made.model.source == "fetched"),
        *_files("systemd"),
        Unheard(("model.source",), "the version lies in `extra.systemd.models`",
                lambda made: made.model.source == "mounted"),
        Unheard(("extra.systemd.secrets",), "there is neither `access.keys_secret` nor `access.tls_secret`",
                lambda made: not (made.access.keys_secret or made.access.tls_secret)),
        *SERVING,
    ),
    "aws": (
        Unheard(("resources.scratch",), "a task has the 20 GiB that Fargate gives"),
        Unheard(("image.name",), "the registry that is made here is named by the deployment",
                lambda made: not made.image.registry),
        Unheard(("access.host",), "a name of yours is pointed at the load balancer, whose certificate has it"),
        Unheard(("extra.aws.instance_type",), "`resources.accelerators` is 0", _no_gpu),
        *CLOUD, *SERVING,
    ),
    "gcp": (
        Unheard(("scale.cpu",), "Cloud Run scales at 60 % of cores and by calls under way"),
        Unheard(("timings.detach",), "Cloud Run takes a replica from its calls by itself"),
        *CLOUD, *SERVING,
    ),
    "azure": (
        Unheard(("resources.scratch",), "a replica has what Container Apps give by its cores"),
        Unheard(("extra.azure.profile",), "`resources.accelerators` is 0", _no_gpu),
        *CLOUD, *SERVING,
    ),
    "slurm": (TRAINED,),
    "skypilot": (TRAINED,),
}  # fmt: skip
PULLS = ("kubernetes", "kustomize", "helm", "kserve", "knative")
AT_LEAST_ONE = ("compose", "local", "systemd")


def notes(target: str, made: Deployment) -> Iterator[str]:
    """What of a description a target does not hear, and what may surprise there, a line each.

    >>> list(notes("local", Deployment(name="digits", model=Deployment().model._replace(name="digits"), owner="me")))
    ['owner=me is not heard here: there are `scale.least` processes of this machine']
    """
    told: set[str] = set()
    for row in TABLE[target]:
        said = []
        if row.where(made):
            said = [path for path in _paths(row.paths) if path not in told and not _is_usual(made, path)]
        told |= set(said)
        if said:
            listed = ", ".join(f"{path}={_text(_look(made, path))}" for path in said)
            yield f"{listed} {'are' if len(said) > 1 else 'is'} not heard here: {row.why}"
    yield from _surprises(target, made)


def _surprises(target: str, made: Deployment) -> Iterator[str]:
    if made.name != made.model.name and made.name == label(made.model.name):
        said = f"another model's may become the same; name= gives {made.model.name} one of its own"
        yield f"name={made.name} was made of {show(made.model.name)}: {said}"
    pulls = target in PULLS or (target == "compose" and made.model.source != "inside")
    if pulls and not made.image.registry:
        place = "docker.io" if "/" in made.image.name else "docker.io/library"
        yield f"image.registry is not given: {made.image.reference} would be asked of {place}"
    if target in AT_LEAST_ONE and made.scale.least == 0:
        yield "scale.least=0 is not heard here: one replica is kept"
    if target in ("kubernetes", "kustomize", "helm", "knative") and made.access.host and made.access.keys_secret:
        entry = target == "knative" or _section(made, "kubernetes").entry == "ingress"
        if entry and not made.access.tls_secret:
            yield "access.host has no access.tls_secret: API keys travel in the clear, unless the entry has TLS itself"


def _paths(paths: tuple[str, ...]) -> Iterator[str]:
    """Those of every field below."""
    for path in paths:
        parts = path.split(".")
        if parts[0] == "extra":
            kind = find_section(parts[1])()
            value = value_at(kind, ".".join(parts[2:]))
        else:
            value = value_at(Deployment(), path)
        yield from leaves(value, path) if hasattr(value, "_fields") else [path]


def _look(made: Deployment, path: str) -> Any:
    if not path.startswith("extra."):
        return value_at(made, path)
    _, name, rest = path.split(".", 2)
    return value_at(_section(made, name), rest)


def _is_usual(made: Deployment, path: str) -> bool:
    """Whether a field is as it is by default, or as `arsenal deploy` and its own profiles give it."""
    usual: dict[str, tuple[Any, ...]] = {
        "namespace": (f"arsenal-{made.env}",),
        "timings.detach": (0,),
        "model.name": (made.model.name,),
        "model.version": (made.model.version,),
        "model.digest": (made.model.digest,),
        "model.alias": (made.model.alias,),
        "image.name": (image_name(made.model.name),),
        "image.tag": (str(made.model.version),),
    }
    value = _look(made, path)
    return value == _look(Deployment(), path) or value in usual.get(path, ())


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return show(list(value))
    return value if isinstance(value, str) and value and value.isprintable() and len(value) <= 80 else show(value)
