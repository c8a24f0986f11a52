"""Trials under Ray Tune: what a process of Ray's does, and how Ray is made to ask our engine for everything.

A sweep is resumed from its own log, not from Ray's: Ray is told of the trials that are left.
"""

import contextlib
import json
import os
import shutil
import traceback
import warnings
from pathlib import Path
from typing import Any

import jax

from arsenal import config as configs
from arsenal.config import Config
from arsenal.experiment import as_learner, build, mathematics
from arsenal.launchers.cluster import connect
from arsenal.records import hyperparameters
from arsenal.road import fit
from arsenal.run import load
from arsenal.runs import folder
from arsenal.runs.checkpoints import Checkpoints
from arsenal.search.engines.processes import Processes


def trial(given: dict[str, Any]) -> None:
    """One trial, in a process of Ray's: train to the end, and report every evaluation of the validation rows.

    What goes wrong is reported like a result, so that its traceback comes home.
    """
    from ray import tune

    step = length = 0

    def report(**said: Any) -> None:
        tune.report({"step": said["step"], "said": json.dumps(said)})  # Ray would take nested values apart

    try:
        os.chdir(given["directory"])
        os.environ.update(given["environment"])  # before there is a device
        if not given["gpus"]:
            jax.config.update("jax_platforms", "cpu")
        config = configs.compose_words(given["words"])
        if given["source"]:
            adopt_checkpoint(config, Path(given["source"]))

        def listen(kind: str, at: int, values: dict[str, Any]) -> None:
            nonlocal step, length
            step, length = at, values["length"] if kind == "start" else length
            if kind in ("train", "validation"):
                report(kind=kind, step=at, values=values, last=at >= length)

        run = fit(config, listener=listen)
        last = [event for event in run.history if event["kind"] == "validation"]
        report(kind="complete", step=run.step, values=last[-1]["values"] if last else {})
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        report(kind="failed", step=step, reason=said, trace=traceback.format_exc())


def adopt_checkpoint(config: Config, source: Path) -> None:
    """Begin a run with the newest state of another one, under its own key and floats; once."""
    settings = config.settings
    path = Path(settings.run.root) / settings.name / folder.identity(mathematics(config, build(config).data))
    if (path / "identity.json").exists():
        return
    found = load(source)
    train, learner = found.restored["train"], configs.instantiate(settings.learner, "learner")
    train = train._replace(key=jax.random.key(settings.seed), hp=hyperparameters(as_learner(learner).hp))
    with contextlib.closing(Checkpoints(path / "checkpoints")) as saved:
        saved.save(int(train.step), {"train": train, "features": found.restored["features"]})


def run_trials(engine: Processes, trials: int) -> None:
    """Hand so many trials of an engine to Ray, until all have ended or the engine stops."""
    os.environ |= {
        "RAY_CHDIR_TO_TRIAL_DIR": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "RAY_AIR_NEW_OUTPUT": "0", "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    }  # fmt: skip
    from ray import tune

    from arsenal.search.engines.ray_faces import Deciding, Stopping, Suggesting

    place = (engine.sweep.path / "ray").absolute()
    warnings.filterwarnings("ignore", "os.fork")  # a child of Ray's becomes another program at once
    with connect(engine.config.settings.ray.address) as cluster:
        engine.check_room(cluster.cluster_resources())
        tuner = tune.Tuner(
            tune.with_resources(trial, {"cpu": engine.section.cpus, "gpu": engine.gpus}),
            tune_config=tune.TuneConfig(
                metric="step", mode="max", num_samples=trials, search_alg=Suggesting(engine), scheduler=Deciding(engine)
            ),
            run_config=tune.RunConfig(
                name="tune", storage_path=str(place), verbose=0, callbacks=[], stop=Stopping(engine),
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        )  # fmt: skip
        try:
            tuner.fit()
        finally:
            shutil.rmtree(place, ignore_errors=True)
