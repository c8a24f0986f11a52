"""Logs of all sources as events in one order, found by what they say."""

import json
import os
import subprocess
import sys
import time

import pytest
from arsenal_serving.cli.replay import requests
from arsenal_serving.refused import Refused
from arsenal_serving.telemetry import audit

from arsenal.monitoring.erasure import count_subject, erase_old, erase_subject
from arsenal.monitoring.findings import Finding, append_findings
from arsenal.monitoring.logs import LogError, LogReader, choose_events, event_json, event_text, read_line
from arsenal.pipelines.journal import FlowJournal
from arsenal.runs.events import Events
from arsenal.runs.query import conditions

SERVER = {"level": "info", "event": "request", "id": "abc", "principal": "", "model": "table", "version": "1", "status": 200,
          "seconds": 0.01, "trace": "0af7"}  # fmt: skip
REQUEST = {"id": "abc", "protocol": "http", "operation": "infer", "model": "table", "version": "1", "status": 200,
           "inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["Zoë Smith"]}], "outputs": []}  # fmt: skip


def line(at, **given):
    return json.dumps({"time": at, **given}) + "\n"


@pytest.fixture
def folder(tmp_path):
    """Every source, written by what writes it where that needs no server."""
    (tmp_path / "server.log").write_text(line("2026-02-02T08:00:00.250Z", **SERVER) + "Traceback of something\n"
                                         + line("2026-02-02T08:00:02Z", **(SERVER | {"id": "abd", "status": 500, "level": "error"})))
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "requests-1.jsonl").write_text(line("2026-02-02T08:00:00.250100Z", **REQUEST) + '{"time": "2026-02-')
    log = audit.Audit(tmp_path / "audit.log")
    log.record("load", {"by": "ada", "model": "table", "version": "1", "to": {"alias": "champion"}})
    log.close()
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("name: x\n")
    events = Events(run / "events.jsonl")
    events.write("validation", 10, values={"accuracy": 0.5})
    events.close()
    journal = FlowJournal(tmp_path / "flow", lambda event: None)
    journal.say("failed", step="one")
    journal.say("begun")
    journal.say("start", step="register", id="register", key="k", attempt=1)
    journal.say("failed_step", step="each", id="each[3]", error="no", attempt=1)
    journal.close()
    append_findings(tmp_path / "findings.jsonl", [Finding(1_770_019_300.0, "table", "1", "drift", "bill", "breach", why="moved")])
    return tmp_path


def test_every_source_is_read_and_what_belongs_together_is_found(folder):
    reader = LogReader([folder])
    found = reader.read()
    assert {one.source for one in found} >= {"server", "request", "audit", "run", "finding", "flow"}
    assert [one.time for one in found] == sorted(one.time for one in found)

    def ask(where, **more):
        return [(one.source, one.event) for one in choose_events(found, conditions(where), **more)]

    assert ask("id=abc") == [("server", "request"), ("request", "infer")]
    assert ask("trace=0af7 and status>=500") == [("server", "request")]
    assert ask("to.alias=champion") == [("audit", "load")]
    assert ask("accuracy<0.6") == [("run", "validation")] and ask(f"run={folder / 'run'}") == [("run", "validation")]
    assert ask("step=register") == [("flow", "start")] and ask("id=register") == [], "A step is no request."
    assert ask("row=each[3] and level=error") == [("flow", "failed_step")]
    assert ask("level=error and source=finding") == [("finding", "drift")]
    assert ask("model=table", until=1_770_019_200.3) == [("server", "request"), ("request", "infer")]
    assert [one.source for one in choose_events(found, text="Zoë")] == ["request"]
    assert reader.read() == []


def test_spans_are_times_or_how_long_ago_as_in_monitor(folder, capsys):
    from arsenal.cli import UsageError
    from arsenal.verbs.alerts import replay
    from arsenal.verbs.logs import logs

    for since, some in (("2026-02-01T00:00", True), ("36500d", True), ("1h", False)):
        logs(str(folder / "findings.jsonl"), since=since)
        assert ("bill" in capsys.readouterr().out) is some
        (folder / "policy.yaml").write_text("alertmanagers: ['http://127.0.0.1:1']\nrules: [{name: drift}]\n")
        replay(str(folder / "policy.yaml"), str(folder / "findings.jsonl"), since=since)
        assert capsys.readouterr().out.startswith("1 findings" if some else "0 findings")
    with pytest.raises(UsageError, match="how long ago, such as 6h"):
        logs(str(folder / "findings.jsonl"), since="6 hours")


def test_a_line_that_is_no_event_is_none():
    for text in (b"", b"{", b"[1]", b'{"level": "info"}', b'{"time": true, "level": "info"}', b'{"time": 1}', b'{"time": "x"}'):
        assert read_line(text) is None
    assert read_line(b'{"time": 1, "sequence": 1, "before": "", "event": "x", "details": 3}').event == "x"


