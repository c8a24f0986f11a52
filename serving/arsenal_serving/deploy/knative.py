"""Knative: a service that may have no replica while nobody calls, and its canary by revisions.

https://knative.dev/docs/serving, `serving.knative.dev/v1`, with the features that are on as it is installed: one port,
no first containers, no claims, no security context of a pod, so that each container has its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from arsenal_serving.deploy import grammar, kubectl, kubernetes, unheard
from arsenal_serving.deploy.cluster import USER, meta, settings
from arsenal_serving.deploy.description import Deployment, read_section
from arsenal_serving.deploy.yaml_text import from_yaml, to_yaml
from arsenal_serving.refused import Refused, show

KEPT = ("namespace", "serviceaccount", "configmap")
HEARD = ("context", "namespace")
"""Of `extra.kubernetes`."""
LONGEST = 63
"""Characters of a revision's name, which is a label's value."""
POD = ("serviceAccountName", "automountServiceAccountToken", "enableServiceLinks", "imagePullSecrets")


BOUNDS: grammar.Bounds = {"calls": (1, 1_000_000, "calls"), "seconds": (1, 86400, "seconds")}


class Knative(NamedTuple):
    """The section `extra.knative`.

    calls: in flight on one replica, above which there is another. seconds: of a call at most. canary_image: that of
    `canary.version`. stable: the revision that keeps the rest of the calls, which must have been deployed before; that
    of this profile without its canary unless given.
    """

    calls: int = 64
    seconds: int = 300
    canary_image: str = ""
    stable: str = ""


def files(made: Deployment) -> dict[str, str]:
    """Path and text of each manifest; raises `Refused` for what Knative would not honour."""
    return {f"{stem}.yaml": to_yaml(document) for stem, document in manifests(made).items()}


def notes(made: Deployment) -> Iterator[str]:
    """What of a description it does not hear, and what may surprise, a line each."""
    return unheard.notes("knative", made)


def apply(folder: Path, made: Deployment, say: Callable[[str], Any]) -> None:
    """Bring the manifests in a folder to the cluster that the profile names, and wait until Knative calls them ready.

    The context and whose namespace it is are said as for Kubernetes, in `extra.kubernetes`.
    """
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*.yaml"))]
    documents = [one for text in texts for one in from_yaml(text)]
    plain = _plain(made)
    if made.canary.weight:
        _check_stable(plain, documents)
    kubectl.apply(plain, documents, say, ready=f"service.serving.knative.dev/{made.name}")


def _check_stable(plain: Deployment, documents: list[dict[str, Any]]) -> None:
    """Refuse, before anything is changed, a canary beside a revision that is not there."""
    (traffic,) = (one["spec"]["traffic"] for one in documents if "traffic" in one.get("spec", {}))
    words = [*kubectl.connect(plain), f"--namespace={plain.namespace}"]
    there = kubectl.ask(words, "get", "revisions.serving.knative.dev", "-o", "name").split()
    names, wanted = [one.rpartition("/")[2] for one in there], traffic[0]["revisionName"]
    if wanted not in names:
        listed = ", ".join(names[-5:]) or "none is there"
        raise Refused(f"`extra.knative.stable` must be a revision that is there ({listed}); got {show(wanted)}.")


def manifests(made: Deployment) -> dict[str, dict[str, Any]]:
    """The objects by the stem of their files."""
    own: Knative = read_section(Knative, made.extra.get("knative", {}), "extra.knative")
    _check(made, own)
    out = {key: one for key, one in kubernetes.manifests(_plain(made)).items() if key in KEPT}
    environment = out["configmap"]["data"]
    template = _template(made, own, environment, bool(made.canary.weight))
    share = round(made.canary.weight * 100)
    traffic: list[dict[str, Any]] = [{"latestRevision": True, "percent": 100}]
    if share:
        name = own.stable or _template(made, own, environment, False)["metadata"]["name"]
        canary = {"revisionName": template["metadata"]["name"], "percent": share, "tag": "canary"}
        traffic = [{"revisionName": name, "percent": 100 - share}, canary]
    service = meta(made, "serving.knative.dev/v1", "Service")
    service["metadata"] |= {"annotations": {"arsenal.digest": made.model.digest}} if made.model.digest else {}
    out["service"] = service | {"spec": {"template": template, "traffic": traffic}}
    if made.access.host:
        mapping = meta(made, "serving.knative.dev/v1beta1", "DomainMapping")
        mapping["metadata"]["name"] = made.access.host
        target = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": made.name}
        tls = {"tls": {"secretName": made.access.tls_secret}} if made.access.tls_secret else {}
        out["domainmapping"] = mapping | {"spec": {"ref": target} | tls}
    return out


def _template(made: Deployment, own: Knative, environment: Any, canary: bool) -> dict[str, Any]:
    """A revision, named by what is in it: Knative takes no other content under a name that is there."""
    plain = _plain(made)
    pod = kubernetes.pod(plain, settings(plain))
    (server,) = pod["containers"]
    image = own.canary_image if canary else server["image"]
    server |= {"image": image, "ports": [{"name": "http1", "containerPort": made.server.port}]}
    # Knative's own proxy waits before the signal, and probes what it is told without a port's name.
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        server[probe]["httpGet"] = {"path": server[probe]["httpGet"]["path"], "port": made.server.port}
    server["securityContext"] |= {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER}
    server["securityContext"] |= {"seccompProfile": {"type": "RuntimeDefault"}}
    for volume in pod["volumes"]:
        if "projected" in volume:  # without a group of the pod's own its user reads what all may
            volume["projected"]["defaultMode"] = 0o444
    version = made.canary.version if canary else made.model.version
    prefix = "autoscaling.knative.dev"
    notes = {f"{prefix}/min-scale": str(made.scale.least), f"{prefix}/max-scale": str(made.scale.most)}
    notes |= {f"{prefix}/target": str(own.calls)}
    labels = made.labels | {"app.kubernetes.io/version": str(version)}
    spec = {"containerConcurrency": 0, "timeoutSeconds": own.seconds}
    spec |= {key: pod[key] for key in POD if key in pod} | {"containers": [server], "volumes": pod["volumes"]}
    content = json.dumps([labels, notes, spec, environment], sort_keys=True)
    name = f"{made.name}-v{version}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    if len(name) > LONGEST:
        most, got = LONGEST - len(name) + len(made.name), len(made.name)
        raise Refused(f"`name` must be at most {most} characters for Knative's version {version}; got {got}.")
    return {"metadata": {"name": name, "labels": labels, "annotations": notes}, "spec": spec}


def _plain(made: Deployment) -> Deployment:
    """What the pod hangs on, without what Knative does itself."""
    extra = {key: value for key, value in made.extra.get("kubernetes", {}).items() if key in HEARD}
    return made._replace(
        scale=made.scale._replace(least=max(1, made.scale.least)),
        access=made.access._replace(host="", tls_secret=""),
        canary=made.canary._replace(weight=0.0),
        timings=made.timings._replace(detach=0),
        extra={"kubernetes": extra},
    )


def _check(made: Deployment, own: Knative) -> None:
    grammar.check_bounds({f"extra.knative.{path}": getattr(own, path) for path in BOUNDS}, BOUNDS)
    grammar.check("extra.knative.canary_image", own.canary_image, grammar.REFERENCE)
    if made.model.source != "inside":
        said = "Knative as it is installed takes no claims and no first containers"
        raise Refused(f"`model.source` must be inside: {said}; got {made.model.source}.")
    if made.canary.weight and made.canary.by == "server":
        raise Refused("`canary.by` must be traffic for Knative: an image holds one version; got server.")
    if made.canary.weight and not own.canary_image:
        raise Refused("`canary.by=traffic` needs `extra.knative.canary_image`: it holds the other version.")
    percent = made.canary.weight * 100
    if made.canary.weight and (round(percent) < 1 or abs(percent - round(percent)) > 1e-9):
        raise Refused(f"`canary.weight` must be whole percents for Knative; got {made.canary.weight:g}.")
    if made.env == "production" and made.access.host and not made.access.tls_secret:
        raise Refused("`access.host` needs `access.tls_secret` in production: API keys would travel in the clear.")
    if made.access.namespaces:
        said = "whose calls come by its own gateway, wherever from; must be empty"
        raise Refused(f"`access.namespaces` is not for Knative, {said}; got {show(list(made.access.namespaces))}.")
    if made.server.grpc_port:
        raise Refused("`server.grpc_port` is not for Knative, which calls one port; set it to 0.")
    if made.resources.accelerators:
        raise Refused("`resources.accelerators` is not for Knative as it is installed: it takes no tolerations.")
