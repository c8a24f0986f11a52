"""A deployment as processes of this machine: started, replaced, stopped, and what is refused."""

from __future__ import annotations

import socket
import time

import pytest

from arsenal_serving.__main__ import main
from arsenal_serving.deploy import local
from arsenal_serving.deploy.description import describe
from arsenal_serving.deploy.health import check
from arsenal_serving.refused import Refused


def free():
    """Two ports in a row that nobody has."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@pytest.fixture
def made(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    port = free()
    profile = {
        "name": "zoo",
        "model": {"name": "zoo"},
        "server": {"port": port, "admin_port": port + 1, "max_batch": 8, "sample": 1.0},
        "timings": {"start": 60, "drain": 5},
        "extra": {"local": {"model": str(folder)}},
    }
    made = describe(profile)
    place = tmp_path / "place"
    place.mkdir()
    for name, text in local.files(made).items():
        (place / name).write_text(text)
    yield made, place
    local.stop(place, made, lambda text: None)


def test_one_command_serves_it_and_another_replaces_it(made, folder, capsys):
    made, place = made
    said, url = [], f"http://127.0.0.1:{made.server.port}"
    local.apply(place, made, said.append)
    assert said[0].startswith(f"ready: {url}, model zoo, process ")
    assert main(["smoke", url, str(folder)]) == 0
    first = (place / f"server-{made.server.port}.pid").read_text()
    local.apply(place, made, said.append)
    assert (place / f"server-{made.server.port}.pid").read_text() != first
    check(url)
    local.stop(place, made, said.append)
    assert said[-1] == f"stopped: server-{made.server.port}"
    with pytest.raises(Refused, match="does not answer"):
        check(url)
    local.stop(place, made, said.append)
    assert len(said) == 3, "nothing is left to stop"


def test_what_does_not_start_is_stopped_and_says_why(made, tmp_path):
    made, place = made
    wrong = made._replace(extra={"local": {"model": str(tmp_path / "none")}})
    (place / local.PLAN).write_text(local.files(wrong)[local.PLAN])
    began = time.monotonic()
    with pytest.raises(Refused, match=r"the server on port \d+ ended with 1: .*is not an artifact folder"):
        local.apply(place, wrong, lambda text: None)
    assert time.monotonic() - began < 20 and not list(place.glob("*.pid"))


def test_a_number_that_another_process_has_by_now_is_left_alone(made, tmp_path):
    made, place = made
    path = place / f"server-{made.server.port}.pid"
    path.write_text("1 0\n")  # process 1 began at another time
    local.stop(place, made, lambda text: pytest.fail("it stopped a stranger's process"))
    assert not path.exists()


def test_each_replica_has_its_ports_and_none_is_open():
    text = local.files(describe({"model": {"name": "zoo"}, "scale": {"least": 2, "most": 2}}))["local.json"]
    assert '"models/zoo"' in text and '"http://127.0.0.1:8002"' in text and "0.0.0.0" not in text
    assert '"https://127.0.0.1:8000"' in local.files(describe({"access": {"tls_secret": "tls"}}))["local.json"]
    with pytest.raises(Refused, match=r"unknown key 'folder' of `extra\.local`"):
        local.files(describe({"extra": {"local": {"folder": "a"}}}))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"server": {"port": 65535, "admin_port": 0}, "scale": {"least": 3, "most": 3}}, "must be at most 65535; got 65539."),
        ({"server": {"port": 8000, "admin_port": 65534}, "scale": {"least": 2, "most": 2}}, "must be at most 65535; got 65536."),
        ({"server": {"port": 8000, "admin_port": 8002}, "scale": {"least": 2, "most": 2}}, "must differ; got 8000, 8002 for the first."),
        ({"canary": {"version": 2, "weight": 0.1}}, "`canary.weight`: a process here serves one version"),
        ({"access": {"namespaces": ["shop"]}}, "`access.namespaces` is not for this machine"),
    ],
)
def test_what_a_machine_cannot_do_is_refused(more, said):
    with pytest.raises(Refused) as refused:
        local.files(describe(more))
    assert said in str(refused.value) and "\n" not in str(refused.value)
