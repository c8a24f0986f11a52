"""A repository by URL: a real HTTP server in front of a folder, and what a bad one may not do."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import start
from tensors import tensor

from arsenal_serving.artifact import folder as artifact
from arsenal_serving.export import export
from arsenal_serving.refused import Refused
from arsenal_serving.repository import remote

ONES = np.ones((2, 4), np.float32)


def scaled(params, x):
    return x * params["by"]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    for by in (2.0, 3.0):
        export(folder / "scale", scaled, {"by": np.float32(by)}, ONES, name="scale")
    return folder


@pytest.fixture
def origin(exported, tmp_path):
    """A folder with two versions and an index, and its URL."""
    folder = shutil.copytree(exported, tmp_path / "origin")
    (folder / "index.json").write_text('{"models": {"scale": [1, 2]}}')
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def mirrored(url, tmp_path, every=False, most=1 << 20):
    return remote.mirror(url, tmp_path / "cache", every, most)


def versions(mirror):
    return sorted(path.name for path in (mirror.folder / "scale").glob("[0-9]*"))


def test_what_the_policy_chooses_is_fetched_and_the_rest_removed(origin, tmp_path):
    folder, url = origin
    mirror = mirrored(url, tmp_path)
    assert (remote.sync(mirror), versions(mirror)) == ([], ["2"])
    assert artifact.open_version(mirror.folder / "scale/2").files == artifact.open_version(folder / "scale/2").files
    (folder / "scale/policy.json").write_text('{"versions": [1]}')
    assert (remote.sync(mirror), versions(mirror)) == ([], ["1", "2"])
    remote.prune(mirror, {"scale": [2]})
    assert versions(mirror) == ["1", "2"]  # one that is still served stays
    remote.prune(mirror, {"scale": [1]})
    assert versions(mirror) == ["1"]
    # A change made here is kept until the origin's changes.
    (mirror.folder / "scale/policy.json").write_text('{"versions": [2]}')
    assert (remote.sync(mirror), versions(mirror)) == ([], ["1", "2"])
    (folder / "scale/policy.json").unlink()
    remote.sync(mirror)
    assert not (mirror.folder / "scale/policy.json").exists()
    assert versions(mirrored(url, tmp_path / "more", every=True)) == []
    every = mirrored(url, tmp_path / "more", every=True)
    assert (remote.sync(every), versions(every)) == ([], ["1", "2"])


SUMS = "scale/2/SHA256SUMS"


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("index.json", "{", "index.json is not JSON"),
        ("index.json", "[]", 'index.json must be {"models": {"NAME": [1, 2]}}; got []'),
        ("index.json", '{"models": {"../x": [1]}}', "names the model '../x', which is no name of a model"),
        ("index.json", '{"models": {"scale": ["../1"]}}', "versions of 'scale' must be a list of numbers"),
        ("index.json", '{"models": {"scale": [7]}}', "scale/7/SHA256SUMS is not there"),
        ("index.json", " " * (1 << 20) + "{}", "is longer than the 1048576 bytes that are allowed"),
        ("index.json", None, "holds neither index.json nor a model's folder"),
        ("scale/policy.json", '{"versions": "some"}', "'versions' must be"),
        ("scale/2/golden.safetensors", "x", "'golden.safetensors' is not what SHA256SUMS lists"),
        ("scale/2/golden.safetensors", "x" * (1 << 20) + "x", "is longer than the"),
        ("scale/2/golden.safetensors", None, "golden.safetensors is not there, though SHA256SUMS lists it"),
        (SUMS, "", "SHA256SUMS does not list 'manifest.json'"),
        (SUMS, f"{'0' * 64}  ../../x\n", "SHA256SUMS lists '../../x', which lies outside the folder"),
        (SUMS, f"{'0' * 64}  /x\n", "lies outside the folder"),
        (SUMS, "".join(f"{'0' * 64}  {n}\n" for n in [*range(1000), "manifest.json"]), "has 1001 files; allowed are 1000"),
    ],
)
def test_what_is_wrong_at_the_origin_is_told_and_nothing_is_kept(origin, tmp_path, path, content, says):
    folder, url = origin
    if content is None:
        (folder / path).unlink()
    else:
        (folder / path).write_text(content)
    mirror = mirrored(url, tmp_path)
    (told,) = remote.sync(mirror)
    assert says in told
    assert "\n" not in told
    assert versions(mirror) == []
    assert not list(mirror.folder.glob("scale/.*.partial"))


@pytest.mark.parametrize("url", ["http://host/models?x=1", "http://host/../models", "http://host/models#x", "nonsense://x/y", "ftp://127.0.0.1:9/x"])
def test_what_is_no_url_of_a_folder_is_refused(url, tmp_path):
    with pytest.raises(Refused):
        mirrored(url, tmp_path)


def test_a_host_that_is_away_leaves_what_was_mirrored(origin, tmp_path):
    _, url = origin
    mirror = mirrored(url, tmp_path)
    remote.sync(mirror)
    away = mirror._replace(origin=mirrored("http://127.0.0.1:9/", tmp_path).origin)
    (told,) = remote.sync(away)
    assert "http://127.0.0.1:9/index.json cannot be read: <urlopen error [Errno 111] Connection refused>." in told
    assert versions(mirror) == ["2"]


def test_another_file_system_by_fsspec_needs_no_index(origin, tmp_path):
    pytest.importorskip("fsspec")
    folder, _ = origin
    (folder / "index.json").unlink()
    (folder / "scale/notes").mkdir()
    mirror = mirrored(f"file://{folder}", tmp_path)
    assert (remote.sync(mirror), versions(mirror)) == ([], ["2"])


@pytest.mark.slow
def test_a_server_follows_a_url(origin):
    folder, url = origin
    server = start(url, "--poll", "1", "--max-batch", "2")
    try:
        assert [row["version"] for row in server.ask("POST", "/v2/repository/index", {}).body] == ["2"]
        export(folder / "scale", scaled, {"by": np.float32(5.0)}, ONES, name="scale")
        (folder / "index.json").write_text(json.dumps({"models": {"scale": [1, 2, 3]}}))
        end = time.monotonic() + 15
        while server.infer("scale", tensor(ONES)).body["model_version"] != "3":
            assert time.monotonic() < end
            time.sleep(0.1)
        assert server.infer("scale", tensor(ONES)).body["outputs"][0]["data"] == [5.0] * 8
        shutil.rmtree(folder)
        time.sleep(1.2)
        assert server.infer("scale", tensor(ONES)).status == 200
    finally:
        server.process.send_signal(signal.SIGTERM)
        _, err = server.process.communicate(timeout=20)
    assert server.process.returncode == 0
    assert "Traceback" not in err


def test_a_url_that_has_nothing_ends_the_command_in_one_line(tmp_path):
    command = [sys.executable, "-m", "arsenal_serving", "http://127.0.0.1:9/models", "--port", "0", "--cache", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
