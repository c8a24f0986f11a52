"""systemd units: systemd's own verdict on them, and the words that a server would get."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess

import pytest

from arsenal_serving.deploy import systemd
from arsenal_serving.deploy.description import describe
from arsenal_serving.options import options
from arsenal_serving.refused import Refused

DIGEST = "sha256:7d1a54127b222502f5b79b5fb0803061152a44f92b37e23c6527baf665d4da9a"
FETCHED = {"name": "zoo", "digest": DIGEST, "source": "fetched", "url": "https://models.example.org/a%20zoo/1"}
KINDS = {
    "development": {"env": "development", "server": {"sample": 1.0, "redact": ["a b"]}},
    "production": {
        "env": "production",
        "access": {"keys_secret": "keys", "tls_secret": "tls"},
        "scale": {"least": 2, "most": 2},
    },
    "fetched": {"env": "staging", "model": FETCHED},
}


def files(kind):
    return systemd.files(describe({"name": "zoo", **KINDS[kind]}))


def unit(kind):
    """The name of its units, and the template's text."""
    name = f"arsenal-zoo-{KINDS[kind]['env']}"
    return name, files(kind)[f"{name}@.service"]


@pytest.mark.parametrize("kind", KINDS)
def test_systemd_takes_them(kind, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name, text in files(kind).items():
        # The environment is not on this machine; its program is.
        text = re.sub(r"(ExecStart(Pre)?=)\S+", r"\1/bin/true", text)
        (tmp_path / name).write_text(text)
        (tmp_path / name.replace("@.", "@8000.")).write_text(text)
    name, template = unit(kind)
    units = [tmp_path / f"{name}@8000.service", tmp_path / f"{name}.target"]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    told = [line for line in done.stderr.splitlines() if "zoo" in line]
    assert not told, told
    (tmp_path / "bad@8000.service").write_text(text := template + "Restart=never\n")
    assert "Restart" in text
    bad = ["systemd-analyze", "verify", tmp_path / "bad@8000.service"]
    assert subprocess.run(bad, capture_output=True, text=True).stderr


@pytest.mark.parametrize("kind", KINDS)
def test_its_exposure_is_low(kind, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    (tmp_path / "arsenal-zoo@8000.service").write_text(unit(kind)[1])
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15"]
    done = subprocess.run([*words, tmp_path / "arsenal-zoo@8000.service"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-300:]


@pytest.mark.parametrize("kind", KINDS)
def test_the_server_takes_the_words(kind):
    name, text = unit(kind)
    line = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)[1]
    serve, *words = shlex.split(line.replace("%i", "8000").replace("%d", "/run/credentials/a").replace("%%", "%"))
    parser = argparse.ArgumentParser()
    options(parser)
    given = parser.parse_args(words)
    assert serve == "/opt/arsenal/bin/arsenal-serve" and (given.port, given.admin_port) == (8000, 18000)
    assert given.host == given.admin_host == "127.0.0.1"
    assert (given.keys == "/run/credentials/a/keys.json") == (kind == "production")
    assert given.monitor == f"/var/lib/{name}/8000/monitor"
    stop = int(re.search(r"TimeoutStopSec=(\d+)", text)[1])
    assert given.drain < stop
    if kind == "fetched":
        assert "ExecStartPre=/opt/arsenal/bin/python -m arsenal_serving.deploy.fetch" in text and "a%%20zoo" in text
    if kind == "development":
        assert given.redact == ["a b"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"extra": {"systemd": {"models": "models"}}}, "`extra.systemd.models` must be a path from the root"),
        ({"extra": {"systemd": {"secrets": "/a b"}}}, "`extra.systemd.secrets` must be a path from the root"),
        ({"server": {"grpc_port": 9000}}, "`server.grpc_port`: instances differ in one port"),
        ({"canary": {"version": 2, "weight": 0.1}}, "`canary.weight`: a unit serves one version"),
        ({"server": {"redact": ["a\nb"]}}, "must be one line"),
        ({"server": {"port": 18200}}, "must be at most 9999, since the admin port is a 1 before it"),
        ({"server": {"port": 9999}, "scale": {"least": 2, "most": 2}}, "got 9999 to 10000."),
        ({"server": {"port": 60000, "admin_port": 0}, "scale": {"least": 9999, "most": 9999}}, "must be at most 65535; got 60000 to 69998."),
        ({"server": {"port": 9}, "scale": {"least": 100, "most": 100}}, "must leave admin ports, a 1 before each, free; got 19 for both."),
        ({"access": {"namespaces": ["shop"]}}, "`access.namespaces` is not for systemd"),
        ({"extra": {"systemd": {"address": "here"}}}, "`extra.systemd.address` must be an address, as 127.0.0.1; got 'here'."),
    ],
)
def test_what_a_unit_cannot_do_is_refused(more, said):
    with pytest.raises(Refused) as refused:
        systemd.files(describe({"name": "zoo", **more}))
    assert said in str(refused.value)


def test_environments_lie_beside_each_other():
    made = [describe({"name": "zoo", "env": env, "access": {"keys_secret": "keys"}}) for env in ("staging", "production")]
    one, other = (systemd.files(each) for each in made)
    assert not one.keys() & other.keys()
    assert "staging" not in "".join(other.values())
    assert "User=" not in "".join(one.values()).replace("DynamicUser=", ""), "systemd's own of a unit's name has any length"
