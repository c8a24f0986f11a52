"""Helm: a chart whose rendering with an environment's values is what `kubernetes` writes for that environment.

The templates lie beside this module in chart/; the values are read from the manifests, and a schema refuses any other
key. The namespace and jobs are not the chart's: the one is there before a release is, the others are no part of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from arsenal_serving import __version__
from arsenal_serving.deploy import kubectl, kubernetes, unheard
from arsenal_serving.deploy.cluster import settings
from arsenal_serving.deploy.commands import find, run
from arsenal_serving.deploy.description import Deployment
from arsenal_serving.deploy.yaml_text import from_yaml, to_yaml
from arsenal_serving.refused import Refused, show, unknown_name

ABOUT = {
    "name": "of every object, and what selects its pods",
    "env": "development, staging or production",
    "model": "what is served: its name, version and the hash of its SHA256SUMS",
    "image": "where it is pulled from, by tag or digest, and the secret for that",
    "arguments": "the words of `arsenal-serve`",
    "tls": "whether the server itself speaks TLS",
    "ports": "of the container; `admin` is never in the service",
    "variables": "the server's environment, in a config map",
    "podName": "whether the container knows its pod's name, for a folder of its own in a shared volume",
    "policy": "policy.json of a canary that the server itself judges",
    "resources": "requests and limits",
    "timings": "seconds: to be ready in, before the signal, from it to the kill; and how the wait before it is done",
    "scale": "replicas, and who adds some: none, hpa or keda; at which use of cores, queue and latency",
    "network": "namespaces that may call, the one that reads metrics, and the port by which a model is fetched",
    "entry": "what lets calls in from outside: none, ingress or gateway",
    "monitoring": "whether the Prometheus operator reads the pods, with which secret, and its rules",
    "scheduling": "on which nodes, and how urgently",
    "before": "containers that run before the server",
    "mounts": "of the server's container",
    "volumes": "of its pod",
    "canary": "another version by weights of the traffic, in thousandths",
}
FREE = {"variables", "resources", "scheduling.nodeSelector", "monitoring.rules"}
"""Sections whose keys are the user's."""
CHOICES = {
    "env": ["development", "staging", "production"],
    "timings.preStop": ["sleep", "exec"],
    "scale.by": ["none", "hpa", "keda"],
    "entry.by": ["none", "ingress", "gateway"],
}


def files(made: Deployment, *others: Deployment) -> dict[str, str]:
    """The chart, and the values of one or more environments: `helm upgrade --install NAME . -f values-ENV.yaml`."""
    plain = values(Deployment())
    plain["variables"].pop("JAX_PLATFORMS")  # sections are merged: what is here could not be taken away
    chart = {
        "apiVersion": "v2",
        "name": made.name,
        "description": f"The model {made.model.name}, served by arsenal-serve",
        "type": "application",
        "version": __version__,
        "appVersion": str(made.model.version),
        "kubeVersion": ">=1.30.0-0",
    }
    written = {"Chart.yaml": to_yaml(chart), "values.yaml": to_yaml(plain), "README.md": _readme(made)}
    schema = {"$schema": "http://json-schema.org/draft-07/schema#"} | _schema(plain, "")
    schema["properties"]["global"] = {"type": "object"}
    written["values.schema.json"] = json.dumps(schema, indent=1) + "\n"
    written |= {f"values-{one.env}.yaml": to_yaml(values(one)) for one in (made, *others)}
    return written | _templates(resources("arsenal_serving.deploy") / "chart" / "templates", "templates")


def notes(made: Deployment) -> Iterator[str]:
    """What of a description it does not hear, and what may surprise, a line each."""
    return unheard.notes("helm", made)


def apply(folder: Path, made: Deployment, say: Callable[[str], Any]) -> None:
    """Install the chart in a folder, or upgrade to it, with the environment's values; Helm undoes what fails.

    Raises `Refused` in one line, before anything is changed, as `kubectl.apply` does, and for a value that is misspelt.
    """
    place = Path(folder) / f"values-{made.env}.yaml"
    (given,) = from_yaml(place.read_text(encoding="utf-8"))
    check_values(given, values(made), "")
    program = find("helm", install="https://helm.sh/docs/intro/install")
    words, own = kubectl.connect(made), settings(made)
    there = kubectl.check_namespace(words, made)
    kubectl.check_secrets(words, made, there)
    if own.namespace == "make":
        kubectl.send(words, [kubernetes.manifests(made)["namespace"]])
    say(f"namespace {made.namespace}: {'there' if there else 'made'}")
    seconds = made.timings.start + made.timings.grace + 60
    command = [program, "upgrade", made.name, str(folder), "--install", "--atomic", "--values", str(place)]
    command += ["--namespace", made.namespace, "--kube-context", own.context, "--timeout", f"{seconds}s"]
    try:
        run(command, seconds=seconds + 60, say=say)
    except Refused:
        if own.namespace == "make" and not there:
            kubectl.ask(words, "delete", "namespace", made.namespace, "--wait=false")
        raise


