"""The Helm chart, rendered by Helm itself: what it makes is what the manifests are.

`ARSENAL_DEPLOY_PYTHON` names a Python that has helm-python-sdk, which is Helm 4 as a library.
"""

import json
import os
import re
import subprocess
import sys

import jsonschema
import pytest
import yaml
from api_server import api_server
from clusters import ENVIRONMENTS, SECRET, VARIANTS, deployment, objects

from arsenal_serving.deploy import helm

PEERS = os.environ.get("ARSENAL_DEPLOY_PYTHON", "")
JOBS = re.compile(r".*-(training|prediction|retraining|jobs)(-[0-9a-f]{8})?")
RENDER = """
import json, sys
import helm_python
given = json.load(sys.stdin)
said = {"lint": helm_python.lint(given["chart"])}
with helm_python.Chart.load(given["chart"]) as chart:
    for name, (values, namespace) in given["releases"].items():
        try:
            said[name] = chart.render(values, name="penguins", namespace=namespace)
        except helm_python.HelmError as error:
            said[name] = str(error)
json.dump(said, sys.stdout)
"""
needs_peers = pytest.mark.skipif(not PEERS, reason="ARSENAL_DEPLOY_PYTHON names no Python with helm-python-sdk")


def _render(folder, files, releases):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    given = json.dumps({"chart": str(folder), "releases": releases})
    done = subprocess.run([PEERS, "-c", RENDER], input=given, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _by_name(documents):
    return {(one["kind"], one["metadata"]["name"]): one for one in documents if one}


@needs_peers
def test_rendered_with_values_the_chart_is_the_manifests(tmp_path):
    made = {name: deployment(name) for name in VARIANTS}
    files = helm.files(*(made[env] for env in ENVIRONMENTS))
    releases = {name: (helm.values(one), one.namespace) for name, one in made.items()}
    for env in ENVIRONMENTS:  # as a user has them
        releases[env] = (yaml.safe_load(files[f"values-{env}.yaml"]), made[env].namespace)
    said = _render(tmp_path, files, releases)
    found = said["lint"]
    assert not [one for one in found["messages"] if one["severity"] > 1] and not found["errors"], "lint --strict"
    for name, one in made.items():
        texts = [text for path, text in said[name].items() if path.endswith(".yaml")]
        rendered = _by_name(document for text in texts for document in yaml.safe_load_all(text))
        asking = rendered.pop(("Pod", "penguins-answers"))
        assert asking["metadata"]["annotations"]["helm.sh/hook"] == "test"
        expected = [document for document in objects(one) if not JOBS.fullmatch(document["metadata"]["name"])]
        assert rendered == _by_name(document for document in expected if document["kind"] != "Namespace"), name


@needs_peers
def test_a_misspelt_value_is_refused_by_helm_itself(tmp_path):
    made = deployment("staging")
    wrong = helm.values(made) | {"replicas": 3}
    inner = helm.values(made)
    inner["scale"]["leest"] = 2
    said = _render(tmp_path, helm.files(made), {"top": (wrong, made.namespace), "inner": (inner, made.namespace)})
    assert "additional properties 'replicas' not allowed" in said["top"]
    assert "additional properties 'leest' not allowed" in said["inner"]


@needs_peers
def test_the_pod_that_asks_asks_with_python_and_without_a_shell(tmp_path):
    made = deployment("staging")
    said = _render(tmp_path, helm.files(made), {"one": (helm.values(made), made.namespace)})
    (pod,) = [yaml.safe_load(text) for path, text in said["one"].items() if path.endswith("answers.yaml")]
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["python", "-c"] and "http://penguins:8000/v2/health/ready" in container["args"][0]
    with api_server() as other:  # which answers, and knows no such path
        script = container["args"][0].replace("http://penguins:8000", other.url)
        ready = script.replace("/v2/health/ready", "/version")
        codes = [subprocess.run([sys.executable, "-c", one], capture_output=True, check=False) for one in (ready, script)]
    assert [one.returncode for one in codes] == [0, 1] and codes[0].stdout == b"200\n"
    policy = next(one for one in objects(made) if one["kind"] == "NetworkPolicy")["spec"]["ingress"][0]["from"]
    assert policy == [{"podSelector": {}}], "pods of the namespace may ask"


@pytest.mark.parametrize("name", VARIANTS)
def test_values_keep_to_the_schema_and_no_other_key_does(name):
    made = deployment(name)
    schema = json.loads(helm.files(made)["values.schema.json"])
    jsonschema.validate(helm.values(made), schema)
    for wrong in ({"nam": "x"}, {"scale": {"by": "cron"}}, {"tls": "yes"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(helm.values(made) | wrong, schema)


@pytest.mark.parametrize("name", VARIANTS)
def test_secrets_are_named_and_never_contained(name, monkeypatch):
    monkeypatch.setenv("ARSENAL_API_KEY", SECRET)
    made = deployment(name)
    planted = made._replace(extra={**made.extra, "aws": {"secret": SECRET}})
    assert not [path for path, text in helm.files(planted).items() if SECRET in text]
