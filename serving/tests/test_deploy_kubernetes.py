"""Kubernetes' manifests: what they promise, what refuses them, and what other programs make of them.

`ARSENAL_DEPLOY_PYTHON` names a Python that has kubernetes-validate and checkov; kubectl is found on PATH.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from clusters import ENVIRONMENTS, SECRET, VARIANTS, deployment, objects, pods

from arsenal_serving.deploy import kubernetes, kustomize
from arsenal_serving.deploy.cluster import settings
from arsenal_serving.deploy.description import describe
from arsenal_serving.refused import Refused
from arsenal_serving.repository import rollout

PEERS = os.environ.get("ARSENAL_DEPLOY_PYTHON", "")
KUBECTL = shutil.which("kubectl")
VERSIONS = ("1.30", "1.37")
CRDS = json.loads((Path(__file__).parent / "kept_crds.json").read_text())
EXCEPTIONS = {
    "CKV_K8S_11": "A limit of cores slows answers down while cores are idle; what is asked for is had without one.",
    "CKV_K8S_43": "Before the first push an image has no digest; `arsenal deploy` takes it once there is one.",
}
needs_peers = pytest.mark.skipif(not PEERS, reason="ARSENAL_DEPLOY_PYTHON names no Python with the validators")
needs_kubectl = pytest.mark.skipif(not KUBECTL, reason="kubectl is not on PATH")
every = pytest.mark.parametrize("name", VARIANTS)


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({"extra": {"kubernetes": {"contxt": "a"}}}, "unknown key 'contxt' of `extra.kubernetes`; did you mean 'context'?"),
        ({"extra": {"kubernetes": {"entry": "lb"}}}, "`extra.kubernetes.entry` must be ingress or gateway; got 'lb'."),
        ({"model": {"source": "mounted"}}, "`model.source=mounted` needs `extra.kubernetes.claim`"),
        ({"scale": {"least": 0}}, "`scale.least` must be at least 1 on Kubernetes"),
        ({"access": {"host": "a.example"}, "extra": {"kubernetes": {"entry": "gateway"}}}, "needs `extra.kubernetes.gateway`"),
        ({"canary": {"version": 1, "weight": 0.1}}, "`canary.version` must be another than `model.version`; both are 1."),
        ({"canary": {"version": 2, "weight": 0.1}}, "`canary.by=server` needs `model.source=mounted`"),
        ({"canary": {"version": 2, "weight": 0.1, "by": "traffic"}}, "`canary.by=traffic` needs `access.host`"),
        (
            {"canary": {"version": 2, "weight": 0.1, "by": "traffic"}, "access": {"host": "a.example"}},
            "`canary.by=traffic` needs `extra.kubernetes.canary_image`",
        ),
        (
            {"access": {"keys_secret": "k"}, "extra": {"kubernetes": {"monitoring": "pods"}}},
            "`extra.kubernetes.metrics_secret` is needed",
        ),
        ({"server": {"admin_port": 0}, "extra": {"kubernetes": {"monitoring": "pods"}}}, "needs `server.admin_port`"),
        ({"extra": {"kubernetes": {"training": {"hosts": 2}}}}, "`extra.kubernetes.training.image` is needed"),
        (
            {"extra": {"kubernetes": {"retraining": {"image": "a", "words": ["b"], "claim": "c"}}}},
            "`extra.kubernetes.retraining` needs `schedule`; got ''.",
        ),
        (
            {"extra": {"kubernetes": {"retraining": {"image": "a", "words": ["b"], "claim": "c", "schedule": "daily"}}}},
            "`extra.kubernetes.retraining.schedule` must be cron's five fields",
        ),
        (
            {"extra": {"kubernetes": {"prediction": {"image": "a", "words": ["b"], "claim": "c", "hosts": 2}}}},
            "`extra.kubernetes.prediction` is one pod",
        ),
        ({"owner": "team a"}, "`owner` must be a label's value"),
        *(
            ({"extra": {"kubernetes": {key: value}}}, f"`extra.kubernetes.{key}` must be")
            for key, value in (
                ("priority_class", "X y"), ("monitoring_namespace", "A B"), ("entry_namespace", ""), ("gateway", "a/b/c/d"),
                ("prometheus", "notaurl"), ("prometheus", "ftp://h/x"), ("claim", "A b"), ("canary_image", "a b"),
                ("canary_errors", 2.0), ("metrics_secret", "A b"), ("ingress_class", "A b"),
            )
        ),
        ({"extra": {"kubernetes": {"node_selector": {"a": 1}}}}, "`extra.kubernetes.node_selector.a` must be a word, in quotes"),
        ({"extra": {"kubernetes": {"node_selector": {"a b": "c"}}}}, "`extra.kubernetes.node_selector` must be a label's name"),
        (
            {"extra": {"kubernetes": {"training": {"image": "a", "words": ["b"], "claim": "c", "memory": 1}}}},
            "`extra.kubernetes.training.memory` must be 64 to 16,777,216, MiB; got 1.",
        ),
        (
            {"env": "staging", "access": {"host": "a.example", "keys_secret": "k"}},
            "`access.host` needs `access.tls_secret` in staging: API keys would travel in the clear.",
        ),
    ],
)
def test_what_cannot_be_on_a_cluster_is_refused_in_one_line(profile, said):
    with pytest.raises(Refused) as refused:
        kubernetes.files(describe(profile))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@every
def test_pods_keep_to_the_restricted_standard_and_to_ours(name):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards, restricted, and what we ask beyond it."""
    made = deployment(name)
    for where, spec in pods(made):
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & spec.keys(), where
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True and context["runAsUser"] == 65532, where
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where
        kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "emptyDir", "projected", "persistentVolumeClaim"}, where
        assert spec["automountServiceAccountToken"] is False, where
        mounted = {volume["name"] for volume in spec["volumes"]}
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False and own["capabilities"] == {"drop": ["ALL"]}, where
            assert own["readOnlyRootFilesystem"] is True and "privileged" not in own, where
            assert not any("hostPort" in port for port in container.get("ports", [])), where
            assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"], where
            assert {mount["name"] for mount in container["volumeMounts"]} <= mounted, where
            words = [*container.get("command", []), *container.get("args", [])]
            assert not any("sh" in word.split("/") for word in words), f"{where}: an image has no shell"


