"""MLflow: a run of an experiment, by the skinny client."""
# https://mlflow.org/docs/latest/api_reference/python_api/mlflow.client.html

import functools
from pathlib import Path
from typing import Any

from arsenal.runs.journal import Tracker
from arsenal.runs.trackers.audience import Audience, Facts, Moment, follower, needs

MOST_METRICS, MOST_SETTINGS = 1000, 100
"""In one request, by MLflow's rules."""
ENDS = {"complete": "FINISHED", "failed": "FAILED"}


def mlflow(folder: Path, step: int, config: dict[str, Any], uri: str | None = None, experiment: str | None = None) -> Tracker:
    """Tell the run to the server at `uri`, MLFLOW_TRACKING_URI unless given; `experiment` is the run's name unless given."""
    return follower(folder, "mlflow", functools.partial(open_run, uri=uri, experiment=experiment), config)


def client_at(uri: str | None) -> Any:
    """MLflow's client; `NoLibrary` without its library."""
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise needs("mlflow-skinny") from error
    return MlflowClient(tracking_uri=uri)


def open_run(facts: Facts, known: str | None, uri: str | None = None, experiment: str | None = None) -> Audience:
    """The run of that id, going on, or a new one with every setting as a parameter."""
    client = client_at(uri)
    from mlflow.entities import Metric, Param, RunTag

    if known is None:
        name = experiment or facts.name
        found = client.get_experiment_by_name(name)
        number = found.experiment_id if found else client.create_experiment(name)
        run = client.create_run(number, run_name=facts.run).info.run_id
        settings = [Param(key, value) for key, value in facts.settings.items()]
        for at in range(0, len(settings), MOST_SETTINGS):
            client.log_batch(run, params=settings[at : at + MOST_SETTINGS])
        client.log_batch(run, tags=[RunTag(f"arsenal.tag.{tag}", "true") for tag in facts.tags])
    else:
        run = known
        client.update_run(run, "RUNNING")

    def measure(rows: list[Moment]) -> None:
        made = [Metric(name, value, int(1000 * row.time), row.step) for row in rows for name, value in row.values.items()]
        for at in range(0, len(made), MOST_METRICS):
            client.log_batch(run, metrics=made[at : at + MOST_METRICS])

    return Audience(
        run,
        measure,
        lambda step, name, text: client.log_text(run, text, f"texts/{step:010d}_{name}.txt"),
        lambda path, name: client.log_artifact(run, str(path), str(Path(name).parent) if "/" in name else None),
        lambda state: client.set_terminated(run, ENDS.get(state, "KILLED")),
    )
