"""An alias of a registry is followed: what it means now answers, what was before and what comes next is held ready."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from conftest import SERVED_CACHE, start
from tensors import tensor
from test_swap import made, prepared, until

from arsenal_serving.refused import Refused
from arsenal_serving.repository import remote, rollout
from arsenal_serving.repository.following import Claims, Followed, registry_around
from arsenal_serving.repository.models import Repository
from arsenal_serving.repository.registry import check_registry, read_reference, resolve
from arsenal_serving.repository.store import open_store


def happen(root: Path, aliases: dict, versions: list, before: dict | None = None, kind: str = "alias") -> None:
    """The next event of `scale`, written as another program would."""
    events = root / "models/scale/events"
    events.mkdir(parents=True, exist_ok=True)
    number = len(list(events.iterdir())) + 1
    event = {
        "number": number, "time": time.time(), "who": "me@here", "kind": kind, "why": "", "versions": versions, "last": versions[-1][1],
        "aliases": aliases, "before": before or {}, "uploads": {},
    }  # fmt: skip
    partial = events / f".{number}"
    partial.write_text(json.dumps(event))
    os.link(partial, events / f"{number:08d}.json")
    partial.unlink()


@pytest.fixture
def root(tmp_path):
    """A registry of four versions, of which the champion is the second."""
    made(tmp_path / "models", 1.0, 2.0, 3.0, 4.0)
    (tmp_path / "registry.json").write_text('{"format": 1}')
    happen(tmp_path, {"champion": 2}, [[1, 4]], {"champion": [1]})
    return tmp_path


def policy_of(root, reference="models:/scale@champion", **document):
    given = Followed(str(root), reference).adjust(document)
    return given.default, given.versions, dict(given.aliases)


def test_what_is_held_ready(root):
    assert policy_of(root) == (2, [1, 2, 4], {"champion": 2})
    assert policy_of(root, "models:/scale") == (4, [4], {})
    assert policy_of(root, "models:/scale@3") == (3, [3], {})
    happen(root, {"champion": 4, "next": 3}, [[2, 4]], {"champion": [3, 1, 1]})
    assert policy_of(root) == (4, [3, 4], {"champion": 4})  # of where it was the last is not there any more
    assert policy_of(root, canary={"version": "next", "weight": 0.1}) == (4, [3, 4], {"champion": 4, "next": 3})


def test_a_canary_that_the_alias_has_reached_is_over(root):
    happen(root, {"champion": 3, "next": 3}, [[1, 4]], {"champion": [2]})
    for version in ("next", 3):
        given = Followed(str(root), "scale@champion").adjust({"canary": {"version": version, "weight": 0.1}})
        assert (given.canary, given.default) == (None, 3)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("models:/scale@champ", "unknown alias 'champ' of 'scale'; did you mean 'champion'?"),
        ("models:/scale@9", "model 'scale' has no version 9; there is: 1 to 4."),
        ("models:/scales", "there is no model 'scales' in the registry"),
        ("models:/a/b@c", "the name of a model must be"),
        ("models:/scale@", "an alias must be"),
    ],
)
def test_references_that_mean_nothing(root, reference, says):
    with pytest.raises(Refused) as refused:
        Followed(str(root), reference)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_reference_and_half_a_registry(root):
    assert read_reference("a@b") == ("a", "b")
    assert resolve(open_store(str(root)), "scale@champion") == ("scale", 2)
    (root / "registry.json").unlink()
    with pytest.raises(Refused, match="half a copy of a registry"):
        check_registry(open_store(str(root)))
    with pytest.raises(Refused, match="there is no registry at"):
        check_registry(open_store(str(root / "none")))


def test_an_alias_turns_at_once_to_what_is_ready(root):
    followed = Followed(str(root), "models:/scale@champion")
    repository = Repository(followed.folder, prepared, followed=followed)
    repository.start()
    assert (repository.served, repository.find("scale").model.version) == ({"scale": [1, 2, 4]}, 2)
    with repository._changing:  # something else is being made, which takes long
        for to, past in ((4, [1, 2]), (2, [1]), (1, [2])):
            happen(root, {"champion": to}, [[1, 4]], {"champion": past})
            repository.turn()
            assert repository.find("scale").model.version == to
        happen(root, {"champion": 3}, [[1, 4]], {"champion": [1]})
        repository.turn()
        assert repository.find("scale").model.version == 1  # not made yet
    assert repository.follow() == []
    assert (repository.served, repository.find("scale").model.version) == ({"scale": [1, 3, 4]}, 3)
    assert repository.follow() == []


def test_an_alias_that_moves_while_a_version_is_made_is_where_it_is(root):
    followed, moved = Followed(str(root), "models:/scale@champion"), []

    def make(folder):
        if folder.name == "3" and not moved:
            happen(root, {"champion": 4}, [[1, 4]], {"champion": [2]})
            repository.turn()
            moved.append(repository.find("scale").model.version)
        return prepared(folder)

    repository = Repository(followed.folder, make, followed=followed)
    repository.start()
    happen(root, {"champion": 3}, [[1, 4]], {"champion": [2]})
    repository.turn()
    assert repository.follow() == []
    assert (moved, repository.find("scale").model.version) == ([4], 4)


def test_a_newest_version_that_is_broken_leaves_the_alias_alone(root):
    (root / "models/scale/4/golden.safetensors").write_bytes(b"x")
    followed = Followed(str(root), "models:/scale@champion")
    repository = Repository(followed.folder, prepared, followed=followed)
    repository.start()
    assert (repository.served, repository.find("scale").model.version) == ({"scale": [1, 2]}, 2)
    happen(root, {"champion": 4}, [[1, 4]], {"champion": [2]})
    repository.turn()
    assert "golden.safetensors" in repository.follow()[0]
    assert repository.find("scale").model.version == 2


def test_an_alias_that_is_taken_away_leaves_what_it_served(root, capfd):
    followed = Followed(str(root), "models:/scale@champion")
    repository = Repository(followed.folder, prepared, followed=followed)
    repository.start()
    happen(root, {}, [[1, 4]], {"champion": [2]})
    with pytest.raises(Refused, match="unknown alias 'champion'"):
        repository.turn()
    assert "unknown alias 'champion'" in repository.follow()[0]
    assert (repository.follow(), repository.find("scale").model.version) == ([], 2)


def test_a_policy_beside_the_alias(root):
    followed = Followed(str(root), "models:/scale@champion")
    repository = Repository(followed.folder, prepared, followed=followed)
    repository.start()
    happen(root, {"champion": 2, "next": 3}, [[1, 4]], {"champion": [1]})
    followed.look()
    repository.set_policy("scale", {"canary": {"version": "next", "weight": 0.5}})
    assert json.loads((root / "models/scale/policy.json").read_text()) == {
        "loaded": True, "canary": {"version": "next", "weight": 0.5, "key": None, "stopped": None}, "shadow": None, "rollback": None,
    }  # fmt: skip
    assert repository.routes["scale"].canary.model.version == 3
    again = Repository(followed.folder, prepared, followed=Followed(str(root), "models:/scale@champion"))
    again.start()
    assert again.routes["scale"].canary.model.version == 3
    for document in ({"default": 3}, {"versions": [1]}, {"aliases": {"champion": 3}}):
        with pytest.raises(Refused, match="is what the registry says here; move scale@champion instead"):
            repository.set_policy("scale", document)
    repository.set_policy("scale", repository.policy("scale")["policy"])  # what it says itself is no other word
    with pytest.raises(Refused, match="the registry says it"):
        repository.load("scale", {"version_policy": {"all": {}}})
    happen(root, {"champion": 3, "next": 3}, [[1, 4]], {"champion": [1, 2]})
    repository.turn()
    assert (repository.find("scale").model.version, repository.routes["scale"].canary) == (3, None)


def test_a_server_says_what_it_serves_and_takes_it_back(root):
    words = Claims(open_store(str(root)), "models:/scale@champion")
    words.tell({"scale": [1, 2]})
    (word,) = (root / "models/scale/servers").iterdir()
    said = json.loads(word.read_text())
    assert (said["versions"], said["process"], said["reference"]) == ([1, 2], os.getpid(), "models:/scale@champion")
    before = word.stat().st_mtime_ns
    words.tell({"scale": [1, 2]})
    assert word.stat().st_mtime_ns == before
    words.tell({"scale": [2]})
    assert json.loads(word.read_text())["versions"] == [2]
    words.end()
    assert not word.exists()
    assert registry_around(root / "models").root == str(root)
    assert registry_around(root) is registry_around(root / "models/scale") is None


def test_what_cannot_be_said_is_told_once(root, capfd):
    words = Claims(open_store(str(root)), "models:/scale@champion")
    (root / "models/scale/servers").write_text("a file")
    words.tell({"scale": [1]})
    words.tell({"scale": [2]})
    words.end()
    assert capfd.readouterr().err.count("the registry cannot know what is served here") == 1


def test_a_bucket_s_versions_are_fetched_as_the_alias_says(root, tmp_path):
    import fsspec

    bucket = f"memory://{uuid.uuid4()}"
    system = fsspec.filesystem("memory")
    system.put(str(root), f"{bucket.removeprefix('memory:/')}", recursive=True)
    url = next(f"memory:/{path}" for path in system.find(bucket.removeprefix("memory:/")) if path.endswith("registry.json"))
    url = url.rpartition("/")[0]
    followed = Followed(url, "models:/scale@champion")
    mirror = followed.mirror(tmp_path / "cache", 1 << 20)
    assert followed.folder is None
    assert remote.sync(mirror, followed.models) == []
    assert sorted(path.name for path in (mirror.folder / "scale").glob("[0-9]*")) == ["1", "2", "4"]
    repository = Repository(mirror.folder, prepared, followed=followed)
    repository.start()
    assert repository.find("scale").model.version == 2
    Claims(followed.store, "models:/scale@champion").tell({"scale": [2]})
    assert followed.store.names("models/scale/servers")
    # A version that has no sums yet is not there yet, for who follows the folder too.
    system.rm(f"{url}/models/scale/4/SHA256SUMS")
    plain = remote.mirror(f"{url}/models", tmp_path / "other", False, 1 << 20)
    (told,) = remote.sync(plain)
    assert "scale/4/SHA256SUMS is not there" in told
    assert [path.name for path in (plain.folder / "scale").glob("[0-9]*")] == ["3"]


def test_an_option_that_goes_with_nothing(root):
    command = [sys.executable, "-m", "arsenal_serving", str(root / "models"), "--registry", str(root), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "`--registry` goes with models:/NAME@ALIAS" in done.stderr


def test_rollout_reads_what_it_is_told_to():
    assert rollout.parse(b"{}", lambda document: rollout.Policy(default=7)).default == 7


BODY = json.dumps({"inputs": [tensor(np.ones((1, 4), np.float32))]}).encode()
ASKED = b"POST /v2/models/scale/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


async def call(port: int, end: asyncio.Event, seen: list) -> None:
    """Ask on one connection until the end; when each answer came, its status and its version."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = ASKED % len(BODY) + BODY
    while not end.is_set():
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found = json.loads(await reader.readexactly(length))
        seen.append((time.perf_counter(), int(head.split()[1]), int(found.get("model_version", 0))))
    writer.close()


