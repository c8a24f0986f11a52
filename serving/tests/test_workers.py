"""Several processes on one port: what is lost when one is killed, and what is not."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import example, start
from tensors import tensor

from arsenal_serving.cli import workers
from arsenal_serving.export import export
from arsenal_serving.refused import Refused

BODY = json.dumps({"inputs": [tensor(example()[:1])]}).encode()


@pytest.mark.parametrize(
    ("given", "says"),
    [((1, "0,x", {}, 2), "different numbers"), ((1, "1,1", {}, 2), "different"), ((3, "0,1", {}, 2), "means 2 workers")],
)
def test_devices_that_are_no_list(given, says):
    with pytest.raises(Refused, match=says):
        workers.environments(*given)


def begin(folder, *words):
    command = [sys.executable, "-m", "arsenal_serving", str(folder), "--port", "0", "--max-batch", "4", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
    assert found, process.stderr.read()
    return process, int(found[1])


def children(process) -> list[int]:
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in text.split()]


class Caller(threading.Thread):
    """Asks again and again on a connection of its own; a connection that ends is noted and made anew."""

    def __init__(self, port):
        super().__init__()
        self.port, self.right, self.lost, self.wrong, self.stop = port, 0, 0, [], threading.Event()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        while not self.stop.is_set():
            try:
                connection.request("POST", "/v2/models/zoo/infer", BODY, {"Content-Type": "application/json"})
                reply = connection.getresponse()
                reply.read()
                if reply.status == 200:
                    self.right += 1
                else:
                    self.wrong.append(reply.status)
            except (OSError, http.client.HTTPException):
                self.lost += 1
                connection.close()
        connection.close()


@pytest.mark.slow
def test_a_killed_worker_loses_only_what_it_was_answering_and_another_takes_its_place(folder):
    process, port = begin(folder, "--workers", "2")
    callers = [Caller(port) for _ in range(8)]
    for caller in callers:
        caller.start()
    time.sleep(1.0)
    first, second = children(process)
    before = sum(caller.right for caller in callers)
    assert before
    subprocess.run(["kill", "-9", str(second)], check=True)
    until = time.monotonic() + 40
    while set(children(process)) <= {first, second} or len(children(process)) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    for caller in callers:
        caller.stop.set()
        caller.join()
    assert sum(caller.right for caller in callers) > before
    assert all(caller.lost <= 1 and not caller.wrong for caller in callers), [(c.lost, c.wrong) for c in callers]
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=40)
    assert process.returncode == 0
    lines = [line for line in err.splitlines() if not line.startswith("{")]  # the others are the workers' logs
    assert lines == ["arsenal-serve: worker 1 ended with signal 9; another one starts"]


@pytest.mark.slow
def test_workers_end_with_their_parent_and_a_taken_port_is_said(folder):
    process, port = begin(folder, "--workers", "2")
    pids = children(process)
    taken = subprocess.run(
        [sys.executable, "-m", "arsenal_serving", str(folder), "--port", str(port), "--workers", "2"],
        capture_output=True, text=True, timeout=40,
    )  # fmt: skip
    assert (taken.returncode, "Address already in use" in taken.stderr) == (1, True)
    process.kill()
    process.communicate(timeout=20)
    until = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_worker_that_cannot_start_ends_all_with_its_reason(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "bad")
    (tmp_path / "bad" / "manifest.json").write_text("{}")
    command = [sys.executable, "-m", "arsenal_serving", str(tmp_path / "bad"), "--port", "0", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "manifest.json" in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_admin_port_loads_and_unloads_and_the_other_does_not(tmp_path):
    export(tmp_path / "twice", lambda params, x: x * params, np.float32(2), np.ones((2, 3), np.float32), name="twice")
    server = start(tmp_path, "--admin-port", "0")
    line = server.process.stdout.readline()
    admin = server._replace(port=int(re.search(r"admin: http://127\.0\.0\.1:(\d+)/", line)[1]))
    assert server.ask("POST", "/v2/repository/models/twice/unload", {}).status == 403
    assert admin.ask("POST", "/v2/repository/models/twice/unload", {}).status == 200
    assert server.ask("GET", "/v2/models/twice/ready").status == 503
    assert admin.ask("POST", "/v2/repository/models/twice/load", {}).status == 200
    assert server.ask("GET", "/v2/models/twice/ready").status == 200
    server.process.send_signal(signal.SIGTERM)
    server.process.communicate(timeout=20)
    assert server.process.returncode == 0
