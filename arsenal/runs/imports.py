"""Runs of other trackers as run folders: MLflow's folders and databases, and what Neptune's exporter wrote.

A run that was imported is listed, shown, compared and removed as any other; it has no checkpoints, so it can answer nothing.
"""

import datetime
import json
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from arsenal.runs.folder import RunError, identity
from arsenal.storage.files import to_json, write_json, write_text

HELD_OUT = re.compile(r"(?:validation|valid|val|eval)[/_. ](.+)")
"""How others call what the validation rows measure."""
PREFIX = re.compile(r"(train|training|test)[/_. ](.+)")
STATES: dict[Any, str] = {1: "killed", 2: "killed", 3: "complete", 4: "failed", 5: "interrupted"} | {
    "RUNNING": "killed", "SCHEDULED": "killed", "FINISHED": "complete", "FAILED": "failed", "KILLED": "interrupted",
}  # fmt: skip
"""MLflow's."""
NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class Point(NamedTuple):
    """A number of a metric; time is in seconds."""

    name: str
    step: int
    time: float
    value: float


class Imported(NamedTuple):
    """A run as another tracker knows it."""

    source: str
    """mlflow or neptune."""
    id: str
    name: str
    """Of the experiment or project."""
    state: str
    time: float
    """Seconds, of its end or its last number."""
    settings: dict[str, Any]
    tags: dict[str, str]
    points: list[Point]


def import_all(source: Path, root: Path) -> Iterator[tuple[Path, bool]]:
    """Every run of `source` as a folder below `root`, and whether it is new; one that is there already stays as it is."""
    for run in read_runs(source):
        mathematics = {"imported": [run.source, run.id]}
        folder = root / (NO_NAME.sub("-", run.name).strip("-.") or run.source) / identity(mathematics)
        new = not (folder / "status.json").is_file()
        if new:
            write_run(folder, run, mathematics)
        yield folder, new


def read_runs(source: Path) -> Iterator[Imported]:
    """The runs of an MLflow folder or database, or of what Neptune's exporter wrote; a `RunError` for anything else."""
    if source.is_file() and source.suffix in (".db", ".sqlite", ".sqlite3"):
        return mlflow_database(source)
    if not source.is_dir():
        raise RunError(f"`source` must be MLflow's folder or database, or an export of Neptune's; there is none at {source}.")
    if any(source.glob("*/*/meta.yaml")):
        return mlflow_folder(source)
    if parts := sorted(source.glob("**/*_part_*.parquet")):
        return neptune_export(parts)
    raise RunError(
        f"{source} holds neither EXPERIMENT/RUN/meta.yaml, as MLflow's folders do, nor RUN_part_0.parquet, as Neptune's exports."
    )


def mlflow_folder(source: Path) -> Iterator[Imported]:
    """The runs of MLflow's folder, `mlruns/EXPERIMENT/RUN/`; those that were deleted are left out."""
    import yaml

    for path in sorted(source.glob("*/*/meta.yaml")):
        about, home = yaml.safe_load(path.read_text()), path.parent
        if not isinstance(about, dict) or "run_id" not in about or about.get("lifecycle_stage") == "deleted":
            continue
        above = home.parent / "meta.yaml"
        experiment = yaml.safe_load(above.read_text()) if above.is_file() else {}
        points = []
        for file in sorted(found for found in (home / "metrics").rglob("*") if found.is_file()):
            name = file.relative_to(home / "metrics").as_posix()
            for number, line in enumerate(file.read_text().splitlines(), 1):
                words = line.split()
                try:
                    points.append(Point(name, int(words[2]) if len(words) > 2 else 0, int(words[0]) / 1000, float(words[1])))
                except (ValueError, IndexError) as error:
                    raise RunError(f"Line {number} of {file} is not `TIME VALUE STEP`: {line[:100]!r}.") from error
        yield Imported(
            "mlflow", str(about["run_id"]), str(experiment.get("name") or home.parent.name),
            STATES.get(about.get("status"), "killed"), (about.get("end_time") or about.get("start_time") or 0) / 1000,
            texts(home / "params"), {"name": str(about.get("run_name", ""))} | texts(home / "tags"), points,
        )  # fmt: skip


def texts(folder: Path) -> dict[str, str]:
    """What the files below a folder hold, by path."""
    return {file.relative_to(folder).as_posix(): file.read_text() for file in sorted(folder.rglob("*")) if file.is_file()}


def mlflow_database(source: Path) -> Iterator[Imported]:
    """The runs of MLflow's SQLite database, `mlflow.db`."""
    with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as base:
        try:
            runs = base.execute(
                "select run_uuid, experiments.name, runs.name, status, coalesce(end_time, start_time, 0) from runs "
                "join experiments using (experiment_id) where runs.lifecycle_stage != 'deleted' order by start_time"
            ).fetchall()
        except sqlite3.DatabaseError as error:
            raise RunError(f"{source} is no database of MLflow's: {error}.") from error

        def pairs(table: str, run: str) -> dict[str, str]:
            return dict(base.execute(f"select key, value from {table} where run_uuid = ?", (run,)))

        for run, experiment, name, status, time in runs:
            asked = "select key, step, timestamp, value from metrics where run_uuid = ? and not is_nan order by step, timestamp"
            rows = base.execute(asked, (run,))
            points = [Point(key, step, stamp / 1000, value) for key, step, stamp, value in rows]
            tags = {"name": name or ""} | pairs("tags", run)
            state = STATES.get(status, "killed")
            yield Imported("mlflow", run, experiment, state, time / 1000, pairs("params", run), tags, points)