def test_an_event_is_a_line_of_text_and_of_json():
    one = read_line(line("1970-01-01T00:00:01.999600Z", **(SERVER | {"error": 'a "b"'})).encode())
    text = event_text(one)
    assert text.startswith("1970-01-01 00:00:02.000  server   info     request  id=abc trace=0af7 model=table version=1 status=200")
    assert text.endswith(r'error="a \"b\""')
    assert json.loads(event_json(one))["fields"]["seconds"] == 0.01


def test_what_comes_later_is_read_once_whole(folder):
    reader = LogReader([folder])
    reader.read(whole=False)
    with (folder / "requests" / "requests-1.jsonl").open("a") as file:
        file.write('02T09:00:00Z", "level": "info", "event": "late"}\n')
    (folder / "server.log").rename(folder / "server.1.log")
    (folder / "server.log").write_text(line(5, level="info", event="turned"))
    assert [one.event for one in reader.read(whole=False)] == ["turned", "late"]


def test_no_log_is_said(tmp_path):
    with pytest.raises(LogError, match="There is no log"):
        LogReader([tmp_path / "none"])
    with pytest.raises(LogError, match="holds no log"):
        LogReader([tmp_path])


def arsenal_logs(*words):
    return subprocess.run([sys.executable, "-m", "arsenal", "logs", *map(str, words)], capture_output=True, text=True)


