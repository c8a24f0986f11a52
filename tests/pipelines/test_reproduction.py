"""A run made again: the same bits, and what is said where something differs."""

import json
import shutil
import sys

import numpy as np
import pytest

from arsenal import cli
from arsenal.pipelines.reproduction import bit_differences, environment_differences, reproduce
from arsenal.road import compose, export, fit, load


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("again")
    words = ["optimizer.learning_rate=0.01", "length=60", f"run.root={root / 'runs'}", "run.tensorboard=false", "~expect"]
    return fit(compose("digits_mlp", words))


def but_for_git(found):
    """What differs, but for a working directory that is not as it was committed."""
    return [one for one in found.differences if "files differed" not in one[1]]


def test_the_same_bits(run, tmp_path):
    found = reproduce(run, tmp_path)
    assert found.same and but_for_git(found) == [] and found.folder != run.folder
    assert reproduce(run, tmp_path).same, "Made again in the same place, it is trained anew."
    assert load(found.folder).step == 60 and (found.folder.parent / f"{found.folder.name}.1").is_dir()


def test_from_the_artifact_alone(run, tmp_path):
    version = export(run, tmp_path / "digits")
    found = reproduce(version, tmp_path / "again")
    assert found.same and but_for_git(found) == []


def test_what_differs_is_listed(run, tmp_path):
    other = tmp_path / "runs" / "digits_mlp" / run.folder.name
    shutil.copytree(run.folder, other)
    told = json.loads((other / "environment.json").read_text())
    told["packages"] |= {"jax": "0.1.0", "torch": "2.0"}
    told["python"] = "3.9.1"
    (other / "environment.json").write_text(json.dumps(told))
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("learning_rate: 0.01", "learning_rate: 0.02"))
    found = reproduce(load(other), tmp_path / "again")
    said = [f"{kind}: {text}" for kind, text in found.differences]
    assert not found.same
    assert any(line.startswith("package: jax 0.1.0 then, ") for line in said) and "package: torch 2.0 then, none now" in said
    assert any(line.startswith("machine: python 3.9.1 then") for line in said)
    assert any(line.startswith("config: ") and line.endswith("0.02 then, 0.01 now") for line in said)
    bits = [line for line in said if line.startswith("bits: ")]
    assert bits and "numbers differ, by" in bits[0]


def test_differences_of_bits():
    then = {"a": np.zeros(3, np.float32), "b": np.ones(2), "c": np.zeros(1), "d": np.array([1, 2])}
    now = {"a": np.float32([0, 0, 0.5]), "b": np.ones(2), "d": np.array([1, 2, 3]), "e": np.zeros(1)}
    assert list(bit_differences(then, now)) == [
        ("bits", "c is only then"), ("bits", "e is only now"), ("bits", "d int64[2] then, int64[3] now"),
        ("bits", "a: 1 of 3 numbers differ, by 0.5 at most"),
    ]  # fmt: skip
    many = {f"k{i}": np.zeros(1) for i in range(30)}
    lines = list(bit_differences(many, {name: np.ones(1) * i for i, name in enumerate(many)}))
    assert lines[0] == ("bits", "k29: 1 of 1 numbers differ, by 29 at most") and lines[-1] == ("bits", "and 19 more arrays")
    zeros = list(bit_differences({"a": np.zeros(1)}, {"a": -np.zeros(1)}))
    assert zeros == [("bits", "a: 0 of 1 numbers differ, by 0 at most")], "Minus zero is other bits."


def test_the_same_environment_has_no_differences():
    here = {"packages": {"jax": "1"}, "python": "3", "platform": "x", "cpus": 2, "devices": ["cpu: cpu"], "host": "a"}
    assert list(environment_differences(here, here | {"host": "b"})) == []
    assert list(environment_differences(here, here | {"devices": ["gpu: A"]})) == [("machine", "devices cpu: cpu then, gpu: A now")]


def test_the_command(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def typed(*given):
        monkeypatch.setattr(sys, "argv", ["arsenal", "reproduce", *given])
        try:
            cli.arsenal()
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    code, out, err = typed(f"run={run.folder}")
    assert (code, err) == (0, "") and out.endswith("The same bits.\n")
    for words, said in [((), "needs MODEL"), (("nobody@champion",), "there is no registry"), (("run=nowhere",), "is not a run folder")]:
        code, _, err = typed(*words)
        assert code == 1 and said in err and err.count("\n") == 1
