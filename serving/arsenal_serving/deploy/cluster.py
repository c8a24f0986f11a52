"""What only a cluster knows of a deployment, and what all of its pods share: names, amounts, security.

Pods keep to the standard `restricted`: https://kubernetes.io/docs/concepts/security/pod-security-standards
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from arsenal_serving.deploy import grammar
from arsenal_serving.deploy.description import Deployment, read_section
from arsenal_serving.refused import Refused, show

USER = 65532
OWNER = "arsenal.owner"
"""The namespace's label that says whose it is."""
CRON = grammar.Spelling(
    re.compile(r"[0-9*/,-]+( [0-9A-Za-z*/,-]+){4}"), 100, "cron's five fields, as '0 3 * * *'"
)
BOUNDS: grammar.Bounds = {
    "cpu": (0.01, 1024, "cores"),
    "memory": (64, 16_777_216, "MiB"),
    "accelerators": (0, 1024, ""),
    "hosts": (1, 10_000, "pods"),
    "attempts": (0, 1000, ""),
    "seconds": (0, 31_622_400, "seconds"),
}
"""Of a job."""
KEEP = types.MappingProxyType({})


class Work(NamedTuple):
    """A job beside the server, by `arsenal` in an image that has it: `words` are those of its command line.

    claim: a volume claim, at /data, where runs, data and what comes out lie. memory: MiB. hosts: pods that are one run,
    each told which one it is. kind: who keeps them together; JobSet and KubeRay must be installed, its operator
    in `ray_namespace`. schedule: of cron. attempts: how often a pod may fail. seconds: a job's, 0 for no end.
    """

    image: str = ""
    words: tuple[str, ...] = ()
    claim: str = ""
    cpu: float = 2.0
    memory: int = 4096
    accelerators: int = 0
    hosts: int = 1
    kind: Literal["job", "jobset", "ray"] = "job"
    ray: str = "2.49.0"
    ray_namespace: str = "kuberay-system"
    schedule: str = ""
    attempts: int = 3
    seconds: int = 0


class Kubernetes(NamedTuple):
    """What only a cluster knows: the section `extra.kubernetes`.

    context: of kubectl's configuration; nothing is applied anywhere else. entry: what lets calls in from outside, where
    `access.host` is. claim: the volume claim with NAME/VERSION/, for `model.source=mounted`. state_claim: where windows
    of monitoring and the request log outlive a pod, a folder each; without one they go with it. autoscaler: Kubernetes'
    own, whose queue and latency need prometheus-adapter, or KEDA's. monitoring: the Prometheus operator reads the pods,
    by `rules`, if there are any (`groups` as Prometheus has them). metrics_secret: `token` in it is the API key that
    reads metrics. canary_errors: how much larger a canary's share of failures may be before the server rolls it back.
    """

    context: str = ""
    namespace: Literal["make", "have"] = "make"
    entry: Literal["ingress", "gateway"] = "ingress"
    entry_namespace: str = "ingress-nginx"
    ingress_class: str = "nginx"
    gateway: str = ""
    claim: str = ""
    state_claim: str = ""
    autoscaler: Literal["hpa", "keda"] = "hpa"
    prometheus: str = "http://prometheus-operated.monitoring:9090"
    monitoring: Literal["none", "pods"] = "none"
    monitoring_namespace: str = "monitoring"
    metrics_secret: str = ""
    rules: Mapping[str, Any] = KEEP
    pre_stop: Literal["sleep", "exec"] = "sleep"
    priority_class: str = ""
    node_selector: Mapping[str, Any] = KEEP
    canary_image: str = ""
    canary_errors: float = 0.01
    training: Work = Work()
    prediction: Work = Work()
    retraining: Work = Work()


def settings(made: Deployment) -> Kubernetes:
    """The section `extra.kubernetes`, checked with what it hangs on; raises `Refused`."""
    own: Kubernetes = read_section(Kubernetes, made.extra.get("kubernetes", {}), "extra.kubernetes")
    _check(made, own)
    return own