@every
def test_what_a_pod_is_told_hangs_together(name):
    made = deployment(name)
    found = {(document["kind"], document["metadata"]["name"]): document for document in objects(made)}
    server = found["Deployment", made.name]["spec"]
    spec, labels = server["template"]["spec"], server["template"]["metadata"]["labels"]
    (container,) = spec["containers"]
    wait = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    drain = int(container["args"][container["args"].index("--drain") + 1])
    assert wait == made.timings.detach and wait + drain < spec["terminationGracePeriodSeconds"]
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= made.timings.start
    selectors = [server["selector"]["matchLabels"], found["Service", made.name]["spec"]["selector"]]
    if made.scale.most > 1:
        selectors.append(found["PodDisruptionBudget", made.name]["spec"]["selector"]["matchLabels"])
    for selector in selectors:
        assert selector.items() <= labels.items()
        if made.canary.weight and made.canary.by == "traffic":
            other = found["Deployment", f"{made.name}-canary"]["spec"]["template"]["metadata"]["labels"]
            assert not selector.items() <= other.items(), "a canary's pods are not the stable version's"
    assert ("replicas" in server) == (made.scale.least == made.scale.most), "an autoscaler's number would be undone"
    policy = found["NetworkPolicy", made.name]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert bool(policy["egress"]) == (made.model.source == "fetched")
    for rule in policy["ingress"]:
        ports = {port["port"] for port in rule["ports"]}
        assert ports == {"admin"} or "admin" not in ports, "who calls does not reach the metrics"
    public = [port["name"] for port in found["Service", made.name]["spec"]["ports"]]
    assert "admin" not in public


def test_a_canary_of_the_servers_own_is_a_policy_that_it_takes():
    made = deployment("server canary")
    (given,) = [one for one in objects(made) if one["metadata"]["name"] == "penguins-policy"]
    policy = rollout.parse(given["data"]["policy.json"].encode())
    assert (policy.default, policy.canary.version, policy.canary.weight) == (1, 2, 0.1)
    assert rollout.choose(policy, [1, 2, 3], every=False) == [1, 2]
    changed = made._replace(canary=made.canary._replace(weight=0.2))
    sums = {one["spec"]["template"]["metadata"]["annotations"]["arsenal.checksum/config"]
            for deployed in (made, changed) for one in objects(deployed) if one["kind"] == "Deployment"}  # fmt: skip
    assert len(sums) == 2, "pods begin anew where their policy changes"


