"""Manifests onto a cluster with a real kubectl: what is refused leaves nothing behind, what is applied is all there.

The cluster is `api_server`, in this process.
"""

import os
import shutil
import stat

import pytest
import yaml
from api_server import api_server
from clusters import KNATIVE, deployment

from arsenal_serving.deploy import helm, knative, kubectl, kubernetes, kustomize
from arsenal_serving.refused import Refused

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not on PATH")
NAMESPACE = "/api/v1/namespaces/arsenal-staging"


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A server, and kubectl's configuration, whose context `here` is it; `gone` is a cluster that does not answer."""
    with api_server() as server:
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "here", "users": [{"name": "me", "user": {}}],
            "clusters": [{"name": "here", "cluster": {"server": server.url}},
                         {"name": "gone", "cluster": {"server": "http://127.0.0.1:9"}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": "me"}} for name in ("here", "gone")],
        }  # fmt: skip
        place = tmp_path / "kubeconfig"
        place.write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(place))
        monkeypatch.setenv("HOME", str(tmp_path))
        yield server


def context(name="here", variant="staging", **own):
    """A variant for the cluster of a context, its secret not needed."""
    made = deployment(variant)
    section = {**made.extra.get("kubernetes", {}), "context": name} | own
    access = made.access._replace(keys_secret="", tls_secret="", host=made.access.host)
    return made._replace(extra={"kubernetes": section}, access=access)


def written(folder, files):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def apply(target, made, folder):
    said = []
    target.apply(written(folder, target.files(made)), made, said.append)
    return said


def use(name, folder):
    place = folder / "kubeconfig"
    place.write_text(place.read_text().replace("current-context: here", f"current-context: {name}"))


@pytest.mark.parametrize("target", [kubernetes, kustomize])
def test_all_objects_are_there_and_the_namespace_is_restricted(target, cluster, tmp_path):
    made = context()
    said = apply(target, made, tmp_path / "files")
    assert said[0] == "namespace arsenal-staging: made"
    assert any("successfully rolled out" in line for line in said)
    kept = {(one["kind"], one["metadata"]["name"]) for one in cluster.objects.values()}
    assert kept == {(one["kind"], one["metadata"]["name"]) for one in kubernetes.manifests(made).values()}
    labels = cluster.objects[NAMESPACE]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted" and labels["arsenal.owner"] == "science"
    assert apply(target, made, tmp_path / "files")[0] == "namespace arsenal-staging: there"


def test_what_a_deployment_has_no_more_is_deleted_and_nothing_else(cluster, tmp_path):
    made = context(variant="nginx canary", namespace="make")
    apply(kubernetes, made, tmp_path / "before")
    space = f"/api/v1/namespaces/{made.namespace}"
    other = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other", "labels": {"app": "theirs"}}, "spec": {}}
    cluster.put(f"{space}/services/other", other)
    alone = made._replace(canary=made.canary._replace(weight=0.0))
    said = apply(kubernetes, alone, tmp_path / "after")
    assert {line.split('"')[1] for line in said if "deleted" in line} == {"penguins-canary"}
    assert len([line for line in said if "deleted" in line]) == 3, "its service, deployment and ingress"
    names = {one["metadata"]["name"] for one in cluster.objects.values()}
    assert "penguins-canary" not in names and {"penguins", "other"} <= names


@pytest.mark.parametrize("target", [kubernetes, kustomize, helm])
@pytest.mark.parametrize(
    ("name", "current", "said"),
    [
        ("", "here", "`extra.kubernetes.context` must name the context to act in"),
        ("hree", "here", "kubectl knows no context 'hree' of `extra.kubernetes.context`; it has: 'gone', 'here'."),
        ("here", "gone", "kubectl's context is 'gone', and `extra.kubernetes.context` names 'here'"),
        ("gone", "gone", "no cluster answers in the context 'gone': The connection to the server 127.0.0.1:9 was refused"),
    ],
)
def test_another_cluster_or_none_is_refused_in_one_line(target, name, current, said, cluster, tmp_path, monkeypatch):
    _fake_helm(tmp_path, monkeypatch)
    use(current, tmp_path)
    _refused(target, context(name), said, cluster, tmp_path)


@pytest.mark.parametrize("target", [kubernetes, kustomize, helm])
@pytest.mark.parametrize(
    ("labels", "own", "said"),
    [
        ({"arsenal.owner": "sales"}, {}, "the namespace arsenal-staging is 'sales''s (label arsenal.owner); `owner` is"),
        ({"arsenal.owner": "sales"}, {"namespace": "have"}, "(label arsenal.owner); `owner` is 'science'."),
        ({"team": "sales"}, {}, "is there and not arsenal's: `extra.kubernetes.namespace=have` deploys into it"),
        (None, {"namespace": "have"}, "there is no namespace arsenal-staging, and `extra.kubernetes.namespace=have` makes"),
    ],
)
def test_somebody_elses_namespace_is_refused(target, labels, own, said, cluster, tmp_path, monkeypatch):
    _fake_helm(tmp_path, monkeypatch)
    if labels is not None:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "arsenal-staging", "labels": labels}}
        cluster.put(NAMESPACE, space)
    _refused(target, context(**own), said, cluster, tmp_path)


