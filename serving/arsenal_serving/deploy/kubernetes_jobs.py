"""Jobs beside the server on Kubernetes: a batch of predictions, a training on many hosts, a retraining at its times.

Kubernetes changes no pods of a job: a training or a batch is named by what it does, so that another one is another job,
and the same one is done once, whichever version is served beside it.

Who is who in a training is said as every launcher of arsenal says it: ARSENAL_COORDINATOR, ARSENAL_PROCESSES and
ARSENAL_PROCESS, which `launcher=processes` hands to `jax.distributed`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from arsenal_serving.deploy import cluster
from arsenal_serving.deploy.cluster import Kubernetes, Work
from arsenal_serving.deploy.description import Deployment
from arsenal_serving.deploy.training import COORDINATOR
from arsenal_serving.refused import Refused

WORK = "/data"
PLACES = {"work": WORK, "tmp": "/tmp", "cache": "/var/cache/arsenal"}
REFUSED = (1, 2)
"""Exit codes of what was refused or is wrong: it would be again. A node that is drained counts as no attempt."""
Objects = dict[str, dict[str, Any]]
INDEX = "batch.kubernetes.io/job-completion-index"
HOST, RAY_JOB = 63, 47
"""Characters of a host's name, a job's and a number, and of a RayJob's."""
VERSION = "app.kubernetes.io/version"
"""The label of the version that is served, which no job hangs on."""


def manifests(made: Deployment, own: Kubernetes) -> Objects:
    """The jobs that `extra.kubernetes` names, by the stems of their files."""
    out: Objects = {}
    if any(work != Work() for work in (own.training, own.prediction, own.retraining)):
        out["networkpolicy-jobs"] = _network_policy(made, own.training)
    if own.prediction != Work():
        out |= _once(made, own.prediction, "prediction", _prediction)
    if own.training != Work():
        out |= _once(made, own.training, "training", _training)
    if own.retraining != Work():
        work = own.retraining
        spec = {
            "schedule": work.schedule,
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"spec": _job(made, work, "flow run retraining", "retraining")},
        }
        out["cronjob-retraining"] = cluster.meta(made, "batch/v1", "CronJob", "-retraining") | {"spec": spec}
    return out


def _once(made: Deployment, work: Work, what: str, build: Callable[[Deployment, Work, str], Objects]) -> Objects:
    """The objects of a job, whose name ends in a hash of their content."""
    content = {stem: one["spec"] for stem, one in build(made, work, f"-{what}").items()}
    end = f"-{what}-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]}"
    last = f"-{work.hosts - 1}"
    most = {"job": HOST - len(last), "jobset": HOST - len(f"-host-0{last}"), "ray": RAY_JOB}[work.kind] - len(end)
    if len(made.name) > most:
        raise Refused(f"`name` must be at most {most} characters with `extra.kubernetes.{what}`; got {len(made.name)}.")
    return build(made, work, end)


def _labels(made: Deployment, what: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": "arsenal", "app.kubernetes.io/instance": f"{made.name}-{what}"}


def _pod(made: Deployment, work: Work, verb: str, what: str, environment: list[dict[str, Any]]) -> dict[str, Any]:
    """Labels and spec of one pod of a job; what it may write is its volume and /tmp."""
    said = [{"name": "HOME", "value": "/tmp"}, {"name": "XDG_CACHE_HOME", "value": "/var/cache/arsenal"}]
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "serviceAccountName": made.name,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 120,
        "securityContext": cluster.secure_pod(),
    }
    spec |= {"imagePullSecrets": [{"name": made.image.pull_secret}]} if made.image.pull_secret else {}
    if work.accelerators:
        spec["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    spec["containers"] = [
        {
            "name": what,
            "image": work.image,
            "imagePullPolicy": "IfNotPresent" if "@sha256:" in work.image else "Always",
            "command": ["arsenal", *verb.split()],
            "args": list(work.words),
            "workingDir": WORK,
            "env": [*said, *environment],
            "resources": cluster.amounts(work.cpu, work.memory, accelerators=work.accelerators),
            "securityContext": cluster.secure_container(),
            "volumeMounts": [{"name": name, "mountPath": place} for name, place in PLACES.items()],
        }
    ]
    spec["volumes"] = [
        {"name": "work", "persistentVolumeClaim": {"claimName": work.claim}},
        *({"name": name, "emptyDir": {}} for name in ("tmp", "cache")),
    ]
    labels = {key: value for key, value in made.labels.items() if key != VERSION}
    return {"metadata": {"labels": labels | _labels(made, what)}, "spec": spec}


def _job(made: Deployment, work: Work, verb: str, what: str, environment: Any = ()) -> dict[str, Any]:
    refused = {"containerName": what, "operator": "In", "values": [*REFUSED]}
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": refused},
    ]
    spec: dict[str, Any] = {"backoffLimit": work.attempts, "podFailurePolicy": {"rules": rules}}
    spec |= {"activeDeadlineSeconds": work.seconds} if work.seconds else {}
    return spec | {"template": _pod(made, work, verb, what, list(environment))}


