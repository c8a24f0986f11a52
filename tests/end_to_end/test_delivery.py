"""Delivery's workflow, this repository's and a project's, typed step by step as GitHub does, against a cluster of the tests' own.

All that is arsenal's, kubectl and the server that is smoked are real; docker and cosign are programs that write down their words.
"""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from arsenal_serving.artifact import folder as artifacts

from arsenal.runs.registry import open_registry
from arsenal.verbs.new import new

HERE = Path(__file__).resolve().parents[2]
DIGEST = "sha256:" + "5f" * 32
WRITES = '#!/bin/sh\necho "$(basename "$0") $*" >> "$CALLS"\n'
PYTHON = f'#!/bin/sh\nexec {sys.executable}'
PROGRAMS = {"docker": WRITES + f'[ "$1" = inspect ] && echo "ghcr.io/a/b@{DIGEST}"\nexit 0\n', "cosign": WRITES}
PROGRAMS |= {"arsenal": f'{PYTHON} -m arsenal "$@"\n', "arsenal-serve": f'{PYTHON} -m arsenal_serving "$@"\n', "python": f'{PYTHON} "$@"\n'}
MADE = ("pip ", "make ")
"""Steps that make an environment: this one is there already."""


class Workflow:
    """A workflow's jobs, run in a folder with the contexts that GitHub has."""

    def __init__(self, path: Path, folder: Path, variables: dict[str, str], secrets: dict[str, str]):
        self.said, self.folder = yaml.safe_load(path.read_text()), folder
        self.known = {f"vars.{key}": value for key, value in variables.items()} | {"github.token": "t", "github.actor": "me"}
        self.known |= {f"secrets.{key}": value for key, value in secrets.items()}
        (folder / "bin").mkdir()
        for name, text in PROGRAMS.items():
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)

    def value(self, text: str) -> str:
        """A text with its expressions evaluated; what GitHub does not know is empty."""
        return re.sub(r"\$\{\{\s*([\w.-]+)\s*\}\}", lambda found: self.known.get(found[1], ""), str(text))

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """A job's steps until one fails, and then what is done about it; what the last of them said."""
        job, done = self.said["jobs"][name], None
        made = {key: self.value(value) for key, value in {**self.said["env"], **job.get("env", {})}.items()}
        for place in ("temp", "output", "env"):
            (self.folder / f"{name}.{place}").mkdir(exist_ok=True) if place == "temp" else (self.folder / f"{name}.{place}").write_text("")
        failed = ""
        for step in job["steps"]:
            asked = f"failure() && steps.{failed}.outcome == 'failure'" if failed else None
            if step.get("if") != asked or step.get("run", MADE[0]).startswith(MADE):
                continue
            more = {key: self.value(value) for key, value in step.get("env", {}).items()}
            done = self._bash(name, step["run"], made | more)
            if done.returncode:
                failed = step.get("id", "it")
                continue
            made |= dict(line.split("=", 1) for line in (self.folder / f"{name}.env").read_text().splitlines())
            for line in (self.folder / f"{name}.output").read_text().splitlines():
                self.known[f"steps.{step['id']}.outputs.{line.split('=', 1)[0]}"] = line.split("=", 1)[1]
            (self.folder / f"{name}.output").write_text("")
        assert done is not None
        if failed:
            return subprocess.CompletedProcess(failed, 1, done.stdout, done.stderr)
        for key, value in job.get("outputs", {}).items():
            self.known[f"needs.{name}.outputs.{key}"] = self.value(value)
        return done

    def _bash(self, name: str, script: str, made: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """As GitHub runs `shell: bash`, and stricter: what is not set is an error."""
        assert self.said["defaults"]["run"]["shell"] == "bash"
        own = {
            "GITHUB_SHA": "0123abcd", "GITHUB_REPOSITORY_OWNER": "Research-Lab", "GITHUB_WORKFLOW_REF": "Research-Lab/x/cd.yml@main",
            "GITHUB_OUTPUT": str(self.folder / f"{name}.output"), "GITHUB_ENV": str(self.folder / f"{name}.env"),
            "RUNNER_TEMP": str(self.folder / f"{name}.temp"), "CALLS": str(self.folder / "calls"), "HOME": str(self.folder / "home"),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "JAX_PLATFORMS": "cpu",
        }  # fmt: skip
        words = ["bash", "--noprofile", "--norc", "-euo", "pipefail", "-c", script]
        environment = os.environ | own | made
        return subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300)


