"""KServe: a runtime that is our server, and an inference service of the Open Inference Protocol, version 2.

https://kserve.github.io/website, `serving.kserve.io/v1beta1`, in the mode that KServe calls Standard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from arsenal_serving.deploy import grammar, kubectl, kubernetes, unheard
from arsenal_serving.deploy.cluster import meta, settings
from arsenal_serving.deploy.description import Deployment, read_section
from arsenal_serving.deploy.yaml_text import from_yaml, to_yaml
from arsenal_serving.refused import Refused, show

FOLDER = str(PurePosixPath("/", "mnt", "models"))
"""Where KServe lays what it fetched or mounted."""


class KServe(NamedTuple):
    """The section `extra.kserve`. claim: the volume claim with NAME/VERSION/, for `model.source=mounted`."""

    claim: str = ""


def files(made: Deployment) -> dict[str, str]:
    """Path and text of each manifest; raises `Refused` for what KServe would not honour."""
    return {f"{stem}.yaml": to_yaml(document) for stem, document in manifests(made).items()}


def notes(made: Deployment) -> Iterator[str]:
    """What of a description it does not hear, and what may surprise, a line each."""
    return unheard.notes("kserve", made)


def apply(folder: Path, made: Deployment, say: Callable[[str], Any]) -> None:
    """Bring the manifests in a folder to the cluster that the profile names, and wait until KServe calls them ready.

    The context and whose namespace it is are said as for Kubernetes, in `extra.kubernetes`.
    """
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*.yaml"))]
    documents = [one for text in texts for one in from_yaml(text)]
    kubectl.apply(_plain(made), documents, say, ready=f"inferenceservice.serving.kserve.io/{made.name}")


def manifests(made: Deployment) -> dict[str, dict[str, Any]]:
    """The objects by the stem of their files."""
    own: KServe = read_section(KServe, made.extra.get("kserve", {}), "extra.kserve")
    _check(made, own)
    plain = _plain(made)
    out = {key: one for key, one in kubernetes.manifests(plain).items() if key in KEPT}
    pod = kubernetes.pod(plain, settings(plain))
    (server,) = pod.pop("containers")
    mounted = made.model.source == "mounted"
    place = f"/models/{made.model.name}"
    server |= {"name": "kserve-container"}
    server["args"] = [FOLDER if mounted and word == place else word for word in server["args"]]
    server["ports"] = [{"containerPort": made.server.port, "protocol": "TCP"}]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        server[probe]["httpGet"]["port"] = made.server.port
    formats = [{"name": "arsenal", "version": "1", "autoSelect": True}]
    runtime: dict[str, Any] = {"supportedModelFormats": formats, "protocolVersions": ["v2"], "multiModel": False}
    runtime |= {"containers": [server], "volumes": pod.pop("volumes")}
    out["servingruntime"] = meta(made, "serving.kserve.io/v1alpha1", "ServingRuntime") | {"spec": runtime}
    model: dict[str, Any] = {"modelFormat": {"name": "arsenal", "version": "1"}, "runtime": made.name}
    model |= {"protocolVersion": "v2"}
    if mounted:
        model["storageUri"] = f"pvc://{own.claim}/{made.model.name}/{made.model.version}"
    pod["topologySpreadConstraints"] = [_spread(made, one) for one in pod["topologySpreadConstraints"]]
    predictor: dict[str, Any] = {"minReplicas": made.scale.least, "maxReplicas": made.scale.most}
    predictor |= {"scaleMetric": "cpu", "scaleTarget": made.scale.cpu} if made.scale.most > made.scale.least else {}
    service = meta(made, "serving.kserve.io/v1beta1", "InferenceService")
    service["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": "Standard"}
    service["metadata"]["annotations"] |= {"arsenal.digest": made.model.digest} if made.model.digest else {}
    out["inferenceservice"] = service | {"spec": {"predictor": predictor | {"model": model} | pod}}
    return out


KEPT = ("namespace", "serviceaccount", "configmap")
HEARD = ("context", "namespace", "state_claim", "pre_stop", "priority_class", "node_selector")
"""Of `extra.kubernetes`."""


def _plain(made: Deployment) -> Deployment:
    """What the pod hangs on, without what KServe does itself; the model lies where the image has it, or KServe."""
    model = made.model._replace(source="inside")
    scale = made.scale._replace(least=max(1, made.scale.least))
    extra = {key: value for key, value in made.extra.get("kubernetes", {}).items() if key in HEARD}
    access = made.access._replace(host="", tls_secret="")
    return made._replace(model=model, scale=scale, access=access, extra={"kubernetes": extra})


def _spread(made: Deployment, one: dict[str, Any]) -> dict[str, Any]:
    chosen = {"serving.kserve.io/inferenceservice": made.name}
    return one | {"labelSelector": {"matchLabels": chosen}}


def _check(made: Deployment, own: KServe) -> None:
    if made.model.source == "fetched":
        raise Refused("`model.source=fetched`: KServe checks no hash of what it fetches; inside or mounted, please.")
    if made.model.source == "mounted" and not own.claim:
        raise Refused("`model.source=mounted` needs `extra.kserve.claim`: the volume claim that holds the model.")
    if made.canary.weight:
        raise Refused("`canary` is not for KServe in Standard mode, which shares no calls among versions.")
    if made.access.host:
        raise Refused("`access.host` is not for KServe, whose own configuration has the domain and the certificate.")
    if made.access.namespaces:
        said = "whose calls come by its own gateway, wherever from; must be empty"
        raise Refused(f"`access.namespaces` is not for KServe, {said}; got {show(list(made.access.namespaces))}.")
    grammar.check("extra.kserve.claim", own.claim, grammar.SUBDOMAIN)
    if made.server.grpc_port:
        raise Refused("`server.grpc_port` is not for KServe, which calls one port; set it to 0.")