def test_a_canary_beside_a_revision_that_is_not_there_is_refused(cluster, tmp_path):
    made = deployment("canary", KNATIVE)
    made = made._replace(extra={**made.extra, "kubernetes": {"context": "here"}})
    head = {"name": "penguins-v1-0a1b2c3d", "namespace": made.namespace}
    revision = {"apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": head}
    cluster.put(f"/apis/serving.knative.dev/v1/namespaces/{made.namespace}/revisions/{head['name']}", revision)
    said = r"`extra\.knative\.stable` must be a revision that is there \(penguins-v1-0a1b2c3d\); got 'penguins-v1-[0-9a-f]{8}'\."
    with pytest.raises(Refused, match=said):
        apply(knative, made, tmp_path / "files")
    assert not cluster.changes
    own = {**made.extra["knative"], "stable": head["name"]}
    with pytest.raises(Refused, match=r"`access\.keys_secret` names .* has no such secret"):
        apply(knative, made._replace(extra={**made.extra, "knative": own}), tmp_path / "named")


def test_an_old_cluster_is_refused_and_told_the_way_round(cluster, tmp_path):
    cluster.minor = "28+"
    _refused(kubernetes, context(), "the cluster is 1.28+, and the `sleep` action is of 1.30", cluster, tmp_path)
    assert kubectl.connect(context(pre_stop="exec"))


@pytest.mark.parametrize("target", [kubernetes, kustomize])
def test_what_the_server_does_not_take_leaves_no_namespace_behind(target, cluster, tmp_path):
    cluster.unwanted.add("HorizontalPodAutoscaler")
    with pytest.raises(Refused, match="this cluster takes none"):
        apply(target, context(), tmp_path / "files")
    assert not cluster.objects


@pytest.mark.parametrize("target", [kubernetes, helm])
def test_a_secret_that_is_not_there_is_missed_before_anything_waits_for_it(target, cluster, tmp_path, monkeypatch):
    _fake_helm(tmp_path, monkeypatch)
    made = context()
    made = made._replace(access=made.access._replace(keys_secret="arsenal-keys"))
    said = "`access.keys_secret` names arsenal-keys, and the namespace arsenal-staging has no such secret"
    _refused(target, made, said, cluster, tmp_path)
    cluster.put(NAMESPACE, kubernetes.manifests(made)["namespace"])
    _refused(target, made, said, cluster, tmp_path)
    head = {"name": "arsenal-keys", "namespace": "arsenal-staging"}
    cluster.put(f"{NAMESPACE}/secrets/arsenal-keys", {"apiVersion": "v1", "kind": "Secret", "metadata": head})
    assert apply(target, made, tmp_path / "files")[0] == "namespace arsenal-staging: there"


def test_a_roll_out_that_does_not_become_ready_is_told(cluster, tmp_path, monkeypatch):
    cluster.stuck = True
    made = context()
    monkeypatch.setattr(type(made.timings), "grace", property(lambda _: -178))  # two seconds in all
    with pytest.raises(Refused, match="deployment/penguins did not become ready in 2 s, and it stays as it is"):
        apply(kubernetes, made, tmp_path / "files")


def test_a_misspelt_value_is_refused_before_helm_is_asked(cluster, tmp_path):
    made = context()
    folder = written(tmp_path / "chart", helm.files(made))
    place = folder / "values-staging.yaml"
    place.write_text(place.read_text().replace("  least:", "  leest:"))
    with pytest.raises(Refused, match=r"unknown value 'leest' of `scale`; did you mean 'least'\?"):
        helm.apply(folder, made, print)
    assert not cluster.changes


def test_helm_is_told_the_cluster_the_namespace_and_to_undo_what_fails(cluster, tmp_path, monkeypatch):
    heard = _fake_helm(tmp_path, monkeypatch)
    apply(helm, context(), tmp_path / "chart")
    words = heard.read_text().split()
    assert words[:2] == ["upgrade", "penguins"] and {"--install", "--atomic"} <= set(words)
    assert words[words.index("--kube-context") + 1] == "here"
    assert words[words.index("--namespace") + 1] == "arsenal-staging"
    assert cluster.objects[NAMESPACE]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_without_helm_or_kubectl_nothing_is_changed(cluster, tmp_path, monkeypatch):
    made = context()
    folder = written(tmp_path / "chart", helm.files(made))
    monkeypatch.setenv("PATH", str(tmp_path))
    for call in (lambda: helm.apply(folder, made, print), lambda: kubectl.connect(made)):
        with pytest.raises(Refused, match="is not on PATH, and nothing was changed"):
            call()
    assert not cluster.changes


def _refused(target, made, said, cluster, tmp_path):
    with pytest.raises(Refused) as refused:
        apply(target, made, tmp_path / "refused")
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert not cluster.changes


def _fake_helm(folder, monkeypatch):
    """A program that notes what it is told: Helm itself renders the chart in test_deploy_helm."""
    place, heard = folder / "bin" / "helm", folder / "heard"
    place.parent.mkdir(exist_ok=True)
    place.write_text(f'#!/bin/sh\necho "$@" >> {heard}\n')
    place.chmod(place.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{place.parent}:{os.environ['PATH']}")
    return heard