def _check(made: Deployment, own: Kubernetes) -> None:
    grammar.check_each({"model.name": made.model.name, "owner": made.owner}, grammar.VALUE)
    _check_texts(own)
    grammar.check_bounds({"extra.kubernetes.canary_errors": own.canary_errors}, {"canary_errors": (0, 1, "a share")})
    if len(made.name) > 50:
        raise Refused(f"`name` must be at most 50 characters, since objects are named by it; got {len(made.name)}.")
    if made.model.source == "mounted" and not own.claim:
        raise Refused("`model.source=mounted` needs `extra.kubernetes.claim`: the volume claim that holds the model.")
    if made.scale.least < 1:
        raise Refused("`scale.least` must be at least 1 on Kubernetes; Knative serves with none (to=knative); got 0.")
    clear = made.access.host and made.access.keys_secret and not made.access.tls_secret
    if clear and made.env != "development" and own.entry == "ingress":
        raise Refused(f"`access.host` needs `access.tls_secret` in {made.env}: API keys would travel in the clear.")
    if made.access.host and own.entry == "gateway" and not own.gateway:
        raise Refused("`extra.kubernetes.entry=gateway` needs `extra.kubernetes.gateway`: NAME or NAMESPACE/NAME.")
    if own.monitoring == "pods" and not made.server.admin_port:
        raise Refused("`extra.kubernetes.monitoring=pods` needs `server.admin_port`: metrics are there.")
    if own.monitoring == "pods" and made.access.keys_secret and not own.metrics_secret:
        said = "with API keys who reads metrics must have one"
        raise Refused(f"`extra.kubernetes.metrics_secret` is needed by `extra.kubernetes.monitoring=pods`: {said}.")
    if own.rules and own.monitoring == "none":
        raise Refused("`extra.kubernetes.rules` goes with `extra.kubernetes.monitoring=pods`.")
    if (made.scale.queue or made.scale.latency) and made.scale.most > made.scale.least and not made.server.admin_port:
        raise Refused("`scale.queue` and `scale.latency` need `server.admin_port`: metrics are there.")
    if made.canary.weight and made.canary.version == made.model.version:
        raise Refused(f"`canary.version` must be another than `model.version`; both are {made.model.version}.")
    if made.canary.weight and made.canary.by == "server" and made.model.source != "mounted":
        said = "one server compares versions of one folder"
        raise Refused(f"`canary.by=server` needs `model.source=mounted`: {said}; got {made.model.source}.")
    if made.canary.weight and made.canary.by == "traffic":
        if own.entry == "ingress" and own.ingress_class != "nginx":
            said = "only nginx has weights of an ingress, and `entry=gateway` has them"
            got = show(own.ingress_class)
            raise Refused(f"`extra.kubernetes.ingress_class` must be nginx for `canary.by=traffic`: {said}; got {got}.")
        if not made.access.host:
            raise Refused("`canary.by=traffic` needs `access.host`: weights are the ingress' or the gateway's.")
        if made.model.source == "fetched":
            raise Refused("`canary.by=traffic` needs `model.source` inside or mounted; got fetched.")
        if made.model.source == "inside" and not own.canary_image:
            raise Refused("`canary.by=traffic` needs `extra.kubernetes.canary_image`: it holds the other version.")
    for path in ("training", "prediction", "retraining"):
        _check_work(getattr(own, path), f"extra.kubernetes.{path}", path)


def _check_texts(own: Kubernetes) -> None:
    names = ("ingress_class", "claim", "state_claim", "metrics_secret", "priority_class")
    grammar.check_each({f"extra.kubernetes.{key}": getattr(own, key) for key in names}, grammar.SUBDOMAIN)
    places = {f"extra.kubernetes.{key}": getattr(own, key) for key in ("entry_namespace", "monitoring_namespace")}
    for path, name in places.items():
        if not name:
            raise Refused(f"`{path}` must be a namespace's name; got ''.")
    grammar.check_each(places, grammar.LABEL)
    grammar.check("extra.kubernetes.gateway", own.gateway, grammar.GATEWAY)
    grammar.check("extra.kubernetes.canary_image", own.canary_image, grammar.REFERENCE)
    grammar.check_url("extra.kubernetes.prometheus", own.prometheus, ("http", "https"))
    for key, value in own.node_selector.items():
        place = f"extra.kubernetes.node_selector.{key}"
        if not isinstance(value, str):
            raise Refused(f"`{place}` must be a word, in quotes where it looks like a number; got {show(value)}.")
        grammar.check("extra.kubernetes.node_selector", str(key), grammar.KEY)
        grammar.check(place, value, grammar.VALUE)


def _check_work(work: Work, path: str, what: str) -> None:
    if work == Work():
        return
    for field in ("image", "words", "claim"):
        if not getattr(work, field):
            raise Refused(f"`{path}.{field}` is needed for this job.")
    grammar.check_bounds({f"{path}.{field}": getattr(work, field) for field in BOUNDS}, BOUNDS)
    grammar.check(f"{path}.image", work.image, grammar.REFERENCE)
    grammar.check(f"{path}.claim", work.claim, grammar.SUBDOMAIN)
    grammar.check(f"{path}.ray", work.ray, grammar.TAG)
    grammar.check(f"{path}.ray_namespace", work.ray_namespace, grammar.LABEL)
    if what != "training" and (work.hosts > 1 or work.kind != "job"):
        raise Refused(f"`{path}` is one pod: `hosts` and `kind` are of `extra.kubernetes.training`.")
    if (what == "retraining") != bool(work.schedule):
        need = "needs" if what == "retraining" else "has no"
        raise Refused(f"`{path}` {need} `schedule`; got {show(work.schedule)}.")
    grammar.check(f"{path}.schedule", work.schedule, CRON)


def meta(made: Deployment, version: str, kind: str, suffix: str = "", **more: str) -> dict[str, Any]:
    """The head of an object of this deployment; `suffix` follows its name, `more` are labels."""
    labels = made.labels | more
    name = f"{made.name}{suffix}"
    place = {"name": name, "namespace": made.namespace, "labels": labels}
    return {"apiVersion": version, "kind": kind, "metadata": place}


def amounts(cpu: float, memory: int, scratch: int = 0, accelerators: int = 0) -> dict[str, Any]:
    """Requests and limits; both of memory are one, so that a pod is not killed for what another one takes.

    A limit of cores would slow answers down while cores are idle: there is none.
    """
    wanted: dict[str, Any] = {"cpu": _cores(cpu), "memory": f"{memory}Mi"}
    most: dict[str, Any] = {"memory": f"{memory}Mi"}
    for one in (wanted, most):
        one |= {"ephemeral-storage": f"{scratch}Mi"} if scratch else {}
        one |= {"nvidia.com/gpu": str(accelerators)} if accelerators else {}
    return {"requests": wanted, "limits": most}


def _cores(cpu: float) -> str:
    return f"{cpu:g}" if cpu == int(cpu) else f"{round(cpu * 1000)}m"


def secure_pod() -> dict[str, Any]:
    """The security context of a pod of the standard `restricted`."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def secure_container() -> dict[str, Any]:
    """The security context of a container of the standard `restricted`, its root read-only."""
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
