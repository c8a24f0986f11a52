"""The typed description of a deployment: what it refuses, and that the server's own parser takes the words it gives."""

import argparse

import pytest

from arsenal_serving.cli import process
from arsenal_serving.deploy.description import arguments, describe
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
        ({"model": {"source": "fetched", "url": "s3://b/m"}}, "needs `model.url` and `model.digest`"),
        ({"model": {"digest": "abc"}}, "`model.digest` must be sha256: and 64 hexadecimal digits; got 'abc'."),
        ({"resources": {"accelerators": 1}}, "`resources.accelerators` needs `image.accelerator=cuda`; got cpu."),
        ({"canary": {"weight": 0.1}}, "`canary.weight` needs `canary.version`"),
        ({"resources": {"cpu": float("nan")}}, "`resources.cpu` must be a number; got nan."),
    ],
)
def test_what_cannot_hold_is_refused_in_one_line(profile, said):
    with pytest.raises(Refused) as refused:
        describe(profile)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_server_takes_the_words_of_every_profile():
    parser = argparse.ArgumentParser()
    process.options(parser)
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