def neptune_export(parts: list[Path]) -> Iterator[Imported]:
    """The runs of `PROJECT/RUN_part_N.parquet` files; a step that is no whole number is counted in the run's finest steps."""
    import pandas as pd

    runs = defaultdict(list)
    for path in parts:
        runs[path.parent, re.sub(r"_part_\d+$", "", path.stem)].append(path)
    for (_, stem), files in sorted(runs.items()):
        rows = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
        if missing := sorted({"project_id", "run_id", "attribute_path", "attribute_type"} - set(rows.columns)):
            raise RunError(f"{files[0]} is no export of Neptune's: it has no column {', '.join(missing)}.")
        series = rows[rows.attribute_type == "float_series"]
        steps = sorted({float(step) for step in series.get("step", []) if step is not None})
        whole = all(step.is_integer() for step in steps)
        at = {step: int(step) if whole else place for place, step in enumerate(steps)}
        points = [
            Point(name, at[float(step)], stamp.timestamp() if pd.notna(stamp) else 0.0, float(value))
            for name, step, stamp, value in series[["attribute_path", "step", "timestamp", "float_value"]].itertuples(index=False)
            if pd.notna(value)
        ]
        plain = {row.attribute_path: neptune_value(row) for row in rows.itertuples() if row.attribute_type in NEPTUNE}
        settings = {key: value for key, value in plain.items() if not key.startswith(("sys/", "monitoring/"))}
        tags = {key.removeprefix("sys/"): str(value) for key, value in plain.items() if key.startswith("sys/")}
        failed = str(plain.get("sys/failed", "")).lower() == "true"
        last = plain.get("sys/modification_time") or plain.get("sys/creation_time")
        time = datetime.datetime.fromisoformat(str(last)).timestamp() if last else max((p.time for p in points), default=0.0)
        project = str(rows.project_id.iloc[0]).rpartition("/")[2]
        yield Imported("neptune", f"{rows.project_id.iloc[0]}/{rows.run_id.iloc[0]}", project, "failed" if failed else "complete",
                       time, settings, {"name": stem} | tags, points)  # fmt: skip


NEPTUNE = {
    "string": "string_value", "int": "int_value", "float": "float_value", "bool": "bool_value",
    "datetime": "datetime_value", "string_set": "string_set_value",
}  # fmt: skip


def neptune_value(row: Any) -> Any:
    """What a row of one value holds, as JSON has it."""
    value = getattr(row, NEPTUNE[row.attribute_type])
    if row.attribute_type == "int":
        return None if value != value else int(value)
    return value.isoformat() if row.attribute_type == "datetime" else to_json(value)


def write_run(folder: Path, run: Imported, mathematics: dict[str, Any]) -> None:
    """The run as a folder: its settings, its numbers by step, and last what became of it."""
    import yaml

    (folder / "report").mkdir(parents=True, exist_ok=True)
    events, tested = defaultdict(dict), {}
    for point in sorted(run.points, key=lambda point: (point.step, point.time)):
        split, name = split_name(point.name)
        if split == "test":
            tested[f"test/{name}"] = point.value
        else:
            events[point.step, split].setdefault("time", point.time)
            events[point.step, split].setdefault("values", {})[name] = point.value
    lines = [{"time": one["time"], "kind": split, "step": step, "values": to_json(one["values"])}
             for (step, split), one in events.items()]  # fmt: skip
    write_text(folder / "events.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
    origin = {"from": run.source, "run": run.id, **run.tags}
    config = {"name": run.name, "tags": [], "imported": origin, "settings": nest(run.settings)}
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    write_json(folder / "identity.json", {"mathematics": mathematics, "sources": {}})
    if tested:
        write_json(folder / "report" / "metrics.json", to_json(tested))
    last = max((step for step, _ in events), default=0)
    write_json(folder / "status.json", {"state": run.state, "time": run.time, "step": last, "length": last})


def split_name(name: str) -> tuple[str, str]:
    """Of which rows a metric tells, and its name there.

    >>> split_name("val_loss"), split_name("test/accuracy"), split_name("lr")
    (('validation', 'loss'), ('test', 'accuracy'), ('train', 'lr'))
    """
    name = name.removeprefix("metrics/")
    if match := HELD_OUT.fullmatch(name):
        return "validation", match[1]
    if match := PREFIX.fullmatch(name):
        return "test" if match[1] == "test" else "train", match[2]
    return "train", name


def nest(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by paths with dots or slashes as a tree; a path that is also the beginning of another keeps its own name."""
    tree: dict[str, Any] = {}
    for key, value in sorted(settings.items()):
        *above, last = re.split(r"[./]", unquote(key))
        at = tree
        for part in above:
            at = at.setdefault(part, {})
            if not isinstance(at, dict):
                break
        if isinstance(at, dict) and last not in at:
            at[last] = value
        else:
            tree[key] = value
    return tree
