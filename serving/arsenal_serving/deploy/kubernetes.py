"""Kubernetes: a deployment's manifests, one object a file, and how they are applied.

Kubernetes 1.30 or newer: the wait before the signal is the `sleep` action, since an image has no shell (older ones:
`pre_stop: exec`). Pods keep to the pod security standard `restricted`.
https://kubernetes.io/docs/concepts/security/pod-security-standards
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from arsenal_serving.deploy import kubectl, kubernetes_jobs, unheard
from arsenal_serving.deploy.cluster import OWNER, Kubernetes, amounts, meta, secure_container, secure_pod, settings
from arsenal_serving.deploy.description import Deployment, ReplicaScale, arguments
from arsenal_serving.deploy.yaml_text import from_yaml, to_yaml

TRY = "arsenal.try"
"""The label of a pod that may ask the server of this name, wherever callers are let in from."""
DURATION = "arsenal_serve_request_duration_seconds_bucket"


def files(made: Deployment) -> dict[str, str]:
    """Path and text of each manifest, and of the rules that prometheus-adapter needs where the autoscaler asks it.

    Raises `Refused` for what cannot hold together on a cluster.
    """
    written = {f"{name}.yaml": to_yaml(document) for name, document in manifests(made).items()}
    if made.scale.most > made.scale.least and settings(made).autoscaler == "hpa":
        written |= {"prometheus-adapter.values.yaml": to_yaml(rules)} if (rules := _adapter(made)) else {}
    return written


def notes(made: Deployment) -> Iterator[str]:
    """What of a description it does not hear, and what may surprise, a line each."""
    return unheard.notes("kubernetes", made)


def apply(folder: Path, made: Deployment, say: Callable[[str], Any]) -> None:
    """Bring the manifests in a folder to the cluster that the profile names; see `kubectl.apply`."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*.yaml"))]
    kubectl.apply(made, [one for text in texts for one in from_yaml(text) if "kind" in one], say)


def manifests(made: Deployment) -> dict[str, dict[str, Any]]:
    """The objects by the stem of their files, in the order in which they are applied."""
    own, out = settings(made), {}
    if own.namespace == "make":
        out["namespace"] = _namespace(made)
    out["serviceaccount"] = meta(made, "v1", "ServiceAccount") | {"automountServiceAccountToken": False}
    out["configmap"] = meta(made, "v1", "ConfigMap") | {"data": _environment(made)}
    if _by_server(made):
        out["configmap-policy"] = meta(made, "v1", "ConfigMap", "-policy") | {"data": _policy(made, own)}
    out["networkpolicy"] = _networkpolicy(made, own)
    out["service"] = _service(made, "stable")
    out["deployment"] = _deployment(made, own, "stable")
    if split := made.canary.weight > 0 and made.canary.by == "traffic":
        out["service-canary"] = _service(made, "canary")
        out["deployment-canary"] = _deployment(made, own, "canary")
    if made.scale.most > 1:
        out["poddisruptionbudget"] = meta(made, "policy/v1", "PodDisruptionBudget") | {
            "spec": {
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": _selector(made, "stable")},
            }
        }
    if made.scale.most > made.scale.least:
        hpa = own.autoscaler == "hpa"
        out["horizontalpodautoscaler" if hpa else "scaledobject"] = _autoscaler(made) if hpa else _scaled(made, own)
    if made.access.host and own.entry == "ingress":
        out["ingress"] = _ingress(made, own, "stable")
        if split:
            out["ingress-canary"] = _ingress(made, own, "canary")
    elif made.access.host:
        out["httproute"] = _route(made, own)
    if own.monitoring == "pods":
        out["podmonitor"] = _pod_monitor(made, own)
        if own.rules:
            out["prometheusrule"] = meta(made, "monitoring.coreos.com/v1", "PrometheusRule") | {"spec": dict(own.rules)}
    return out | kubernetes_jobs.manifests(made, own)


def _namespace(made: Deployment) -> dict[str, Any]:
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    labels = {"app.kubernetes.io/managed-by": "arsenal", "arsenal.env": made.env} | levels
    labels |= {OWNER: made.owner} if made.owner else {}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace, "labels": labels}}


