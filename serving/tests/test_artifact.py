"""A folder that is not exactly what was written is refused, and the file is named."""

from __future__ import annotations

import hashlib
import os
import shutil

import numpy as np
import pytest
import safetensors.numpy

from arsenal_serving import artifact
from arsenal_serving.model import load
from arsenal_serving.refused import Refused

FILES = (
    "SHA256SUMS",
    "golden.safetensors",
    "manifest.json",
    "parameters.safetensors",
    "programs/predict.exported",
    "programs/predict.mlir",
)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_one_flipped_byte(copy, path, place):
    content = bytearray((copy / path).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    (copy / path).write_bytes(content)
    with pytest.raises(Refused, match="SHA256SUMS|has changed|is missing|not listed" if path == "SHA256SUMS" else path):
        load(copy)


@pytest.mark.parametrize("path", FILES)
def test_truncated(copy, path):
    content = (copy / path).read_bytes()
    (copy / path).write_bytes(content[:-1])
    with pytest.raises(Refused, match=path):
        load(copy)


@pytest.mark.parametrize("path", FILES)
def test_removed(copy, path):
    (copy / path).unlink()
    with pytest.raises(Refused, match=f"{path}.* is missing"):
        load(copy)


@pytest.mark.parametrize("path", ["extra.txt", "programs/.hidden", "more/deep/file"])
def test_unlisted(copy, path):
    (copy / path).parent.mkdir(parents=True, exist_ok=True)
    (copy / path).write_text("x")
    with pytest.raises(Refused, match=f"'{path}' is not listed"):
        load(copy)


@pytest.mark.parametrize("path", [*FILES, "programs"])
def test_linked(copy, tmp_path, path):
    shutil.move(copy / path, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", copy / path)
    with pytest.raises(Refused, match=f"'{path}' is a link"):
        load(copy)


def test_a_pipe_is_not_opened(copy):
    os.mkfifo(copy / "pipe")
    with pytest.raises(Refused, match="'pipe' is not a plain file"):
        load(copy)


@pytest.mark.parametrize("path", ["../outside", "/etc/hostname", "a/../../outside", "./manifest.json", "a//b"])
def test_outside(copy, tmp_path, path):
    (tmp_path / "outside").write_text("x")
    with open(copy / "SHA256SUMS", "a") as file:
        file.write(f"{hashlib.sha256(b'x').hexdigest()}  {path}\n")
    with pytest.raises(Refused, match="outside the folder"):
        load(copy)


def rewritten(folder, target, **change):
    """The artifact with other content under true sums: what a hash cannot find."""
    shutil.copytree(folder, target)
    files = dict(artifact.opened(folder).files) | change
    for path, content in files.items():
        (target / path).write_bytes(content)
    sums = "".join(f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in sorted(files))
    (target / "SHA256SUMS").write_text(sums)
    return target


def test_nothing_is_parsed_before_the_sums_hold(copy, monkeypatch):
    monkeypatch.setattr("json.loads", lambda *_: pytest.fail("parsed"))
    monkeypatch.setattr("safetensors.deserialize", lambda *_: pytest.fail("parsed"))
    (copy / "programs/types.mlir").write_bytes(b"")
    with pytest.raises(Refused, match="types"):
        load(copy)


def test_another_answer_than_the_golden_one_is_refused(folder, tmp_path):
    kept = {key: value.copy() for key, value in artifact.arrays((folder / artifact.GOLDEN).read_bytes(), "g").items()}
    kept["predict/output/predict"][1, 2] += np.float32(0.01)
    rewritten(folder, tmp_path / "a", **{artifact.GOLDEN: safetensors.numpy.save(kept)})
    with pytest.raises(Refused, match=r"method 'predict', output 'predict': largest difference 0.01") as caught:
        load(tmp_path / "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"manifest.json": b'{"format": 2}'}, "manifest.json is incomplete: name is missing"),
        ({"manifest.json": b'{"format": 1}'}, "manifest.json is incomplete"),
        ({"manifest.json": b"[" * 100_000}, "manifest.json is not JSON"),
        ({"manifest.json": b'{"format": 3}'}, "must have format 1 or 2; got 3"),
        ({"manifest.json": b'{"format": true}'}, "must have format 1 or 2; got True"),
        ({"manifest.json": b"[]"}, "must have format 1"),
        ({"parameters.safetensors": b"\xff" * 16}, "is not a safetensors file"),
        ({"programs/predict.exported": b"", "programs/predict.mlir": b"ML"}, "the durable form does not load"),
    ],
)
def test_true_sums_over_nonsense(folder, tmp_path, change, says):
    rewritten(folder, tmp_path / "a", **change)
    with pytest.raises(Refused, match=says) as caught:
        load(tmp_path / "a")
    assert "\n" not in str(caught.value)