def _prediction(made: Deployment, work: Work, end: str) -> Objects:
    """The job of a batch whose name ends so."""
    spec = _job(made, work, "predict", "prediction")
    return {"job-prediction": cluster.meta(made, "batch/v1", "Job", end) | {"spec": spec}}


def _training(made: Deployment, work: Work, end: str) -> Objects:
    """The objects of a training whose job's name ends so."""
    if work.kind == "ray":
        return {"rayjob-training": _ray(made, work, end)}
    name = f"{made.name}{end}"
    if work.kind == "jobset":
        # Of a JobSet's pods the names are NAME-GROUP-JOB-INDEX, found below NAME.
        first = f"{name}-host-0-0.{name}"
        head = cluster.meta(made, "jobset.x-k8s.io/v1alpha2", "JobSet", end)
        hosts = _hosts(made, work, first) | {"backoffLimit": 0}
        refused = {"name": "refused", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
        spec = {
            "network": {"enableDNSHostnames": True, "subdomain": name},
            "failurePolicy": {"maxRestarts": work.attempts, "rules": [refused]},
            "replicatedJobs": [{"name": "host", "replicas": 1, "template": {"spec": hosts}}],
        }
        return {"jobset-training": head | {"spec": spec}}
    head = cluster.meta(made, "batch/v1", "Job", end)
    if work.hosts == 1:
        return {"job-training": head | {"spec": _job(made, work, "train", "training")}}
    service = cluster.meta(made, "v1", "Service", "-training")
    place = service["metadata"]["name"]
    hosts = _hosts(made, work, f"{name}-0.{place}")
    hosts["template"]["spec"]["subdomain"] = place
    # A process that lost another one ends with code 75 or is ended; all begin anew from the last checkpoint.
    hosts["backoffLimit"] = work.attempts * work.hosts
    service["spec"] = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": _labels(made, "training"),
        "ports": [{"name": "coordinator", "port": COORDINATOR, "targetPort": COORDINATOR}],
    }
    return {"service-training": service, "job-training": head | {"spec": hosts}}


def _hosts(made: Deployment, work: Work, first: str) -> dict[str, Any]:
    """An indexed job: a pod for each host, each told the first one's name, how many they are and which it is."""
    field = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
    said = [
        {"name": "ARSENAL_COORDINATOR", "value": f"{first}:{COORDINATOR}"},
        {"name": "ARSENAL_PROCESSES", "value": str(work.hosts)},
        {"name": "ARSENAL_PROCESS", "valueFrom": field},
    ]
    spec = _job(made, work, "train", "training", said)
    # One word more than the user's: the launcher that reads these variables.
    spec["template"]["spec"]["containers"][0]["args"] += ["launcher=processes", f"launcher.count={work.hosts}"]
    if work.accelerators:
        key = {"key": "kubernetes.io/hostname"}
        spread = {"labelSelector": {"matchLabels": _labels(made, "training")}, "topologyKey": key["key"]}
        apart = {"requiredDuringSchedulingIgnoredDuringExecution": [spread]}
        spec["template"]["spec"]["affinity"] = {"podAntiAffinity": apart}
    return {"completionMode": "Indexed", "completions": work.hosts, "parallelism": work.hosts} | spec


def _ray(made: Deployment, work: Work, end: str) -> dict[str, Any]:
    """A Ray cluster for one training, which `launcher=ray` finds by RAY_ADDRESS; the head trains too."""
    words = ["arsenal", "train", *work.words, "launcher=ray", f"launcher.hosts={work.hosts}"]
    template = _pod(made, work, "train", "training", [])
    inside = template["spec"]["containers"][0]
    for key in ("command", "args"):
        inside.pop(key)
    template["spec"].pop("restartPolicy")
    workers = work.hosts - 1
    group = {"groupName": "hosts", "replicas": workers, "minReplicas": workers, "maxReplicas": workers}
    inner: dict[str, Any] = {"rayVersion": work.ray, "headGroupSpec": {"rayStartParams": {}, "template": template}}
    inner |= {"workerGroupSpecs": [group | {"rayStartParams": {}, "template": template}]} if workers else {}
    spec = {
        "entrypoint": " ".join(words),
        "backoffLimit": work.attempts,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 3600,
        "submissionMode": "HTTPMode",
        "rayClusterSpec": inner,
    }
    spec |= {"activeDeadlineSeconds": work.seconds} if work.seconds else {}
    return cluster.meta(made, "ray.io/v1", "RayJob", end) | {"spec": spec}


def _network_policy(made: Deployment, training: Work) -> dict[str, Any]:
    """Jobs let in each other, and KubeRay's operator; they may go out, to buckets, registries and trackers."""
    chosen = {"app.kubernetes.io/name": "arsenal", "arsenal.model": made.model.name}
    callers: list[dict[str, Any]] = [{"podSelector": {"matchLabels": chosen}}]
    if training.kind == "ray":
        operator = {"kubernetes.io/metadata.name": training.ray_namespace}
        callers.append({"namespaceSelector": {"matchLabels": operator}})
    spec = {
        "podSelector": {"matchLabels": chosen},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": callers}],
        "egress": [{}],
    }
    return cluster.meta(made, "networking.k8s.io/v1", "NetworkPolicy", "-jobs") | {"spec": spec}
