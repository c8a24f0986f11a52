"""`arsenal deploy` as it is typed: a plan that can be read, the act, the way back, and what is refused with nothing done."""

import contextlib
import importlib
import json
import os
import shlex
import socket
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

import pytest
from arsenal_serving.artifact import folder as artifacts
from arsenal_serving.deploy.description import describe

from arsenal import cli
from arsenal.runs.registry import RegistryError, deployments, open_registry
from arsenal.runs.registry.deployments import Release
from arsenal.runs.registry.ledger import open_ledger, rebuild
from arsenal.runs.registry.places import Site, current
from arsenal.verbs.deploy import TARGETS

RUN = next((Path(__file__).parents[1] / "kept" / "0.1.0" / "digits_mlp").iterdir())
SBATCH = '#!/bin/sh\n[ -e refuse ] && { echo "sbatch: error: no such partition" >&2; exit 1; }\necho "$@" >> calls\necho Submitted\n'
SLURM = "to=slurm env=staging"
CLOUD = "to=gcp env=staging extra.gcp.project=research-1 extra.gcp.region=europe-west1 extra.gcp.billing_account=012345-6789AB-CDEF01 extra.gcp.email=a@example.org"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A registry with two versions, and a third whose run missed what its experiment states."""
    root = tmp_path_factory.mktemp("made")
    held = artifacts.open_version(RUN / "artifact")
    manifest = artifacts.read_manifest(RUN / "artifact", held.files)
    files = {path: content for path, content in held.files.items() if path != artifacts.MANIFEST}
    registry = open_registry(str(root / "registry"))
    for step, more in ((40, {}), (41, {}), (42, {"expect": {"missed": ["test/accuracy is 0.2, below 0.9"]}})):
        one = artifacts.write(root / "a" / "digits_mlp", manifest | {"provenance": {**manifest["provenance"], "step": step, **more}}, files)
        registry.register(one, "digits", run=None, force=True)
    registry.set_alias("digits", "champion", 1)
    return root / "registry"


@pytest.fixture
def arsenal(made, tmp_path, monkeypatch, capsys):
    """The command in a fresh folder, with a copy of the registry and a scheduler that writes down what it is asked."""
    subprocess.run(["cp", "-r", made, tmp_path / "registry"], check=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SBATCH)
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name in ("ARSENAL_REGISTRY", "ARSENAL_LEDGER"):
        monkeypatch.delenv(name, raising=False)

    def run(words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["arsenal", "deploy", *shlex.split(words)])
        code = 0
        try:
            cli.arsenal()
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert (code == 1) == bool(err) and err.count("\n") <= 1, err
        return out + err

    return run


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != ".ledger.sqlite")


def test_the_way_of_the_guide(arsenal, tmp_path):
    said = arsenal(f"model=digits@champion {SLURM}")
    assert "digits@1 to slurm, staging: 1 file in deployments/digits/staging/slurm" in said and "apply=true acts" in said
    folder = tmp_path / "deployments" / "digits" / "staging" / "slurm"
    assert "arsenal train +experiment=digits_mlp" in (folder / "train.sbatch").read_text()
    assert arsenal("list") == "Nothing is deployed.\n" and not (folder / "calls").exists()

    said = arsenal(f"model=digits@champion {SLURM} apply=true why=first")
    assert "Submitted" in said and "deployed digits@1 at digits/staging/slurm, event" in said
    assert (folder / "calls").read_text().split() == ["--test-only", "train.sbatch", "train.sbatch"]
    assert "the files are those that were deployed last" in arsenal(f"model=digits@1 {SLURM}")

    said = arsenal(f"model=digits@2 {SLURM} extra.training.hours=8 apply=true why=second")
    assert "  version: 1 -> 2\n--- train.sbatch\n+++ train.sbatch\n" in said
    assert "-#SBATCH --time=04:00:00\n+#SBATCH --time=08:00:00\n" in said
    assert [line.split()[:4] for line in arsenal("list").splitlines()[1:]] == [["digits", "staging", "slurm", "2"]]

    said = arsenal(f"rollback model=digits {SLURM} why=slow")
    assert "  version: 2 -> 1\n" in said and "deployed digits@1" in said
    assert "--time=04:00:00" in (folder / "train.sbatch").read_text()
    said = arsenal(f"show model=digits {SLURM} into=again")
    assert "rolled back to digits@1" in said and "why: slow" in said and said.index("rolled back") < said.index("deployed digits@2")
    assert (tmp_path / "again" / "train.sbatch").read_text() == (folder / "train.sbatch").read_text()
    assert "digits@1 is the first at digits/staging/slurm" in arsenal(f"rollback model=digits {SLURM}")


def test_rolled_back_again_it_is_what_was_before_that(arsenal):
    for version in (1, 2, 1, 2):
        arsenal(f"model=digits@{version} {SLURM} apply=true extra.training.hours={version}")
    went = [arsenal(f"rollback model=digits {SLURM}").splitlines()[-1] for _ in range(4)]
    assert [line.partition(" at")[0] for line in went[:3]] == ["deployed digits@1", "deployed digits@2", "deployed digits@1"]
    assert "there is nothing before it" in went[3]


def test_lineage_and_the_ledger_know_it(arsenal, tmp_path):
    arsenal(f"model=digits@1 {SLURM} apply=true why=first")
    arsenal(f"model=digits@2 {SLURM} apply=true why=second")
    registry = open_registry("registry")
    rebuild(registry.store)
    with open_ledger(registry.store) as ledger:
        nodes, edges = ledger.graph("version:digits@1")
        (node,) = [node for node in nodes if node.kind == "deployment"]
        assert node.ref.startswith("deployment:digits/staging/slurm#") and node.state == "replaced"
        assert node.cells["why"][1] == "first" and [edge.kind for edge in edges if edge.target == node.ref] == ["serves"]
        (other,) = [node for node in ledger.graph("version:digits@2")[0] if node.kind == "deployment"]
        assert other.state == "there"


def test_a_cloud_is_planned_from_a_fresh_folder(arsenal, tmp_path):
    said = arsenal(f"model=digits@champion {CLOUD}")
    assert "1 to 2 replicas" in said and "+ module/main.tf" in said
    assert "note: scale.queue=256 is not heard here" in said and "note: terraform's state lies in the folder" in said
    assert 'image           = ""' in (tmp_path / "deployments/digits/staging/gcp/main.tf").read_text()


def test_a_profile_of_ones_own_goes_first(arsenal, tmp_path):
    (tmp_path / "conf" / "deployment").mkdir(parents=True)
    (tmp_path / "conf" / "deployment" / "europe.yaml").write_text("defaults: [staging, _self_]\nextra: {training: {hours: 3.0}}\n")
    assert "digits@1 to slurm, europe" in arsenal("model=digits@champion to=slurm env=europe")
    assert "--time=03:00:00" in (tmp_path / "deployments/digits/europe/slurm/train.sbatch").read_text()
    (tmp_path / "conf" / "deployment" / "staging.yaml").write_text("env: staging\nextra: {training: {hours: 5.0}}\n")
    arsenal("model=digits@champion to=slurm env=staging into=here")
    assert "--time=05:00:00" in (tmp_path / "here" / "train.sbatch").read_text()
    arsenal("model=digits@champion to=kubernetes env=europe scale.queue=0")
    service = (tmp_path / "deployments/digits/europe/kubernetes/service.yaml").read_text()
    assert "name: digits-europe\n" in service, "It is not what staging has."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scale: {least: 3, most: 4}", "europe.yaml must say `env`, development, staging or production, or begin with one"),
        ("", "europe.yaml must hold sections of keys and values; got NoneType."),
        ("- scale", "europe.yaml must hold sections of keys and values; got list."),
        ("scale: {least: 3, most: 4", "cannot be read: while parsing a flow mapping"),
        ("env: staging\nenv: staging\n", "cannot be read: while constructing a mapping"),
    ],
)
def test_a_profile_that_is_none_is_told_in_a_line(arsenal, tmp_path, text, said):
    (tmp_path / "conf" / "deployment").mkdir(parents=True)
    (tmp_path / "conf" / "deployment" / "europe.yaml").write_text(text)
    assert said in arsenal("model=digits@champion to=slurm env=europe") and not (tmp_path / "deployments").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"model=digits@champoin {SLURM}", "unknown alias 'champoin' of 'digits'"),
        (f"model=digits {SLURM}", "`model` must be NAME@ALIAS or NAME@NUMBER"),
        (f"model=letters@1 {SLURM}", "letters"),
        ("model=digits@1 to=kubernets env=staging", "got kubernets. Did you mean `kubernetes`?"),
        ("model=digits@1 to=slurm env=stagin", "There is no profile `stagin` of a deployment. Did you mean `staging`?"),
        (f"model=digits@1 {SLURM} scale.mots=3", "unknown key 'mots' of `scale`; did you mean 'most'?"),
        (f"model=digits@1 {SLURM} scael.most=3", "unknown key 'scael'; did you mean 'scale'?"),
        (f"model=digits@1 {SLURM} scale.most=lots", "`scale.most` must be a whole number; got 'lots'."),
        (f"model=digits@1 {SLURM} scale.most=[3", "The override"),
        (f"model=digits@1 {SLURM} model.version=7", "`model.version` is the registry's to say, 1; the profile has 7."),
        (f"model=digits@1 {SLURM} model.digest=sha256:00", "`model.digest` is the registry's to say"),
        (f"model=digits@1 {SLURM} apply=yes", "`apply` must be true or false; got yes."),
        (f"model=digits@3 {SLURM}", "digits@3 is not deployed: its run misses what its experiment states, test/accuracy is 0.2, below 0.9; force=true"),
        ("model=digits@1 to=slurm", "`deploy` needs env=..."),
        ("rolback model=digits", "has no verb `rolback`. Did you mean `rollback`?"),
        (f"rollback model=digits {SLURM}", "nothing is deployed at digits/staging/slurm, so nothing can be rolled back."),
        (f"rollback model=digits@1 {SLURM}", "`model` is the name alone here, digits"),
        (f"show model=digits {SLURM}", "nothing is deployed at digits/staging/slurm."),
        ("list model=../x", "the name of a model must be"),
        ("list model=digist", "there is no model digist in the registry. Did you mean `digits`?"),
        (f"down model=digits {SLURM}", "nothing is deployed at digits/staging/slurm."),
        (f"rollback model=digist {SLURM}", "nothing is deployed at digist/staging/slurm"),
        (f"model=digits@1 {SLURM} aply=true", "`deploy` has no argument `aply`. Did you mean `apply`?"),
        (f"model=digits@1 {SLURM} scale.most=3 scale.most=4", "`scale.most` is given twice, as 3 and as 4."),
        (f"model=digits@1 {SLURM} extra.training.words=[+a=x,b=y]", "override `extra.training.words=[+a=x,b=y]` cannot be read"),
        (f"model=digits@1 {SLURM} canary.version=3 canary.weight=0.5", "the canary digits@3: its run misses what its experiment"),
        (f"model=digits@1 {SLURM} canary.version=7 canary.weight=0.5", "there is no version 7 of 'digits' in the registry."),
        (f"model=digits@1 {SLURM} extra.training.hosts=2", "`extra.training.hosts` above 1 needs `extra.training.folder`"),
        ("model=digits@1 to=aws env=staging", "`extra.aws.region` is needed for `to=aws`"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_a_line_and_nothing_is_done(arsenal, tmp_path, words, said):
    before = files_below(tmp_path)
    assert said in arsenal(words)
    assert [path for path in files_below(tmp_path) if not path.endswith(".lock")] == before


def test_a_gate_forbids_and_force_is_on_record(arsenal):
    registry = open_registry("registry")
    registry.note("digits", "refused", version=2, why="slower than the champion")
    assert "digits@2 is not deployed: it was refused, slower than the champion; force=true" in arsenal(f"model=digits@2 {SLURM} apply=true")
    arsenal(f"model=digits@2 {SLURM} apply=true force=true")
    event = current(deployments.history(registry, Site("digits", "staging", "slurm")))
    assert event["forced"] == ["it was refused, slower than the champion"]
    assert "forced: it was refused" in arsenal(f"show model=digits {SLURM}")


def test_what_fails_is_told_and_the_one_before_stands(arsenal, tmp_path):
    arsenal(f"model=digits@1 {SLURM} apply=true")
    (tmp_path / "deployments/digits/staging/slurm/refuse").touch()
    assert "`sbatch --test-only train.sbatch` ended with 1: sbatch: error: no such partition" in arsenal(f"model=digits@2 {SLURM} apply=true")
    listed = arsenal("list").splitlines()[1]
    assert listed.split()[3] == "1" and "the last try failed" in listed


def test_after_a_try_that_failed_the_way_back_is_to_what_is_deployed(arsenal, tmp_path):
    for version in (1, 2):
        arsenal(f"model=digits@{version} {SLURM} apply=true extra.training.hours={version}")
    refuse = tmp_path / "deployments/digits/staging/slurm/refuse"
    refuse.touch()
    assert "no such partition" in arsenal(f"model=digits@1 {SLURM} apply=true")
    refuse.unlink()
    went = [arsenal(f"rollback model=digits {SLURM}").splitlines()[-1].partition(" at")[0] for _ in range(2)]
    assert went == ["deployed digits@2", "deployed digits@1"]


def test_what_is_deployed_is_not_removed_until_it_is_taken_down(arsenal):
    registry = open_registry("registry")
    for version in (3, 2):
        arsenal(f"model=digits@{version} {SLURM} apply=true extra.training.hours={version} force=true")
    with pytest.raises(RegistryError, match="digits@2 is deployed at digits/staging/slurm; deploy another there, or `arsenal deploy down`"):
        registry.remove("digits", 2)
    with pytest.raises(RegistryError, match="digits@3 is what a rollback of digits/staging/slurm returns to; deploy another"):
        registry.remove("digits", 3)
    assert "yes=true notes that it was taken down, as docs/deploy/slurm.md says how" in arsenal(f"down model=digits {SLURM}")
    assert "digits@2 at digits/staging/slurm is taken down, event" in arsenal(f"down model=digits {SLURM} yes=true why=over")
    assert arsenal("list") == "Nothing is deployed.\n" and "nothing is deployed at" in arsenal(f"rollback model=digits {SLURM}")
    rebuild(registry.store)
    with open_ledger(registry.store) as ledger:
        (node,) = [node for node in ledger.graph("version:digits@2")[0] if node.kind == "deployment"]
    assert node.state == "taken_down"
    registry.remove("digits", 3)
    arsenal(f"model=digits@2 {SLURM} apply=true")
    assert "is the first at" in arsenal(f"rollback model=digits {SLURM}")


def test_before_it_is_deployed_the_difference_is_to_the_folder(arsenal):
    arsenal(f"model=digits@1 {SLURM}")
    said = arsenal(f"model=digits@1 {SLURM} extra.training.hours=8")
    assert "nothing is deployed there yet" in said and "-#SBATCH --time=04:00:00\n+#SBATCH --time=08:00:00\n" in said


def test_a_folder_has_the_files_of_one_place(arsenal, tmp_path):
    arsenal(f"model=digits@1 {SLURM} into=here")
    said = arsenal("model=digits@1 to=local env=development into=here")
    assert "here has the files of digits/staging/slurm; those of digits/development/local take another folder, into=FOLDER." in said
    assert (tmp_path / "here" / "train.sbatch").exists()


def test_an_image_of_another_tag_is_noted(arsenal):
    note = "note: image.tag is 1, the version 2: `arsenal-serve smoke` tells whether it answers as that version"
    assert note in arsenal("model=digits@2 to=compose env=development image.tag=1")
    assert "image.tag is" not in arsenal("model=digits@2 to=compose env=development")


def test_a_program_that_is_missing_is_named(arsenal, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    said = arsenal(f"model=digits@1 {CLOUD} apply=true")
    assert "none of terraform, tofu is on PATH, and nothing was changed: https://developer.hashicorp.com/terraform/install." in said


def test_a_file_that_was_edited_is_not_written_over(arsenal, tmp_path):
    arsenal(f"model=digits@1 {SLURM}")
    script = tmp_path / "deployments/digits/staging/slurm/train.sbatch"
    script.write_text("mine")
    assert "train.sbatch was edited, and is not written over; move it away, or force=true." in arsenal(f"model=digits@2 {SLURM} apply=true")
    assert script.read_text() == "mine" and arsenal("list") == "Nothing is deployed.\n"
    arsenal(f"model=digits@2 {SLURM} force=true")
    assert "arsenal train" in script.read_text()


def test_of_two_at_once_the_second_is_refused(arsenal):
    registry, place = open_registry("registry"), Site("digits", "staging", "slurm")
    with deployments.hold(registry, place):
        said = arsenal(f"model=digits@1 {SLURM} apply=true")
        assert f"is held by process {os.getpid()} on" in said and "Nothing was changed." in said
        assert "digits@1 to slurm, production" in arsenal("model=digits@1 to=slurm env=production access.keys_secret=k")
    assert "deployed digits@1" in arsenal(f"model=digits@1 {SLURM} apply=true")


def test_a_version_that_was_edited_is_not_deployed(arsenal, tmp_path):
    sums = tmp_path / "registry/models/digits/1/SHA256SUMS"
    text = sums.read_text()
    sums.write_text(text.replace(text[:4], "0000", 1))
    assert "registry/models/digits/1" in arsenal(f"model=digits@1 {SLURM}")
    assert not (tmp_path / "deployments").exists()


def test_kept_files_that_were_edited_are_not_gone_back_to(arsenal, tmp_path):
    for version in (1, 2):
        arsenal(f"model=digits@{version} {SLURM} apply=true extra.training.hours={version}")
    for path in (tmp_path / "registry/deployments").glob("*.json"):
        path.write_text(path.read_text().replace("train", "drain"))
    assert "is not what was deployed: it was edited." in arsenal(f"rollback model=digits {SLURM}")


def test_a_planted_secret_is_in_no_file(arsenal, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-4711")
    monkeypatch.setenv("ARSENAL_SERVER_KEY", "planted-4711")
    arsenal(f"model=digits@1 {SLURM} apply=true")
    arsenal(f"model=digits@1 {CLOUD}")
    for folder in (tmp_path / "deployments", tmp_path / "registry"):
        assert not [path for path in folder.rglob("*") if path.is_file() and b"planted-4711" in path.read_bytes()]


def test_a_bucket_is_held_by_one_and_left_by_who_was_killed(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    registry, place = open_registry(f"memory://{uuid.uuid4()}/registry"), Site("digits", "staging", "slurm")
    registry.register(RUN / "artifact", "digits", run=None)
    refused = pytest.raises(RegistryError, match="is held by .* since .* Nothing was changed")
    with deployments.hold(registry, place), refused, deployments.hold(registry, place):
        raise AssertionError("two hold it")
    held = f"deployments/{place}/held"
    registry.store.create(held, json.dumps({"who": "a@b", "time": 0.0}).encode())
    with deployments.hold(registry, place):
        kept = deployments.keep(registry, Release({"name": "digits"}, {"a": "text"}))
        event = deployments.record(registry, place, 1, kept, {"a": "text"}, replaces=None)
    assert not registry.store.exists(held)
    assert deployments.recall(registry, event) == Release({"name": "digits"}, {"a": "text"})


WORDS = {
    "gcp": CLOUD.partition("env=staging ")[2],
    "aws": "extra.aws.region=eu-west-1 extra.aws.vpc=vpc-01234567 'extra.aws.private_subnets=[subnet-01234567,subnet-11234567]' extra.aws.email=a@example.org",
    "azure": "extra.azure.subscription=01234567-89ab-cdef-0123-456789abcdef extra.azure.location=westeurope extra.azure.email=a@example.org "
    "extra.azure.key_vault=/subscriptions/0/resourceGroups/shared/providers/Microsoft.KeyVault/vaults/research",
}  # fmt: skip


@pytest.mark.parametrize("to", ["kserve", "knative"])
def test_arsenals_production_needs_no_further_word(arsenal, to):
    said = arsenal(f"model=digits@champion to={to} env=production")
    assert said.endswith("Nothing was changed but the folder; apply=true acts.\n")
    assert "note: access.tls_secret=arsenal-tls is not heard here: TLS is of the cluster's own gateway" in said
    assert "scale.queue=256, scale.latency=0.25 are not heard here: " in said and "note: image.registry is not given: " in said


@pytest.mark.parametrize("words", ["extra.lokal.port=1", "extra.kubernetes.namespce=make", "'server.more=[--nonsense]'", "scale.cpu=-1"])
def test_what_is_misspelt_for_another_target_is_refused_with_nothing_written(arsenal, tmp_path, words):
    assert arsenal(f"model=digits@champion to=local env=staging {words}").startswith("arsenal: ")
    assert not (tmp_path / "deployments" / "digits" / "staging" / "local" / "local.json").exists()


@pytest.mark.parametrize("to", TARGETS)
def test_every_target_is_planned_and_written_from_a_fresh_folder(arsenal, tmp_path, to):
    said = arsenal(f"model=digits@champion to={to} env=staging {WORDS.get(to, '')}")
    assert f"digits@1 to {to}, staging: " in said and said.endswith("Nothing was changed but the folder; apply=true acts.\n")
    written = json.loads((tmp_path / "deployments/digits/staging" / to / ".written.json").read_text())
    assert written["files"] and written["place"] == f"digits/staging/{to}"
    assert "the files are those that lie in the folder" in arsenal(f"model=digits@champion to={to} env=staging {WORDS.get(to, '')}")
    assert not list((tmp_path / "registry").rglob(".lock")), "A plan writes nothing into the registry."


def free_ports():
    with contextlib.closing(socket.socket()) as one, contextlib.closing(socket.socket()) as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@pytest.mark.slow
def test_a_version_answers_on_this_machine_and_the_one_before_after_a_rollback(arsenal, tmp_path):
    port, admin = free_ports()
    place = f"to=local env=development server.port={port} server.admin_port={admin}"

    def served():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/digits", timeout=10) as answer:
            return json.loads(answer.read())["versions"]

    try:
        for version in (1, 2):
            assert f"deployed digits@{version} at digits/development/local" in arsenal(f"model=digits@{version} {place} apply=true")
            assert served() == [str(version)]
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
            other = f"to=local env=development server.port={taken.getsockname()[1]} server.admin_port={admin} apply=true"
            said = arsenal(f"model=digits@1 {other}")
            assert "cannot be had: Address already in use" in said and "digits@2, which is deployed, runs on" in said
        assert served() == ["2"]
        said = arsenal(f"model=digits@1 {place} apply=true server.redact=[nope]")
        assert "it failed; digits@2, which is deployed, is begun again" in said
        assert served() == ["2"]
        assert "deployed digits@2" in arsenal("rollback model=digits to=local env=development")
        assert "deployed digits@1" in arsenal("rollback model=digits to=local env=development")
        assert served() == ["1"]
        assert "yes=true ends its processes" in arsenal("down model=digits to=local env=development")
        assert "stopped: server-" in arsenal("down model=digits to=local env=development yes=true")
        with pytest.raises(OSError):
            served()
    finally:
        local = importlib.import_module("arsenal_serving.deploy.local")
        local.stop(tmp_path / "deployments/digits/development/local", describe({}), print)
