"""KServe's and Knative's manifests: what refuses them, and that their own definitions take them."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from clusters import ENVIRONMENTS, HOST, KNATIVE, KSERVE, SECRET, deployment

from arsenal_serving.deploy import knative, kserve
from arsenal_serving.deploy.description import describe
from arsenal_serving.refused import Refused

CRDS = json.loads((Path(__file__).parent / "kept_crds.json").read_text())
EVERY = [(kserve, KSERVE, name) for name in KSERVE] + [(knative, KNATIVE, name) for name in KNATIVE]
TRAFFIC = {"canary": {"version": 2, "weight": 0.125, "by": "traffic"}, "extra": {"knative": {"canary_image": "a"}}}


@pytest.mark.parametrize(
    ("target", "profile", "said"),
    [
        (kserve, {"extra": {"kserve": {"clam": "a"}}}, "unknown key 'clam' of `extra.kserve`; did you mean 'claim'?"),
        (kserve, {"model": {"source": "mounted"}}, "`model.source=mounted` needs `extra.kserve.claim`"),
        (kserve, {"access": HOST}, "`access.host` is not for KServe"),
        (kserve, {"access": {"namespaces": ["shop"]}}, "`access.namespaces` is not for KServe"),
        (knative, {"access": {"namespaces": ["shop"]}}, "`access.namespaces` is not for Knative"),
        (kserve, {"extra": {"kserve": {"claim": "A b"}}}, "`extra.kserve.claim` must be lower-case letters"),
        (kserve, {"extra": {"kubernetes": {"priority_class": "X y"}}}, "`extra.kubernetes.priority_class` must be lower-case"),
        (kserve, {"canary": {"version": 2, "weight": 0.1}}, "`canary` is not for KServe in Standard mode"),
        (
            kserve,
            {"model": {"source": "fetched", "url": "https://a.example/m/1", "digest": "sha256:" + "0" * 64}},
            "`model.source=fetched`: KServe checks no hash",
        ),
        (knative, {"model": {"source": "mounted"}}, "`model.source` must be inside"),
        (knative, TRAFFIC, "`canary.weight` must be whole percents for Knative; got 0.125."),
        (knative, {"canary": {"version": 2, "weight": 0.1}}, "`canary.by` must be traffic for Knative"),
        (knative, {"extra": {"knative": {"calls": 0}}}, "`extra.knative.calls` must be 1 to 1,000,000, calls; got 0."),
        (
            knative,
            {"env": "production", "access": {"host": "a.example", "keys_secret": "k"}},
            "`access.host` needs `access.tls_secret` in production",
        ),
        (knative, {"server": {"grpc_port": 9000}}, "`server.grpc_port` is not for Knative"),
    ],
)
def test_what_they_would_not_honour_is_refused_in_one_line(target, profile, said):
    with pytest.raises(Refused) as refused:
        target.files(describe(profile))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("target", "variants", "name"), EVERY)
def test_their_own_definitions_take_them(target, variants, name):
    made = deployment(name, variants)
    documents = [yaml.safe_load(text) for text in target.files(made).values()]
    own = [one for one in documents if f"{one['apiVersion']} {one['kind']}" in CRDS]
    for document in own:
        jsonschema.validate(document, CRDS[f"{document['apiVersion']} {document['kind']}"])
    assert {one["kind"] for one in own} >= ({"InferenceService", "ServingRuntime"} if target is kserve else {"Service"})


@pytest.mark.parametrize(("target", "variants", "name"), EVERY)
def test_their_containers_are_restricted_and_hold_no_secret(target, variants, name):
    made = deployment(name, variants)
    planted = made._replace(extra={**made.extra, "aws": {"secret": SECRET}})
    assert not [path for path, text in target.files(planted).items() if SECRET in text]
    found = {one["kind"]: one["spec"] for one in target.manifests(made).values() if "spec" in one}
    if target is kserve:
        (server,) = found["ServingRuntime"]["containers"]
        context = found["InferenceService"]["predictor"]["securityContext"] | server["securityContext"]
        assert server["name"] == "kserve-container" and found["InferenceService"]["predictor"]["model"]["runtime"] == made.name
    else:
        (server,) = found["Service"]["template"]["spec"]["containers"]
        context = server["securityContext"]
    assert context["runAsNonRoot"] and context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert server["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready" and len(server["ports"]) == 1


def test_the_model_is_where_the_server_looks():
    made = deployment("mounted", KSERVE)
    found = {one["kind"]: one["spec"] for one in kserve.manifests(made).values() if "spec" in one}
    assert found["InferenceService"]["predictor"]["model"]["storageUri"] == "pvc://models/penguins/1"
    assert found["ServingRuntime"]["containers"][0]["args"][0] == kserve.FOLDER
    inside = {one["kind"]: one for one in kserve.manifests(deployment("staging", KSERVE)).values()}
    assert inside["ServingRuntime"]["spec"]["containers"][0]["args"][0] == "/models/penguins"


def service(made):
    """A deployment's Service of Knative."""
    (found,) = [one for one in knative.manifests(made).values() if one["kind"] == "Service"]
    return found["spec"]