def move_under_load(port: int, root: Path, moves: list[tuple[int, list[int]]], connections: int = 32) -> tuple[list, list[float]]:
    """Move the alias while many ask: all that was answered, and for each move the seconds until no other version answers."""
    seen: list[tuple[float, int, int]] = []

    async def scene() -> list[float]:
        end = asyncio.Event()
        loads = [asyncio.create_task(call(port, end, seen)) for _ in range(connections)]
        await asyncio.sleep(0.5)
        began = []
        for to, past in moves:
            began.append(time.perf_counter())
            await asyncio.to_thread(happen, root, {"champion": to}, [[1, 4]], {"champion": past})
            await asyncio.sleep(1.5)
        end.set()
        await asyncio.gather(*loads)
        ends = [*began[1:], float("inf")]
        return [
            max((at for at, _, version in seen if start < at < stop and version != to), default=start) - start
            for start, stop, (to, _) in zip(began, ends, moves, strict=True)
        ]

    return seen, asyncio.run(scene())


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_an_alias_moves_and_rolls_back_under_load_within_a_second(root, workers):
    more = ["--workers", str(workers)] if workers > 1 else []
    server = start("models:/scale@champion", "--registry", str(root), "--max-batch", "32", *more)
    words = root / "models/scale/servers"
    try:
        until(lambda: len(list(words.iterdir())) == workers, 60)
        seen, took = move_under_load(server.port, root, [(4, [1, 2]), (2, [1])])
        assert all(0 < seconds < 1 for seconds in took), took
        assert {status for _, status, _ in seen} == {200}
        assert {version for _, _, version in seen} == {2, 4}
        assert len(seen) > 1000
    finally:
        server.process.send_signal(signal.SIGTERM)
        assert "Traceback" not in server.process.communicate(timeout=30)[1]
    assert not list(words.iterdir())
    assert Path(SERVED_CACHE).is_dir()
