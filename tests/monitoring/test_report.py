"""The road of monitoring: a run that is exported, what a server was asked, a page, findings, and what cannot be done."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from arsenal_serving.artifact.reference import MethodReference, ModelReference
from arsenal_serving.artifact.sketch import Sketch, describe
from arsenal_serving.artifact.windows import Window

from arsenal import compose, fit
from arsenal.monitoring import DriftBounds, Finding, append_findings, read_findings, read_watched
from arsenal.monitoring.report import findings_of, join_labels, since_when, write_page
from arsenal.monitoring.watch import MonitoringError, most_asked, read_batch
from arsenal.road import export
from arsenal.verbs.monitor import as_seconds, as_time, report, watch


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A table, and the artifact of a run of it."""
    home, random = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    table = pd.DataFrame({"age": random.normal(40, 9, 600).round(1), "town": random.choice(["Ulm", "Bonn", "Kiel"], 600)})
    table["rich"] = np.where(table.age + 10 * (table.town == "Ulm") + random.normal(0, 4, 600) > 43, "yes", "no")
    table.to_csv(home / "people.csv", index=False)
    config = compose("table", [f"data.path={home}/people.csv", "data.target=rich", f"run.root={home}/runs"])
    return home, table, export(fit(config), home / "models" / "table", force=True)


def write_windows(folder, watched, frames, begin):
    """Windows of a minute each, as a server writes them."""
    (folder / watched.model / watched.version / "20260101").mkdir(parents=True, exist_ok=True)
    for k, frame in enumerate(frames):
        sketches = {column.name: Sketch(column) for column in watched.reference.inputs}
        for name, sketch in sketches.items():
            sketch.add(frame[name].to_numpy(dtype=object if name == "town" else float))
        states = {name: sketch.state() for name, sketch in sketches.items()}
        since = begin + 60 * k
        body = {"format": 1, "since": since, "until": since + 60, "rows": len(frame), "methods": {"predict": {"inputs": states, "outputs": {}}}}
        (folder / watched.model / watched.version / "20260101" / f"{k:06d}-1-1.json").write_text(json.dumps(body))


@pytest.mark.slow
def test_a_page_says_what_moved_and_since_when(people, tmp_path, capsys):
    _, table, version = people
    frames = [table.sample(100, random_state=k) for k in range(6)]
    for frame in frames[3:]:
        frame.age += 12
        frame.loc[frame.index[:20], "town"] = "Atlantis"
    begin = time.time() - 3600
    (tmp_path / "seen" / "table" / "1").mkdir(parents=True)
    watched = read_watched(version, tmp_path / "seen")
    write_windows(tmp_path / "seen", watched, frames, begin)
    found = {(one.kind, one.name): one for one in write_page(tmp_path / "page.html", watched)}
    assert found["drift", "age"].state == "breach" and found["quality", "town"].why.endswith("learn from: Atlantis")
    page = (tmp_path / "page.html").read_text()
    assert "age" in page and time.strftime("%Y-%m-%d %H:%M", time.gmtime(begin + 180)) in page and 'src="http' not in page
    same = read_watched(version, tmp_path / "seen")
    worse = Finding(1.0, "table", "1", "concept_drift", "loss", "breach", why="0.5 since, 0.2 before")
    quiet = write_page(tmp_path / "quiet.html", same, until=begin + 180, others=[worse])
    assert not [one for one in quiet if one.kind == "drift" and one.state == "breach"]
    page = (tmp_path / "quiet.html").read_text()
    assert "worse than it was" in page and "loss: 0.5 since, 0.2 before" in page and "as it learned" not in page
    report(str(version), folder=str(tmp_path / "seen"), to=str(tmp_path / "again.html"))
    assert "breach  drift  age: moved by" in capsys.readouterr().out
    with pytest.raises(Exception, match="has moved or is missing"):
        watch(str(tmp_path / "seen"), str(version), window="2h", once="true")
    written = read_findings(tmp_path / "seen")
    assert {(one.kind, one.name) for one in written if one.state == "breach"} >= {("drift", "age")}
    table.assign(age=table.age + 20).to_csv(tmp_path / "batch.csv", index=False)
    watched, window, _ = read_batch(version, tmp_path / "batch.csv")
    judged = {(one.kind, one.name): one.state for one in findings_of(watched, window, DriftBounds())}
    assert judged["drift", "age"] == judged["prediction_drift", "predict"] == "breach" and judged["drift", "town"] == "ok"
    with pytest.raises(MonitoringError, match=r"has no windows of table/1; there are none"):
        read_watched(version, tmp_path / "nothing")
    broken = next((tmp_path / "seen").rglob("000002-1-1.json"))
    broken.write_text(broken.read_text()[:200])
    with pytest.warns(UserWarning, match=r"000002-1-1.json is torn and left out"):
        write_page(tmp_path / "page.html", read_watched(version, tmp_path / "seen"))
    broken.write_text('{"format": 1, "since": "never"}')
    with pytest.raises(Exception, match=r"000002-1-1.json is no window of this model"):
        write_page(tmp_path / "page.html", read_watched(version, tmp_path / "seen"))


