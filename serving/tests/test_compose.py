"""Compose files: their schema, what they mount, and that nothing in them is open or secret."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from arsenal_serving.deploy import compose
from arsenal_serving.deploy.description import describe
from arsenal_serving.refused import Refused

PEERS = Path(os.environ.get("ARSENAL_DEPLOY_PYTHON", "/none")).parent
DIGEST = "sha256:7d1a54127b222502f5b79b5fb0803061152a44f92b37e23c6527baf665d4da9a"
ACCESS = {"keys_secret": "arsenal-keys", "tls_secret": "arsenal-tls", "host": "models.example.org"}
KINDS = {
    "development": {"env": "development", "server": {"sample": 1.0}},
    "staging": {"env": "staging", "access": {"keys_secret": "arsenal-keys"}},
    "production": {"env": "production", "access": ACCESS, "scale": {"least": 3, "most": 3}},
    "fetched": {
        "env": "production",
        "access": ACCESS,
        "model": {"name": "zoo", "digest": DIGEST, "source": "fetched", "url": "https://models.example.org/zoo/1"},
    },
    "mounted": {"env": "staging", "model": {"name": "zoo", "source": "mounted"}, "extra": {"compose": {"port": 8444}}},
    "cuda": {"env": "staging", "image": {"accelerator": "cuda"}, "resources": {"accelerators": 1}},
}


def written(kind, folder):
    for path, text in compose.files(describe({"name": "zoo", **KINDS[kind]})).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def tool(name):
    found = shutil.which(name) or shutil.which(name, path=str(PEERS))
    if found is None:
        pytest.skip(f"{name} is not on PATH, nor beside ARSENAL_DEPLOY_PYTHON")
    return found


def run(*words):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout[-1500:], done.stderr[-1500:])


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_of_composes_schema(kind, tmp_path):
    checker = tool("check-jsonschema")
    run(checker, "--builtin-schema", "vendor.compose-spec", written(kind, tmp_path) / "compose.yaml")
    (tmp_path / "compose.yaml").write_text((tmp_path / "compose.yaml").read_text().replace("read_only:", "readonly:"))
    wrong = [checker, "--builtin-schema", "vendor.compose-spec", tmp_path / "compose.yaml"]
    assert subprocess.run(wrong, capture_output=True).returncode == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_service_is_shut_in(kind, tmp_path):
    text = (written(kind, tmp_path) / "compose.yaml").read_text()
    document = yaml.safe_load(text)
    admin = describe(KINDS[kind]).server.admin_port
    for name, service in document["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"] and service["deploy"]["resources"]["limits"]
        assert name == "server" or "@sha256:" in service["image"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:") and not port.endswith(f":{admin}"), port
        for mount in service["volumes"]:
            source = mount.partition(":")[0]
            here = source.startswith("./") and source != "./models/zoo"
            assert not here or (tmp_path / source).exists(), mount
            assert source.startswith((".", "/")) or source in document["volumes"], mount
        for secret in service.get("secrets", []):
            assert document["secrets"][secret["source"]]["file"].startswith("./secrets/")
    server = document["services"]["server"]
    grace = describe(KINDS[kind]).timings.grace
    assert server["stop_grace_period"] == f"{grace}s" and server["user"] == "65532:65532"
    if kind != "development":
        assert "ports" not in server and document["networks"]["back"] == {"internal": True}


def test_environments_lie_beside_each_other():
    profiles = [{"name": "zoo", "env": env, "access": {"keys_secret": "keys"}} for env in ("staging", "production")]
    names = [yaml.safe_load(compose.files(describe(one))["compose.yaml"])["name"] for one in profiles]
    assert names == ["zoo-staging", "zoo-production"]


def test_nginx_says_who_asks_and_whether_it_answers(tmp_path):
    folder = written("production", tmp_path)
    conf = (folder / "proxy" / "nginx.conf").read_text()
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in conf
    proxy = yaml.safe_load((folder / "compose.yaml").read_text())["services"]["proxy"]
    asked = proxy["healthcheck"]["test"][-1].removeprefix("http://").rstrip("/")
    assert f"listen {asked};" in conf and not any("8080" in port for port in proxy["ports"])


def test_no_secret_is_in_any_file(tmp_path, monkeypatch):
    monkeypatch.setenv("POSTGRES_PASSWORD", "planted-3c1f")
    for kind in KINDS:
        for path in written(kind, tmp_path / kind).rglob("*"):
            text = path.read_text() if path.is_file() else ""
            assert "planted-3c1f" not in text and "PASSWORD:" not in text, path


def test_prometheus_reads_what_is_mounted(tmp_path):
    run(tool("promtool"), "check", "config", written("development", tmp_path) / "prometheus" / "prometheus.yml")
    rules = yaml.safe_load((tmp_path / "prometheus" / "rules.yml").read_text())
    named = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert {"ArsenalFailed1h", "ArsenalSlow1h", "ArsenalNoModel"} <= named


def test_alertmanager_reads_what_is_mounted(tmp_path):
    run(tool("amtool"), "check-config", written("development", tmp_path) / "alertmanager" / "alertmanager.yml")


def test_grafana_finds_its_dashboard_and_source(tmp_path):
    folder = written("development", tmp_path) / "grafana"
    services = yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"]
    mounts = dict(one.split(":")[:2] for one in services["grafana"]["volumes"])
    (provider,) = yaml.safe_load((folder / "provisioning/dashboards/arsenal.yaml").read_text())["providers"]
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    (source,) = yaml.safe_load((folder / "provisioning/datasources/arsenal.yaml").read_text())["datasources"]
    assert source["type"] == "prometheus" and source["url"] == "http://prometheus:9090"
    assert services["prometheus"]["ports"] == ["127.0.0.1:9090:9090"]
    assert json.loads((folder / "dashboards/arsenal.json").read_text())["panels"]


@pytest.mark.parametrize("kind", ["staging", "production"])
def test_nginx_takes_its_configuration(kind, tmp_path):
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    subject = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a", "-days", "1"]
    run("openssl", "req", *subject, "-keyout", tmp_path / "tls.key", "-out", tmp_path / "tls.crt")
    conf = written(kind, tmp_path) / "proxy" / "nginx.conf"
    conf.write_text(conf.read_text().replace("/run/secrets", str(tmp_path)).replace("/run/nginx", str(tmp_path)))
    run(nginx, "-t", "-q", "-c", conf, "-e", tmp_path / "error.log")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"extra": {"compose": {"prot": 1}}}, "unknown key 'prot' of `extra.compose`; did you mean 'port'?"),
        ({"extra": {"compose": {"port": 70000}}}, "`extra.compose.port` must be 1 to 65535"),
        ({"server": {"grpc_port": 9000}}, "`server.grpc_port` is not published by compose"),
        ({"canary": {"version": 2, "weight": 0.1}}, "`canary.weight`: compose serves one version"),
        ({"access": {"tls_secret": "abc"}}, "`access.tls_secret` is not for compose in development, where one server speaks HTTP"),
        ({"access": {"namespaces": ["shop"]}}, "`access.namespaces` is not for compose"),
        ({"extra": {"compose": {"address": "notanip"}}}, "`extra.compose.address` must be an address, as 127.0.0.1; got 'notanip'."),
        ({"extra": {"compose": {"models": "a:b"}}}, "`extra.compose.models` must be a folder without : in its path; got 'a:b'."),
    ],
)
def test_what_compose_cannot_do_is_refused(more, said):
    with pytest.raises(Refused) as refused:
        compose.files(describe(more))
    assert said in str(refused.value) and "\n" not in str(refused.value)
