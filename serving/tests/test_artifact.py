"""A folder that is not exactly what was written is refused, and the file is named."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact import manifest
from arsenal_serving.model import load, make
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


def refused(copy, path):
    """The one line that refuses the artifact, which names the file; of the sums, the file whose line is broken."""
    named = "SHA256SUMS|has changed|is missing|not listed" if path == "SHA256SUMS" else path
    with pytest.raises(Refused, match=named) as told:
        load(copy)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("path", FILES)
def test_one_flipped_bit_anywhere(copy, path):
    sound = (copy / path).read_bytes()
    for place in np.linspace(0, len(sound) - 1, 40).astype(int):
        for bit in (1, 128):
            content = bytearray(sound)
            content[place] ^= bit
            (copy / path).write_bytes(content)
            refused(copy, path)
    (copy / path).write_bytes(sound)
    artifact.open_version(copy)


@pytest.mark.parametrize("path", FILES)
def test_cut_off_or_longer(copy, path):
    sound = (copy / path).read_bytes()
    for content in (b"", sound[:1], sound[: len(sound) // 2], sound[:-1], sound + b"\0", sound + sound):
        (copy / path).write_bytes(content)
        refused(copy, path)


@pytest.mark.parametrize(("one", "other"), list(itertools.pairwise(FILES)))
def test_swapped(copy, one, other):
    first, second = ((copy / path).read_bytes() for path in (one, other))
    (copy / one).write_bytes(second)
    (copy / other).write_bytes(first)
    refused(copy, "SHA256SUMS" if "SHA256SUMS" in (one, other) else f"{one}|{other}")


def test_swapped_with_another_version(folder, tmp_path):
    """Every file of a sound artifact, and the whole of it, under another version's number."""
    for number in ("1", "2"):
        shutil.copytree(folder, tmp_path / "model" / number)
    with pytest.raises(Refused, match=r"manifest.json is of version 1, but its folder is called 2"):
        load(tmp_path / "model")
    assert load(tmp_path / "model" / "1", max_batch=1).version == 1


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


def test_a_hard_link_is_taken_for_what_was_hashed(copy, tmp_path):
    """Backups and stores link files that are alike: the bytes count, and those that were hashed are those that run."""
    os.link(copy / "golden.safetensors", tmp_path / "alias")
    held = artifact.open_version(copy)
    (tmp_path / "alias").write_bytes(b"changed by its other name")
    assert load_held(copy, held).version == 1
    refused(copy, "golden.safetensors")


def load_held(copy, held):
    return make(copy, held.files, max_batch=1)


def test_a_version_is_no_link(copy, tmp_path):
    (tmp_path / "model").mkdir()
    os.symlink(copy, tmp_path / "model" / "1")
    with pytest.raises(Refused, match="model/1 is a link or a file"):
        load(tmp_path / "model")


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
    files = dict(artifact.open_version(folder).files) | change
    for path, content in files.items():
        (target / path).write_bytes(content)
    sums = "".join(f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in sorted(files))
    (target / "SHA256SUMS").write_text(sums)
    return target


def test_nothing_is_parsed_before_the_sums_hold(copy, monkeypatch):
    mlir = "arsenal_serving.artifact.program.check_calls"
    for parser in ("json.loads", "safetensors.deserialize", "jax.export.deserialize", mlir):
        monkeypatch.setattr(parser, lambda *_: pytest.fail("parsed"))
    (copy / "programs/types.mlir").write_bytes(b"")
    with pytest.raises(Refused, match="types"):
        load(copy)


def test_another_answer_than_the_golden_one_is_refused(folder, tmp_path):
    kept = {key: x.copy() for key, x in artifact.read_arrays((folder / artifact.GOLDEN).read_bytes(), "golden").items()}
    kept["predict/output/predict"][1, 2] += np.float32(0.01)
    rewritten(folder, tmp_path / "a", **{artifact.GOLDEN: safetensors.numpy.save(kept)})
    with pytest.raises(Refused, match=r"method 'predict', output 'predict': largest difference 0\.0(1|0999)") as caught:
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