def check_values(given: Any, allowed: Any, path: str) -> None:
    """Raise `Refused` for a key that the chart does not know, as its schema does, with the nearest one.

    >>> check_values({"scale": {"leest": 2}}, {"scale": {"least": 1}}, "")
    Traceback (most recent call last):
    arsenal_serving.refused.Refused: unknown value 'leest' of `scale`; did you mean 'least'? There is: 'least'.
    """
    if not isinstance(allowed, Mapping) or path in FREE:
        return
    if not isinstance(given, Mapping):
        raise Refused(f"{f'`{path}`' if path else 'values'} must be a section of keys and values; got {show(given)}.")
    for key, value in given.items():
        if key not in allowed:
            raise unknown_name("value", str(key), allowed, f"`{path}`" if path else "")
        check_values(value, allowed[key], f"{path}.{key}".strip("."))


def values(made: Deployment) -> dict[str, Any]:
    """What the templates need of a deployment."""
    own, objects = settings(made), kubernetes.manifests(made)
    pod = objects["deployment"]["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    split = "deployment-canary" in objects
    other = objects["deployment-canary"]["spec"]["template"]["spec"]["containers"][0] if split else {}
    rules, place = objects["networkpolicy"]["spec"], own.gateway.rpartition("/")
    callers = [one["namespaceSelector"] for one in rules["ingress"][0]["from"] if "namespaceSelector" in one]
    scaled = made.scale.most > made.scale.least
    return {
        "name": made.name,
        "env": made.env,
        "model": {"name": made.model.name, "version": made.model.version, "digest": made.model.digest},
        "image": {"reference": made.image.reference, "pullSecret": made.image.pull_secret},
        "arguments": server["args"],
        "tls": server["startupProbe"]["httpGet"]["scheme"] == "HTTPS",
        "ports": server["ports"],
        "variables": objects["configmap"]["data"],
        "podName": "env" in server,
        "policy": objects["configmap-policy"]["data"]["policy.json"] if "configmap-policy" in objects else "",
        "resources": server["resources"],
        "timings": {
            "start": made.timings.start,
            "detach": made.timings.detach,
            "grace": made.timings.grace,
            "preStop": own.pre_stop,
        },
        "scale": {
            "by": own.autoscaler if scaled else "none",
            "least": made.scale.least,
            "most": made.scale.most,
            "cpu": made.scale.cpu,
            "queue": made.scale.queue,
            "milliseconds": kubernetes.milliseconds(made.scale),
            "prometheus": own.prometheus,
        },
        "network": {
            "callers": [one["matchLabels"]["kubernetes.io/metadata.name"] for one in callers],
            "monitoring": own.monitoring_namespace,
            "fetchPort": rules["egress"][1]["ports"][0]["port"] if rules["egress"] else 0,
        },
        "entry": {
            "by": own.entry if made.access.host else "none",
            "host": made.access.host,
            "class": own.ingress_class,
            "tlsSecret": made.access.tls_secret if made.access.host else "",
            "gateway": place[2],
            "gatewayNamespace": place[0],
        },
        "monitoring": {
            "pods": own.monitoring == "pods",
            "secret": own.metrics_secret if made.access.keys_secret else "",
            "rules": dict(own.rules),
        },
        "scheduling": {
            "priorityClass": own.priority_class,
            "nodeSelector": dict(own.node_selector),
            "tolerations": pod.get("tolerations", []),
        },
        "before": pod.get("initContainers", []),
        "mounts": server["volumeMounts"],
        "volumes": pod["volumes"],
        "canary": {
            "enabled": split,
            "version": made.canary.version,
            "thousandths": round(made.canary.weight * 1000),
            "replicas": objects["deployment-canary"]["spec"]["replicas"] if split else 0,
            "image": own.canary_image,
            "arguments": other.get("args", []),
            "mounts": other.get("volumeMounts", []),
        },
    }


def _schema(value: Any, path: str) -> dict[str, Any]:
    """A JSON schema of values like these, to which no key may be added."""
    about = {"description": ABOUT[path]} if path in ABOUT else {}
    if path in CHOICES:
        return about | {"type": "string", "enum": CHOICES[path]}
    if isinstance(value, Mapping):
        if path in FREE:
            return about | {"type": "object"}
        inner = {key: _schema(part, f"{path}.{key}".strip(".")) for key, part in value.items()}
        return about | {"type": "object", "additionalProperties": False, "properties": inner}
    if isinstance(value, list):
        words = path.rpartition(".")[2] in ("arguments", "callers")
        return about | {"type": "array", "items": {"type": "string" if words else "object"}}
    number: dict[str, Any] = {"type": "integer", "minimum": 0}
    return about | {bool: {"type": "boolean"}, int: number, str: {"type": "string"}}[type(value)]


def _templates(folder: Any, path: str) -> dict[str, str]:
    written = {}
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        place = f"{path}/{entry.name}"
        written |= _templates(entry, place) if entry.is_dir() else {place: entry.read_text(encoding="utf-8")}
    return written


def _readme(made: Deployment) -> str:
    rows = "".join(f"| `{key}` | {about} |\n" for key, about in ABOUT.items())
    return f"""# {made.name}

The model {made.model.name}, served by arsenal-serve. Kubernetes 1.30 or newer.

```sh
helm upgrade --install {made.name} . --namespace {made.namespace} -f values-{made.env}.yaml --atomic
helm test {made.name} --namespace {made.namespace}
helm uninstall {made.name} --namespace {made.namespace}
```

Values are written by `arsenal deploy`, from the profile of an environment; a key that is not below is refused.

| value | is |
|---|---|
{rows}"""
