"""MLflow asked the same: the best of 30,000 runs by a metric and 50 of 3,000 versions, by its client of its server on SQLite.

Runs, metrics, parameters and versions are written into the tables that MLflow made, in bulk; its client would take the hour.
MLflow sorts no versions by a metric of their runs, so its second question is an easier one than ours: the 50 newest. The server
has a worker for each core, has answered everything once before, and its SQLite was told to `analyze`, which MLflow does not do by
itself: without, the first question took 74 s.
"""

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from importlib.metadata import version
from pathlib import Path

BEST, METRICS, PARAMETERS = 50, ("accuracy", "loss", "log_loss", "calibration_error", "f1_macro"), 50


def main(given: dict) -> dict:
    """Fill the store, start the server, ask; answers a second."""
    with contextlib.ExitStack() as stack:
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        kept = given.get("rows")  # of all rounds of one measurement, the store is filled once
        folder = str(Path(kept).parent) if kept else stack.enter_context(tempfile.TemporaryDirectory())
        store = f"sqlite:///{folder}/mlflow.db"
        if not (Path(folder) / "mlflow.db").exists():
            fill(store, folder, given["runs"], given["versions"])
        port = 20_000 + os.getpid() % 20_000
        words = ["--backend-store-uri", store, "--default-artifact-root", folder, "--port", str(port)]
        words += ["--workers", str(given["threads"])]
        command = [sys.executable, "-m", "mlflow", "server", *words]
        with open(Path(folder) / "log", "w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
            try:
                rates = ask(f"http://127.0.0.1:{port}", given["times"])
            finally:
                server.terminate()
    said = f"{given['runs']:,} runs, {given['versions']:,} versions, SQLite, {given['threads']} workers"
    return {"rates": rates, "setting": said, "versions": {"mlflow": version("mlflow")}}


def ask(url: str, times: int) -> list[float]:
    """Answers a second, in windows."""
    import mlflow

    client = mlflow.MlflowClient(url)
    for _ in range(120):
        try:
            experiment = client.get_experiment_by_name("digits")
            break
        except Exception:
            time.sleep(0.5)

    def once() -> None:
        runs = client.search_runs([experiment.experiment_id], order_by=["metrics.`test/accuracy` DESC"], max_results=BEST)
        accuracy = [run.data.metrics["test/accuracy"] for run in runs]
        versions = client.search_model_versions("", max_results=BEST)
        if accuracy != sorted(accuracy, reverse=True) or len(accuracy) != BEST or len(versions) != BEST:
            raise SystemExit("these are not the best")

    once()
    rates = []
    for _ in range(times):
        began = time.perf_counter()
        for _ in range(3):
            once()
        rates.append(3 / (time.perf_counter() - began))
    return rates


def fill(store: str, folder: str, runs: int, versions: int) -> None:
    """The tables of MLflow's own making, with runs and versions in them."""
    os.environ["MLFLOW_TRACKING_URI"] = store
    import mlflow
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlRegisteredModel
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun
    from sqlalchemy import create_engine, text
    from sqlalchemy.orm import Session

    client = mlflow.MlflowClient(store)
    experiment = client.create_experiment("digits")
    # One of each by the client: the rest are as these.
    first = client.create_run(experiment)
    client.log_metric(first.info.run_id, "test/accuracy", 0.0)
    client.create_registered_model("model0")
    client.create_model_version("model0", f"{folder}/0", first.info.run_id)
    draw, names = random.Random(0), [f"{split}/{metric}" for split in ("validation", "test") for metric in METRICS]
    rows: dict[type, list[dict]] = {kind: [] for kind in (SqlRun, SqlMetric, SqlLatestMetric, SqlParam, SqlModelVersion)}
    with Session(create_engine(store)) as session:
        like = {kind: columns(session.query(kind).first()) for kind in (SqlRun, SqlMetric, SqlLatestMetric, SqlModelVersion)}
        for number in range(1, runs):
            key = uuid.UUID(int=draw.getrandbits(128)).hex
            about = {"run_uuid": key, "name": f"digits_mlp_{number}", "start_time": number, "status": "FINISHED"}
            rows[SqlRun].append(like[SqlRun] | about)
            for name in names:
                told = {"key": name, "value": draw.random(), "run_uuid": key}
                rows[SqlMetric].append(like[SqlMetric] | told)
                rows[SqlLatestMetric].append(like[SqlLatestMetric] | told)
            rows[SqlParam] += [{"key": f"key.{i}", "value": str(draw.random()), "run_uuid": key} for i in range(PARAMETERS)]
            if number < versions:
                about = {"version": number + 1, "run_id": key, "creation_time": number, "source": f"{folder}/{number}"}
                rows[SqlModelVersion].append(like[SqlModelVersion] | about)
        for kind, several in rows.items():
            for start in range(0, len(several), 50_000):
                session.bulk_insert_mappings(kind, several[start : start + 50_000])
        if session.query(SqlRegisteredModel).count() != 1:
            raise SystemExit("there must be one model")
        session.execute(text("analyze"))
        session.commit()


def columns(row) -> dict:
    """What a row holds."""
    return {column.key: getattr(row, column.key) for column in type(row).__mapper__.column_attrs}


if __name__ == "__main__":
    usual = {"runs": 30_000, "versions": 3000, "times": 5, "threads": 2}
    print(json.dumps(main(usual | json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}"))))