def test_a_canary_of_knative_is_a_share_of_the_next_revision_beside_the_one_that_is_there():
    made = deployment("canary", KNATIVE)
    before = service(made._replace(canary=describe({}).canary))["template"]
    spec = service(made)
    template = spec["template"]
    shares = [(before["metadata"]["name"], 90), (template["metadata"]["name"], 10)]
    assert [(one["revisionName"], one["percent"]) for one in spec["traffic"]] == shares
    assert before["metadata"]["name"].startswith("penguins-v1-") and template["metadata"]["name"].startswith("penguins-v2-")
    assert template["spec"]["containers"][0]["image"] == "registry.example.com/ml/arsenal-serve:2"
    named = made._replace(extra={"knative": {**made.extra["knative"], "stable": "penguins-v1-0a1b2c3d"}})
    assert service(named)["traffic"][0] == {"revisionName": "penguins-v1-0a1b2c3d", "percent": 90}


CHANGES = [
    {"resources": {"memory": 2000}}, {"resources": {"cpu": 3.0}}, {"resources": {"scratch": 99}}, {"scale": {"most": 9}},
    {"timings": {"start": 33}}, {"timings": {"drain": 33}}, {"server": {"port": 8080}}, {"server": {"rate": 5.0}}, {"server": {"sample": 0.5}},
    {"image": {"tag": "9"}}, {"image": {"pull_secret": "ghcr"}}, {"model": {"version": 2}}, {"access": {"keys_secret": "others"}},
    {"extra": {"knative": {"calls": 9}}}, {"extra": {"knative": {"seconds": 9}}}, {"image": {"accelerator": "cuda"}}, {"env": "staging"},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda one: str(one).replace(" ", ""))
def test_a_revision_is_named_by_what_is_in_it(change):
    """Knative's webhook refuses another template under a name that is there."""
    same = {"name": "penguins", "model": {"name": "penguins", "version": 1}, "image": {"name": "a", "tag": "1"}}
    one, again = service(describe(same)), service(describe(same | {"access": {"host": "penguins.example.com"}}))
    assert one == again, "what is not of the template keeps the name"
    other = service(describe(same | {key: {**same.get(key, {}), **value} if isinstance(value, dict) else value for key, value in change.items()}))
    assert other["template"]["metadata"]["name"] != one["template"]["metadata"]["name"]
    assert len(other["template"]["metadata"]["name"]) <= 63


def test_a_name_that_is_too_long_for_a_revision_is_refused():
    profile = {"name": "a" * 50, "model": {"name": "a", "version": 1000}}
    with pytest.raises(Refused, match="`name` must be at most 48 characters for Knative's version 1000; got 50"):
        knative.files(describe(profile))


@pytest.mark.parametrize("env", ENVIRONMENTS)
@pytest.mark.parametrize("target", [kserve, knative])
def test_arsenals_own_profiles_are_taken_as_they_are(target, env):
    """What is of the cluster's own gateway or autoscaler is a note; the server speaks plain HTTP behind it."""
    made = deployment(env)
    told = "\n".join(target.notes(made))
    for path, value in (("access.tls_secret", made.access.tls_secret), ("scale.queue", made.scale.queue)):
        assert (f"{path}={value}" in told) == bool(value)
    text = "".join(target.files(made).values())
    assert "--tls-cert" not in text and "tls.crt" not in text and "scheme: HTTPS" not in text


def test_what_a_cluster_is_asked_of_a_pod_reaches_kserve():
    asked = {"namespace": "have", "node_selector": {"disk": "fast"}, "priority_class": "urgent", "state_claim": "state"}
    made = deployment("staging")._replace(extra={"kubernetes": asked})
    found = kserve.manifests(made)
    predictor = found["inferenceservice"]["spec"]["predictor"]
    assert "namespace" not in found, "one that is somebody else's keeps its labels"
    assert (predictor["nodeSelector"], predictor["priorityClassName"]) == ({"disk": "fast"}, "urgent")
    assert '"claimName": "state"' in json.dumps(found["servingruntime"])


def test_nobody_calls_and_nothing_runs():
    (service,) = [one for one in knative.manifests(deployment("development", KNATIVE)).values() if one["kind"] == "Service"]
    assert service["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"] == "0"
