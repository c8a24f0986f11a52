"""The manifests on a real API server, where there is one: `ARSENAL_KUBECONFIG` names the configuration of a cluster that is
for nothing else. It needs no nodes: what a controller would say of a Deployment is said by the test.

Kinds of others are tried where their definitions (CRDs) are installed.
"""

import contextlib
import json
import os
import shutil
import subprocess
import threading
import uuid

import pytest
from clusters import ENVIRONMENTS, KNATIVE, KSERVE, VARIANTS, deployment, objects, pods

from arsenal_serving.deploy import helm, knative, kserve, kubernetes, kustomize
from arsenal_serving.refused import Refused

PLACE = os.environ.get("ARSENAL_KUBECONFIG", "")
PEERS = os.environ.get("ARSENAL_DEPLOY_PYTHON", "")
EVERY = [(objects, VARIANTS, name) for name in VARIANTS]
EVERY += [(lambda made: list(kserve.manifests(made).values()), KSERVE, name) for name in KSERVE]
EVERY += [(lambda made: list(knative.manifests(made).values()), KNATIVE, name) for name in KNATIVE]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PLACE, reason="ARSENAL_KUBECONFIG names no cluster for tests"),
    pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not on PATH"),
]


def kubectl(*words, given=None, check=True):
    command = ["kubectl", "--kubeconfig", PLACE, *words]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=check)


def attempt(document, *more):
    """The server's word on an object: nothing is changed."""
    words = ["apply", "--server-side", "--dry-run=server", "--validate=strict", *more, "-f", "-"]
    return kubectl(*words, given=json.dumps(document), check=False)


@pytest.fixture(scope="module")
def served():
    """Names of the resources of the cluster, with a namespace for each environment, which stays."""
    for env in ENVIRONMENTS:
        kubectl("apply", "--server-side", "-f", "-", given=json.dumps(kubernetes.manifests(deployment(env))["namespace"]))
    return set(kubectl("api-resources", "--no-headers", "-o", "name").stdout.split())


@pytest.mark.parametrize(("make", "variants", "name"), EVERY)
def test_the_server_takes_every_object_strictly_and_warns_of_none(make, variants, name, served):
    tried = 0
    for document in make(deployment(name, variants)):
        group = document["apiVersion"].rpartition("/")[0]
        own = "." not in group or (group.endswith("k8s.io") and not group.startswith(("gateway", "jobset")))
        if own or any(one.partition(".")[2] == group for one in served):
            done = attempt(document)
            assert not done.returncode and "Warning" not in done.stderr, done.stderr
            tried += 1
    assert tried >= 4


@pytest.mark.parametrize("name", VARIANTS)
def test_admission_of_the_restricted_standard_lets_every_pod_in(name, served):
    made = deployment(name)
    for number, (where, spec) in enumerate(pods(made)):
        spec.pop("priorityClassName", None)
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"one{number}", "namespace": made.namespace}}
        done = attempt(pod | {"spec": spec})
        assert not done.returncode and "Warning" not in done.stderr, (where, done.stderr)
    spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    assert "violates PodSecurity" in attempt(pod | {"spec": spec}).stderr


