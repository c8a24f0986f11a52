"""From data to deployment: as text, as a page, as OpenLineage events, and which rows trained what answered a request."""

import json
import sys

import pandas as pd
import pytest

from arsenal import cli
from arsenal.road import compose, export, fit
from arsenal.runs.registry import data_versions, open_registry
from arsenal.runs.registry.ledger import rebuild
from arsenal.runs.registry.lineage import as_lines, of_run, of_version, openlineage_events

pytestmark = pytest.mark.slow  # a run is trained and exported for them

ROWS = "x,y\n" + "".join(f"{i / 50},{(i // 25) % 2}\n" for i in range(200))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A registry with data, a run's model in two versions, and an alias; and the run."""
    root = tmp_path_factory.mktemp("lineage")
    (root / "rows.csv").write_text(ROWS)
    registry = open_registry(str(root / "registry"))
    data_versions.add(registry, "steps", root / "rows.csv")
    words = ["data=steps@v1", "data.target=y", f"registry={root / 'registry'}", f"run.root={root / 'runs'}", "run.tensorboard=false"]
    run = fit(compose("table", words))
    registry.register(export(run), "steps_model", run=run.folder, why="the first")
    registry.set_alias("steps_model", "champion", 1)
    return registry, run


@pytest.mark.slow
def test_the_graph_reaches_from_data_to_deployment(made):
    registry, run = made
    found = of_version(registry, "steps_model", 1)
    refs = [node.ref for node in found.nodes]
    model = f"run:table/{run.folder.name}"
    assert refs == ["data:steps@1", model, "version:steps_model@1", "deployment:steps_model@champion"]
    assert [tuple(edge) for edge in found.edges] == [
        ("data:steps@1", model, "read"), (model, "version:steps_model@1", "made"),
        ("version:steps_model@1", "deployment:steps_model@champion", "serves"),
    ]  # fmt: skip
    lines = list(as_lines(found))
    assert [len(line) - len(line.lstrip()) for line in lines] == [0, 2, 4, 6]
    assert "rows.csv" in lines[0] and lines[2].endswith("<-") and "the first" in lines[2]
    assert [node.ref for node in of_run(run.folder, registry).nodes] == refs
    assert [node.ref for node in of_run(run.folder).nodes] == refs[:2]


def test_the_ledger_made_anew_knows_the_same(made):
    registry, run = made
    rebuild(registry.store, [run.folder.parents[1]])
    assert [node.ref for node in of_version(registry, "steps_model", 1).nodes][:2] == ["data:steps@1", f"run:table/{run.folder.name}"]


def test_a_run_by_path_tells_its_file(made, tmp_path):
    (tmp_path / "rows.csv").write_text(ROWS + "9,1\n")
    words = [f"data.path={tmp_path / 'rows.csv'}", "data.target=y", f"run.root={tmp_path}", "run.tensorboard=false"]
    first = next(as_lines(of_run(fit(compose("table", words)).folder)))
    assert first.startswith("data:") and f"{tmp_path / 'rows.csv'}" in first and "1 file" in first


def test_events_have_what_openlineage_asks_for(made):
    registry, _ = made
    train, serve = openlineage_events(of_version(registry, "steps_model", 1))
    assert train["job"]["name"] == "train.table" and serve["job"]["name"] == "serve.steps_model@champion"
    (source,), (output,) = train["inputs"], train["outputs"]
    assert source["name"] == "data/steps" and source["facets"]["version"]["datasetVersion"] == "1"
    assert source["facets"]["dataSource"]["uri"].endswith("/rows.csv")
    assert output["name"] == serve["inputs"][0]["name"] == "version/steps_model"
    assert openlineage_events(of_version(registry, "steps_model", 1)) == [train, serve], "The same lineage is the same events."
    for event in (train, serve):
        assert {"eventType", "eventTime", "run", "job", "producer", "schemaURL", "inputs", "outputs"} == event.keys()


def test_the_command_answers_which_rows_trained_what_answered_a_request(made, tmp_path, monkeypatch, capsys):
    registry, run = made
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARSENAL_REGISTRY", str(registry.store.folder))

    def typed(*given):
        monkeypatch.setattr(sys, "argv", ["arsenal", "lineage", *given])
        try:
            cli.arsenal()
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    line = {"time": "2026-01-01T00:00:00Z", "id": "r7", "protocol": "http", "operation": "infer", "model": "steps_model",
            "version": "1", "method": "predict", "status": 200, "seconds": 0.001, "inputs": [], "outputs": []}  # fmt: skip
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "requests-1.jsonl").write_text(json.dumps(line | {"id": "r6"}) + "\n" + json.dumps(line) + "\n")
    code, out, err = typed("request=r7", "log=log", "rows=rows.csv", "to=page.html")
    assert (code, err) == (0, ""), err
    assert "request r7 of 2026-01-01T00:00:00Z: steps_model version 1, predict, status 200" in out and "data:steps@1" in out
    rows = pd.read_csv("rows.csv")
    ids = run.experiment.splits["train"].row
    assert rows[rows.split == "train"].row.tolist() == ids.tolist() and len(rows) == 200
    page = (tmp_path / "page.html").read_text()
    assert page.count("<rect") == 4 and "http" not in page.replace("http-equiv", "") and "<script" not in page
    assert typed("steps_model@champion", "to=events.jsonl")[0] == 0
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 2
    assert typed(f"run={run.folder}")[0] == 0
    for words, said in [
        ((), "needs one of MODEL"), (("request=r7",), "go together"), (("request=r9", "log=log"), "has no request 'r9'"),
        (("request=r7", "log=none"), "must be a server's request log"), (("steps_model@chapion",), "champion"),
        (("steps_model", "to=page.svg"), "`to` must end in .html or .jsonl"), (("run=nowhere",), "nowhere"),
    ]:  # fmt: skip
        code, _, err = typed(*words)
        assert code == 1 and said in err and err.count("\n") == 1, err
