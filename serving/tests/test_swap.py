"""Versions in a running server: proven in a child, swapped, aliased, tried as canary and shadow, rolled back."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from conftest import start
from tensors import tensor

from arsenal_serving import model
from arsenal_serving.artifact import folder as artifact
from arsenal_serving.artifact import manifest, program
from arsenal_serving.calls import Call, Stop
from arsenal_serving.export import export
from arsenal_serving.refused import Refused
from arsenal_serving.repository import proving
from arsenal_serving.repository.engine import Engine
from arsenal_serving.repository.models import Missing, Repository, Unready
from arsenal_serving.repository.trials import Observed

ONES = np.ones((2, 4), np.float32)


def scaled(params, x):
    return x * params["by"]


def other(params, x):
    return x * params["by"] + 0.0 * x.sum(1, keepdims=True)


def made(folder, *scales, fn=scaled, example=ONES):
    for by in scales:
        export(folder / "scale", fn, {"by": np.float32(by)}, example, name="scale")
    return folder


def prepared(folder):
    held = artifact.open_version(folder)
    found = model.make(folder, held.files, max_batch=2)
    found.warm()
    return found


def called(repository, key: str = "", operation: str = "infer"):
    call = Call("http", {b"x-user": key.encode()}, "1.2.3.4")
    call.operation, call.model = operation, "scale"
    found = repository.find("scale", None, call)
    call.version, call.method = str(found.model.version), found.method.name
    return call


@pytest.fixture
def repository(tmp_path):
    found = Repository(made(tmp_path, 1.0, 2.0, 3.0), prepared)
    found.start()
    return found


CRASH = """
import os, sys
from arsenal_serving.artifact import program
source = open(sys.argv[1], "rb").read()
for at in range(50, len(source)):
    broken = source[:at] + b"\\xff" + source[at + 1 :]
    if (child := os.fork()) == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            program.check_calls(broken)
        finally:
            os._exit(0)
    if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        sys.stdout.buffer.write(broken)
        break
