"""The log survives what happens to processes: torn lines, repeated steps, numbers that JSON has not."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from arsenal.runs.events import Events, read_events, to_json


def written(path, *events, then: bytes = b"") -> None:
    log = Events(path)
    for kind, step in events:
        log.write(kind, step)
    log.close()
    with path.open("ab") as file:
        file.write(then)


def test_a_torn_last_line_costs_that_line_only(tmp_path):
    path = tmp_path / "events.jsonl"
    written(path, ("start", 0), ("train", 100), then=b'{"kind": "train", "st')
    assert [event["step"] for event in read_events(path)] == [0, 100]
    written(path, ("start", 100), ("train", 200))
    assert [event["step"] for event in read_events(path)] == [0, 100, 100, 200]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 200))
def test_every_tear_leaves_the_lines_before(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("torn") / "events.jsonl"
    written(path, ("start", 0), ("train", 1), ("train", 2), ("train", 3))
    content = path.read_bytes()
    path.write_bytes(content[:cut])
    whole = [json.loads(line) for line in content[:cut].decode().split("\n")[:-1]]
    found = read_events(path)
    assert found[: len(whole)] == whole
    assert len(found) <= len(whole) + 1, "At most the line that lacks only its end."


def test_a_resumed_run_replaces_what_it_repeats(tmp_path):
    path = tmp_path / "events.jsonl"
    written(path, ("start", 0), ("train", 100), ("train", 200), ("train", 300))
    log = Events(path)
    log.write("start", 200)
    log.write("train", 300, values={"loss": 0.5})
    log.close()
    kept = read_events(path)
    assert [(event["kind"], event["step"]) for event in kept] == [
        ("start", 0), ("train", 100), ("train", 200), ("start", 200), ("train", 300),
    ]  # fmt: skip
    assert kept[-1]["values"] == {"loss": 0.5}


def test_numbers_that_are_not_finite_become_null(tmp_path):
    path = tmp_path / "events.jsonl"
    log = Events(path)
    log.write("train", 1, values={"loss": float("nan"), "each": [1.0, float("inf")]}, note="é\n")
    log.close()
    (event,) = read_events(path)
    assert event["values"] == {"loss": None, "each": [1.0, None]}
    assert event["note"] == "é\n"
    assert len(path.read_bytes().splitlines()) == 1


def test_a_run_without_a_log_has_no_events(tmp_path):
    assert read_events(tmp_path / "events.jsonl") == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
LOGGED = st.lists(st.tuples(st.sampled_from(["train", "validation", "note"]), st.integers(0, 10**9), VALUES), max_size=6)


@settings(max_examples=60, deadline=None)
@given(logged=LOGGED, tail=st.none() | st.integers(1, 300))
def test_what_is_written_is_read_whole_or_from_its_end(tmp_path_factory, logged, tail):
    path = tmp_path_factory.mktemp("written") / "events.jsonl"
    log = Events(path)
    for kind, step, value in logged:
        log.write(kind, step, given=value)
    log.close()
    wanted = [{"kind": kind, "step": step, "given": to_json(value)} for kind, step, value in logged]
    found = [{key: value for key, value in event.items() if key != "time"} for event in read_events(path)]
    assert found == wanted
    last = [{key: value for key, value in event.items() if key != "time"} for event in read_events(path, tail)]
    assert last == wanted[len(wanted) - len(last) :]
    assert len(last) == len(wanted) or tail < path.stat().st_size
