"""KServe: a runtime that is our server, and an inference service of the Open Inference Protocol, version 2.

https://kserve.github.io/website, `serving.kserve.io/v1beta1`, in the mode that KServe calls Standard.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from arsenal_serving.deploy import kubectl, kubernetes
from arsenal_serving.deploy.cluster import Kubernetes, meta
from arsenal_serving.deploy.description import Deployment, read_section
from arsenal_serving.deploy.yaml_text import from_yaml, to_yaml
from arsenal_serving.refused import Refused

FOLDER = str(PurePosixPath("/", "mnt", "models"))
"""Where KServe lays what it fetched or mounted."""


class KServe(NamedTuple):
    """The section `extra.kserve`. claim: the volume claim with NAME/VERSION/, for `model.source=mounted`."""

    claim: str = ""


def files(made: Deployment) -> dict[str, str]:
    """Path and text of each manifest; raises `Refused` for what KServe would not honour."""
    return {f"{stem}.yaml": to_yaml(document) for stem, document in manifests(made).items()}


def apply(folder: Path, made: Deployment, say: Callable[[str], Any]) -> None:
    """Bring the manifests in a folder to the cluster that the profile names, and wait until KServe calls them ready.

    The context and whose namespace it is are said as for Kubernetes, in `extra.kubernetes`.
    """
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*.yaml"))]
    documents = [one for text in texts for one in from_yaml(text)]
    plain = _plain(made)._replace(extra={"kubernetes": made.extra.get("kubernetes", {})})
    kubectl.apply(plain, documents, say, ready=f"inferenceservice.serving.kserve.io/{made.name}")


def manifests(made: Deployment) -> dict[str, dict[str, Any]]:
    """The objects by the stem of their files."""
    own: KServe = read_section(KServe, made.extra.get("kserve", {}), "extra.kserve")
    _check(made, own)
    out = {key: one for key, one in kubernetes.manifests(_plain(made)).items() if key in KEPT}
    pod = kubernetes.pod(_plain(made), Kubernetes())
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
    out["inferenceservice"] = service | {"spec": {"predictor": predictor | {"model": model} | pod}}
    return out


KEPT = ("namespace", "serviceaccount", "configmap")


def _plain(made: Deployment) -> Deployment:
    """What the pod hangs on, without what KServe does itself; the model lies where the image has it, or KServe."""
    model = made.model._replace(source="inside")
    scale = made.scale._replace(least=max(1, made.scale.least))
    return made._replace(model=model, scale=scale, access=made.access._replace(host=""), extra={})


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
    if made.access.host or made.access.tls_secret:
        key = "host" if made.access.host else "tls_secret"
        raise Refused(f"`access.{key}` is not for KServe, whose own configuration has the domain and the certificate.")
    if made.scale.queue or made.scale.latency:
        raise Refused("`scale.queue` and `scale.latency` are not for KServe, which scales by cores; set both to 0.")
    if made.server.grpc_port:
        raise Refused("`server.grpc_port` is not for KServe, which calls one port; set it to 0.")
