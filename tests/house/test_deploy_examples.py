"""serving/deploy holds what the description makes, and no file of it a secret."""

import importlib.util
import re
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2]
SECRETS = re.compile(r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|gh[pousr]_\w{36}|xox[abp]-\w{10}|eyJ[\w-]{20,}\.eyJ")
"""Keys of AWS, private keys, GitHub's and Slack's tokens, JSON web tokens."""


@pytest.fixture(scope="module")
def examples():
    spec = importlib.util.spec_from_file_location("deploy_examples", HERE / "scripts" / "deploy_examples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_examples_are_as_they_are_made(examples):
    assert not examples.differences(), "python scripts/deploy_examples.py writes them anew."


def test_no_example_holds_a_secret(examples):
    for name, text in examples.wanted().items():
        assert not SECRETS.search(text), name