@pytest.mark.slow
def test_the_verb_asks_refuses_and_follows(folder):
    done = arsenal_logs(folder, "where=statu>=500")
    assert done.returncode == 1 and done.stderr == "arsenal: `where`: no event has `statu`. Did you mean `status`?\n"
    assert "limit=... shows more" in arsenal_logs(folder, "limit=2").stdout
    words = [sys.executable, "-m", "arsenal", "logs", folder, "follow=true", "where=event=later", "format=json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        (folder / "new.log").write_text(line(time.time(), level="info", event="later"))
        assert json.loads(process.stdout.readline())["event"] == "later"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def test_a_subject_is_erased_from_every_log_and_the_chain_holds(folder):
    rows = {"time": "2026-02-02T08:00:03Z", **REQUEST, "id": "two"}
    rows["inputs"] = [{"name": "x", "shape": [3, 2], "datatype": "BYTES", "data": ["a", "b", "Zoë Smith", "c", "d", "Zoë Smithson"]}]
    rows["outputs"] = [{"name": "y", "shape": [3], "datatype": "FP32", "data": [0.0, 1.0, 2.0]}]
    path = folder / "requests" / "requests-2.jsonl"
    path.write_text(json.dumps(rows) + "\n" + line(7, **(SERVER | {"principal": "Zoë Smith"})))
    log = audit.Audit(folder / "audit.log")
    log.record("unload", {"by": "Zoë Smith", "model": "table"})
    head = audit.verify(folder / "audit.log").head
    log.record("load", {"by": "ada", "why": "asked by Zoë Smith"})
    assert count_subject([folder], "Zoë Smith") == {folder / "audit.log": 2, path: 2, folder / "requests" / "requests-1.jsonl": 1}
    assert sum(erase_subject([folder], "Zoë Smith", "bob").values()) == 5
    assert count_subject([folder], "Zoë Smith") == {} and erase_subject([folder], "Zoë Smith", "bob") == {}
    assert b"Zo" not in (folder / "audit.log").read_bytes()
    found = json.loads(path.read_text().splitlines()[0])
    assert found["inputs"][0]["data"] == ["a", "b", None, None, "d", "Zoë Smithson"] and found["outputs"][0]["data"] == [0.0, None, 2.0]
    assert found["inputs"][0]["parameters"] == {"redacted": True, "erased": 1, "by": "bob"}
    assert json.loads(path.read_text().splitlines()[1]) == {"time": 7, "level": "info", "event": "erased", "by": "bob"}
    # The server goes on with the same file, and the head of before is in the chain still.
    log.record("drain", {"by": "ada"})
    log.close()
    assert audit.verify(folder / "audit.log", head).lines == 5
    lines = (folder / "audit.log").read_bytes().splitlines()
    assert [json.loads(one)["event"] for one in lines] == ["load", "erased", "erased", "erasure", "drain"]
    for at, change, said in (
        (1, lambda text: text.replace(b'"unload"', b'"load"'), "another one than was done"),
        (0, lambda text: text.replace(b"ada", b"eve"), "was changed"),
        (3, lambda text: text.replace(b'"bob"', b'"eve"'), "was changed"),
    ):
        changed = [*lines]
        changed[at] = change(changed[at])
        assert changed != lines
        (folder / "audit.log").write_bytes(b"\n".join(changed) + b"\n")
        with pytest.raises(Refused, match=said):
            audit.verify(folder / "audit.log")
    (folder / "audit.log").write_bytes(b"\n".join(lines[:3]) + b"\n")
    with pytest.raises(Refused, match="no line says by whom"):
        audit.verify(folder / "audit.log")


def test_what_was_erased_leaves_a_log_that_is_read(tmp_path):
    whole = REQUEST | {"version": "1", "method": "predict", "seconds": 0.1}
    path = tmp_path / "requests-1-1-1.jsonl"
    path.write_text("".join(line(f"2026-02-02T08:00:0{k}Z", **(whole | {"id": f"zoë.{k}"})) for k in range(3)))
    assert erase_subject([tmp_path], "ZOE\u0308", "bob") == {path: 3}  # the same letter, coded otherwise
    with path.open("a") as file:
        file.write("\n" + line("2026-02-02T08:00:09Z", **whole))
    assert [one["id"] for one in requests(tmp_path)] == ["abc"]
    assert erase_old([tmp_path], 60.0, time.time()) and not list(requests(tmp_path))


def test_the_names_of_levels_that_a_server_counted_are_erased(tmp_path):
    window = tmp_path / "seen" / "table" / "1" / "20260202" / "080000-12-000001.json"
    window.parent.mkdir(parents=True)
    sketch = {"counts": [1, 2], "new": {"Zoë Smith": 2, "Ulm": 1}}
    window.write_text(json.dumps({"methods": {"predict": {"inputs": {"town": sketch}, "outputs": {}}}}))
    assert count_subject([tmp_path], "Zoë Smith") == {window: 1}
    assert erase_subject([tmp_path], "zoë smith", "bob") == {window: 1} and count_subject([tmp_path], "Zoë") == {}
    left = json.loads(window.read_text())["methods"]["predict"]["inputs"]["town"]
    assert left == {"counts": [1, 2], "new": {"Ulm": 1}}


@pytest.mark.parametrize("cut", [0, 320, 400, 10_000])
def test_an_erasure_that_was_cut_short_goes_on(folder, cut):
    log = audit.Audit(folder / "audit.log")
    log.record("unload", {"by": "Zoë", "model": "table"})
    log.close()
    path = folder / "audit.log"
    before = path.read_bytes()
    erase_subject([path], "Zoë", "bob")
    after = path.read_bytes()
    (folder / "audit.log.erasing").write_bytes(after)
    path.write_bytes(after[:cut] + before[cut:])  # a kill in the middle of the writing
    erase_subject([path], "Zoë", "bob")
    assert "Zoë" not in path.read_text() and audit.verify(path).lines == 3
    assert not (folder / "audit.log.erasing").exists()


def test_lines_that_come_during_an_erasure_are_kept(folder, monkeypatch):
    path = folder / "requests-9.jsonl"
    path.write_text(line(1, level="info", event="x", who="Ann"))
    with path.open("ab") as writer:  # a server that has its file open

        def come(seconds):
            writer.write(line(2, level="info", event="late").encode() + line(3, level="info", event="y", who="Ann").encode())
            writer.flush()

        monkeypatch.setattr("arsenal.monitoring.erasure.time.sleep", come)
        assert erase_subject([path], "Ann", "bob") == {path: 2}
    assert [one.event for one in LogReader([path]).read()] == ["erased", "late", "erased"]


def test_a_file_that_somebody_writes_stays_the_one_that_is_read(folder):
    path = folder / "stderr.log"
    with path.open("wb") as writer:  # as `2> stderr.log`, which knows its own place
        writer.write((line(1, level="info", event="x", who="Ann") + "no JSON of Ann's\n" + line(2, level="info", event="y")).encode())
        writer.flush()
        reader, size = LogReader([path]), path.stat().st_size
        assert len(reader.read()) == 2
        assert erase_subject([path], "Ann", "bob") == {path: 2} and path.stat().st_size == size
        writer.write(line(3, level="info", event="late").encode())
        writer.flush()
    assert b"Ann" not in path.read_bytes() and b"\0" not in path.read_bytes()
    assert [one.event for one in reader.read()] == ["late"]
    assert [one.event for one in LogReader([path]).read()] == ["erased", "y", "late"]


def test_what_is_older_than_it_is_kept_goes(folder):
    now, path = time.time(), folder / "requests" / "requests-1.jsonl"
    path.write_bytes(path.read_bytes().splitlines()[0] + b"\n")
    os.utime(path, (now - 500, now - 500))  # nobody writes it any more
    with (folder / "server.log").open("a") as file:
        file.write(line(now, level="info", event="young"))
    found = erase_old([folder], 100.0, now)
    assert not path.exists() and found[path] == 1 and found[folder / "server.log"] == 2
    sources = {(one.source, one.event) for one in LogReader([folder]).read()}
    assert ("server", "young") in sources and ("audit", "load") in sources and ("server", "request") not in sources


@pytest.mark.slow
def test_the_verb_says_what_it_would_erase(folder):
    assert "1 lines speak of the subject" in arsenal_logs(folder, "erase=Zoë Smith").stdout
    assert "needs by=NAME" in arsenal_logs(folder, "erase=Zoë Smith", "yes=true").stderr
    assert "finds none" in arsenal_logs(folder, "erase=Zoë Smith", "yes=true", "by=bob").stdout
    assert "No event fits" in arsenal_logs(folder, "text=Zoë").stdout
