"""The typed description of a deployment: what it refuses, and that the server's own parser takes the words it gives."""

import argparse
import subprocess
import sys

import pytest

from arsenal_serving.__main__ import main
from arsenal_serving.deploy.description import SAID, arguments, describe
from arsenal_serving.options import options
from arsenal_serving.refused import Refused

KEYS = {"access": {"keys_secret": "arsenal-keys"}}


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({"scale": {"leest": 2}}, "unknown key 'leest' of `scale`; did you mean 'least'?"),
        ({"scale": 3}, "`scale` must be a section of keys and values; got 3."),
        ({"env": "prod"}, "`env` must be development, staging or production; got 'prod'."),
        ({"scale": {"least": 3, "most": 2}}, "`scale.most` must be at least `scale.least`, 3; got 2."),
        ({"server": {"port": "8"}}, "`server.port` must be a whole number; got '8'."),
        ({"server": {"port": 8001}}, "`server`'s ports must differ; got 8001, 8001."),
        ({"name": "A B"}, "`name` must be at most 63 lower-case letters"),
        ({"env": "production"}, "`env=production` needs `access.keys_secret`"),
        ({"model": {"source": "fetched", "url": "https://b/m/1"}}, "needs `model.url` and `model.digest`"),
        ({"model": {"digest": "abc"}}, "`model.digest` must be sha256: and 64 hexadecimal digits; got 'abc'."),
        ({"resources": {"accelerators": 1}}, "`resources.accelerators` needs `image.accelerator=cuda`; got cpu."),
        ({"canary": {"weight": 0.1}}, "`canary.weight` needs `canary.version`"),
        ({"resources": {"cpu": float("nan")}}, "`resources.cpu` must be a number; got nan."),
        ({"scale": {"cpu": -1}}, "`scale.cpu` must be 1 to 100, percent; got -1."),
        ({"scale": {"cpu": 500}}, "`scale.cpu` must be 1 to 100, percent; got 500."),
        ({"scale": {"queue": -1}}, "`scale.queue` must be 0 to 1,000,000,000, rows; got -1."),
        ({"scale": {"latency": -1}}, "`scale.latency` must be 0 to 3,600, seconds; got -1.0."),
        ({"scale": {"most": 100000000}}, "`scale.most` must be 1 to 10,000, replicas; got 100000000."),
        ({"resources": {"memory": 99999999999999999999}}, "`resources.memory` must be 64 to 16,777,216, MiB"),
        ({"resources": {"memory": 1}}, "`resources.memory` must be 64 to 16,777,216, MiB; got 1."),
        ({"resources": {"cpu": 1e30}}, "`resources.cpu` must be 0.01 to 1,024, cores; got 1e+30."),
        ({"resources": {"cpu": 0.00001}}, "`resources.cpu` must be 0.01 to 1,024, cores; got 1e-05."),
        ({"timings": {"start": 99999999999999}}, "`timings.start` must be 1 to 86,400, seconds"),
        ({"image": {"tag": "a b"}}, "`image.tag` must be at most 128 letters, digits, _, . and -; got 'a b'."),
        ({"image": {"name": "UPPER"}}, "`image.name` must be lower-case letters"),
        ({"image": {"name": ""}}, "`image.name` must be a name; got ''."),
        ({"image": {"registry": "https://reg.example.org"}}, "`image.registry` must be a registry, as registry.example.org/team"),
        ({"image": {"pull_secret": "a b"}}, "`image.pull_secret` must be lower-case letters"),
        ({"access": {"host": "bad host!"}}, "`access.host` must be a host name"),
        ({"access": {"host": "a" * 300}}, "`access.host` must be a host name"),
        ({"access": {"keys_secret": "sup3r secret!"}}, "`access.keys_secret` must be lower-case letters"),
        ({"access": {"tls_secret": "Bad_Name"}}, "`access.tls_secret` must be lower-case letters"),
        ({"access": {"namespaces": ["Bad_NS"]}}, "`access.namespaces` must be at most 63 lower-case letters"),
        ({"model": {"name": "a\nb"}}, "`model.name` must be 1 to 100 letters"),
        *(
            ({"model": {"source": "fetched", "url": url, "digest": "sha256:" + "0" * 64}}, "`model.url` must be a URL of https://")
            for url in ("notaurl", "ftp://h/x", "https://", "https://h/a b", "https://h:99999/a")
        ),
        ({"extra": {"kubernets": {}}}, "unknown section 'kubernets' of `extra`; did you mean 'kubernetes'?"),
        ({"extra": {"lokal": {"port": 1}}}, "unknown section 'lokal' of `extra`; did you mean 'local'?"),
        ({"extra": {"helm": {}}}, "`extra.helm` is read by nothing: helm reads `extra.kubernetes`."),
        ({"extra": {"kustomize": {}}}, "`extra.kustomize` is read by nothing: kustomize reads `extra.kubernetes`."),
        ({"extra": {"kubernetes": {"namespce": "make"}}}, "unknown key 'namespce' of `extra.kubernetes`; did you mean 'namespace'?"),
        ({"extra": {"training": {"hots": 2}}}, "unknown key 'hots' of `extra.training`; did you mean 'hosts'?"),
        ({"server": {"more": ["--nonsense"]}}, "`server.more` must be options of `arsenal-serve`; got '--nonsense'."),
        ({"server": {"more": ["--poll", "x"]}}, "argument --poll: must be a whole number of at least 1; got 'x'."),
        ({"server": {"more": ["--port", "18999"]}}, "got --port, which `server.port` says."),
        ({"server": {"more": ["--admin-host=0.0.0.0"]}}, "got --admin-host, which the target says."),
        ({"server": {"more": ["--por", "18999"]}}, "got '--por'."),
        ({"server": {"more": ["another"]}}, "got 'another'."),
        ({"server": {"more": ["--until-ready"]}}, "`server.more` must not have --until-ready: the server would end."),
    ],
)
def test_what_cannot_hold_is_refused_in_one_line(profile, said):
    with pytest.raises(Refused) as refused:
        describe(profile)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "profile",
    [
        {"image": {"registry": "user:hunter2@reg.example.org"}},
        {"image": {"registry": "https://user:hunter2@reg.example.org"}},
        {"image": {"name": "user:hunter2@reg.example.org/a"}},
        {"model": {"source": "fetched", "url": "https://user:hunter2@h/1", "digest": "sha256:" + "0" * 64}},
        {"server": {"more": ["--jwks", "https://user:hunter2@h/keys", "--jwt-issuer", "a", "--jwt-audience", "b"]}},
        {"server": {"more": ["--log-token=hunter2"]}},
    ],
)
def test_a_secret_is_refused_where_it_would_be_written(profile):
    with pytest.raises(Refused) as refused:
        describe(profile)
    assert "hunter2" not in str(refused.value)