def _selector(made: Deployment, track: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": "arsenal-serve", "app.kubernetes.io/instance": made.name, "arsenal.track": track}


def _own_tls(made: Deployment) -> bool:
    """Whether the server itself speaks TLS: where nothing stands before it that does."""
    return bool(made.access.tls_secret and not made.access.host)


def _by_server(made: Deployment) -> bool:
    return bool(made.canary.weight and made.canary.by == "server")


def _environment(made: Deployment) -> dict[str, str]:
    """The environment of the server."""
    data = {"XDG_CACHE_HOME": "/var/cache/arsenal", "HOME": "/tmp"}
    return data | ({"JAX_PLATFORMS": "cpu"} if made.image.accelerator == "cpu" else {})


def _policy(made: Deployment, own: Kubernetes) -> dict[str, str]:
    """How the server shares calls among two versions, and when it rolls the canary back."""
    version, other = made.model.version, made.canary.version
    policy = {
        "versions": [version],
        "default": version,
        "canary": {"version": other, "weight": made.canary.weight},
        "rollback": {"minimum": 200, "errors": own.canary_errors},
    }
    return {"policy.json": json.dumps(policy, indent=1) + "\n"}


def _ports(made: Deployment, admin: bool) -> list[tuple[str, int]]:
    server = made.server
    ports = [("http", server.port), ("grpc", server.grpc_port)]
    return [(name, port) for name, port in [*ports, ("admin", server.admin_port if admin else 0)] if port]


def _deployment(made: Deployment, own: Kubernetes, track: str) -> dict[str, Any]:
    canary = track == "canary"
    fixed = made.scale.least == made.scale.most
    replicas = max(1, round(made.canary.weight * made.scale.least)) if canary else made.scale.least
    version = str(made.canary.version if canary else made.model.version)
    labels = {"app.kubernetes.io/version": version, "arsenal.track": track}
    head = meta(made, "apps/v1", "Deployment", "-canary" if canary else "", **labels)
    # A number of replicas here would undo the autoscaler's at each apply.
    spec: dict[str, Any] = {"replicas": replicas} if canary or fixed else {}
    policy = _policy(made, own)["policy.json"] if _by_server(made) else ""
    given = json.dumps(_environment(made), sort_keys=True, separators=(",", ":")) + policy
    checksum = hashlib.sha256(given.encode()).hexdigest()
    annotations = {"arsenal.checksum/config": checksum}
    annotations |= {"arsenal.digest": made.model.digest} if made.model.digest and not canary else {}
    spec |= {
        "revisionHistoryLimit": 5,
        "progressDeadlineSeconds": made.timings.start + 60,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": _selector(made, track)},
        "template": {
            "metadata": {"labels": made.labels | labels, "annotations": annotations},
            "spec": pod(made, own, track),
        },
    }
    return head | {"spec": spec}


def pod(made: Deployment, own: Kubernetes, track: str = "stable") -> dict[str, Any]:
    """The server's pod."""
    canary = track == "canary"
    image = own.canary_image if canary and own.canary_image else made.image.reference
    mounts, volumes = _storage(made, own, made.canary.version if canary else made.model.version)
    spec: dict[str, Any] = {
        "serviceAccountName": made.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": made.timings.grace,
        "securityContext": secure_pod(),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _selector(made, track)},
                "matchLabelKeys": ["pod-template-hash"],
            }
            for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ],
    }
    spec |= {"priorityClassName": own.priority_class} if own.priority_class else {}
    spec |= {"nodeSelector": dict(own.node_selector)} if own.node_selector else {}
    spec |= {"imagePullSecrets": [{"name": made.image.pull_secret}]} if made.image.pull_secret else {}
    if made.resources.accelerators:
        spec["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    if first := _first(made, image):
        spec["initContainers"] = [first]
    spec["containers"] = [container(made, own, image, mounts, _folder(made, canary))]
    spec["volumes"] = volumes
    return spec


def container(
    made: Deployment, own: Kubernetes, image: str, mounts: list[dict[str, Any]], folder: str
) -> dict[str, Any]:
    """The server's container."""
    own_tls = _own_tls(made)
    keys = "/run/secrets/keys.json" if made.access.keys_secret else ""
    tls = ("/run/secrets/tls.crt", "/run/secrets/tls.key") if own_tls else None
    environment: list[dict[str, Any]] = []
    if own.state_claim:
        environment = [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    made_of: dict[str, Any] = {
        "name": "server",
        "image": image,
        "imagePullPolicy": "IfNotPresent" if "@sha256:" in image else "Always",
        "command": ["arsenal-serve"],
        "args": arguments(made, folder, keys, tls),
        "envFrom": [{"configMapRef": {"name": made.name}}],
        "env": environment,
        "ports": [{"name": name, "containerPort": port} for name, port in _ports(made, admin=True)],
        "resources": amounts(*made.resources),
        "startupProbe": _probe(made, "live", 2, math.ceil(made.timings.start / 2)),
        "readinessProbe": _probe(made, "ready", 5, 2),
        "livenessProbe": _probe(made, "live", 10, 6),
        "lifecycle": _lifecycle(made, own),
        "securityContext": secure_container(),
        "volumeMounts": mounts,
    }
    return {key: value for key, value in made_of.items() if value not in ({}, [])}


def _probe(made: Deployment, what: str, period: int, failures: int) -> dict[str, Any]:
    ask = {"path": f"/v2/health/{what}", "port": "http", "scheme": "HTTPS" if _own_tls(made) else "HTTP"}
    return {"httpGet": ask, "periodSeconds": period, "timeoutSeconds": 3, "failureThreshold": failures}


def _lifecycle(made: Deployment, own: Kubernetes) -> dict[str, Any]:
    if not made.timings.detach:
        return {}
    wait = made.timings.detach
    if own.pre_stop == "exec":
        return {"preStop": {"exec": {"command": ["python", "-c", f"import time; time.sleep({wait})"]}}}
    return {"preStop": {"sleep": {"seconds": wait}}}


def _folder(made: Deployment, canary: bool) -> str:
    """Where the server finds the model: what the image or the first container put there, or one version of a volume."""
    if _by_server(made):
        return "/models"
    place = f"/models/{made.model.name}"
    version = made.canary.version if canary else made.model.version
    return f"{place}/{version}" if made.model.source == "mounted" else place


def _storage(made: Deployment, own: Kubernetes, version: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Mounts and volumes of the server."""
    name, size = made.model.name, f"{made.resources.scratch}Mi"
    mounts: list[dict[str, Any]] = [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "cache", "mountPath": "/var/cache/arsenal"},
    ]
    volumes: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": {"sizeLimit": size}},
        {"name": "cache", "emptyDir": {"sizeLimit": size}},
    ]
    if made.server.monitor or made.server.sample:
        state: dict[str, Any] = {"name": "state", "mountPath": "/var/lib/arsenal"}
        mounts.append(state | ({"subPathExpr": "$(POD_NAME)"} if own.state_claim else {}))
        kept = {"persistentVolumeClaim": {"claimName": own.state_claim}}
        volumes.append({"name": "state"} | (kept if own.state_claim else {"emptyDir": {"sizeLimit": size}}))
    if made.model.source == "mounted":
        claim = {"persistentVolumeClaim": {"claimName": own.claim, "readOnly": True}}
        volumes.append({"name": "models"} | claim)
        versions = [version]
        if _by_server(made):
            # The policy is written when a canary is rolled back, so it lies beside the versions and not with them.
            versions.append(made.canary.version)
            mounts.append({"name": "policy", "mountPath": f"/models/{name}"})
            volumes.append({"name": "policy", "emptyDir": {"sizeLimit": "1Mi"}})
            items = [{"key": "policy.json", "path": "policy.json"}]
            volumes.append({"name": "given", "configMap": {"name": f"{made.name}-policy", "items": items}})
        for one in versions:
            place = {"mountPath": f"/models/{name}/{one}", "subPath": f"{name}/{one}", "readOnly": True}
            mounts.append({"name": "models"} | place)
    if made.model.source == "fetched":
        mounts.append({"name": "models", "mountPath": "/models", "readOnly": True})
        volumes.append({"name": "models", "emptyDir": {"sizeLimit": size}})
    sources = []
    if made.access.keys_secret:
        item = {"key": "keys.json", "path": "keys.json"}
        sources.append({"secret": {"name": made.access.keys_secret, "items": [item]}})
    if _own_tls(made):
        items = [{"key": key, "path": key} for key in ("tls.crt", "tls.key")]
        sources.append({"secret": {"name": made.access.tls_secret, "items": items}})
    if sources:
        mounts.append({"name": "secrets", "mountPath": "/run/secrets", "readOnly": True})
        volumes.append({"name": "secrets", "projected": {"defaultMode": 0o440, "sources": sources}})
    return mounts, volumes


def _first(made: Deployment, image: str) -> dict[str, Any] | None:
    """What runs before the server: it fetches the model and checks its hash, or lays the policy where it may change."""
    if made.model.source == "fetched":
        words = ["-m", "arsenal_serving.deploy.fetch", made.model.url, made.model.digest, f"/models/{made.model.name}"]
        mounts = [{"name": "models", "mountPath": "/models"}, {"name": "tmp", "mountPath": "/tmp"}]
        return _before(made, "fetch", image, words, mounts)
    if _by_server(made):
        copy = "import shutil; shutil.copyfile('/given/policy.json', '/policy/policy.json')"
        given: dict[str, Any] = {"name": "given", "mountPath": "/given", "readOnly": True}
        mounts = [given, {"name": "policy", "mountPath": "/policy"}]
        return _before(made, "policy", image, ["-c", copy], mounts)
    return None


def _before(made: Deployment, name: str, image: str, words: list[str], mounts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent" if "@sha256:" in image else "Always",
        "command": ["python", *words],
        "envFrom": [{"configMapRef": {"name": made.name}}],
        "resources": amounts(0.5, 512),
        "securityContext": secure_container(),
        "volumeMounts": mounts,
    }


def _service(made: Deployment, track: str) -> dict[str, Any]:
    ports = []
    for name, port in _ports(made, admin=False):
        protocol = {"http": "https" if _own_tls(made) else "http", "grpc": "kubernetes.io/h2c"}[name]
        ports.append({"name": name, "port": port, "targetPort": name, "appProtocol": protocol})
    suffix = "-canary" if track == "canary" else ""
    spec = {"type": "ClusterIP", "selector": _selector(made, track), "ports": ports}
    return meta(made, "v1", "Service", suffix, **{"arsenal.track": track}) | {"spec": spec}


def _ingress(made: Deployment, own: Kubernetes, track: str) -> dict[str, Any]:
    suffix = "-canary" if track == "canary" else ""
    head = meta(made, "networking.k8s.io/v1", "Ingress", suffix, **{"arsenal.track": track})
    nginx = "nginx.ingress.kubernetes.io"
    notes = {f"{nginx}/proxy-body-size": "64m"}
    if suffix:
        share = str(round(made.canary.weight * 1000))
        weights = {"canary": "true", "canary-weight": share, "canary-weight-total": "1000"}
        notes |= {f"{nginx}/{key}": value for key, value in weights.items()}
    if own.ingress_class == "nginx":
        head["metadata"]["annotations"] = notes
    backend = {"service": {"name": f"{made.name}{suffix}", "port": {"name": "http"}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    spec: dict[str, Any] = {"ingressClassName": own.ingress_class}
    if made.access.tls_secret:
        spec["tls"] = [{"hosts": [made.access.host], "secretName": made.access.tls_secret}]
    return head | {"spec": spec | {"rules": [{"host": made.access.host, "http": {"paths": paths}}]}}


def _route(made: Deployment, own: Kubernetes) -> dict[str, Any]:
    """The certificate is the gateway's."""
    namespace, _, name = own.gateway.rpartition("/")
    parent = {"name": name} | ({"namespace": namespace} if namespace else {})
    stable: dict[str, Any] = {"name": made.name, "port": made.server.port}
    backends = [stable]
    if made.canary.weight and made.canary.by == "traffic":
        share = round(made.canary.weight * 1000)
        backends = [stable | {"weight": 1000 - share}, {**stable, "name": f"{made.name}-canary", "weight": share}]
    spec = {
        "parentRefs": [parent],
        "hostnames": [made.access.host],
        "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends}],
    }
    return meta(made, "gateway.networking.k8s.io/v1", "HTTPRoute") | {"spec": spec}


def _networkpolicy(made: Deployment, own: Kubernetes) -> dict[str, Any]:
    """Calls from the entry and the namespaces named, else from this one; metrics for monitoring; nothing goes out.

    A model that is fetched lets name service and its URL's port out; kubelet's probes are always let in.
    """
    names = dict.fromkeys([*([own.entry_namespace] if made.access.host else []), *made.access.namespaces])
    callers: list[dict[str, Any]] = [{"podSelector": {}}]
    if names:  # and, of this one, what tries whether it answers
        callers = [*(_of_namespace(name) for name in names), {"podSelector": {"matchLabels": {TRY: made.name}}}]
    public = [{"port": name, "protocol": "TCP"} for name, _ in _ports(made, admin=False)]
    let_in = [{"from": callers, "ports": public}]
    if made.server.admin_port:
        admin = [{"port": "admin", "protocol": "TCP"}]
        let_in.append({"from": [_of_namespace(own.monitoring_namespace)], "ports": admin})
    let_out: list[dict[str, Any]] = []
    if made.model.source == "fetched":
        place = urlsplit(made.model.url)
        port = place.port or (80 if place.scheme == "http" else 443)
        names_asked = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
        let_out = [
            {"to": [_of_namespace("kube-system")], "ports": names_asked},
            {"ports": [{"port": port, "protocol": "TCP"}]},
        ]
    chosen = {"matchLabels": {"app.kubernetes.io/name": "arsenal-serve", "app.kubernetes.io/instance": made.name}}
    spec = {"podSelector": chosen, "policyTypes": ["Ingress", "Egress"], "ingress": let_in, "egress": let_out}
    return meta(made, "networking.k8s.io/v1", "NetworkPolicy") | {"spec": spec}


def _of_namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _behaviour() -> dict[str, Any]:
    """Up at once and at most twofold in 15 s; down slowly, by what was needed in the last five minutes."""
    up, down = {"type": "Percent", "value": 100, "periodSeconds": 15}, {"type": "Pods", "value": 1, "periodSeconds": 60}
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [up]},
        "scaleDown": {"stabilizationWindowSeconds": 300, "policies": [down]},
    }


def milliseconds(scale: ReplicaScale) -> int:
    """The latency at which there is another replica; 0 for none."""
    return max(1, round(scale.latency * 1000)) if scale.latency else 0


def _autoscaler(made: Deployment) -> dict[str, Any]:
    scale = made.scale
    target = {"type": "Utilization", "averageUtilization": scale.cpu}
    metrics: list[dict[str, Any]] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    asked = [("arsenal_serve_queue_rows", str(scale.queue) if scale.queue else "")]
    asked += [("arsenal_serve_latency_p95_seconds", f"{milliseconds(scale)}m" if scale.latency else "")]
    for name, value in asked:
        if value:
            most = {"type": "AverageValue", "averageValue": value}
            metrics.append({"type": "Pods", "pods": {"metric": {"name": name}, "target": most}})
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": made.name},
        "minReplicas": scale.least,
        "maxReplicas": scale.most,
        "metrics": metrics,
        "behavior": _behaviour(),
    }
    return meta(made, "autoscaling/v2", "HorizontalPodAutoscaler") | {"spec": spec}


