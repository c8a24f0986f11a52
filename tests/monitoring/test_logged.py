"""The request log of a real artifact beside labels, by the verb, as a user asks."""

import json
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from arsenal.monitoring import read_findings, read_logged
from arsenal.monitoring.watch import MonitoringError
from arsenal.road import compose, export, fit
from arsenal.verbs.monitor import Moved, performance

BEGAN = 1_800_000_000.0


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    draw = np.random.default_rng(0)
    x, kind = draw.normal(size=400), draw.choice(["a", "b"], 400)
    pd.DataFrame({"x": x, "kind": kind, "y": np.where(x + draw.logistic(size=400) / 4 > 0, "yes", "no")}).to_csv(folder / "t.csv", index=False)
    run = fit(compose("table", [f"data.path={folder}/t.csv", "data.target=y", f"run.root={folder}/runs"]))
    return export(run)


def line(at, number, x, kind, p, version="1", status=200, **tensors):
    """A line as the server writes it, of as many rows as x has."""
    n = len(x)
    inputs = [{"name": "categorical", "shape": [n, 1], "datatype": "BYTES", "data": list(kind)},
              {"name": "numeric", "shape": [n, 1], "datatype": "FP32", "data": list(x)} | tensors]  # fmt: skip
    outputs = [{"name": "predict_proba", "shape": [n, 2], "datatype": "FP32", "data": [v for one in p for v in (1 - one, one)]}]
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"time": when, "id": f"r{number}", "model": "table.predict_proba", "version": version, "method": "predict_proba", "status": status,
            "seconds": 0.01, "inputs": inputs, "outputs": outputs}  # fmt: skip


@pytest.fixture
def log(tmp_path):
    """Two hosts, 300 requests of two rows; from the 150th on answers are upside down. One line is torn, some are of another version."""
    draw, labels = np.random.default_rng(1), []
    hosts = {"one": [], "other": []}
    for k in range(300):
        x = draw.normal(size=2)
        y = np.where(x + draw.logistic(size=2) / 4 > 0, "yes", "no")
        p = 1 / (1 + np.exp(-4 * x * (1 if k < 150 else -1)))
        hosts["one" if k % 2 else "other"].append(line(BEGAN + k, k, x, draw.choice(["a", "b"], 2), p))
        labels += [(f"r{k}", place, y[place]) for place in range(2) if k % 5]
    hosts["one"] += [line(BEGAN + 400, 900, [1.0], ["a"], [0.9], version="0"), line(BEGAN + 401, 901, [1.0], ["a"], [0.9], status=500)]
    for name, lines in hosts.items():
        (tmp_path / name).mkdir()
        text = "".join(json.dumps(one) + "\n" for one in lines)
        (tmp_path / name / "requests-1-1-1.jsonl").write_text(text + ('{"time": "2027-01' if name == "one" else ""))
    pd.DataFrame(labels, columns=["id", "row", "label"]).to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path


@pytest.mark.slow
def test_the_log_of_all_hosts_is_read_as_columns(artifact, log):
    rows = read_logged(log, artifact)
    assert len(rows.id) == 600 and rows.others == 1 and rows.classes == ("no", "yes") and list(rows.asked) == ["kind", "x"]
    assert (np.diff(rows.time) >= 0).all() and rows.id[2] == "r1" and rows.place[:4].tolist() == [0, 1, 0, 1]
    assert len(read_logged(log, artifact, since=BEGAN + 290).id) == 20
    with pytest.raises(MonitoringError, match="has no answered rows of table/1 in the time that was asked for.$"):
        read_logged(log, artifact, since=BEGAN + 10_000)
    with pytest.raises(MonitoringError, match="^`method` must be one of predict, predict_proba, decision_function; got embed.$"):
        read_logged(log, artifact, "embed")
    with pytest.raises(MonitoringError, match="holds no requests-"):
        read_logged(log / "nowhere", artifact)


@pytest.mark.slow
def test_a_column_that_was_redacted_is_not_there(artifact, tmp_path):
    lines = [line(BEGAN + k, k, [None, None], ["a", "b"], [0.5, 0.5], parameters={"redacted": "x"}) for k in range(3)]
    (tmp_path / "requests-1-1-1.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert list(read_logged(tmp_path, artifact).asked) == ["kind"]


@pytest.mark.slow
def test_the_verb_says_what_is_worse_and_writes_it_down(artifact, log, capsys):
    since = datetime.fromtimestamp(BEGAN + 150, UTC).isoformat()
    with pytest.raises(Moved):
        performance(str(log), str(artifact), str(log / "labels.csv"), since=since, least="accuracy:0.8", to=str(log / "found.jsonl"))
    told = capsys.readouterr().out
    assert "breach  performance  accuracy: " in told and "before; must be at least 0.8" in told
    assert "Labels: 480 rows have labels, 120 wait." in told and "1 rows of other versions are left out." in told
    found = read_findings(log / "found.jsonl")
    states = {(one.kind, one.name): one.state for one in found if not one.slice}
    assert states["performance", "accuracy"] == states["concept_drift", "loss"] == "breach"
    assert states["multivariate", "classifier"] == states["multivariate", "kernels"] == "ok", "The rows are as they were."
    until = datetime.fromtimestamp(BEGAN + 150, UTC).isoformat()
    performance(str(log), str(artifact), str(log / "labels.csv"), until=until, least="accuracy:0.8")
    assert "breach" not in capsys.readouterr().out
