"""Terraform's modules: formatted, valid by the providers' own schemas, and planned by terraform itself with mocks.

The providers are terraform_provider.py, which knows the schemas of the real ones and reaches no cloud.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from arsenal_serving.deploy import terraform
from arsenal_serving.deploy.description import ReplicaResources, describe
from arsenal_serving.deploy.terraform import aws, azure, gcp
from arsenal_serving.refused import Refused

HERE = Path(__file__).parent
PROVIDERS = {"aws": "aws", "gcp": "google", "azure": "azurerm"}
CLOUDS = {"aws": aws, "gcp": gcp, "azure": azure}
SECTIONS = {
    "aws": {
        "region": "eu-west-1", "vpc": "vpc-0123456789abcdef0", "private_subnets": ["subnet-01234567", "subnet-11234567"],
        "public_subnets": ["subnet-21234567", "subnet-31234567"],
        "email": "a@example.org",
    },
    "gcp": {"project": "research-1", "region": "europe-west1", "billing_account": "012345-6789AB-CDEF01", "email": "a@example.org"},
    "azure": {
        "subscription": "01234567-89ab-cdef-0123-456789abcdef", "location": "westeurope", "email": "a@example.org",
        "key_vault": "/subscriptions/0/resourceGroups/shared/providers/Microsoft.KeyVault/vaults/research",
    },
}  # fmt: skip
KEYS = {"access": {"keys_secret": "arsenal-keys"}}
GPU = {"image": {"accelerator": "cuda"}, "resources": {"cpu": 4.0, "memory": 16384, "accelerators": 1}}
CERTIFICATE = {"certificate": "arn:aws:acm:eu-west-1:123456789012:certificate/ab-12"}
PROFILES = {
    "plain": {},
    "production": {"env": "production", "scale": {"least": 2, "most": 10}, **KEYS},
    "gpu": {**GPU, **KEYS},
}
needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not on PATH")


def made(cloud, profile=None, **section):
    more = {"image": {"name": "arsenal-penguins", "tag": "1"}, "model": {"name": "penguins"}, "name": "penguins"}
    return describe({**more, "extra": {cloud: {**SECTIONS[cloud], **section}}, **(profile or {})})


def write(folder, files):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Terraform with the schemas' providers in a mirror of this machine."""
    mirror = tmp_path_factory.mktemp("mirror")
    for name, known in json.loads((HERE / "kept_terraform.json").read_text()).items():
        system, kind = ("darwin" if sys.platform == "darwin" else "linux"), {"aarch64": "arm64", "arm64": "arm64"}
        place = mirror / f"registry.terraform.io/hashicorp/{name}/{known['version']}/{system}_{kind.get(os.uname().machine, 'amd64')}"
        place.mkdir(parents=True)
        program = place / f"terraform-provider-{name}_v{known['version']}"
        program.write_text(f"#!/bin/sh\nexec {sys.executable} {HERE / 'terraform_provider.py'} {name}\n")
        program.chmod(0o755)
    settings = mirror / "terraformrc"
    settings.write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n')
    known = {"TF_CLI_CONFIG_FILE": str(settings), "TF_DISABLE_PLUGIN_TLS": "1", "CHECKPOINT_DISABLE": "1"}

    def call(folder, *words):
        done = subprocess.run(
            ["terraform", words[0], "-no-color", *words[1:]], cwd=folder, env=os.environ | known, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return call


@pytest.mark.slow
@needs_terraform
@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_deployment_is_formatted_valid_and_planned(run, tmp_path, cloud):
    pytest.importorskip("grpc")
    for name, profile in PROFILES.items():
        files = CLOUDS[cloud].files(made(cloud, profile, repository="research/penguins", state=""))
        write(tmp_path / name, files)
        test = f'mock_provider "{PROVIDERS[cloud]}" {{}}\n\nrun "made" {{\n  command = apply\n}}\n'
        (tmp_path / name / "made.tftest.hcl").write_text(test)
    assert run(tmp_path, "fmt", "-check", "-diff", "-recursive") == (0, "")
    for name in PROFILES:
        assert run(tmp_path / name, "init", "-input=false")[0] == 0
        assert run(tmp_path / name, "validate") == (0, "Success! The configuration is valid.\n\n")
        code, said = run(tmp_path / name, "test")
        assert code == 0 and "1 passed, 0 failed" in said, said


@pytest.mark.slow
@needs_terraform
def test_the_schemas_refuse_what_a_provider_would(run, tmp_path):
    pytest.importorskip("grpc")
    files = aws.files(made("aws"))
    for right, wrong, said in (
        ("enable_key_rotation", "enable_key_rotations", 'An argument named "enable_key_rotations" is not expected'),
        ("  cluster_name       = aws_ecs_cluster.here.name\n", "", 'The argument "cluster_name" is required'),
        ("aws_lb.calls.arn", "aws_lb.calls.arm", 'This object has no argument, nested block, or exported attribute named "arm"'),
        ("network_configuration {", "network_settings {", 'Blocks of type "network_settings" are not expected here'),
    ):
        assert right in files["module/main.tf"]
        write(tmp_path, files | {"module/main.tf": files["module/main.tf"].replace(right, wrong, 1)})
        run(tmp_path, "init", "-input=false")
        code, told = run(tmp_path, "validate")
        assert code == 1 and said in " ".join(told.split()), told


@needs_terraform
def test_a_task_of_ecs_keeps_its_keys_from_the_definition(run, tmp_path):
    pytest.importorskip("grpc")
    files = aws.files(made("aws", PROFILES["production"]))
    given = files["main.tf"].split('source = "./module"\n')[1].split("\n}\n")[0]
    write(tmp_path, {path.removeprefix("module/"): text for path, text in files.items() if path != "main.tf"})
    server = "jsondecode(aws_ecs_task_definition.server.container_definitions)[1]"
    wanted = [
        f"{server}.readonlyRootFilesystem && {server}.user == \"65532:65532\"",
        f"{server}.dependsOn[0].containerName == \"keys\" && {server}.stopTimeout == 40",
        f"length([for one in {server}.mountPoints : one if one.containerPath == \"/run/secrets\" && one.readOnly]) == 1",
        "jsondecode(aws_ecs_task_definition.server.container_definitions)[0].secrets[0].valueFrom == data.aws_secretsmanager_secret.keys[0].arn",
        "aws_lb.calls.internal && aws_lb.calls.enable_deletion_protection && aws_ecs_service.server[0].desired_count == 2",
        "aws_ecr_repository.images.image_tag_mutability == \"IMMUTABLE\" && length(aws_autoscaling_group.gpu) == 0",
    ]  # fmt: skip
    tests = "\n".join(f'  assert {{\n    condition     = {one}\n    error_message = "{n}"\n  }}' for n, one in enumerate(wanted))
    (tmp_path / "made.tftest.hcl").write_text(
        f'mock_provider "aws" {{}}\n\nvariables {{\n{given}\n}}\n\nrun "made" {{\n  command = apply\n{tests}\n}}\n'
    )
    run(tmp_path, "init", "-input=false")
    code, said = run(tmp_path, "test")
    assert code == 0, said


@needs_terraform
def test_in_production_all_of_azures_goes_after_its_lock(run, tmp_path):
    pytest.importorskip("grpc")
    files = azure.files(made("azure", PROFILES["production"], repository="research/penguins"))
    write(tmp_path, files)
    assert run(tmp_path, "init", "-input=false")[0] == 0
    code, said = run(tmp_path, "graph")
    assert code == 0, said
    edges: dict[str, set[str]] = {}
    for one, other in re.findall(r'"module\.server\.([\w.]+)" -> "module\.server\.([\w.]+)"', said):
        edges.setdefault(one, set()).add(other)

    def reach(one):
        return {one}.union(*(reach(other) for other in edges.get(one, ())))

    lock, group = "azurerm_management_lock.here", "azurerm_resource_group.here"
    there = re.findall(r'^resource "(\w+)" "(\w+)"', files["module/main.tf"], re.MULTILINE)
    assert [name for pair in there if lock not in reach(name := ".".join(pair))] == [group]
    assert 'count      = var.env == "production" ? 1 : 0' in files["module/main.tf"]


def test_what_a_destroy_takes_is_the_deployments_alone():
    """GitHub's identity provider is the account's: another deployment's workflows would lose it."""
    text = aws.files(made("aws", repository="research/penguins"))["module/main.tf"]
    assert 'data "aws_iam_openid_connect_provider" "github"' in text and 'resource "aws_iam_openid' not in text


def test_old_images_go():
    text = gcp.files(made("gcp"))["module/main.tf"]
    policies = text.split('resource "google_artifact_registry_repository" "images"')[1].split("\nresource ")[0]
    assert re.findall(r'action = "(\w+)"', policies) == ["DELETE", "KEEP"] and 'tag_state = "ANY"' in policies
    assert "immutable_tags = local.production" in policies, "a tag that cannot be deleted keeps its image"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_provider_is_the_one_that_was_checked(cloud):
    known = json.loads((HERE / "kept_terraform.json").read_text())[PROVIDERS[cloud]]["version"]
    assert f'version = "{known}"' in CLOUDS[cloud].files(made(cloud))["module/versions.tf"]


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("ARSENAL_DEPLOY_PYTHON"), reason="$ARSENAL_DEPLOY_PYTHON names no Python with checkov")
def test_checkov_finds_nothing_but_what_the_modules_give_a_reason_for(tmp_path):
    for cloud, target in CLOUDS.items():
        write(tmp_path / cloud, target.files(made(cloud, PROFILES["production"], repository="research/penguins")))
    words = ["-m", "checkov.main", "--directory", tmp_path, "--framework", "terraform", "--output", "json", "--skip-download"]
    done = subprocess.run(
        [os.environ["ARSENAL_DEPLOY_PYTHON"], *words], cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""}, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["summary"]["passed"] > 150 and told["summary"]["parsing_errors"] == 0
    assert [(one["check_id"], one["resource"]) for one in told["results"]["failed_checks"]] == []
    reasons = [one["check_result"]["suppress_comment"] for one in told["results"]["skipped_checks"]]
    assert reasons and all(len(reason) > 10 for reason in reasons)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_an_image_is_of_the_registry_that_is_made_or_of_the_one_that_is_named(cloud):
    def given(**profile):
        text = CLOUDS[cloud].files(made(cloud, profile, serve=False))["main.tf"]
        lines = [line.partition(" = ") for line in text.splitlines() if " = " in line]
        return {key.strip(): value for key, _, value in lines}

    own = given()
    assert (own["serve"], own["image"], own["tag"]) == ("false", '""', '"1"' if cloud == "aws" else '"arsenal-penguins:1"')
    named = given(image={"registry": "r.example.org", "name": "p", "digest": f"sha256:{'0' * 64}"})
    assert named["image"] == f'"r.example.org/p@sha256:{"0" * 64}"'
    with pytest.raises(Refused, match=r"needs `image\.registry`"):
        given(image={"digest": f"sha256:{'0' * 64}"})