def changed(folder, *path_and_value):
    """The folder's manifest with one value replaced, at a path of keys."""
    *path, last, value = path_and_value
    manifest = json.loads((folder / "manifest.json").read_text())
    inner = manifest
    for key in path:
        inner = inner[key]
    inner[last] = value
    return {"manifest.json": json.dumps(manifest).encode()}


PREDICT = ("methods", "predict")


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (("parameters", "file", "../../etc/passwd"), "parameters.file must be one of 'parameters.safetensors'"),
        ((*PREDICT, "programs", "durable", "../../../outside"), "programs.durable must be a file programs/METHOD"),
        ((*PREDICT, "programs", "durable", "programs/none.mlir"), "must be programs/predict.exported and .mlir"),
        ((*PREDICT, "programs", "versioned", "programs/label.exported"), "must be programs/predict.exported and .mlir"),
        (("name", "../up"), "manifest.json: name must be letters"),
        (("methods", "../up", {}), r"a name in methods must be an identifier of at most 100 letters; got '../up'"),
        ((*PREDICT, "inputs", 0, "shape", ["batch", 8, -8]), r"predict.inputs\[0\].shape must be at most 32 dim"),
        ((*PREDICT, "inputs", 0, "shape", ["batch", 8, 2**40]), "must be at most 32 dimensions of 0 to 2147483647"),
        ((*PREDICT, "inputs", 0, "shape", ["batch"] * 33), "shape must be at most 32 dimensions"),
        ((*PREDICT, "inputs", 0, "shape", ["batch", 8, 2**31 - 1]), "inputs of method 'predict' are not those of its"),
        ((*PREDICT, "calling", "in_avals", 0, "shape", [2**31 - 1] * 32), "are not those of its program"),
        ((*PREDICT, "inputs", 0, "dtype", "object"), "dtype must be one of 'bool'"),
        ((*PREDICT, "inputs", 0, "codec", "none"), "unknown codec 'none'"),
        ((*PREDICT, "inputs", 0, "name", "a\nb"), "name must be a printable name"),
        ((*PREDICT, "calling", "platforms", ["vax"]), "must be one of 'cpu'"),
        ((*PREDICT, "calling", "nr_devices", 10**6), "nr_devices must be one of 1"),
        ((*PREDICT, "calling", "module_kept_var_idx", [7]), "must count its arguments"),
        ((*PREDICT, "rows", "any"), "rows must be one of 'independent', 'coupled', 'single'; got 'any'"),
        ((*PREDICT, "rows", "single"), "which does not go with rows 'single'"),
        ((*PREDICT, "sizes", [0]), r"sizes\[0\] must be a whole number of 1"),
        ((*PREDICT, "tolerance", "rtol", -1), "tolerance.rtol must be a number >= 0"),
        ((*PREDICT, "constraints", ["__import__('os')"]), "must be a rule such as"),
        (("default", "none"), "'default' must be one of"),
        (("version", 0), "version must be a whole number of 1"),
        (("version", True), "version must be a whole number of 1"),
        (("jax", "valid_until", "never"), "jax.valid_until must be a day as YYYY-MM-DD"),
        (("codecs", {"animal": {"kind": "regex"}}), "unknown kind of codec 'regex'|unknown codec"),
    ],
)
def test_a_manifest_of_true_sums_is_checked_field_by_field(folder, tmp_path, where, says):
    rewritten(folder, tmp_path / "a", **changed(folder, *where))
    with pytest.raises(Refused, match=says) as caught:
        load(tmp_path / "a")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_whatever_a_manifest_says_it_is_taken_or_refused_in_one_line(folder, data):
    whole = inner = json.loads((folder / "manifest.json").read_text())
    while True:  # down to some place
        key = data.draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
        if not (isinstance(inner[key], dict | list) and inner[key]) or data.draw(st.integers(0, 9)) == 0:
            break
        inner = inner[key]
    if data.draw(st.booleans()):
        inner[key] = data.draw(ANYTHING)
    else:
        del inner[key]
    try:
        manifest.parse(json.dumps(whole).encode())
    except Refused as error:
        assert "\n" not in str(error)