def test_the_method_is_that_which_was_asked_most(tmp_path):
    column = describe("x", np.arange(10.0))
    known = ModelReference(10, {name: MethodReference([column], []) for name in ("predict", "predict_proba")})
    assert most_asked(tmp_path, known, "predict") == "predict"
    (tmp_path / "20260101").mkdir()
    for k, (name, rows) in enumerate([("predict", 4), ("predict_proba", 3), ("predict_proba", 2)]):
        counted = Sketch(column)
        counted.add(np.ones(rows))
        body = {"since": k, "until": k + 1, "rows": rows, "methods": {name: {"inputs": {"x": counted.state()}, "outputs": {}}}}
        (tmp_path / "20260101" / f"{k}.json").write_text(json.dumps(body))
    (tmp_path / "20260101" / "9.json").write_text("{torn")
    assert most_asked(tmp_path, known, "predict") == "predict_proba"


def test_since_when_is_the_first_slice_of_the_last_stretch():
    slices = [Window(60.0 * k, 60.0 * k + 60, 1, {}, {}) for k in range(5)]
    sizes = [(0.5, True), (0.0, False), (0.5, True), (float("nan"), False), (0.5, True)]
    assert since_when(slices, sizes) == "1970-01-01 00:02"
    assert since_when(slices, [*sizes[:4], (0.0, False)]) == "-"
    assert join_labels("up to 2", "above 5") == "all"


def test_findings_outlive_a_torn_line_and_later_fields(tmp_path):
    from arsenal.monitoring import Finding

    one = Finding(5.0, "m", "1", "drift", "x", "breach", float("nan"), window=(0.0, 5.0))
    append_findings(tmp_path / "findings.jsonl", [one])
    with (tmp_path / "findings.jsonl").open("a") as file:
        file.write('{"time": 6, "mod')
    append_findings(tmp_path / "findings.jsonl", [one._replace(time=7.0, value=0.5)])
    with (tmp_path / "findings.jsonl").open("a") as file:
        file.write(json.dumps(one._replace(time=8.0, value=None)._asdict() | {"later": 1}) + "\n")
    assert [(found.time, found.value) for found in read_findings(tmp_path)] == [(5.0, None), (7.0, 0.5), (8.0, None)]
    assert read_findings(tmp_path / "nothing") == [] and read_findings(tmp_path, since=7.5)[0].window == (0.0, 5.0)


def test_times_and_lengths_are_read_or_refused():
    assert as_seconds("window", "2d") == 172_800 and as_time("since", "2026-01-01T00:00", 0.0) == 1_767_225_600
    for word in ("", "5", "h", "-3h", "0h", "1.5h"):
        with pytest.raises(Exception, match="`window` must be a length such as 90s, 30m, 6h or 2d"):
            as_seconds("window", word)
    with pytest.raises(Exception, match="`since` must be a time such as 2026-11-30T20:00, UTC, or how long ago, such as 6h; got soon"):
        as_time("since", "soon", 0.0)
