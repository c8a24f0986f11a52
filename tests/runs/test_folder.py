"""A run folder is named by what defines the run, and held by one process at a time."""

import json
import os
import signal
import subprocess
import sys

import pytest

from arsenal.runs.folder import RunError, claim, fingerprints, identity
from arsenal.storage.files import write_json, write_text

MATH = {"seed": 0, "learner": {"_target_": "arsenal.estimators.logistic", "alpha": 1.0}}

HOLD = """
import sys
from pathlib import Path
from arsenal.runs.folder import claim
with claim(Path(sys.argv[1]), "name", {"seed": 0}, {}, False) as path:
    print(path, flush=True)
    sys.stdin.read()
"""


def test_the_same_run_has_the_same_folder_and_another_another(tmp_path):
    with claim(tmp_path, "name", MATH, {}, False) as first:
        assert first == tmp_path / "name" / identity(MATH)
    with claim(tmp_path, "name", dict(reversed(MATH.items())), {}, False) as again:
        assert again == first, "The order of keys is no part of a run."
    with claim(tmp_path, "name", MATH | {"seed": 1}, {}, False) as other:
        assert other != first


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        path = holder.stdout.readline().strip()
        with (
            pytest.raises(RunError, match=rf"{path} is held by process {holder.pid} on "),
            claim(tmp_path, "name", {"seed": 0}, {}, False),
        ):
            pass
        with claim(tmp_path, "name", {"seed": 1}, {}, False):
            pass  # another run is free
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with claim(tmp_path, "name", {"seed": 0}, {}, False) as mine:
            assert str(mine) == path, "A killed process holds nothing."


def test_two_in_one_process_are_refused_too(tmp_path):
    with (
        claim(tmp_path, "name", MATH, {}, False),
        pytest.raises(RunError, match=f"held by process {os.getpid()}"),
        claim(tmp_path, "name", MATH, {}, False),
    ):
        pass


@pytest.mark.parametrize("then", [{"mine.model (model.py)": "2"}, {}, {"mine.model (model.py)": "1", "mine.loss (loss.py)": "1"}])
def test_changed_sources_are_named(tmp_path, then):
    with claim(tmp_path, "name", MATH, {"mine.model (model.py)": "1"}, False) as path:
        write_text(path / "kept.txt", "old")
    with pytest.raises(RunError, match=r"\.py\) changed since .* fresh=true"), claim(tmp_path, "name", MATH, then, False):
        pass
    assert (path / "kept.txt").read_text() == "old"


def test_fresh_puts_the_old_folder_aside(tmp_path):
    for number in range(3):
        with claim(tmp_path, "name", MATH, {"mine (m.py)": str(number)}, fresh=True) as path:
            assert not (path / "number").exists()
            write_text(path / "number", str(number))
    assert (path / "number").read_text() == "2"
    assert [(tmp_path / "name" / f"{path.name}.{n}" / "number").read_text() for n in (1, 2)] == ["0", "1"]
    with claim(tmp_path, "name", MATH, {"mine (m.py)": "2"}, False) as again:
        assert again == path


def test_the_same_hash_with_other_mathematics_is_not_mixed_up(tmp_path):
    with claim(tmp_path, "name", MATH, {}, False) as path:
        pass
    write_json(path / "identity.json", {"mathematics": {"seed": 5}, "sources": {}})
    with pytest.raises(RunError, match="another run with the same hash"), claim(tmp_path, "name", MATH, {}, False):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made: Not a directory"), claim(tmp_path / "file", "name", MATH, {}, False):
        pass


def test_only_the_users_own_sources_are_fingerprinted(tmp_path, monkeypatch):
    (tmp_path / "minefield").mkdir()
    for name in ("__init__", "model", "unused"):
        (tmp_path / "minefield" / f"{name}.py").write_text(f"NAME = {name!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    import minefield.model  # noqa: F401

    found = fingerprints(["minefield"])
    assert sorted(found) == ["minefield (__init__.py)", "minefield.model (model.py)"]
    for name in list(found):
        monkeypatch.delitem(sys.modules, name.split(" ")[0])


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "status.json"
    write_json(path, {"state": "running"})
    with pytest.raises(TypeError):
        write_json(path, {"state": object()})
    assert json.loads(path.read_text()) == {"state": "running"}
    write_json(path, {"state": "complete"})
    assert json.loads(path.read_text()) == {"state": "complete"}
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]
