"""Versions are written whole, once, and by any number of exporters at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import example, parameters, predict

from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact import versions
from arsenal_serving.export import export
from arsenal_serving.model import load
from arsenal_serving.refused import Refused

X = example()


@pytest.fixture
def made(folder) -> tuple[dict, dict[str, bytes]]:
    """The manifest and the other files of a sound artifact."""
    files = dict(artifact.open_version(folder).files)
    return json.loads(files.pop("manifest.json")), files


def test_the_next_number_is_taken_and_a_version_stays_as_it_is(tmp_path):
    model = tmp_path / "flowers"
    assert export(model, predict, parameters(), X) == model / "1"
    first = artifact.open_version(model / "1").digest
    assert export(model, {"label": predict}, parameters(), X) == model / "2"
    assert export(model, predict, parameters(), X, version=7, name="other") == model / "7"
    assert export(model, predict, parameters(), X) == model / "8"
    assert artifact.open_version(model / "1").digest == first
    assert sorted(path.name for path in model.iterdir()) == ["1", "2", "7", "8"]
    assert [load(model / number, max_batch=1).name for number in ("1", "7")] == ["flowers", "other"]
    newest = load(model, max_batch=1)
    assert (newest.version, list(newest.methods)) == (8, ["predict"])


def test_an_existing_version_is_never_overwritten(tmp_path, made):
    manifest, files = made
    written = artifact.write(tmp_path / "m", manifest, files, version=3)
    digest = artifact.open_version(written).digest
    with pytest.raises(Refused, match=r"m/3 exists; a version is never overwritten\.$"):
        artifact.write(tmp_path / "m", manifest, files | {"note": b"another"}, version=3)
    assert artifact.open_version(written).digest == digest
    assert os.listdir(tmp_path / "m") == ["3"]


@pytest.mark.parametrize("version", [0, -1, 1.0, True, "1", 10**9])
def test_a_version_is_a_whole_number(tmp_path, made, version):
    with pytest.raises(Refused, match="`version` must be a whole number of 1 to 999999999; got"):
        artifact.write(tmp_path / "m", *made, version=version)
    assert not list(tmp_path.iterdir())


WRITER = """
import json, sys
from arsenal_serving.artifact import folder as artifact
files = dict(artifact.open_version(sys.argv[1]).files)
manifest = json.loads(files.pop("manifest.json"))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(10):
    print(artifact.write(sys.argv[2], manifest, files | {"by": sys.argv[3].encode()}).name)
