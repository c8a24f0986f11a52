"""The flows that ship, and what their steps are made of: on real runs, a real registry and a real server."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from arsenal.pipelines import read_flow, run_flow
from arsenal.pipelines.tables import TableRefused, check_answers, check_table, find_shift, publish


@pytest.fixture
def table(project):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"a": draw.normal(size=400), "b": draw.choice(["x", "y"], 400), "id": np.arange(400)})
    frame.loc[:39, "a"] = np.nan
    frame.to_csv("table.csv", index=False)
    return frame


def test_a_table_is_what_it_is_asked_to_be(project, table):
    found = check_table(Path("table.csv"), ["a", "b"], 400, 0.1, ["id"])
    assert found == {"rows": 400, "columns": ["a", "b", "id"], "missing": {"a": 0.1, "b": 0.0, "id": 0.0}}
    for asked, message in (
        ({"columns": ["c"]}, "lacks the column c; it has a, b, id"), ({"least": 401}, "must have 401 rows or more; got 400"),
        ({"missing": 0.05}, "10.0% of column a of table.csv is missing; allowed is 5.0%"), ({"unique": ["b"]}, "398 values of column b"),
    ):  # fmt: skip
        with pytest.raises(TableRefused, match=re.escape(message)):
            check_table(Path("table.csv"), **asked)


def test_answers_are_to_every_row_and_near_those_before(project, table):
    normal = np.random.default_rng(1).normal(size=400)
    for name, shift in (("one.csv", 0.0), ("two.csv", 0.05), ("far.csv", 3.0)):
        pd.DataFrame({"predict": normal + shift}).to_csv(name, index=False)
    found = check_answers(Path("table.csv"), Path("two.csv"), before="one.csv")
    assert found["rows"] == 400 and found["shifts"]["predict"] < 0.1
    assert check_answers(Path("table.csv"), Path("two.csv"), before="not_there.csv")["shifts"] == {}
    with pytest.raises(TableRefused, match="The answers predict moved by"):
        check_answers(Path("table.csv"), Path("far.csv"), before="one.csv")
    pd.DataFrame({"predict": [1.0, np.nan]}).to_csv("few.csv", index=False)
    with pytest.raises(TableRefused, match="has 2 rows for the 400"):
        check_answers(Path("table.csv"), Path("few.csv"))
    with pytest.raises(TableRefused, match="50.0% of the answers predict are none"):
        check_answers(Path("few.csv"), Path("few.csv"))


def test_what_has_moved_is_what_scipy_says(project, table):
    from scipy.stats import ks_2samp

    other = table.assign(a=table["a"] + 1.0)
    other.to_csv("other.csv", index=False)
    found = find_shift(Path("other.csv"), Path("table.csv"), ["a", "b"])
    assert found["due"] and found["moved"] == ["a"]
    assert found["columns"]["a"]["p"] == pytest.approx(min(1, 2 * ks_2samp(table["a"].dropna(), other["a"].dropna(), method="asymp").pvalue), rel=0.2)
    assert not find_shift(Path("table.csv"), Path("table.csv"))["due"]
    assert find_shift(Path("table.csv"))["due"]  # nothing to compare with


def test_a_file_is_published_whole(project):
    project.write("made/a.csv", "1")
    assert publish(Path("made/a.csv"), "out/b.csv") == "out/b.csv" and Path("out/b.csv").read_text() == "1"
    assert [one.name for one in Path("out").iterdir()] == ["b.csv"]


class Server:
    """A server that follows the champion, and somebody who asks it all the time."""

    def __init__(self, root: Path):
        words = [sys.executable, "-m", "arsenal_serving", "models:/scale@champion", "--registry", str(root), "--control", "--port", "0"]
        self.process = subprocess.Popen([*words, "--max-batch", "2"], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.url = re.search(r"(http://127\.0\.0\.1:\d+)/v2/models/", line)[1]
        self.asking, self.codes, self.values = True, [], []
        self.thread = threading.Thread(target=self.ask, daemon=True)
        self.thread.start()

    def ask(self):
        number = 0
        while self.asking:
            number += 1
            body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 1.0, 1.0]}]}
            headers = {"Content-Type": "application/json", "x-user": str(number)}
            request = urllib.request.Request(f"{self.url}/v2/models/scale/infer", json.dumps(body).encode(), headers)
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    self.codes.append(200)
                    self.values.append(json.loads(answer.read())["outputs"][0]["data"][0])
            except urllib.error.HTTPError as error:
                self.codes.append(error.code)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.asking = False
        self.thread.join(30)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def scale(params, x):
    return x * params["by"]


@pytest.mark.slow
def test_a_version_is_tried_and_promoted_and_a_worse_one_refused(project):
    from arsenal_serving.export import export

    from arsenal.runs.registry import open_registry

    opened = open_registry("registry")
    for by, width in ((1.0, 3), (2.0, 3), (3.0, 4)):  # the last one does not take what clients send
        path = export(project.folder / f"made{by}", scale, {"by": np.float32(by)}, np.ones((1, width), np.float32), name="scale")
        opened.register(Path(path), "scale", run=None)
    opened.set_alias("scale", "champion", 1)
    with Server(project.folder / "registry") as server:
        given = {"model": "scale", "server": server.url, "registry": "registry", "weight": 0.5, "minimum": 40, "most": 60, "ratio": None}
        told = lambda version: read_flow("deployment", {**given, "version": version})  # noqa: E731
        found = run_flow(told(2))
        assert found.complete and found.states["promote"] == "done" and found.states["refuse"] == "skipped", found.errors
        assert open_registry("registry").aliases("scale") == {"champion": 2}
        assert found.products["promote"]["seconds"].value < 5
        assert set(server.codes) == {200}
        found = run_flow(told(3))
        assert found.complete and found.states["promote"] == "skipped" and found.states["refuse"] == "done", found.errors
        assert "requests failed" in found.products["refuse"]["why"].value
        assert open_registry("registry").aliases("scale") == {"champion": 2}
    kinds = [event["kind"] for event in open_registry("registry").events("scale")]
    assert {"canary", "deployed", "refused"} <= set(kinds)
    assert server.values[-1] == 2.0


@pytest.mark.slow
def test_from_a_table_to_a_model_and_its_answers(project):
    """`training`, `retraining` and `inference` by their commands; a second time nothing is left to do."""
    iris = files("arsenal").joinpath("data/iris.csv").read_text()
    project.write("iris.csv", iris)
    project.write("gates.yaml", "test/accuracy: {min: 0.8}\n")
    environment = os.environ | {"ARSENAL_REGISTRY": "registry"}

    def run(*words, code=0):
        done = subprocess.run([sys.executable, "-m", "arsenal", "flow", "run", *words], capture_output=True, text=True, env=environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    words = ["training", "experiment=iris_mlp_csv", "model=iris", "overrides=[data.path=iris.csv, run.tensorboard=false]", "gates=gates.yaml"]
    assert "5 steps: 5 done" in run(*words)
    said = run(*words)
    assert "evaluate" not in said and "register  done" in said  # asked again, and found the same
    models = [one.name for one in (project.folder / "registry/models/iris").iterdir() if one.name.isdecimal()]
    assert models == ["1"]
    project.write("gates.yaml", "test/accuracy: {min: 1.1}\n")
    said = run(*words, code=1)
    assert "Step `judge` failed" in said and "register" in said
    (folder,) = (project.folder / "experiments/iris_mlp_csv").glob("*/identity.json")
    (project.folder / "new.csv").write_text("\n".join(line.rpartition(",")[0] for line in iris.splitlines()[:50]))
    words = ["inference", f"run={folder.parent.relative_to(project.folder)}", "table=new.csv", "published=answers.parquet"]
    assert "4 steps: 4 done" in run(*words)
    assert len(pd.read_parquet("answers.parquet")) == 49
    words = ["retraining", "experiment=iris_mlp_csv", "data=iris.csv", "reference=iris.csv", "model=other", "alias=champion"]
    assert "6 steps: 1 done, 5 left out" in run(*words)
    frame = pd.read_csv("iris.csv")
    frame.assign(**{frame.columns[0]: frame[frame.columns[0]] + 1}).to_csv("moved.csv", index=False)
    words[2] = "data=moved.csv"
    assert "6 steps: 6 done" in run(*words)
    said = run(*words)
    assert "6 steps: 1 done, 5 as they were" in said, said