@contextlib.contextmanager
def controller(namespace):
    """What a controller and a kubelet would say of Deployments: all of their replicas are there."""
    stop = threading.Event()

    def work():
        while not stop.wait(0.5):
            found = kubectl("get", "deployments", "--namespace", namespace, "-o", "json", check=False).stdout or '{"items": []}'
            for one in json.loads(found)["items"]:
                wanted, seen = one["spec"]["replicas"], one["metadata"]["generation"]
                status = {key: wanted for key in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")}
                if one.get("status", {}).get("observedGeneration") != seen:
                    patch = json.dumps({"status": status | {"observedGeneration": seen}})
                    words = ["patch", "deployment", one["metadata"]["name"], "--namespace", namespace]
                    kubectl(*words, "--subresource=status", "--type=merge", "-p", patch, check=False)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()


def here(name, variants=VARIANTS):
    """A variant in a context of the cluster, with a namespace of its own and no secret."""
    made = deployment(name, variants)
    context = kubectl("config", "current-context").stdout.strip()
    access = made.access._replace(keys_secret="", tls_secret="")
    return made._replace(
        namespace=f"arsenal-try-{uuid.uuid4().hex[:8]}",
        access=access,
        extra={"kubernetes": {**made.extra.get("kubernetes", {}), "context": context}},
    )


def write(folder, files):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def names(namespace, *kinds):
    chosen = ["--namespace", namespace, "--selector", "app.kubernetes.io/managed-by=arsenal", "-o", "name"]
    return set(kubectl("get", ",".join(kinds), *chosen).stdout.split())


@pytest.mark.parametrize("target", [kubernetes, kustomize])
def test_applied_it_is_there_and_what_is_no_more_is_deleted(target, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", PLACE)
    made, said = here("nginx canary"), []
    with controller(made.namespace):
        try:
            target.apply(write(tmp_path / "first", target.files(made)), made, said.append)
            kinds = ("service", "deployment", "ingress", "horizontalpodautoscaler", "networkpolicy")
            before = names(made.namespace, *kinds)
            alone = made._replace(canary=made.canary._replace(weight=0.0))
            target.apply(write(tmp_path / "second", target.files(alone)), alone, said.append)
            gone = before - names(made.namespace, *kinds)
            assert {one.partition(".")[0].partition("/")[0] for one in gone} == {"service", "deployment", "ingress"}
            assert all(one.endswith("/penguins-canary") for one in gone)
            assert sum("successfully rolled out" in line for line in said) == 3
        finally:
            kubectl("delete", "namespace", made.namespace, "--wait=false", check=False)


def test_what_the_server_refuses_leaves_no_namespace(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", PLACE)
    made = here("staging")
    made = made._replace(namespace=f"{made.namespace}-not")
    folder = write(tmp_path, kubernetes.files(made))
    place = folder / "horizontalpodautoscaler.yaml"
    place.write_text(place.read_text().replace("maxReplicas: 2", "maxReplicas: -2"))
    with pytest.raises(Refused, match=r"maxReplicas: Invalid value: -2") as refused:
        kubernetes.apply(folder, made, print)
    assert "\n" not in str(refused.value)
    left = kubectl("get", "namespace", made.namespace, "--ignore-not-found", "-o", "jsonpath={.status.phase}").stdout
    assert left in ("", "Terminating")


INSTALL = """
import json, sys
import helm_python
given = json.load(sys.stdin)
with helm_python.Config(kubeconfig_path=given["config"], namespace=given["namespace"]) as cluster:
    first = cluster.install(given["chart"], "penguins", given["values"])
    second = cluster.upgrade(given["chart"], "penguins", given["values"])
    print(json.dumps([first["revision"], first["status"], second["revision"], second["status"]]))
"""
AWAY = """
import json, sys
import helm_python
given = json.load(sys.stdin)
with helm_python.Config(kubeconfig_path=given["config"], namespace=given["namespace"]) as cluster:
    cluster.uninstall("penguins")
"""


@pytest.mark.skipif(not PEERS, reason="ARSENAL_DEPLOY_PYTHON names no Python with helm-python-sdk")
def test_helm_installs_upgrades_and_takes_the_chart_away(tmp_path, served):
    made = deployment("staging")
    chart = write(tmp_path / "chart", helm.files(made))
    given = {"config": PLACE, "namespace": made.namespace, "chart": str(chart), "values": helm.values(made)}
    done = subprocess.run([PEERS, "-c", INSTALL], input=json.dumps(given), capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == [1, "deployed", 2, "deployed"], done.stderr
    chosen = ["--namespace", made.namespace, "--selector", "app.kubernetes.io/instance=penguins", "-o", "name"]
    there = ["get", "deployment,service,networkpolicy", *chosen]
    assert len(kubectl(*there).stdout.split()) == 3
    subprocess.run([PEERS, "-c", AWAY], input=json.dumps(given), capture_output=True, text=True, check=True)
    assert not kubectl(*there).stdout.split()


OTHERS = [
    (kserve, KSERVE, "inferenceservice.serving.kserve.io"),
    (knative, KNATIVE, "service.serving.knative.dev"),
]


@pytest.mark.parametrize(("target", "variants", "resource"), OTHERS)
def test_what_others_make_of_it_is_waited_for_and_not_deleted(target, variants, resource, served, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", PLACE)
    kind, _, group = resource.partition(".")
    if f"{kind}s.{group}" not in served:
        pytest.skip(f"{resource} is not installed")
    made = here("development", variants)
    folder, said, stop = write(tmp_path, target.files(made)), [], threading.Event()
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    words = ["patch", resource, made.name, "--namespace", made.namespace, "--subresource=status", "--type=merge"]

    def work():  # what their controllers would say, and a Deployment that they would make, with the labels given to them
        theirs = kubernetes.manifests(deployment("development"))["deployment"]
        theirs["metadata"] |= {"name": "penguins-predictor", "namespace": made.namespace}
        while not stop.wait(0.5):
            if not kubectl(*words, "-p", json.dumps(ready), check=False).returncode:
                kubectl("apply", "--server-side", "-f", "-", given=json.dumps(theirs), check=False)
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        target.apply(folder, made, said.append)
        assert any("condition met" in line for line in said)
        thread.join()
        target.apply(folder, made, said.append)
        assert "deployment.apps/penguins-predictor" in names(made.namespace, "deployment")
    finally:
        stop.set()
        kubectl("delete", "namespace", made.namespace, "--wait=false", check=False)