"""


@pytest.mark.slow
def test_two_exporters_at_the_same_moment_do_not_collide(folder, tmp_path):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, folder, tmp_path / "m", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "other")
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    took = {}
    for name, process in zip(("one", "other"), started, strict=True):
        numbers = process.communicate(timeout=60)[0].split()
        assert process.returncode == 0 and len(numbers) == 10
        took |= dict.fromkeys(numbers, name)
    assert sorted(map(int, took)) == list(range(1, 21))
    for number, name in took.items():
        assert artifact.open_version(tmp_path / "m" / number).files["by"].decode() == name
    assert sorted(os.listdir(tmp_path / "m")) == sorted(took)


def test_who_comes_second_takes_the_next(tmp_path, made, monkeypatch):
    """The moment between looking for a free number and taking it, made to happen."""
    rename = os.rename

    def late(source, target):
        monkeypatch.setattr(os, "rename", rename)
        artifact.write(tmp_path / "m", *made)
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert artifact.write(tmp_path / "m", *made).name == "2"
    assert artifact.read_manifest(tmp_path / "m/2", artifact.open_version(tmp_path / "m/2").files)["version"] == 2
    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(Refused, match="m/3 exists; a version is never overwritten"):
        artifact.write(tmp_path / "m", *made, version=3)


@pytest.mark.parametrize("broken", ["fsync", "rename"])
def test_a_write_that_fails_leaves_nothing(tmp_path, made, monkeypatch, broken):
    def full(*_):
        raise OSError(28, "No space left on device")

    artifact.write(tmp_path / "m", *made)
    monkeypatch.setattr(os, broken, full)
    with pytest.raises(OSError, match="No space left"):
        artifact.write(tmp_path / "m", *made)
    assert os.listdir(tmp_path / "m") == ["1"]


def test_everything_is_synced_before_it_takes_its_name(tmp_path, made, monkeypatch):
    order, fsync, rename = [], os.fsync, os.rename
    by_inode = lambda number: (os.fstat(number).st_dev, os.fstat(number).st_ino)  # noqa: E731
    monkeypatch.setattr(os, "fsync", lambda number: (order.append(by_inode(number)), fsync(number))[1])
    monkeypatch.setattr(os, "rename", lambda *paths: (order.append("named"), rename(*paths))[1])
    version = artifact.write(tmp_path / "m", *made)
    before, after = order[: order.index("named")], order[order.index("named") + 1 :]

    def inode(path: Path) -> tuple[int, int]:
        return path.stat().st_dev, path.stat().st_ino

    assert {inode(version), *(inode(path) for path in version.rglob("*"))} <= set(before)
    assert inode(version.parent) in after and inode(tmp_path) in before


KILLED = """
import json, os, signal, sys
from arsenal_serving.artifact import folder as artifact
files = dict(artifact.open_version(sys.argv[1]).files)
manifest = json.loads(files.pop("manifest.json"))
os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
artifact.write(sys.argv[2], manifest, files)
"""


def test_a_kill_half_way_is_seen_by_nobody(folder, tmp_path, made):
    artifact.write(tmp_path / "m", *made)
    done = subprocess.run([sys.executable, "-c", KILLED, folder, tmp_path / "m"], timeout=60)
    assert done.returncode == -9
    assert versions.locate(tmp_path / "m").name == "1"
    assert load(tmp_path / "m", max_batch=1).version == 1
    assert artifact.write(tmp_path / "m", *made).name == "2"


def test_folders_of_something_else_are_left_alone(folder, tmp_path, made):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(Refused, match=r"home is not an artifact's folder of versions: it holds 'letter.txt'"):
        artifact.write(tmp_path / "home", *made)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter.txt"]
    with pytest.raises(Refused, match="is one version itself, not a folder of versions; move it to"):
        artifact.write(folder, *made)
    with pytest.raises(Refused, match=r"letter.txt exists and is not a folder"):
        artifact.write(tmp_path / "home" / "letter.txt", *made)


def test_which_version_a_path_means(folder, tmp_path):
    run = folder.parent.parent
    assert versions.locate(folder) == versions.locate(folder.parent) == versions.locate(run) == folder
    for number in ("2", "10", "x", "01"):
        (tmp_path / number).mkdir()
    assert versions.locate(tmp_path).name == "10"
    assert versions.numbers(tmp_path) == [2, 10]
    for path in (tmp_path / "none", tmp_path / "x", Path("/dev/null")):
        with pytest.raises(Refused, match="is not an artifact folder, nor one with versions, nor a run"):
            versions.locate(path)


def test_the_artifact_of_0_1_0_is_served(tmp_path):
    kept = Path(__file__).parents[2] / "tests/kept/0.1.0/digits_mlp/56836d524a87"
    model = load(kept, max_batch=8)
    assert (model.name, model.version, model.manifest["format"]) == ("digits_mlp", 1, 2)
    assert model.methods["predict"].rows == "independent"
    assert model.manifest["jax"]["valid_until"] == "2026-12-17"
    assert model.infer("predict", {"x": np.zeros((3, 8, 8), np.float32)})["predict"].shape == (3,)


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path):
    old, young = tmp_path / "model" / ".0123456789abcdef.partial", tmp_path / "model" / ".fedcba9876543210.partial"
    for partial in (old, young):
        (partial / "programs").mkdir(parents=True)
        (partial / "programs" / "a.mlir").write_bytes(b"half")
    for path in (old, old / "programs", old / "programs" / "a.mlir"):
        os.utime(path, (0, 0))
    with pytest.raises(Refused):  # of a manifest that is none
        artifact.write(tmp_path / "model", {}, {})
    assert (old.exists(), young.exists()) == (False, True)  # the other may be of an export that runs beside this one