@pytest.mark.parametrize(
    ("cloud", "profile", "section", "said"),
    [
        ("aws", {}, {"vpc": ""}, "`extra.aws.vpc` is needed for `to=aws`"),
        ("aws", {}, {"vcp": "x"}, "unknown key 'vcp' of `extra.aws`; did you mean 'vpc'?"),
        ("aws", {}, {"region": "Ireland"}, "`extra.aws.region` must be a region, as eu-west-1; got 'Ireland'."),
        ("aws", {}, {"private_subnets": ["subnet-01234567"]}, "must be two or more, in several zones; got 1."),
        ("aws", {}, {"certificate": "mine"}, "must be the ARN of a certificate in ACM; got 'mine'."),
        ("aws", {}, CERTIFICATE, "`extra.aws.certificate` needs `access.keys_secret`"),
        ("aws", KEYS, {**CERTIFICATE, "public_subnets": []}, "needs two `extra.aws.public_subnets` or more"),
        ("aws", {"access": {"host": "a.example.org"}}, {}, "`access.host` needs `extra.aws.certificate`"),
        ("aws", {"resources": {"cpu": 64.0}}, {}, "Fargate has at most 16 cores"),
        ("aws", {}, {"log_days": 31}, "`extra.aws.log_days` must be one of 1, 3, 5"),
        ("aws", {}, {"vpc": "foo"}, "`extra.aws.vpc` must be vpc- and 8 or 17 hexadecimal digits; got 'foo'."),
        ("aws", {}, {"private_subnets": ["a", "b"]}, "`extra.aws.private_subnets` must be subnet- and 8 or 17"),
        ("aws", {}, {"callers": ["foo"]}, "`extra.aws.callers` must be ranges of addresses, as 203.0.113.0/24; got 'foo'."),
        ("aws", {}, {"instance_type": "foo"}, "`extra.aws.instance_type` must be a type, as g5.xlarge; got 'foo'."),
        ("aws", {}, {"state": "A B"}, "`extra.aws.state` must be a bucket's name; got 'A B'."),
        ("gcp", {}, {"state": "A B"}, "`extra.gcp.state` must be a bucket's name; got 'A B'."),
        ("gcp", {}, {"log_days": 99999999}, "`extra.gcp.log_days` must be 1 to 3,650, days; got 99999999."),
        ("gcp", {}, {"accelerator": "nvidia-h100"}, "`extra.gcp.accelerator` must be nvidia-l4; got 'nvidia-h100'."),
        ("azure", {}, {"log_days": 7}, "`extra.azure.log_days` must be 30 to 730, days; got 7."),
        ("azure", {"extra": {"azure": {**SECTIONS["azure"], "profile": "foo"}}}, {}, "`extra.azure.profile` must be machines with GPUs"),
        ("azure", {}, {"location": "West Europe"}, "`extra.azure.location` must be a region, as westeurope"),
        ("azure", {"scale": {"most": 1001}}, {}, "`scale.most` must be at most 1,000 on Container Apps; got 1001."),
        ("gcp", {}, {"project": "X"}, "`extra.gcp.project` must be 6 to 30 letters"),
        ("gcp", {}, {"billing_account": "1"}, "must be as 012345-6789AB-CDEF01; got '1'."),
        ("gcp", {"name": "a-name-that-is-too-long"}, {}, "`name` must be at most 13 characters for `to=gcp` in development"),
        ("gcp", {"resources": {"memory": 65536}}, {}, "Cloud Run has at most 8 cores and 32768 MiB"),
        ("gcp", {"image": {"accelerator": "cuda"}, "resources": {"accelerators": 2}}, {}, "must be 1 on Cloud Run; got 2."),
        ("azure", {}, {"subscription": "mine"}, "`extra.azure.subscription` must be an identifier"),
        ("azure", KEYS, {"key_vault": ""}, "`extra.azure.key_vault` is needed"),
        ("azure", {"access": {"host": "a.example.org"}}, {}, "`access.host` is not for `to=azure`"),
        ("azure", {"resources": {"cpu": 8.0}}, {}, "at most 4 cores and 8192 MiB"),
        ("azure", {}, {"state": "here"}, "`extra.azure.state` must be GROUP/ACCOUNT/CONTAINER; got 'here'."),
        *((cloud, {}, {"email": "me"}, "must be an address, who hears of the budget; got 'me'.") for cloud in CLOUDS),
        *((cloud, {}, {"budget": 0.0}, "must be 1 to 1,000,000,000, a month; got 0.") for cloud in CLOUDS),
        *((cloud, {"server": {"grpc_port": 9000}}, {}, "`server.grpc_port` is not for") for cloud in CLOUDS),
        *((cloud, {"canary": {"weight": 0.1, "version": 2}}, {}, "`canary.weight` is not for") for cloud in CLOUDS),
        *((cloud, {"model": {"source": "mounted"}}, {}, "`model.source=inside`; got mounted.") for cloud in CLOUDS),
        *((cloud, {"image": {"pull_secret": "x"}}, {}, "`image.pull_secret` is not for") for cloud in CLOUDS),
    ],
)  # fmt: skip
def test_what_a_cloud_does_not_do_is_refused_in_one_line(cloud, profile, section, said):
    with pytest.raises(Refused) as refused:
        CLOUDS[cloud].files(made(cloud, profile, **section))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_sizes_are_the_next_that_there_are():
    assert aws.size(ReplicaResources(cpu=0.25, memory=512)) == (256, 512)
    assert aws.size(ReplicaResources(cpu=2.0, memory=2048)) == (2048, 4096)
    assert aws.size(ReplicaResources(cpu=1.0, memory=9000)) == (2048, 9216)
    assert gcp.size(ReplicaResources(cpu=1.0, memory=4096, scratch=1024)) == (2, 5120)
    assert azure.size(ReplicaResources(cpu=0.3, memory=1024)) == (0.5, 1024)
    assert azure.size(ReplicaResources(cpu=1.0, memory=3000)) == (1.5, 3072)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_is_not_as_asked_is_said(cloud):
    profile = {"scale": {"most": 2, "queue": 256}, "access": {"keys_secret": "k", "tls_secret": "t"}, "resources": {"memory": 1025}}
    said = "\n".join(CLOUDS[cloud].notes(made(cloud, profile)))
    for part in ("scale.queue=256 is not heard here", "access.tls_secret=t is not heard here", "MiB", "terraform's state lies in the folder"):
        assert part in said
    shared = {"aws": "states", "gcp": "states", "azure": "shared/states/terraform"}
    assert "state lies in the folder" not in "\n".join(CLOUDS[cloud].notes(made(cloud, profile, state=shared[cloud])))
    assert "backend" in CLOUDS[cloud].files(made(cloud, profile, state=shared[cloud]))["main.tf"]


def test_texts_of_a_profile_cannot_leave_their_quotes():
    text = terraform.literal('a "quote" ${var.x} %{ if true } \\ end')
    assert text == '"a \\"quote\\" $${var.x} %%{ if true } \\\\ end"'


def test_a_planted_secret_is_in_no_file(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-4711")
    monkeypatch.setenv("ARSENAL_KEYS", "planted-4711")
    for cloud, target in CLOUDS.items():
        assert "planted-4711" not in "".join(target.files(made(cloud, PROFILES["production"])).values())
