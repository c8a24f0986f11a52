"""Other trackers' runs become folders that are listed and compared as any other; the kept files are MLflow 3.17's own."""

import json
import shutil
import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arsenal.runs import index, query
from arsenal.runs.events import read_events
from arsenal.runs.folder import RunError
from arsenal.runs.imports import import_all, nest, read_runs

KEPT = Path(__file__).resolve().parents[1] / "kept" / "mlflow"


@pytest.fixture(params=["folder", "database"])
def mlflow(request, tmp_path):
    if request.param == "folder":
        return Path(shutil.copytree(KEPT / "mlruns", tmp_path / "mlruns"))
    with sqlite3.connect(tmp_path / "mlflow.db") as base:
        base.executescript((KEPT / "mlflow.sql").read_text())
    base.close()
    return tmp_path / "mlflow.db"


def test_mlflows_runs_are_runs_here(mlflow, tmp_path):
    root = tmp_path / "experiments"
    found = list(import_all(mlflow, root))
    assert [new for _, new in found] == [True, True] and {path.parent.name for path, _ in found} == {"wine"}
    with index.open_index(root) as base:
        runs = index.select_runs(base, where=query.conditions("test/accuracy>0.85"), sort="-test/accuracy")
        assert [index.column(base, "state")[run][1] for run in runs] == ["complete"]
        assert index.column(base, "config.settings.model.depth")[runs[0]][0] is None  # MLflow keeps texts
        assert index.column(base, "config.settings.model.depth")[runs[0]][1] == "3"
        assert index.column(base, "config.imported.team")[runs[0]][1] == "red"
        assert sorted(text for _, text in index.column(base, "state").values()) == ["complete", "failed"]
        folder = root / index.column(base, "folder")[runs[0]][1]
    told = [(event["kind"], event["step"], event["values"]) for event in read_events(folder / "events.jsonl")]
    losses = (("train", 1), ("validation", 2))
    assert told == [(kind, 10 * s, {"loss": top / (s + 1)}) for s in range(3) for kind, top in losses]
    assert json.loads((folder / "report" / "metrics.json").read_text()) == {"test/accuracy": 0.9}
    assert [new for _, new in import_all(mlflow, root)] == [False, False]


def neptune_rows():
    """What Neptune's exporter writes of a run: a row for each value, those of a series with their steps."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    named = [("sys/name", "string", "string_value", "first"), ("sys/failed", "bool", "bool_value", False),
             ("params/lr", "float", "float_value", 0.1), ("params/depth", "int", "int_value", 3),
             ("sys/tags", "string_set", "string_set_value", ["a", "b"]), ("sys/modification_time", "datetime", "datetime_value", at)]  # fmt: skip
    rows = [{"attribute_path": path, "attribute_type": kind, column: value} for path, kind, column, value in named]
    for step in ("0.5", "1", "1.5"):
        rows.append({"attribute_path": "metrics/val/loss", "attribute_type": "float_series", "step": Decimal(step),
                     "timestamp": at, "float_value": 1 / (1 + float(step))})  # fmt: skip
    return [{"project_id": "team/wine", "run_id": "WINE-1"} | row for row in rows]


NEPTUNE = pa.schema([
    ("project_id", pa.string()), ("run_id", pa.string()), ("attribute_path", pa.string()), ("attribute_type", pa.string()),
    ("step", pa.decimal128(18, 6)), ("timestamp", pa.timestamp("ms", "UTC")), ("int_value", pa.int64()),
    ("float_value", pa.float64()), ("string_value", pa.string()), ("bool_value", pa.bool_()),
    ("datetime_value", pa.timestamp("ms", "UTC")), ("string_set_value", pa.list_(pa.string())),
])  # fmt: skip
"""As in Neptune's exporter."""


def test_neptunes_exports_are_runs_here(tmp_path):
    project = tmp_path / "data" / "team_wine"
    project.mkdir(parents=True)
    rows = neptune_rows()
    for part, some in enumerate((rows[:5], rows[5:])):
        pq.write_table(pa.Table.from_pylist(some, NEPTUNE), project / f"WINE-1_part_{part}.parquet")
    (run,) = read_runs(tmp_path / "data")
    assert (run.name, run.id, run.state) == ("wine", "team/wine/WINE-1", "complete")
    assert run.settings == {"params/lr": 0.1, "params/depth": 3}
    assert [(p.name, p.step, round(p.value, 4)) for p in run.points] == [
        ("metrics/val/loss", 0, 0.6667), ("metrics/val/loss", 1, 0.5), ("metrics/val/loss", 2, 0.4)
    ]  # fmt: skip
    assert run.time == datetime(2026, 1, 2, tzinfo=UTC).timestamp()
    ((folder, _),) = import_all(tmp_path / "data", tmp_path / "experiments")
    assert folder.parent.name == "wine" and index.read_run(folder)["config.settings.params.depth"][0] == 3


def test_what_is_none_of_theirs_is_refused_in_a_line(tmp_path):
    with pytest.raises(RunError, match="must be MLflow's folder or database, or an export of Neptune's; there is none at"):
        list(import_all(tmp_path / "nothing", tmp_path))
    with pytest.raises(RunError, match=r"holds neither EXPERIMENT/RUN/meta.yaml, .* nor RUN_part_0.parquet"):
        list(import_all(tmp_path, tmp_path))
    (tmp_path / "other.db").write_bytes(b"no database, whatever it is called")
    with pytest.raises(RunError, match=r"other.db is no database of MLflow's"):
        list(import_all(tmp_path / "other.db", tmp_path))
    broken = Path(shutil.copytree(KEPT / "mlruns", tmp_path / "broken"))
    path = next(broken.glob("*/*/metrics/val_loss"))
    path.write_text("1700000001000 0.5 0\nhalf a\n")
    with pytest.raises(RunError, match=r"Line 2 of .*val_loss is not `TIME VALUE STEP`: 'half a'"):
        list(import_all(broken, tmp_path / "experiments"))


def test_settings_by_path_are_a_tree_and_none_is_lost():
    assert nest({"a.b": 1, "a/c": 2, "d": 3}) == {"a": {"b": 1, "c": 2}, "d": 3}
    assert nest({"a": 1, "a.b": 2}) == {"a": 1, "a.b": 2}
