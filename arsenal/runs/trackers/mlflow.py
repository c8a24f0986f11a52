"""MLflow: a run of an experiment, by the skinny client."""
# https://mlflow.org/docs/latest/api_reference/python_api/mlflow.client.html

import functools
from collections.abc import Mapping
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


VERSION, DIGEST = "arsenal.version", "arsenal.digest"
"""Tags of a model's version there: its number here, and the hash of its sums."""


def tell_version(uri: str | None, name: str, version: int, folder: Path, digest: str, run: str) -> bool:
    """Make MLflow's registry know a version, whose files go to the run's artifacts there; whether it is new there."""
    client = client_at(uri)
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if version_there(client, name, version) is not None:
        return False
    place = f"models/{name}/{version}"
    client.log_artifacts(run, str(folder), place)
    source = f"{client.get_run(run).info.artifact_uri}/{place}"
    client.create_model_version(name, source, run, {VERSION: str(version), DIGEST: digest})
    return True


def tell_aliases(uri: str | None, name: str, aliases: Mapping[str, int]) -> None:
    """Point MLflow's aliases of a model to the versions that they have here; those that are no more go."""
    client = client_at(uri)
    there = client.get_registered_model(name).aliases
    for alias in there.keys() - aliases.keys():
        client.delete_registered_model_alias(name, alias)
    for alias, version in aliases.items():
        number = version_there(client, name, version)
        if number is not None and there.get(alias) != number:
            client.set_registered_model_alias(name, alias, number)


def version_there(client: Any, name: str, version: int) -> str | None:
    """MLflow's number of a version, which counts by itself; None where it knows none."""
    found = client.search_model_versions(f"name = '{name}'")
    return next((one.version for one in found if one.tags.get(VERSION) == str(version)), None)
