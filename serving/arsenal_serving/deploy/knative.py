"""Knative: a service that may have no replica while nobody calls, and its canary by revisions.

https://knative.dev/docs/serving, `serving.knative.dev/v1`, with the features that are on as it is installed: one port,
no first containers, no claims, no security context of a pod, so that each container has its own.
"""

from __future__ import annotations

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
POD = ("serviceAccountName", "automountServiceAccountToken", "enableServiceLinks", "imagePullSecrets")


BOUNDS: grammar.Bounds = {"calls": (1, 1_000_000, "calls"), "seconds": (1, 86400, "seconds")}


class Knative(NamedTuple):
    """The section `extra.knative`.

    calls: in flight on one replica, above which there is another. seconds: of a call at most. canary_image: that of
    `canary.version`; the stable version must have been deployed before.
    """

    calls: int = 64
    seconds: int = 300
    canary_image: str = ""


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
    kubectl.apply(_plain(made), documents, say, ready=f"service.serving.knative.dev/{made.name}")


def manifests(made: Deployment) -> dict[str, dict[str, Any]]:
    """The objects by the stem of their files."""
    own: Knative = read_section(Knative, made.extra.get("knative", {}), "extra.knative")
    _check(made, own)
    plain = _plain(made)
    out = {key: one for key, one in kubernetes.manifests(plain).items() if key in KEPT}
    pod = kubernetes.pod(plain, settings(plain))
    (server,) = pod["containers"]
    image = own.canary_image if made.canary.weight else server["image"]
    server |= {"image": image, "ports": [{"name": "http1", "containerPort": made.server.port}]}
    # Knative's own proxy waits before the signal, and probes what it is told without a port's name.
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        server[probe]["httpGet"] = {"path": server[probe]["httpGet"]["path"], "port": made.server.port}
    server["securityContext"] |= {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER}
    server["securityContext"] |= {"seccompProfile": {"type": "RuntimeDefault"}}
    for volume in pod["volumes"]:
        if "projected" in volume:  # without a group of the pod's own its user reads what all may
            volume["projected"]["defaultMode"] = 0o444
    version = made.canary.version if made.canary.weight else made.model.version
    prefix = "autoscaling.knative.dev"
    notes = {f"{prefix}/min-scale": str(made.scale.least), f"{prefix}/max-scale": str(made.scale.most)}
    notes |= {f"{prefix}/target": str(own.calls)}
    labels = made.labels | {"app.kubernetes.io/version": str(version)}
    spec = {"containerConcurrency": 0, "timeoutSeconds": own.seconds}
    spec |= {key: pod[key] for key in POD if key in pod} | {"containers": [server], "volumes": pod["volumes"]}
    head = {"name": f"{made.name}-v{version}", "labels": labels, "annotations": notes}
    share = round(made.canary.weight * 100)
    traffic: list[dict[str, Any]] = [{"latestRevision": True, "percent": 100}]
    if share:
        stable = {"revisionName": f"{made.name}-v{made.model.version}", "percent": 100 - share}
        traffic = [stable, {"revisionName": head["name"], "percent": share, "tag": "canary"}]
    service = meta(made, "serving.knative.dev/v1", "Service")
    service["metadata"] |= {"annotations": {"arsenal.digest": made.model.digest}} if made.model.digest else {}
    out["service"] = service | {"spec": {"template": {"metadata": head, "spec": spec}, "traffic": traffic}}
    if made.access.host:
        mapping = meta(made, "serving.knative.dev/v1beta1", "DomainMapping")
        mapping["metadata"]["name"] = made.access.host
        target = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": made.name}
        tls = {"tls": {"secretName": made.access.tls_secret}} if made.access.tls_secret else {}
        out["domainmapping"] = mapping | {"spec": {"ref": target} | tls}
    return out


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