def a_project(folder: Path, name: str) -> Path:
    """A fresh project, or this repository's configuration in a fresh folder; the workflow's path."""
    if name != "digits_mlp":
        new(name, to=str(folder))
        return folder / ".github" / "workflows" / "cd.yml"
    folder.mkdir()
    shutil.copytree(HERE / "conf", folder / "conf")
    return HERE / ".github" / "workflows" / "cd.yml"


@pytest.fixture
def cluster():
    """A small server of Kubernetes' API with both namespaces and the secrets that the profiles name."""
    spec = importlib.util.spec_from_file_location("api_server", HERE / "serving" / "tests" / "api_server.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.api_server() as server:
        for env in ("staging", "production"):
            path, labels = f"/api/v1/namespaces/arsenal-{env}", {"app.kubernetes.io/managed-by": "arsenal"}
            space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"arsenal-{env}", "labels": labels}}
            server.put(path, space)
            for secret in ("arsenal-keys", "arsenal-tls", "ghcr"):
                head = {"name": secret, "namespace": f"arsenal-{env}"}
                server.put(f"{path}/secrets/{secret}", {"apiVersion": "v1", "kind": "Secret", "metadata": head})
        yield server


@pytest.fixture
def serve(tmp_path):
    """Starts the server of a folder; its URL."""
    started = []

    def start(folder: Path) -> str:
        words = [sys.executable, "-m", "arsenal_serving", str(folder), "--port", "0", "--insecure"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        for line in process.stdout:
            if found := re.search(r"http://[\w.]+:(\d+)", line):
                return f"http://127.0.0.1:{found[1]}"
        raise AssertionError("the server did not say where it listens")

    yield start
    for process in started:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("name", [pytest.param("digits_mlp", marks=pytest.mark.slow), "My_Project2"])
def test_delivery_delivers(name, cluster, serve, tmp_path, monkeypatch):
    monkeypatch.setenv("ARSENAL_REGISTRY", "")
    contexts = [{"name": one, "context": {"cluster": one, "user": "me"}} for one in ("other", "stage", "live")]
    clusters = [{"name": one["name"], "cluster": {"server": cluster.url}} for one in contexts]
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "other", "users": [{"name": "me", "user": {}}]}
    secrets = {"KUBECONFIG": json.dumps(config | {"clusters": clusters, "contexts": contexts}), "SERVER_KEY": "k"}
    variables = {"ARSENAL_REGISTRY": str(tmp_path / "registry"), "STAGING_CONTEXT": "stage", "PRODUCTION_CONTEXT": "live"}
    variables |= {"STAGING_URL": "http://127.0.0.1:9", "PRODUCTION_URL": "http://127.0.0.1:9"}
    variables |= {"STAGING_WORDS": "image.pull_secret=ghcr\nscale.most=1"}
    folder = tmp_path / "project"
    path = a_project(folder, name)
    flow = Workflow(path, folder, variables, secrets)
    label = {"digits_mlp": "digits-mlp", "My_Project2": "my-project2"}[name]
    image = f"ghcr.io/research-lab/arsenal-{label}"

    done = flow.run("image")
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = [flow.known[f"needs.image.outputs.{key}"] for key in ("image", "version", "digest")]
    assert outputs == [image, "1", DIGEST]
    calls = (folder / "calls").read_text()
    assert f"--tag {image}:1 context" in calls and f"docker push {image}:1" in calls and f"cosign sign --yes {image}@{DIGEST}" in calls

    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not on PATH: the model and its image were tried, and no deployment")
    url = serve(folder / "model")
    flow.known |= {"vars.STAGING_URL": url, "vars.PRODUCTION_URL": url}
    for job, env in (("staging", "staging"), ("production", "production")):
        done = flow.run(job)
        assert done.returncode == 0, done.stdout + done.stderr
        spec = cluster.objects[f"/apis/apps/v1/namespaces/arsenal-{env}/deployments/{label}"]["spec"]
        assert spec["template"]["spec"]["containers"][0]["image"] == f"{image}@{DIGEST}"
        assert ("imagePullSecrets" in spec["template"]["spec"]) == (env == "staging")
    calls = (folder / "calls").read_text()
    assert calls.count("cosign verify ") == 2 and calls.count("cosign verify-attestation --type cyclonedx") == 2
    registry = open_registry(str(tmp_path / "registry"))
    assert registry.aliases(name) == {"champion": 1}

    # A run that was registered before keeps its version, though another one is the newest by now.
    held = artifacts.open_version(folder / "model" / "1")
    manifest = artifacts.read_manifest(folder / "model" / "1", held.files)
    files = {path: content for path, content in held.files.items() if path != artifacts.MANIFEST}
    manifest |= {"provenance": {**manifest["provenance"], "step": 1}}
    assert registry.register(artifacts.write(tmp_path / "newer" / name, manifest, files), name, run=None, force=True) == 2

    # It is deployed, and the server at the URL gives another version's answers: back to what was there.
    shutil.move(artifacts.write(tmp_path / "second" / name, manifest, files, version=2), folder / "model" / "2")
    flow.known["needs.image.outputs.version"] = "2"
    done = flow.run("staging")
    assert (done.args, done.returncode) == ("smoke", 1) and f"deployed {name}@1 at" in done.stdout, done.stdout + done.stderr
    head = cluster.objects[f"/apis/apps/v1/namespaces/arsenal-staging/deployments/{label}"]["metadata"]
    assert head["labels"]["app.kubernetes.io/version"] == "1"

    for place in ("model", "context"):
        shutil.rmtree(folder / place)
    done = flow.run("image")
    assert done.returncode == 0, done.stdout + done.stderr
    assert flow.known["needs.image.outputs.version"] == "1" and (folder / "model" / "1").is_dir()