def _adapter(made: Deployment) -> dict[str, Any]:
    """Values of prometheus-adapter's chart: what the autoscaler asks it, as questions to Prometheus."""
    resources = {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}}
    rules = []
    if made.scale.queue:
        series = 'arsenal_serve_queue_rows{namespace!="",pod!=""}'
        question = "sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)"
        rules.append({"seriesQuery": series, "resources": resources, "metricsQuery": question})
    if made.scale.latency:
        series = f'{DURATION}{{namespace!="",pod!=""}}'
        rate = "sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (le, <<.GroupBy>>)"
        rules.append(
            {
                "seriesQuery": series,
                "resources": resources,
                "name": {"matches": ".*", "as": "arsenal_serve_latency_p95_seconds"},
                "metricsQuery": f"histogram_quantile(0.95, {rate})",
            }
        )
    return {"rules": {"custom": rules}} if rules else {}


def _scaled(made: Deployment, own: Kubernetes) -> dict[str, Any]:
    scale, chosen = made.scale, f'namespace="{made.namespace}",pod=~"{made.name}-[a-z0-9]+-[a-z0-9]+"'
    triggers: list[dict[str, Any]] = [
        {"type": "cpu", "metricType": "Utilization", "metadata": {"value": str(scale.cpu)}}
    ]
    queue = f"sum(arsenal_serve_queue_rows{{{chosen}}})"
    latency = f"histogram_quantile(0.95, sum(rate({DURATION}{{{chosen}}}[2m])) by (le))"
    asks = ((queue, scale.queue, "AverageValue"), (latency, milliseconds(scale) / 1000, "Value"))
    for question, level, kind in asks:
        if level:
            asked = {"serverAddress": own.prometheus, "query": question, "threshold": f"{level:g}"}
            triggers.append({"type": "prometheus", "metricType": kind, "metadata": asked})
    spec = {
        "scaleTargetRef": {"name": made.name},
        "minReplicaCount": scale.least,
        "maxReplicaCount": scale.most,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behaviour()}},
        "triggers": triggers,
    }
    return meta(made, "keda.sh/v1alpha1", "ScaledObject") | {"spec": spec}


def _pod_monitor(made: Deployment, own: Kubernetes) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"port": "admin", "path": "/metrics", "interval": "15s"}
    if _own_tls(made):
        # Pods are asked by their address, which no certificate names.
        endpoint |= {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}}
    if made.access.keys_secret:
        credentials = {"name": own.metrics_secret, "key": "token"}
        endpoint["authorization"] = {"type": "Bearer", "credentials": credentials}
    chosen = {"app.kubernetes.io/name": "arsenal-serve", "app.kubernetes.io/instance": made.name}
    spec = {"selector": {"matchLabels": chosen}, "podMetricsEndpoints": [endpoint]}
    return meta(made, "monitoring.coreos.com/v1", "PodMonitor") | {"spec": spec}
