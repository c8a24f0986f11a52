"""A server with all of its logs on: what it counts, says, keeps and never keeps, asked over sockets."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from conftest import Server
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text
from tensors import tensor
from test_rpc import Client, request

from arsenal_serving.__main__ import main
from arsenal_serving.calls import Call
from arsenal_serving.export import Method, Tensor, export
from arsenal_serving.model import load
from arsenal_serving.protocols.errors import answer_error
from arsenal_serving.repository.models import Repository
from arsenal_serving.telemetry import audit, request_log
from arsenal_serving.telemetry.logs import Log, write_all
from arsenal_serving.telemetry.redaction import Redaction
from arsenal_serving.telemetry.turning import TurningFiles

SECRET, HIDDEN = 1234.5678, 8765.25
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def twice(params, inputs):
    return {"sum": (inputs["x"] + inputs["z"].sum(1, keepdims=True)) * params}


class Watched(NamedTuple):
    server: Server
    rpc: Client
    folder: Path

    def ask(self, x: np.ndarray, **headers: str):
        body = {"inputs": [tensor(x, "x"), tensor(np.full((len(x), 3), HIDDEN, np.float32), "z")]}
        return self.server.ask("POST", "/v2/models/twice/infer", body, headers)

    def lines(self, *names: str, **wanted: Any) -> list[dict]:
        time.sleep(0.2)
        text = (self.folder / "err").read_text()
        found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return [line for line in found if all(line.get(key) == value for key, value in wanted.items())]

    def metrics(self, accept: str = "") -> str:
        reply = self.server.ask("GET", "/metrics", headers={"Accept": accept})
        assert reply.status == 200
        return reply.body.decode()

    def value(self, name: str, **labels: str) -> float:
        samples = [s for family in plain_text(self.metrics()) for s in family.samples if s.name == name]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    example = {"x": np.ones((2, 3), np.float32), "z": np.ones((2, 3), np.float32)}
    columns = Tensor(columns=["a", "b", "c"])
    method = Method(twice, example, {"x": columns, "z": Tensor(shape=["batch", "length"])}, {"sum": columns})
    export(folder / "twice", {"predict": method}, np.float32(2), name="twice")
    return folder


def begin(models, folder, *words) -> tuple[subprocess.Popen, list[int]]:
    command = [sys.executable, "-m", "arsenal_serving", str(models), "--port", "0", "--max-batch", "4", *words]
    with open(folder / "err", "w") as err:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True)
    line = process.stdout.readline()
    ports = re.findall(r"//127\.0\.0\.1:(\d+)", line)
    assert ports, (folder / "err").read_text()
    return process, [int(port) for port in ports]


def end(process) -> int:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=40)
    return process.returncode


@pytest.fixture(scope="module")
def watched(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    words = ["--grpc-port", "0", "--control", "--log", "requests", "--audit", str(folder / "audit")]
    words += ["--request-log", str(folder / "kept"), "--sample", "1", "--redact", "z", "--redact", "x.b"]
    process, (http, rpc) = begin(models, folder, *words)
    yield Watched(Server(process, http), Client(rpc), folder)
    assert end(process) == 0
    assert '"event":"stop"' in (folder / "err").read_text().splitlines()[-1]


X = np.float32([[1, SECRET, 3], [4, SECRET, 6]])


def test_metrics_count_what_was_asked(watched):
    def value(**labels):
        return watched.value("arsenal_serve_requests_total", **labels)

    http, rpc = ({"protocol": p, "operation": "infer", "model": "twice", "version": "1"} for p in ("http", "grpc"))
    before = value(**http, code="200"), value(**rpc, code="OK"), watched.value("arsenal_serve_rows_total")
    for _ in range(3):
        assert watched.ask(X).status == 200
    watched.rpc("ModelInfer", request({"x": X, "z": X}, True, "twice"))
    assert value(**http, code="200") == before[0] + 3
    assert value(**rpc, code="OK") == before[1] + 1
    assert watched.value("arsenal_serve_rows_total") == before[2] + 8
    assert watched.server.infer("twice", tensor(X, "y")).status == 400
    assert value(**http, code="400") == 1
    name = "arsenal_serve_request_duration_seconds"
    assert watched.value(f"{name}_bucket", **http, code="200", le="+Inf") == value(**http, code="200")
    assert 0 < watched.value(f"{name}_sum", **http, code="200") < 3
    assert (watched.value("arsenal_serve_models_ready"), watched.value("arsenal_serve_queue_rows")) == (1, 0)
    assert watched.value("arsenal_serve_build_info") == 1 and watched.value("process_resident_memory_bytes") > 1e7


def test_a_compile_after_ready_is_a_fault_that_is_counted(watched):
    before = watched.value("arsenal_serve_late_compiles_total", model="twice", version="1")
    body = {"inputs": [tensor(X, "x"), tensor(np.ones((2, 11), np.float32), "z")]}
    assert watched.server.ask("POST", "/v2/models/twice/infer", body).status == 200
    assert watched.value("arsenal_serve_late_compiles_total", model="twice", version="1") == before + 1
    (row,) = watched.server.ask("GET", "/v2/models/twice/stats").body["model_stats"]
    assert row["late_compiles"] == before + 1
    assert watched.rpc("ModelStatistics", name="twice").model_stats[0].name == "twice"


def test_strangers_cannot_make_series(watched):
    def ask(k):
        watched.server.ask("POST", f"/v2/models/stranger{k}/infer", {"inputs": []})
        watched.server.ask("GET", f"/v{k}/x")
        watched.server.ask("GET", f"/v2/models/twice/versions/{k + 7}")

    ask(0)
    before = len(watched.metrics().splitlines())
    for k in range(20):
        ask(k)
    assert len(watched.metrics().splitlines()) == before
    assert "stranger" not in watched.metrics()


def test_both_formats_are_what_their_parsers_read(watched):
    watched.ask(X)
    reply = watched.server.ask("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name for family in open_metrics(reply.body.decode())}
    assert {"arsenal_serve_requests", "arsenal_serve_request_duration_seconds", "process_cpu_seconds"} <= families
    assert families <= {family.name for family in plain_text(watched.metrics())}
    assert watched.server.ask("POST", "/metrics", {}).status == 405


def test_promtool_has_nothing_to_say(watched):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here (Debian: prometheus)")
    done = subprocess.run([promtool, "check", "metrics"], input=watched.metrics(), capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.slow
def test_any_worker_answers_for_all(models, tmp_path):
    process, (port,) = begin(models, tmp_path, "--workers", "2")
    one = Watched(Server(process, port), None, tmp_path)
    for _ in range(40):
        assert one.ask(X).status == 200  # each on a connection of its own
    time.sleep(1.5)
    for _ in range(12):
        assert one.value("arsenal_serve_requests_total", operation="infer", code="200") == 40
        assert one.value("arsenal_serve_rows_total") == 80
        assert one.value("arsenal_serve_models_ready") == 1
    series = [s.labels for f in plain_text(one.metrics()) for s in f.samples if s.name == "process_cpu_seconds_total"]
    assert series == [{}] and one.value("process_resident_memory_bytes") > 2e8  # of two processes
    open_metrics(one.metrics("application/openmetrics-text"))
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(workers[1]), signal.SIGKILL)  # what it counted is not lost
    until = time.monotonic() + 40
    while len(lines := [line for line in (tmp_path / "err").read_text().splitlines() if '"ready"' in line]) < 3:
        assert time.monotonic() < until, lines
        time.sleep(0.1)
    assert one.value("arsenal_serve_requests_total", operation="infer", code="200") == 40
    assert end(process) == 0


def test_a_line_for_each_request_without_what_was_asked(watched):
    reply = watched.ask(X, traceparent=f"00-{TRACE}-{PARENT}-01", **{"X-Request-Id": "mine/1"})
    assert reply.headers["x-request-id"] == "mine/1"
    (line,) = watched.lines(id="mine/1")
    wanted = {"level": "info", "event": "request", "protocol": "http", "operation": "infer", "model": "twice"}
    wanted |= {"version": "1", "status": 200, "rows": 2, "principal": "", "trace": TRACE, "parent": PARENT}
    assert wanted.items() <= line.items()
    assert re.fullmatch("[0-9a-f]{16}", line["span"]) and line["span"] != PARENT
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"]) and 0 < line["seconds"] < 5
    refused = watched.server.infer("twice", tensor(X, "x", data=[SECRET, "no"]), id="x")
    assert refused.status == 400
    (line,) = watched.lines(id=refused.headers["x-request-id"])
    assert line["status"] == 400 and "error" not in line
    for number in ("1234.5", "8765.2"):
        assert number not in (watched.folder / "err").read_text()


def test_ids_are_echoed_or_made_also_with_errors(watched):
    for given in ("a b", "a\tb", "é", "a" * 129, ""):
        got = watched.server.ask("GET", "/v2/health/live", headers={"X-Request-Id": given}).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", got)
    for path, status in (("/v2/none", 404), ("/v2/models/none", 404)):
        reply = watched.server.ask("GET", path, headers={"X-Request-Id": "~" * 128})
        assert (reply.status, reply.headers["x-request-id"]) == (status, "~" * 128)
    described = watched.rpc.channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
    _, call = described.with_call(b"", timeout=10, metadata=(("x-request-id", "g1"),))
    assert ("x-request-id", "g1") in call.trailing_metadata()
    with pytest.raises(grpc.RpcError) as error:
        watched.rpc("ModelInfer", model_name="none")
    assert dict(error.value.trailing_metadata())["x-request-id"]
    assert watched.lines(id="g1")[0]["status"] == "OK"


# From the cases of the W3C's own suite, https://github.com/w3c/trace-context/blob/main/test/test.py
@pytest.mark.parametrize(
    ("header", "valid"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"00-{TRACE}-{PARENT}-00", True),
        (f"00-{TRACE}-{PARENT}-ff", True),
        (f"cc-{TRACE}-{PARENT}-01", True),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like", True),
        (f"cc-{TRACE}-{PARENT}-01.what-the-future-will-not-be-like", False),
        (f"ff-{TRACE}-{PARENT}-01", False),
        (f"00-{TRACE}-{PARENT}-01-more", False),
        (f"00-{TRACE}-{PARENT}-01-", False),
        (f"00-{TRACE.upper()}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE[:-1]}.-{PARENT}-01", False),
        (f"00-{TRACE[:-1]}-{PARENT}-01", False),
        (f"00-{TRACE}-{PARENT}-1", False),
        (f"00-{TRACE}-{PARENT}-.0", False),
        (f".0-{TRACE}-{PARENT}-01", False),
        (f"0-{TRACE}-{PARENT}-01", False),
        (f"00-{TRACE}-{PARENT}", False),
        ("", False),
    ],
)
def test_traceparent_as_the_specification_has_it(header, valid):
    from arsenal_serving.protocols.tracing import identify

    call = Call("http", {b"traceparent": header.encode()})
    identify(call)
    assert (call.trace is not None and call.trace[0] == TRACE) == valid


def test_a_stranger_writes_no_lines_of_his_own(watched):
    watched.server.ask("GET", "/v2/models/a%0A%7B%22level%22%3A1%7D%1B%5B31m%00")
    text = (watched.folder / "err").read_text()
    assert watched.lines(model='a\n{"level":1}\x1b[31m\0')
    assert not set(text) & set("\x1b\0") and not any(line.startswith('{"level"') for line in text.splitlines())


def test_a_log_that_nobody_reads_holds_nothing_up_and_what_is_lost_is_counted():
    call = Call("http", {})
    call.status, call.inputs = 200, {"x": X}
    reading, writing = os.pipe()
    log = Log(True, partial(write_all, writing))
    start = time.perf_counter()
    for _ in range(40_000):
        log.observe(call)
    assert time.perf_counter() - start < 2.0
    assert log.dropped > 5000
    taken = bytearray()

    def read():
        while content := os.read(reading, 1 << 16):
            taken.extend(content)

    reader = threading.Thread(target=read)
    reader.start()
    log.close()
    os.close(writing)
    reader.join(10)
    lines = bytes(taken).splitlines()
    assert len(lines) + log.dropped == 40_000 and all(json.loads(line)["status"] == 200 for line in lines)


def test_an_error_of_ours_has_its_traceback_in_the_log_and_not_in_the_answer(tmp_path):
    call = Call("http", {})
    try:
        raise RuntimeError("a bug \ud800")
    except RuntimeError as error:
        answer = answer_error(error, call)
    call.status = answer.status
    assert answer.status == 500 and b"bug" not in answer.body
    with open(tmp_path / "log", "wb") as file:
        log = Log(False, file.write)
        log.observe(call)
        call.status = 404
        log.observe(call)
        log.close()
    (line,) = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert line["level"] == "error" and "RuntimeError: a bug" in line["error"] and "Traceback" in line["error"]


def test_what_happens_to_models_is_audited_before_and_logged(watched):
    for operation in ("unload", "load"):
        assert watched.server.ask("POST", f"/v2/repository/models/twice/{operation}", {}).status == 200
    watched.rpc("RepositoryModelLoad", model_name="twice")
    found = audit.verify(watched.folder / "audit")
    rows = [json.loads(line) for line in (watched.folder / "audit").read_text().splitlines()]
    assert len(rows) == found.lines
    events = [row["event"] for row in rows if row["event"] != "denied"]
    assert events == ["start", "load", "unload", "load", "load"]
    assert (rows[1]["principal"], rows[1]["details"]["versions"]) == ("start", [1])
    assert rows[2]["details"]["model"] == "twice"
    logged = [line["event"] for line in watched.lines(model="twice") if line["event"] in ("load", "unload")]
    assert logged == events[1:]
    assert watched.server.ask("POST", "/v2/repository/models/twce/load", {}).status == 404
    assert "did you mean" in watched.lines(model="twce", level="warning")[0]["error"]


def test_a_full_disk_refuses_changes_and_inference_goes_on(watched):
    log = watched.folder / "audit"
    before, process = log.read_bytes(), watched.server.process.pid
    limit = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (len(before) + 20, limit[1]))
    try:
        reply = watched.server.ask("POST", "/v2/repository/models/twice/unload", {})
        assert reply.status == 503
        assert reply.body == {"error": "the audit log cannot be written: File too large; nothing was changed."}
        with pytest.raises(grpc.RpcError) as error:
            watched.rpc("RepositoryModelUnload", model_name="twice")
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        assert watched.ask(X).status == 200
        assert watched.value("arsenal_serve_audit_failures_total") == 2
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, limit)
    assert log.read_bytes() == before
    assert watched.server.ask("POST", "/v2/repository/models/twice/load", {}).status == 200
    assert audit.verify(log).lines == len(before.splitlines()) + 1


def kept(folder: Path) -> list[dict]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_requests_are_kept_and_what_is_redacted_is_not(watched):
    answer = watched.ask(X, **{"X-Request-Id": "kept"})
    time.sleep(0.3)
    (row,) = [row for row in kept(watched.folder / "kept") if row["id"] == "kept"]
    facts = {"model": "twice", "version": "1", "method": "predict", "operation": "infer", "status": 200}
    assert facts.items() <= row.items()
    assert row["inputs"] == [
        {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1.0, None, 3.0, 4.0, None, 6.0],
         "parameters": {"redacted": "b"}},
        {"name": "z", "shape": [2, 3], "datatype": "FP32", "parameters": {"redacted": True}},
    ]  # fmt: skip
    assert row["outputs"] == [{**answer.body["outputs"][0]}]
    content = b"".join(path.read_bytes() for path in (watched.folder / "kept").iterdir())
    assert b"1234.5" not in content and b"8765.2" not in content


def test_two_servers_keep_the_same_requests():
    ids = [f"request {k}" for k in range(20_000)]
    small, large = ({id for id in ids if request_log.is_sampled(id, share)} for share in (0.01, 0.1))
    assert small < large
    assert len(small) == pytest.approx(200, abs=60) and len(large) == pytest.approx(2000, abs=180)
    assert all(request_log.is_sampled(id, 1.0) for id in ids)


@pytest.fixture(scope="module")
def repository(models):
    made = Repository(models, lambda version: load(version, max_batch=1))
    made.start()
    return made


def calls(count):
    for k in range(count):
        call = Call("http", {})
        call.id, call.model, call.version, call.status = str(k), "twice", "1", 200
        call.inputs = {"x": np.full((1000, 3), k / 7, np.float32)}
        yield call


def test_the_request_log_is_bounded_and_the_oldest_go(repository, tmp_path):
    log = request_log.RequestLog(tmp_path, repository, 1.0, most=1 << 20)
    for call in calls(120):
        log.observe(call)
        time.sleep(0.002)
    log.close()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) > 3 and sum(sizes) <= 1 << 20 and max(sizes) <= 1 << 17
    ids = [row["id"] for row in kept(tmp_path)]
    assert ids == [str(k) for k in range(120 - len(ids), 120)] and log.dropped == 0


def test_the_log_turns_over_in_its_folder(tmp_path):
    log = Log(True, TurningFiles(tmp_path, "server", 1 << 20).append)
    for k in range(6000):
        log.event("info", "happened", number=k, said="x" * 300)
        if k % 500 == 0:
            time.sleep(0.05)
    log.close()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    numbers = [json.loads(line)["number"] for path in sorted(tmp_path.iterdir()) for line in path.read_text().splitlines()]
    assert sum(sizes) <= 1 << 20 and numbers == [*range(6000 - len(numbers), 6000)] and log.dropped == 0


def test_much_at_once_is_bounded_too(tmp_path):
    files = TurningFiles(tmp_path, "server", 1 << 20)
    files.append(b"".join(b"%07d\n" % k for k in range(500_000)))
    lines = b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir(), key=number_of)).splitlines()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1 << 20
    assert [int(line) for line in lines] == [*range(500_000 - len(lines), 500_000)]


def number_of(path):
    return int(path.stem.rpartition("-")[2])


def test_a_full_disk_loses_the_request_log_and_nothing_else(repository, tmp_path):
    log = request_log.RequestLog(tmp_path, repository, 1.0)
    log._files._file, made = os.open("/dev/full", os.O_WRONLY), log._files._file
    for call in calls(20):
        log.observe(call)
    log.close()
    os.close(made)
    assert log.dropped == 20


def test_too_much_at_once_is_dropped_and_counted(repository, tmp_path):
    log = request_log.RequestLog(tmp_path, repository, 1.0)
    log._background.close()
    (call,) = calls(1)
    for _ in range(1500):
        log.observe(call)
    assert log.dropped == 1500 - request_log.MOST_WAITING
    call.inputs = {"x": np.zeros((1 << 23, 3), np.float32)}
    log.observe(call)
    assert log.dropped == 1501 - request_log.MOST_WAITING


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--request-log", "{}", "--redact", "x.d"], "unknown --redact 'x.d'; did you mean 'x."),
        (["--request-log", "{}", "--redact", "x.*name*"], "unknown --redact 'x.*name*'"),
        (["--redact", "x"], "--redact needs --request-log FOLDER or --monitor FOLDER."),
        (["--log-bytes", "2000000"], "--log-bytes needs --log-to FOLDER."),
        (["--sample", "1"], "--sample needs --request-log FOLDER."),
        (["--monitor-window", "5"], "--monitor-window needs --monitor FOLDER."),
        (["--monitor", "{}", "--redact", "y.z"], "unknown --redact 'y.z'"),
        (["--audit", "/dev/full"], "the audit log cannot be written: No space left on device."),
        (["--audit", "/dev/null/x/audit"], "cannot be opened: Not a directory"),
        (["--request-log", "/dev/null/x"], "cannot be written"),
        (["--request-log", "{}", "--sample", "0"], "must be more than 0"),
        (["--log", "all"], "invalid choice"),
    ],
)
def test_wrong_options_are_one_line(models, tmp_path, words, says):
    command = [sys.executable, "-m", "arsenal_serving", str(models), "--port", "0", "--max-batch", "2"]
    command += [word.replace("{}", str(tmp_path)) for word in words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert says in done.stderr.splitlines()[-1]
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert done.returncode == 2 or (done.returncode, len(lines)) == (1, 1)


@pytest.mark.parametrize(
    ("redact", "columns", "left"),
    [
        (["x.*name*"], ["first_name", "age", "name"], [None, 1.0, None]),
        (["x.[an]*"], ["first_name", "age", "name"], [0.0, None, None]),
        (["*.name"], ["first_name", "age", "name"], [0.0, 1.0, None]),
        (["y.*"], ["first_name", "age", "name"], [0.0, 1.0, 2.0]),
        (["?"], ["first_name", "age", "name"], None),
        (["x.*name*"], None, None),  # which of its numbers are names nobody knows
    ],
)
def test_patterns_redact_what_fits_them(models, tmp_path, redact, columns, left):
    log = request_log.RequestLog(tmp_path, Repository(models, load), 1.0, Redaction(redact))
    port = load(models / "twice").methods["predict"].inputs[0]._replace(name="x", columns=columns)
    tensor = log._tensor(port, np.arange(3, dtype=np.float32)[None])
    assert (None if "data" not in tensor else list(tensor["data"])) == left
    log.close()


def test_sigterm_writes_the_last_lines_of_all_logs(models, tmp_path):
    words = ["--log", "requests", "--audit", str(tmp_path / "audit"), "--request-log", str(tmp_path / "kept")]
    process, (port,) = begin(models, tmp_path, *words, "--sample", "1")
    one = Watched(Server(process, port), None, tmp_path)
    for k in range(20):
        assert one.ask(X, **{"X-Request-Id": str(k)}).status == 200
    assert end(process) == 0
    ids = [str(k) for k in range(20)]
    assert [line["id"] for line in one.lines(event="request")] == ids
    assert [line["event"] for line in one.lines()][-2:] == ["drain", "stop"]
    assert [row["id"] for row in kept(tmp_path / "kept")] == ids
    rows = [json.loads(line)["event"] for line in (tmp_path / "audit").read_text().splitlines()]
    assert rows == ["start", "load", "stop"] and audit.verify(tmp_path / "audit").lines == 3


def test_a_request_log_is_replayed_against_another_version(models, tmp_path, capsys):
    folder = shutil.copytree(models, tmp_path / "models")
    example = {"x": np.ones((2, 3), np.float32), "z": np.ones((2, 3), np.float32)}
    second = Method(lambda params, inputs: {"sum": inputs["x"] * params + inputs["z"].sum(1, keepdims=True)}, example)
    export(folder / "twice", {"predict": second}, np.float32(2), name="twice")
    words = ["--versions", "all", "--request-log", str(tmp_path / "kept"), "--sample", "1", "--redact", "sum.b"]
    process, (port,) = begin(folder, tmp_path, *words)
    server = Server(process, port)
    for k in range(5):
        body = {"inputs": [tensor(X + k, "x"), tensor(np.full((2, 3), k, np.float32), "z")]}
        assert server.ask("POST", "/v2/models/twice/versions/1/infer", body).status == 200
    assert server.infer("twice", tensor(X, "x"), tensor(np.full((2, 3), np.inf, np.float32), "z")).status == 400
    time.sleep(0.2)
    shutil.copytree(tmp_path / "kept", tmp_path / "log")
    to = ["replay", str(tmp_path / "log"), "--to", f"http://127.0.0.1:{port}"]
    assert main([*to, "--version", "1"]) == 0
    said = capsys.readouterr().out
    assert "5 asked, 5 answered, 5 the same\n  version 1 then, 1 now: 5\n" in said
    assert "output twice/sum: 0 of 5 answers differ, 0 of 20 elements\n" in said and "p99" in said
    assert main([*to, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"] == {"1 then, 2 now": 5} and facts["same"] == 1
    # (x + 3k) 2 became 2 x + 3k: 3k apart, k = 0 to 4, in two of three columns of two rows
    found = facts["outputs"]["twice/sum"]
    assert (found["differ"], found["elements_that_differ"], found["largest"]) == (4, 16, pytest.approx(12, abs=1e-3))
    assert main([*to, "--version", "3"]) == 1
    assert "refused, 404: model 'twice' has no version '3'; there is: '1', '2'.: 5\n" in capsys.readouterr().out
    # An artifact is asked as a server is, here; and neither sends a request before its time then.
    for number, same in ((1, 5), (2, 1)):
        assert main(["replay", str(tmp_path / "log"), "--to", str(folder / "twice" / str(number)), "--json"]) == 0
        here = json.loads(capsys.readouterr().out)
        assert (here["same"], here["versions"]) == (same, {f"1 then, {number} now": 5})
        assert here["outputs"] == (facts["outputs"] if number == 2 else here["outputs"])
    assert found["by"] == {"0": 1, "1e+1": 3, "1e+2": 1}  # 0; 3, 6, 9; 12
    log = next((tmp_path / "log").iterdir())
    rows = [json.loads(line) for line in log.read_text().splitlines()][:2]
    rows[0]["time"], rows[1]["time"] = "2026-01-01T00:00:00.0Z", "2026-01-01T00:00:00.7Z"
    (tmp_path / "paced").mkdir()
    (tmp_path / "paced" / log.name).write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"torn')
    start = time.perf_counter()
    assert main(["replay", str(tmp_path / "paced"), *to[2:], "--version", "1", "--pace", "recorded"]) == 0
    assert 0.7 < time.perf_counter() - start < 3
    assert "2 asked, 2 answered, 2 the same\n" in capsys.readouterr().out
    # A log that grows while it is replayed, for the server that is asked writes it, comes to an end.
    assert main(["replay", str(tmp_path / "kept"), *to[2:], "--version", "1"]) == 0
    assert re.match(r"\d\d asked, ", capsys.readouterr().out)
    assert end(process) == 0
    (redacted,) = {str(row["outputs"][0]["parameters"]) for row in kept(tmp_path / "kept") if row["version"] == "2"}
    assert redacted == "{'redacted': True}"  # its output has no column b: it may be anywhere
    assert main(to) == 1 and main(["replay", str(tmp_path), "--to", "http://127.0.0.1:9"]) == 1
    error = capsys.readouterr().err
    assert "does not answer: [Errno 111] Connection refused." in error and "it is no request log" in error


def test_bench_measures_here_and_through_a_server(watched, models, capsys):
    url, words = f"http://127.0.0.1:{watched.server.port}", ["--seconds", "0.2", "--connections", "4"]
    before = watched.value("arsenal_serve_requests_total", model="twice", code="200")
    assert main(["bench", str(models / "twice"), "--to", url, *words, "--rows", "3", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    ways = [("in this process", None), *((f"HTTP, {how}", count) for how in ("JSON", "binary") for count in (1, 4))]
    assert [(row["how"], row["connections"]) for row in facts["figures"]] == ways
    assert all(row["rate"] > 10 and 0 < row["median_ms"] <= row["p99_ms"] for row in facts["figures"])
    asked = sum(row["rate"] * 0.2 for row in facts["figures"] if row["connections"])
    counted = watched.value("arsenal_serve_requests_total", model="twice", code="200") - before
    assert counted == pytest.approx(asked, rel=0.5)
    assert main(["bench", f"{url}/v2/models/twice", *words]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    for what, says in (
        ([f"{url}/v2/models/none"], "answers 404"),
        ([url, "--rows", "17000"], "takes 0 to 16384 rows"),
        ([url, "--header", "x"], "--header must be like"),
        ([url, "--connections", "0"], "must be more than 0"),
        (["http://127.0.0.1:9"], "Connection refused"),
        (["ftp://x"], "must be like http://HOST:PORT"),
        ([str(models / "none")], "is not an artifact folder"),
        ([str(models / "twice"), "--to", url, "--method", "no"], "has no method 'no'"),
    ):
        assert main(["bench", *words, *what]) == 1
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1, error


@pytest.mark.slow
def test_bench_starts_a_server_of_its_own(models, capsys):
    assert main(["bench", str(models / "twice"), "--seconds", "0.2", "--connections", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 7


def test_bench_sends_strings_as_a_client_does(folder, model):
    from arsenal_serving.artifact import folder as artifact
    from arsenal_serving.cli import bench

    golden = artifact.read_arrays((folder / artifact.GOLDEN).read_bytes(), artifact.GOLDEN)
    inputs = bench.golden_inputs(model, golden, "embed", 7)
    assert inputs["animal"].tolist()[:3] == ["cat", "dog", "éléphant"]
    assert inputs["day"][0] == "1970-01-01" and inputs["pair"].shape == (7, 2)
    assert model.infer("embed", inputs)["next_day"][0] == "1970-01-02"


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=x", "text/plain;version=1.x", ";;,=", "*/*"])
def test_an_odd_accept_is_answered(watched, accept):
    assert "arsenal_serve_" in watched.metrics(accept)