def test_weights_of_the_traffic_are_those_of_the_canary():
    by_gateway, by_nginx = deployment("gateway canary"), deployment("nginx canary")
    (route,) = [one for one in objects(by_gateway) if one["kind"] == "HTTPRoute"]
    backends = route["spec"]["rules"][0]["backendRefs"]
    assert [(one["name"], one["weight"]) for one in backends] == [("penguins", 900), ("penguins-canary", 100)]
    notes = [one["metadata"].get("annotations", {}) for one in objects(by_nginx) if one["kind"] == "Ingress"]
    prefix = "nginx.ingress.kubernetes.io/canary"
    assert notes[1][f"{prefix}-weight"] == "100" and notes[1][f"{prefix}-weight-total"] == "1000"
    assert prefix not in notes[0]


def test_a_training_tells_each_host_which_one_it_is():
    job, service = (kubernetes.manifests(deployment("jobs"))[f"{kind}-training"] for kind in ("job", "service"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    said = {one["name"]: one for one in container["env"]}
    assert said["ARSENAL_COORDINATOR"]["value"] == f"{job['metadata']['name']}-0.penguins-training:8476"
    assert service["metadata"]["name"] == job["spec"]["template"]["spec"]["subdomain"] == "penguins-training"
    assert said["ARSENAL_PROCESSES"]["value"] == "4" and job["spec"]["completions"] == 4
    field = said["ARSENAL_PROCESS"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert field == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert container["args"][-2:] == ["launcher=processes", "launcher.count=4"]


KINDS = {"jobs": ["job-training", "job-prediction"], "jobset": ["jobset-training"], "ray": ["rayjob-training"]}


@pytest.mark.parametrize("name", KINDS)
def test_a_job_is_of_what_it_does_and_not_of_the_version_beside_it(name):
    """Kubernetes changes no pods of a job: the next version's apply would be refused."""
    made = deployment(name)
    later = made._replace(model=made.model._replace(version=2), image=made.image._replace(tag="2"), namespace="other")
    own = made.extra["kubernetes"]
    work = {what: {**one, "memory": 99} if what in ("training", "prediction") else one for what, one in own.items()}
    others = kubernetes.manifests(made._replace(extra={"kubernetes": work}))
    for stem in KINDS[name]:
        one, other = kubernetes.manifests(made)[stem], kubernetes.manifests(later)[stem]
        assert one["spec"] == other["spec"] and one["metadata"]["name"] == other["metadata"]["name"]
        assert others[stem]["metadata"]["name"] != one["metadata"]["name"]
        assert re.fullmatch(r"penguins-(training|prediction)-[0-9a-f]{8}", one["metadata"]["name"])
        assert name == "ray" or "ttlSecondsAfterFinished" not in str(one), "it would begin again with the next deployment"


@pytest.mark.parametrize(("name", "most"), [("jobs", 41), ("jobset", 36), ("ray", 29)])
def test_a_name_that_is_too_long_for_a_jobs_hosts_is_refused(name, most):
    made = deployment(name)
    assert kubernetes.manifests(made._replace(name="a" * most))
    with pytest.raises(Refused, match=rf"`name` must be at most \d+ characters with `extra\.kubernetes\.\w+`; got {most + 1}"):
        kubernetes.manifests(made._replace(name="a" * (most + 1)))


@every
def test_secrets_are_named_and_never_contained(name, monkeypatch):
    monkeypatch.setenv("ARSENAL_API_KEY", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    made = deployment(name)
    planted = made._replace(extra={**made.extra, "aws": {"secret": SECRET}})
    for written in (kubernetes.files(planted), kustomize.files(planted)):
        assert not [path for path, text in written.items() if SECRET in text]
        assert not [path for path, text in written.items() if re.search(r"^kind: Secret$", text, re.M)]


@every
def test_kinds_of_others_are_what_their_definitions_say(name):
    """Kept from the projects' own CRDs, cut down to the fields that we write: see scripts/kept_crds.py."""
    for document in objects(deployment(name)):
        if schema := CRDS.get(f"{document['apiVersion']} {document['kind']}"):
            jsonschema.validate(document, schema)
        else:
            assert "." not in document["apiVersion"].partition("/")[0] or ".k8s.io/" in document["apiVersion"]


def test_definitions_find_a_misspelt_field():
    made = deployment("keda")
    (scaled,) = [one for one in objects(made) if one["kind"] == "ScaledObject"]
    scaled["spec"]["maxReplicaCounts"] = scaled["spec"].pop("maxReplicaCount")
    with pytest.raises(jsonschema.ValidationError, match="maxReplicaCounts"):
        jsonschema.validate(scaled, CRDS["keda.sh/v1alpha1 ScaledObject"])


@needs_peers
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_validate_takes_every_manifest_strictly(version, tmp_path):
    """The API server's own schemas, of the oldest version that is served and of the newest that the package has."""
    known = [f"{one['apiVersion']} {one['kind']}" for one in map(yaml.safe_load, _write(tmp_path))]
    assert len(set(known)) == 11
    paths = [str(path) for path in sorted(tmp_path.rglob("*.yaml"))]
    command = [PEERS, "-m", "kubernetes_validate", "--strict", "-k", version, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = tmp_path / "broken.yaml"
    broken.write_text(Path(paths[0]).read_text().replace("metadata:", "metadatum:"))
    assert subprocess.run([*command[:6], str(broken)], capture_output=True, check=False).returncode


@needs_peers
def test_checkov_finds_nothing_but_what_has_a_reason(tmp_path):
    _write(tmp_path)
    command = [PEERS, "-m", "checkov.main", "-d", str(tmp_path), "--framework", "kubernetes", "--skip-download", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = json.loads(done.stdout)
    assert said["summary"]["passed"] > 1000 and not said["summary"]["parsing_errors"]
    found = {one["check_id"]: f"{one['check_name']} ({one['file_path']})" for one in said["results"]["failed_checks"]}
    assert found.keys() == EXCEPTIONS.keys(), {key: found[key] for key in found.keys() - EXCEPTIONS.keys()}


def _write(folder):
    """Each object of every variant that Kubernetes itself defines, in a file of its own; the texts."""
    texts = []
    for name in VARIANTS:
        for path, text in kubernetes.files(deployment(name)).items():
            document = yaml.safe_load(text)
            if "kind" in document and f"{document['apiVersion']} {document['kind']}" not in CRDS:
                place = folder / name.replace(" ", "-") / path
                place.parent.mkdir(exist_ok=True, parents=True)
                place.write_text(text)
                texts.append(text)
    return texts


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not on PATH")
def test_prometheus_understands_what_autoscalers_ask(tmp_path):
    adapter = yaml.safe_load(kubernetes.files(deployment("production"))["prometheus-adapter.values.yaml"])
    words = {"<<.LabelMatchers>>": 'namespace="shop",pod=~"a|b"', "<<.GroupBy>>": "pod"}
    questions = []
    for rule in adapter["rules"]["custom"]:
        series = rule["seriesQuery"].partition("{")[0]
        question = rule["metricsQuery"].replace("<<.Series>>", series)
        for word, value in words.items():
            question = question.replace(word, value)
        questions.append(question)
    (scaled,) = [one for one in objects(deployment("keda")) if one["kind"] == "ScaledObject"]
    questions += [one["metadata"]["query"] for one in scaled["spec"]["triggers"] if one["type"] == "prometheus"]
    assert len(questions) == 4
    rules = [{"record": f"asked:{number}", "expr": question} for number, question in enumerate(questions)]
    place = tmp_path / "rules.yaml"
    place.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", str(place)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "SUCCESS: 4 rules found" in done.stdout, done.stdout + done.stderr


@needs_kubectl
def test_kustomize_builds_what_the_manifests_are(tmp_path):
    made = [deployment(env) for env in ENVIRONMENTS]
    for path, text in kustomize.files(*made).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    for one in made:
        assert _kustomized(tmp_path / "overlays" / one.env) == _by_name(objects(one))


@needs_kubectl
@pytest.mark.parametrize("name", ["server canary", "gateway canary", "jobs"])
def test_kustomize_builds_one_environment_alone(name, tmp_path):
    made = deployment(name)
    for path, text in kustomize.files(made).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert _kustomized(tmp_path / "overlays" / made.env) == _by_name(objects(made))


def _kustomized(folder):
    done = subprocess.run([KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, check=True)
    return _by_name(yaml.safe_load_all(done.stdout))


def _by_name(documents):
    return {(one["kind"], one["metadata"]["name"]): one for one in documents}


def test_two_overlays_of_one_environment_are_refused():
    made = deployment("staging")
    with pytest.raises(Refused, match="one for each environment; got penguins in staging, penguins in staging"):
        kustomize.files(made, made)


def test_settings_have_defaults():
    assert settings(describe({})).entry == "ingress"