def test_an_image_with_a_password_in_it_is_not_written(folder, tmp_path, capsys):
    words = ["--build", "never", "--into", str(tmp_path / "context"), "--source", "fetched", "--url", "https://user:hunter2@h/1"]
    assert main(["image", str(folder), *words]) == 1
    assert "`--url` must hold no user and no password" in capsys.readouterr().err and not (tmp_path / "context").exists()


def test_every_word_of_a_command_that_a_field_says_is_the_fields():
    """What `arguments` writes may not be written a second time, as the last of two is what counts."""
    full = {"grpc_port": 9000, "workers": 2, "sample": 0.1, "redact": ["a"], "rate": 1.0}
    words = arguments(describe({"server": full}), "/m", "/k", ("/c", "/k")) + arguments(describe({}), "/m")
    assert {word for word in words if word.startswith("--")} <= SAID.keys()
    for option in SAID:
        with pytest.raises(Refused, match=f"got {option}, which"):
            describe({"server": {"more": [option]}})


def test_a_section_is_read_by_its_own_type_alone():
    """What a profile does not name is not imported: a plan for this machine waits for no cloud's code."""
    asked = "import sys; from arsenal_serving.deploy.description import describe; describe({'extra': {'local': {}, 'compose': {}, 'systemd': {}}})"
    told = f"{asked}; print(sorted(m for m in sys.modules if m.startswith('arsenal_serving.deploy.') and m.endswith(('aws', 'cluster'))), 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] False"


def test_the_server_takes_the_words_of_every_profile():
    parser = argparse.ArgumentParser()
    options(parser)
    full = {
        "env": "production",
        "server": {"grpc_port": 9000, "workers": 2, "sample": 0.1, "redact": ["x.name"], "rate": 5, "more": ["--control"]},
    }
    made = describe(full | KEYS)
    given = parser.parse_args(arguments(made, "/models/digits", "/keys/keys.json", ("/tls/tls.crt", "/tls/tls.key")))
    assert (given.folder, given.port, given.admin_port, given.grpc_port) == ("/models/digits", 8000, 8001, 9000)
    assert (given.workers, given.sample, given.rate, given.redact) == (2, 0.1, 5.0, ["x.name"])
    assert given.control and not given.insecure and given.drain < made.timings.grace
    assert parser.parse_args(arguments(describe({}), "/m")).insecure
