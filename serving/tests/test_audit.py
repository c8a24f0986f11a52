"""The audit log's chain: what it notices, what it survives, and what it refuses."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

from arsenal_serving.__main__ import main
from arsenal_serving.calls import Call, Stop
from arsenal_serving.refused import Refused
from arsenal_serving.telemetry import audit
from arsenal_serving.telemetry.audit import Audit, verify


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit"


def written(path, count=5):
    log = Audit(path)
    for k in range(count):
        log.record("load", {"by": "ann", "model": f"m\n\x1b{k}"})
    log.close()
    return path.read_bytes()


def test_a_line_has_the_hash_of_the_line_before_as_sha256sum_says(path):
    lines = written(path).splitlines()
    for k, line in enumerate(lines):
        found = json.loads(line)
        assert (found["sequence"], found["principal"], found["event"]) == (k + 1, "ann", "load")
        assert found["details"] == {"model": f"m\n\x1b{k}"}
        said = subprocess.run(["sha256sum"], input=lines[k - 1], capture_output=True, check=True).stdout.decode()
        assert found["before"] == (said.split()[0] if k else "0" * 64)
    assert oct(path.stat().st_mode & 0o777) == "0o600"


def test_it_goes_on_after_a_restart_and_when_the_clock_jumps_back(path, monkeypatch):
    written(path, 3)
    monkeypatch.setattr(audit.time, "time", lambda: 0.0)
    assert json.loads(written(path, 2).splitlines()[-1])["time"].startswith("1970")
    assert verify(path).lines == 5


def changes(lines):
    """Every way to change a log that leaves its last line, whose hash is known, as it was."""
    for k in range(len(lines) - 1):
        yield k, [*lines[:k], *lines[k + 1 :]]
        yield k, [*lines[:k], lines[k].replace(b"ann", b"bob"), *lines[k + 1 :]]
        yield k, [*lines[:k], lines[k][:-9], *lines[k + 1 :]]
        yield k, [*lines[:k], b"", *lines[k:]]
        yield k, [*lines[: k + 1], lines[k], *lines[k + 1 :]]
        yield k, [*lines[:k], lines[k + 1], lines[k], *lines[k + 2 :]]
        yield k, [*lines[:k], json.dumps(json.loads(lines[k])).encode(), *lines[k + 1 :]]


def test_every_change_is_noticed_at_its_line(path):
    lines = written(path).splitlines()
    head = verify(path).head
    for k, changed in changes(lines):
        path.write_bytes(b"\n".join(changed) + b"\n")
        with pytest.raises(Refused, match=rf"line ({k + 1}|{k + 2})\b"):
            verify(path)
    path.write_bytes(b"\n".join(lines[:-1]) + b"\n")  # its end is gone: only who kept the head can tell
    assert verify(path).lines == 4
    with pytest.raises(Refused, match="no line has the hash"):
        verify(path, head)


def test_a_line_that_a_crash_cut_short_is_kept_and_told_wherever_it_was_cut(path):
    whole = written(path, 2)
    first = whole.index(b"\n") + 1
    for cut in [*range(1, 40), *range(first - 3, first + 40), len(whole) - 2, len(whole) - 1]:
        path.write_bytes(whole[:cut])
        lines = written(path, 1).splitlines()
        assert path.read_bytes().startswith(whole[:cut])
        broken = cut not in (first - 1, first, len(whole) - 1)  # where only the end of the line is missing, it is whole
        assert verify(path).broken == broken, cut
        if broken:
            assert json.loads(lines[-2])["event"] == "truncated"
        if broken and cut not in (1, first + 1):
            path.write_bytes(path.read_bytes().replace(whole[:cut], whole[: cut - 1], 1))
            with pytest.raises(Refused, match="was changed"):
                verify(path)


def test_twice_cut_short(path):
    whole = written(path, 1)
    path.write_bytes(whole + whole[:20] + b"\n" + whole[:30])
    written(path, 1)
    assert verify(path) == (3, verify(path).head, 2)


def test_what_is_no_audit_log_is_left_alone(path):
    path.write_text("a,b\n1,2\n")
    log = Audit(path)
    with pytest.raises(Stop, match="is not an audit log"):
        log.record("start", {})
    assert path.read_text() == "a,b\n1,2\n" and log.failures == 1
    log.close()


def test_a_log_that_was_taken_away_refuses(path):
    written(path, 1)
    log = Audit(path)
    path.rename(path.with_suffix(".1"))
    with pytest.raises(Stop, match="No such file"):
        log.record("load", {})
    path.touch()
    with pytest.raises(Stop, match="another file than when the server started"):
        log.record("load", {})
    log.close()
    assert verify(path.with_suffix(".1")).lines == 1


def test_processes_make_one_chain(path):
    program = (
        "import sys; from arsenal_serving.telemetry.audit import Audit\n"
        "log = Audit(sys.argv[1])\n"
        "for k in range(25): log.record('load', {'by': sys.argv[2], 'model': str(k)})"
    )
    each = [subprocess.Popen([sys.executable, "-c", program, path, str(k)]) for k in range(4)]
    assert [process.wait(timeout=60) for process in each] == [0] * 4
    assert verify(path).lines == 100
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for k in range(4):
        assert [row["details"]["model"] for row in rows if row["principal"] == str(k)] == [str(m) for m in range(25)]


def test_a_full_disk_refuses_and_leaves_the_chain_whole(path):
    log = Audit("/dev/full")
    with pytest.raises(Stop, match="No space left on device; nothing was changed") as refused:
        log.record("load", {"model": "m"})
    assert (refused.value.status, log.failures) == (503, 1)
    log.close()
    before = written(path, 2)
    log = Audit(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, limits[1]))  # there is room for half a line
    try:
        with pytest.raises(Stop, match="File too large"):
            log.record("load", {"model": "m"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    log.record("load", {"model": "m"})
    log.close()
    assert verify(path).lines == 3


def test_denials_are_counted_by_address_in_a_line_a_second(path):
    log = Audit(path)
    for k in range(300):
        call = Call("http", {}, f"203.0.113.{k % 2}")
        call.status = 200 if k >= 200 else 401
        log.observe(call)
    log.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["event"] for row in rows] == ["denied"] * len(rows) and len(rows) in (2, 3, 4)
    for address in ("203.0.113.0", "203.0.113.1"):
        assert sum(row["details"]["count"] for row in rows if row["details"]["address"] == address) == 100


def test_a_name_that_is_no_unicode_is_written_all_the_same(path):
    log = Audit(path)
    log.record("load", {"by": "a\ud800", "model": "m"})
    log.close()
    assert verify(path).lines == 1


def test_the_verb(path, capsys):
    written(path, 2)
    head = verify(path).head
    assert main(["audit", str(path)]) == 0
    assert capsys.readouterr().out == f"2 lines hold; head {head}\n"
    assert main(["audit", str(path), "--head", head]) == 0
    path.write_bytes(path.read_bytes().replace(b"ann", b"bob", 1))
    capsys.readouterr()
    assert main(["audit", str(path)]) == 1
    assert "line 2 does not hold" in capsys.readouterr().err
    assert main(["audit", str(path) + "x"]) == 1
    error = capsys.readouterr().err
    assert error.endswith("x: No such file or directory.\n") and error.count("\n") == 1