@pytest.mark.parametrize("lacks", ["STAGING_CONTEXT", "PRODUCTION_URL"])
def test_what_is_not_set_is_said_before_anything_is_trained(lacks, tmp_path):
    known = ("STAGING_CONTEXT", "STAGING_URL", "PRODUCTION_CONTEXT", "PRODUCTION_URL")
    flow = Workflow(a_project(tmp_path / "p", "mine"), tmp_path / "p", {key: "x" for key in known if key != lacks}, {})
    done = flow.run("image")
    assert done.returncode == 1 and done.stdout.count("\n") == 1
    assert f"::error::the repository's variable {lacks} must be set" in done.stdout
    assert not (tmp_path / "p" / "experiments").exists()
    done = flow.run("staging")
    assert done.returncode == 1 and done.stdout == (
        "::error::the environment staging must have the secrets KUBECONFIG and SERVER_KEY; one is empty.\n"
    )


@pytest.mark.parametrize("name", ["flowers", "My_Flowers.2"])
def test_an_image_has_the_name_that_a_deployment_pulls(name, tmp_path):
    """By the first two lines of the page of compose, without a builder."""
    page = (HERE / "docs" / "deploy" / "compose.md").read_text()
    lines = [shlex.split(line, comments=True) for line in page.split("```sh\n")[1].splitlines()[:2]]
    run = next((HERE / "tests" / "kept" / "0.1.0" / "digits_mlp").iterdir())
    open_registry(str(tmp_path / "registry")).register(run / "artifact", name, run=None, force=True)
    more = {"arsenal-serve": ["--build", "never", "--into", "context"], "arsenal": []}
    said = []
    for program, *words in lines:
        module = {"arsenal-serve": "arsenal_serving", "arsenal": "arsenal"}[program]
        typed = [sys.executable, "-m", module, *(word.replace("flowers", name) for word in words), *more[program]]
        done = subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    (reference,) = re.findall("of (\\S+);", said[0])
    files = yaml.safe_load(next(tmp_path.glob("deployments/*/development/compose/compose.yaml")).read_text())
    assert reference in {service["image"] for service in files["services"].values()} and reference.startswith("arsenal-")
