"""The programs of others: what they ended by is told, and not how to ask again."""

import os

import pytest

from arsenal_serving.deploy import compose
from arsenal_serving.deploy.commands import last_words, run
from arsenal_serving.deploy.description import describe
from arsenal_serving.refused import Refused

TERRAFORM = """
Initializing provider plugins...
╷
│ Error: Failed to query available provider packages
│
│ Could not retrieve the list of available versions for provider
│ hashicorp/aws: no available releases match the given constraints 6.0.1
│
│ To see which modules are currently depending on hashicorp/aws, run:
│     terraform providers
╵
"""
KUBECTL = """
E1201 04:50:13.6 1 memcache.go:265] "Unhandled Error" err="couldn't get current server API group list: EOF"
Unable to connect to the server: EOF
"""
DOCKER = "docker: unknown command: docker compose\n\nRun 'docker --help' for more information\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            TERRAFORM,
            "Error: Failed to query available provider packages Could not retrieve the list of available versions for provider"
            " hashicorp/aws: no available releases match the given constraints 6.0.1",
        ),
        (KUBECTL, "Unable to connect to the server: EOF"),
        (DOCKER, "docker: unknown command: docker compose"),
        ("sbatch: error: no such partition\n", "sbatch: error: no such partition"),
        ("one\ntwo\n", "two"),
        ("Usage: it\n", "Usage: it"),
        ("", ""),
    ],
    ids=["terraform", "kubectl", "docker", "sbatch", "no error", "only a hint", "nothing"],
)
def test_what_a_program_ended_by_is_told(text, said):
    assert last_words(text) == said
    with pytest.raises(Refused) as refused:
        run(["sh", "-c", 'cat >&2; exit 3', "sh"], given=text)
    assert str(refused.value) == f"`sh -c cat >&2; exit 3` ended with 3: {said or 'it says nothing'}"


def test_a_program_without_its_plugin_is_told_before_anything_is_built(tmp_path, monkeypatch):
    (tmp_path / "docker").write_text(f'#!/bin/sh\n[ "$2" != version ] || {{ echo "{DOCKER}" >&2; exit 1; }}\n')
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    made = describe({"name": "zoo", "model": {"name": "zoo"}})
    for path, text in compose.files(made).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    for name in compose.SECRETS:
        (tmp_path / "secrets").mkdir(exist_ok=True)
        (tmp_path / "secrets" / name).touch()
    with pytest.raises(Refused, match=r"ended with 1: docker: unknown command: docker compose$"):
        compose.apply(tmp_path, made, print)
