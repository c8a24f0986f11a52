"""Runs are found, chosen and described as their folders now are, whatever state folders and index are in."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from arsenal.runs import index
from arsenal.runs.folder import RunError, lock
from arsenal.runs.query import Condition, check_key, conditions


def made(root: Path, folder: str, state="complete", rate=1e-3, accuracy=None, **status) -> Path:
    """A run folder as training leaves it."""
    path = root / folder
    (path / "report").mkdir(parents=True)
    told = {"state": state, "step": 500, "length": 500, "time": 1.7e9, "process": os.getpid(), "host": socket.gethostname()}
    (path / "status.json").write_text(json.dumps(told | status))
    (path / "config.yaml").write_text(yaml.safe_dump({"name": folder, "optimizer": {"learning_rate": rate}, "seed": 0}))
    (path / "identity.json").write_text("{}")
    (path / "events.jsonl").write_text('{"kind": "train", "step": 500, "values": {"loss": 0.5, "each": [1.0, 3.0]}}\n')
    if accuracy is not None:
        (path / "report" / "metrics.json").write_text(json.dumps({"test/accuracy": accuracy}))
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    for i, (rate, accuracy) in enumerate([(1e-4, 0.90), (1e-3, 0.97), (1e-2, 0.99)]):
        made(tmp_path, f"digits/00000000000{i}", rate=rate, accuracy=accuracy, time=1.7e9 + i)
    made(tmp_path, "text/aaaaaaaaaaaa", state="interrupted", time=1.8e9)
    return tmp_path


def names(root: Path, *arguments, **more) -> list[str]:
    """The folders of the runs that fit."""
    with index.open_index(root) as base:
        folders = index.column(base, "folder")
        return [folders[run][1] for run in index.select_runs(base, *arguments, **more)]


def test_the_newest_come_first(root):
    assert names(root) == ["text/aaaaaaaaaaaa", *(f"digits/00000000000{i}" for i in (2, 1, 0))]


@pytest.mark.parametrize(
    "where, found",
    [
        ("test/accuracy>0.95", "21"),
        ("test/accuracy>=0.97 and config.optimizer.learning_rate<5e-3", "1"),
        ("config.optimizer.learning_rate=1e-3 and name=digits", "1"),
        ("name!=text", "210"),
        ("train/each>1.5 and name!=text", "210"),
        ("step>500", ""),
        ("state=complete and step<=500", "210"),
    ],
)
def test_where(root, where, found):
    assert names(root, where=conditions(where)) == [f"digits/00000000000{i}" for i in found]


def test_names_states_and_order(root):
    assert names(root, name="te*", state="interrupted") == ["text/aaaaaaaaaaaa"]
    by_accuracy = names(root, sort="test/accuracy")
    assert [path[-1] for path in by_accuracy] == ["0", "1", "2", "a"], "Who has none comes last."
    assert [path[-1] for path in names(root, sort="-test/accuracy")] == ["2", "1", "0", "a"]


def test_changes_are_seen_and_nothing_is_read_twice(root, monkeypatch):
    names(root)
    read = []
    describe = index.read_run
    monkeypatch.setattr(index, "read_run", lambda path: read.append(path.name) or describe(path))
    assert len(names(root)) == 4 and read == []
    (root / "digits/000000000000/report/metrics.json").write_text('{"test/accuracy": 1.0}')
    made(root, "digits/000000000003")
    for file in sorted((root / "text/aaaaaaaaaaaa").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (root / "text/aaaaaaaaaaaa").rmdir()
    assert names(root, where=conditions("test/accuracy>0.995")) == ["digits/000000000000"]
    assert sorted(read) == ["000000000000", "000000000003"]
    assert "text" not in str(names(root))


def test_the_index_is_never_needed(root):
    before = names(root)
    file = root / index.FILE
    for content in (b"", b"no database at all, but long enough to be looked at", file.read_bytes()[:5000]):
        file.write_bytes(content)
        assert names(root) == before
    with sqlite3.connect(file) as base:
        base.execute("drop table cell")
        base.execute("pragma user_version = 0")
    assert names(root) == before
    file.unlink()
    file.mkdir()  # it can neither be read nor replaced
    assert names(root) == before


def test_two_at_once(root):
    code = "import sys; from pathlib import Path; from arsenal.runs import index\nwith index.open_index(Path(sys.argv[1])) as b: "
    code += "print(len(index.select_runs(b)))"
    started = [subprocess.Popen([sys.executable, "-c", code, root], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in started] == ["4"] * 3


@pytest.mark.parametrize("file", ["status.json", "config.yaml", "report/metrics.json"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1, 2]", b"\xff\xfe", b'"\\ud800"', b"a: [" * 3000, b"[" * 100_000], ids=range(7)
)
def test_what_cannot_be_read_is_listed_as_such(root, file, content):
    path = root / "digits/000000000001"
    (path / file).write_bytes(content)
    cells = index.read_run(path)
    assert cells["state"] == (None, "damaged") and cells["problem"] == (None, f"{file} cannot be read")
    assert names(root, state="damaged") == ["digits/000000000001"]


def test_odd_contents_crash_nothing(root):
    path = root / "digits/000000000001"
    (path / "config.yaml").write_text(
        f'1: {{2020-01-01: yes}}\nlist: [{{? [1] : 2}}]\nbig: {10**400}\nhalf: "\\uD800"\nnan: .nan\n'
    )
    (path / "events.jsonl").write_bytes(
        b'3\n{"kind": "train"}\n{"kind": 1, "step": "x"}\n\xff\n{"kind": "train", "step": 1, "values": 7}\n'
    )
    (path / "status.json").write_text('{"state": "complete", "step": "many", "time": null}')
    (root / "digits/000000000002/status.json").write_text('{"step": 3}')
    assert len(names(root)) == 4
    assert index.read_run(root / "digits/000000000002")["problem"] == (None, "status.json names no state")


def test_half_written_and_foreign_folders(root):
    (root / "digits/0123456789ab").mkdir()
    (root / "digits/0123456789ac").mkdir()
    (root / "digits/0123456789ac/identity.json").write_text("{}")
    (root / "multirun/notes").mkdir(parents=True)
    (root / "multirun/notes/thesis.txt").write_text("mine")
    (root / "digits/cafecafecafe").mkdir()
    (root / "digits/cafecafecafe/thesis.txt").write_text("mine")
    assert sorted(names(root, state="half-written")) == ["digits/0123456789ab", "digits/0123456789ac"]
    assert "notes" not in str(names(root)) and "cafe" not in str(names(root))


def test_a_run_whose_process_is_gone_was_killed(root):
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    gone = made(root, "digits/000000000004", state="running", process=done.pid)
    other = made(root, "digits/000000000005", state="running", process=done.pid, host="elsewhere")
    mine = made(root, "digits/000000000006", state="running")
    with lock(mine):
        assert names(root, state="running") == ["digits/000000000005", "digits/000000000006"]
        assert names(root, state="killed") == ["digits/000000000004"]
        (mine / "events.jsonl").write_text('{"kind": "train", "step": 700, "values": {"loss": 0.5}}\n')
        assert index.read_run(mine)["step"] == (700.0, "700"), "As far as it has come, by its log."
    assert names(root, state="killed") == ["digits/000000000004", "digits/000000000006"], "Its number went to another process."
    assert {path.name for path in (gone, other)} == {"000000000004", "000000000005"}


def test_words_that_cannot_be_meant(root):
    with pytest.raises(RunError, match=r"`where` must be KEY SIGN VALUE.*got 'accuracy'"):
        conditions("accuracy")
    with pytest.raises(RunError, match=r"compares by > with a number; got 'name>x'"):
        conditions("name>x")
    with pytest.raises(RunError, match=r"`where`: no run has `acuracy`. Did you mean `test/accuracy`\?"):
        names(root, where=[Condition("acuracy", ">", "1")])
    with pytest.raises(RunError, match=r"`sort`: no run has `learning_rate`. Did you mean `config.optimizer.learning_rate`\?"):
        names(root, sort="learning_rate")
    with pytest.raises(RunError, match="must be a folder of runs; there is none at"):
        names(root / "nowhere")
    assert check_key("step", ["step"], "sort") == "step"