"""


def deadly(folder, to):
    """A version whose sums are true and whose program ends the process that reads it."""
    durable = subprocess.run([sys.executable, "-c", CRASH, str(folder / "programs/predict.mlir")], capture_output=True).stdout
    assert durable, "no change of a byte kills this jaxlib"
    held = artifact.open_version(folder)
    files = {path: content for path, content in held.files.items() if path != "manifest.json"}
    files |= {"programs/predict.mlir": durable, "programs/predict.exported": b""}
    artifact.write(to, manifest.parse(held.files["manifest.json"]), files)


def answer(server, path="scale", **headers):
    reply = server.ask("POST", f"/v2/models/{path}/infer", {"inputs": [tensor(np.ones((1, 4), np.float32))]}, headers)
    return reply.body["outputs"][0]["data"][0] if reply.status == 200 else reply.status


def until(true, seconds=15.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_program_that_kills_its_reader_kills_the_child_only(tmp_path):
    made(tmp_path, 2.0)
    server = start(tmp_path, "--control", "--max-batch", "2", "--poll", "1")
    try:
        deadly(tmp_path / "scale" / "1", tmp_path / "scale")
        reply = server.ask("POST", "/v2/repository/models/scale/load", {})
        assert reply.status == 400, reply
        assert "the process that proved it ended with SIG" in reply.body["error"]
        rows = server.ask("POST", "/v2/repository/index", {}).body
        assert [(row["version"], row["state"]) for row in rows] == [("1", "READY"), ("2", "UNAVAILABLE")]
        assert "ended with SIG" in rows[1]["reason"]
        assert answer(server) == 2.0
        # A version after it, of another program, is found by itself; the first is drained.
        made(tmp_path, 5.0, fn=other)
        until(lambda: answer(server) == 5.0)
        assert answer(server, "scale/versions/1") == 404
        # The folder goes: what is loaded is served on, and the index says so.
        shutil.rmtree(tmp_path / "scale")
        os.rename(tmp_path, tmp_path.parent / "elsewhere")
        rows = server.ask("POST", "/v2/repository/index", {"ready": True})
        assert (rows.status, [(row["version"], row["state"]) for row in rows.body]) == (200, [("3", "READY")])
        assert server.ask("POST", "/v2/repository/models/scale/load", {}).status == 503
        assert answer(server) == 5.0
    finally:
        server.process.send_signal(signal.SIGTERM)
        assert "Traceback" not in server.process.communicate(timeout=20)[1]


def test_a_policy_by_http_and_after_a_restart(tmp_path):
    made(tmp_path, 1.0, 2.0, 3.0)
    server, path = start(tmp_path, "--control", "--max-batch", "2"), "/v2/repository/models/scale/policy"
    policy = {
        "aliases": {"champion": 1, "challenger": 3},
        "default": "champion",
        "canary": {"version": "challenger", "weight": 0.5, "key": "X-User"},
        "shadow": {"version": 2, "share": 1},
    }
    try:
        assert server.ask("GET", path).body["policy"]["canary"] is None
        reply = server.ask("PUT", path, policy)
        assert (reply.status, reply.body["versions"], reply.body["default"]) == (200, ["1", "2", "3"], "1")
        assert (answer(server, "scale/versions/champion"), answer(server, "scale/versions/challenger")) == (1.0, 3.0)
        assert "there is: '1', '2', '3', 'champion', 'challenger'." in server.ask("GET", "/v2/models/scale/versions/x").body["error"]
        users = {str(user): answer(server, **{"X-User": str(user)}) for user in range(40)}
        assert set(users.values()) == {1.0, 3.0}
        assert {user: answer(server, **{"X-User": user}) for user in users} == users
        until(lambda: server.ask("GET", path).body["observed"]["shadow"]["rows"] > 10)
        seen = server.ask("GET", path).body["observed"]
        stable = 2 * sum(found == 1.0 for found in users.values())
        assert (seen["default"]["calls"], seen["canary"]["calls"]) == (stable, 80 - stable)
        assert seen["shadow"]["rows"] == seen["shadow"]["differing"]
        counts = seen["shadow"]["outputs"]["predict"]
        assert counts[seen["shadow"]["difference_at_most"].index(1.0)] == seen["shadow"]["rows"]  # 2 - 1
        for wrong, says in (({"versions": [9]}, "version 9 of the policy is not there; there is: 1, 2, 3."), ([], "a policy must be")):
            reply = server.ask("PUT", path, wrong)
            assert (reply.status, says in reply.body["error"]) == (400, True), reply
        assert server.ask("DELETE", path).status == 405
        assert server.ask("GET", "/v2/repository/models/scal/policy").status == 404
        assert server.ask("POST", "/v2/repository/models/scale/load", b"").status == 200
        assert json.loads((tmp_path / "scale/policy.json").read_text()) == server.ask("GET", path).body["policy"]
    finally:
        server.process.send_signal(signal.SIGTERM)
        assert "Traceback" not in server.process.communicate(timeout=20)[1]
    again = start(tmp_path, "--max-batch", "2")
    try:
        assert {user: answer(again, **{"X-User": user}) for user in users} == users
        assert "start the server with --control" in again.ask("PUT", path, {}).body["error"]
    finally:
        again.process.kill()
        again.process.communicate()


def test_a_swap_compiles_nothing_where_only_parameters_differ(tmp_path, monkeypatch):
    made(tmp_path, 1.0, 2.0)
    made(tmp_path, 3.0, fn=other)
    first = prepared(tmp_path / "scale/1")
    lowered, lower = [], program.lower
    monkeypatch.setattr(program, "lower", lambda *given: lowered.append(given) or lower(*given))
    assert model.runs_already(tmp_path / "scale/2", artifact.open_version(tmp_path / "scale/2").files)
    second = prepared(tmp_path / "scale/2")
    assert (lowered, second.infer("predict", {"x": ONES})["predict"].tolist()) == ([], (2 * ONES).tolist())
    assert first.infer("predict", {"x": ONES})["predict"].tolist() == ONES.tolist()
    assert not model.runs_already(tmp_path / "scale/3", artifact.open_version(tmp_path / "scale/3").files)
    prepared(tmp_path / "scale/3")
    assert lowered
    kept = weakref.ref(second.methods["predict"].program)
    del first
    gc.collect()
    assert kept() is not None
    del second
    lowered.clear()
    gc.collect()
    assert kept() is None  # a program goes with the last version that uses it


def test_an_old_version_is_drained_and_then_freed(repository):
    """A request in flight ends on the version that it began with."""
    old = repository.find("scale").model
    freed = weakref.ref(old)
    running, goes_on = threading.Event(), threading.Event()

    def slow(*given):
        running.set()
        assert goes_on.wait(10)
        return model.ServedModel.run(freed(), *given)

    old.run, old.quick = slow, lambda *_: False
    del old

    async def scene():
        engine, found = Engine(), repository.find("scale")
        asked = asyncio.create_task(engine.infer(found.model, "predict", {"x": ONES}, found.statistics))
        del found
        await asyncio.to_thread(running.wait, 10)
        await asyncio.to_thread(repository.set_policy, "scale", {"versions": [1]})
        now = repository.find("scale")
        assert (await engine.infer(now.model, "predict", {"x": ONES}, now.statistics))["predict"][0, 0] == 1.0
        gc.collect()
        assert freed() is not None
        goes_on.set()
        return (await asked)["predict"][0, 0]

    assert asyncio.run(scene()) == 3.0
    gc.collect()
    assert freed() is None


def test_a_canary_that_fails_is_rolled_back_and_it_is_written_down(repository, capfd):
    told = []
    repository.on_change = lambda event, details: told.append((event, details))
    rule = {"minimum": 20, "errors": 0.05}
    repository.set_policy("scale", {"default": 2, "canary": {"version": 3, "weight": 0.5, "key": "x-user"}, "rollback": rule})
    observed = Observed(repository)
    for number in range(400):
        call = called(repository, str(number))
        call.status, call.seconds = (500 if call.version == "3" else 200), 0.001
        observed.call(call)
        time.sleep(0.002)
        if repository.rollbacks:
            break
    until(lambda: json.loads((repository.folder / "scale/policy.json").read_text())["canary"]["weight"] == 0.0)
    assert {called(repository, str(number)).version for number in range(100)} == {"2"}
    stopped = json.loads((repository.folder / "scale/policy.json").read_text())["canary"]["stopped"]
    assert "requests failed" in stopped["why"]
    assert [event for event, _ in told] == ["policy", "rollback"]
    assert repository.rollbacks == {"scale": 1}
    assert "version 3 is rolled back" in capfd.readouterr().err
    repository.follow()  # what it wrote itself changes nothing
    assert repository.policy("scale")["policy"]["canary"]["stopped"] == stopped


def test_a_shadow_that_differs_stops_a_canary(repository):
    rule = {"minimum": 10, "difference": 0.1}
    canary, shadow = {"version": 3, "weight": 0.01}, {"version": 3, "share": 1, "tolerance": 0.5}
    repository.set_policy("scale", {"default": 2, "canary": canary, "shadow": shadow, "rollback": rule})
    observed = Observed(repository)
    for _ in range(20):
        call = called(repository)
        call.inputs, call.answers, call.status = {"x": ONES}, {"predict": 2 * ONES}, 200
        observed.call(call)
        time.sleep(0.02)
    until(lambda: repository.policy("scale")["observed"]["shadow"]["rows"] >= 30)
    time.sleep(0.3)
    observed.call(called(repository))
    until(lambda: repository.rollbacks)
    assert "rows differ" in repository.policy("scale")["policy"]["canary"]["stopped"]["why"]


def test_twins_agree_however_the_caller_s_rows_were_rounded(tmp_path):
    """Under load they ran with those of others, in a program of another size: before a row differs both run it alone."""
    repository = Repository(made(tmp_path, 2.0, 2.0, 2.5), prepared)
    repository.start()
    rule = {"minimum": 10, "difference": 0}
    for version, differ in ((2, 0), (3, 40)):
        policy = {"default": 1, "canary": {"version": version, "weight": 0.01}, "shadow": {"version": version, "share": 1}, "rollback": rule}
        repository.set_policy("scale", policy)
        observed = Observed(repository)
        for _ in range(20):
            call = called(repository, operation="none")
            call.inputs, call.answers, call.status = {"x": ONES}, {"predict": np.nextafter(2 * ONES, np.float32(3))}, 200
            observed.call(call)
        until(lambda: repository.policy("scale")["observed"]["shadow"]["rows"] == 40)
        time.sleep(0.3)
        observed.call(called(repository))
        assert repository.policy("scale")["observed"]["shadow"]["differing"] == differ
        if differ:
            until(lambda: repository.rollbacks)
        else:
            assert not repository.rollbacks


def test_a_shadow_is_dropped_while_the_queue_is_busy(repository):
    repository.set_policy("scale", {"shadow": {"version": 1, "share": 1}})
    observed, call = Observed(repository, busy=lambda: 1000), called(repository)
    call.inputs, call.answers, call.status = {"x": ONES}, {"predict": ONES}, 200
    observed.call(call)
    seen = repository.policy("scale")["observed"]["shadow"]
    assert (seen["dropped"], seen["rows"]) == (1, 0)


def test_who_refuses_a_change_is_heard(repository):
    def full(event, details):
        raise OSError("the audit log's disk is full")

    repository.on_change = full
    before = repository.find("scale").model
    for change in (lambda: repository.set_policy("scale", {"versions": [1]}), lambda: repository.unload("scale")):
        with pytest.raises(OSError, match="disk is full"):
            change()
    assert repository.find("scale").model is before
    assert not (repository.folder / "scale/policy.json").exists()


def test_a_poll_that_waited_follows_what_was_written_meanwhile(repository):
    path = repository.folder / "scale/policy.json"
    with repository._changing:  # a change that takes long
        path.write_text('{"versions": [1]}')
        poll = threading.Thread(target=repository.follow)
        poll.start()
        poll.join(0.2)  # it has seen that, and waits
        path.write_text('{"versions": [2]}')
    poll.join()
    assert repository.find("scale").versions == ["2"]


def test_load_and_unload_are_remembered(repository):
    repository.load("scale", {"version_policy": {"specific": {"versions": [1, 2]}}})
    again = Repository(repository.folder, prepared)
    again.start()
    assert again.find("scale").versions == ["1", "2"]
    again.unload("scale")
    assert repository.follow() == []  # the other server follows
    with pytest.raises(Unready):
        repository.find("scale")
    third = Repository(repository.folder, prepared)
    third.start()
    with pytest.raises(Unready):
        third.find("scale")
    third.load("scale")
    assert third.find("scale").versions == ["1", "2"]
    with pytest.raises(Missing, match="there is: '1', '2'"):
        third.find("scale", "3")


def test_a_folder_that_cannot_be_written_is_told_in_one_line(repository, monkeypatch, capfd):
    def denied(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("arsenal_serving.repository.models.replace_file", denied)
    with pytest.raises(Stop, match=r"policy.json cannot be written: Read-only file system\."):
        repository.set_policy("scale", {"versions": [1]})
    assert repository.find("scale").model.version == 3
    repository.unload("scale")
    said = capfd.readouterr().err
    assert "a restart will not know what changed of 'scale'" in said
    assert len(said.splitlines()) == 1


def test_a_version_that_is_refused_leaves_the_one_before_it(tmp_path):
    made(tmp_path, 1.0, 2.0)
    (tmp_path / "scale/2/manifest.json").write_text("{}")
    repository = Repository(tmp_path, prepared)
    repository.start()
    assert repository.find("scale").model.version == 1
    assert [row["state"] for row in repository.index()] == ["READY", "UNAVAILABLE"]
    (tmp_path / "scale/policy.json").write_text("{")
    assert "policy.json is not JSON" in repository.follow()[0]
    assert repository.find("scale").model.version == 1


@pytest.mark.slow
def test_the_child_is_limited(tmp_path):
    folder, how = made(tmp_path, 1.0) / "scale/1", {"max_batch": 2, "max_rows": 10, "form": "auto"}
    digest = artifact.open_version(folder).digest
    with pytest.raises(Refused, match=r"did not end within 0.2 s and was stopped"):
        proving.prove(folder, digest, how, proving.Proving(None, 0.2, 1 << 40))
    with pytest.raises(Refused, match=r"changed while it was proven"):
        proving.prove(folder, "0" * 64, how, proving.Proving(None, 60, 1 << 40))
    with pytest.raises(Refused, match=r"(?i)SIGABRT|memory|MiB|alloc") as refused:
        proving.prove(folder, digest, how, proving.Proving(None, 60, 1 << 20))
    assert "\n" not in str(refused.value)


async def asked(port: int, until: asyncio.Event, statuses: list[bytes], answers: set[bytes]) -> None:
    """Ask over one connection again and again."""
    body = json.dumps({"inputs": [tensor(np.ones((1, 4), np.float32))]}).encode()
    head = b"POST /v2/models/scale/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while not until.is_set():
        writer.write(head + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length"))
        found = await reader.readexactly(length)
        statuses.append(lines[0])
        answers.add(found[found.index(b'"data":[') :][:11])
    writer.close()


@pytest.mark.slow
def test_nothing_fails_while_versions_roll_forward_and_back(tmp_path):
    made(tmp_path, 1.0, 2.0)
    made(tmp_path, 3.0, fn=other)
    (tmp_path / "scale/policy.json").write_text('{"versions": [1]}')
    server = start(tmp_path, "--control", "--max-batch", "32")
    statuses: list[bytes] = []
    answers: set[bytes] = set()

    async def scene():
        end = asyncio.Event()
        loads = [asyncio.create_task(asked(server.port, end, statuses, answers)) for _ in range(32)]
        for number in (2, 3, 2, 1, 3, 1):
            await asyncio.sleep(0.3)
            path = "/v2/repository/models/scale/policy"
            reply = await asyncio.to_thread(server.ask, "PUT", path, {"versions": [number]})
            assert reply.status == 200, reply
        await asyncio.sleep(0.3)
        end.set()
        await asyncio.gather(*loads)

    try:
        asyncio.run(scene())
    finally:
        server.process.send_signal(signal.SIGTERM)
        assert "Traceback" not in server.process.communicate(timeout=20)[1]
    assert set(statuses) == {b"HTTP/1.1 200 OK"}
    assert len(statuses) > 2000
    assert answers == {b'"data":[1.0', b'"data":[2.0', b'"data":[3.0'}


@pytest.mark.slow
def test_workers_follow_one_policy(tmp_path):
    made(tmp_path, 1.0, 2.0)
    server = start(tmp_path, "--control", "--max-batch", "2", "--workers", "2", "--poll", "1")
    try:
        assert {answer(server) for _ in range(20)} == {2.0}
        assert server.ask("PUT", "/v2/repository/models/scale/policy", {"default": 1}).status == 200
        until(lambda: {answer(server) for _ in range(40)} == {1.0})
        made(tmp_path, 3.0)
        (tmp_path / "scale/policy.json").write_text('{"default": 3}')
        until(lambda: {answer(server) for _ in range(40)} == {3.0})
    finally:
        server.process.send_signal(signal.SIGTERM)
        assert "Traceback" not in server.process.communicate(timeout=20)[1]
