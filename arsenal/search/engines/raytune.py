"""Trials as processes under Ray Tune: our samplers as a `Searcher`, our schedulers as a `TrialScheduler`, Ray as the runner.

A trial is `road.fit` in a process of its own, which resumes by itself from its run folder. A sweep is resumed from its own log,
not from Ray's: Ray is told of the trials that are left.
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
import numpy as np

from arsenal import config as configs
from arsenal.config import Config
from arsenal.experiment import as_learner, build, mathematics
from arsenal.launchers.cluster import connect
from arsenal.records import CONTINUE, STOP, hyperparameters
from arsenal.road import fit, inherited_params
from arsenal.run import load
from arsenal.runs import folder
from arsenal.runs.checkpoints import Checkpoints
from arsenal.runs.judge import Judge
from arsenal.runs.signals import Interrupted, Interrupts
from arsenal.search.engines.programs import Programs
from arsenal.search.schedulers.population import explore
from arsenal.search.searching import Searching, clip_to_bounds
from arsenal.search.sweep import ENDED, Sweep, SweepError, Trial

PASSED_ON = ("XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_X64", "PYTHONPATH")
"""Of this process's environment, what trials have too: the compile cache is shared."""


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


class Processes:
    """The engine that runs the trials of a sweep as processes under Ray."""

    def __init__(
        self, sweep: Sweep, config: Config, programs: Programs, searching: Searching, interrupted: Interrupts, say: Any
    ):  # fmt: skip
        """`say` hears how it goes."""
        self.sweep, self.config, self.programs, self.searching = sweep, config, programs, searching
        self.interrupted, self.say = interrupted, say
        self.section, self.gpus = config.settings.sweep, 0.0
        self.population = bool(searching.scheduler and searching.scheduler.clones)
        self.ending: SweepError | None = None
        """What ends the sweep."""

    def run(self) -> None:
        """Run what is left of the sweep."""
        sweep, (_, search, scheduler, key) = self.sweep, self.searching
        state, self.scheduling, asked, _ = sweep.restore(search.init(key), scheduler.init() if scheduler else ())
        for _ in range(len(sweep.trials) - asked):  # suggested before their state could be saved
            _, _, state = search.ask(key, state, 1)
        ended = [one for one in sweep.trials.values() if one.state in ENDED]
        self.state = state
        for one in ended:
            self.tell(one)
        self.waiting = [one.id for one in sweep.trials.values() if one.state not in ENDED]
        left = self.section.trials - len(ended)
        if left > 0:
            self.tune(left)
        if self.ending:
            raise self.ending
        if self.interrupted() and any(one.state not in ENDED for one in sweep.trials.values()):
            raise Interrupted(self.interrupted(), sweep.path, max((one.step for one in sweep.trials.values()), default=0))

    def tune(self, trials: int) -> None:
        """Hand so many trials to Ray."""
        os.environ |= {
            "RAY_CHDIR_TO_TRIAL_DIR": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_DISABLE_SIGINT_HANDLER": "1",
            "RAY_AIR_NEW_OUTPUT": "0", "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        }  # fmt: skip
        from ray import tune

        from arsenal.search.engines.ray_faces import Deciding, Stopping, Suggesting

        place = (self.sweep.path / "ray").absolute()
        warnings.filterwarnings("ignore", "os.fork")  # a child of Ray's becomes another program at once
        with connect(self.config.settings.ray.address) as cluster:
            there = cluster.cluster_resources()
            self.gpus = min(1.0, there.get("GPU", 0.0)) if self.section.gpus is None else self.section.gpus
            self.check_room(there)
            resources = {"cpu": self.section.cpus, "gpu": self.gpus}
            tuner = tune.Tuner(
                tune.with_resources(trial, resources),
                tune_config=tune.TuneConfig(
                    metric="step", mode="max", num_samples=trials, search_alg=Suggesting(self), scheduler=Deciding(self)
                ),
                run_config=tune.RunConfig(
                    name="tune", storage_path=str(place), verbose=0, callbacks=[], stop=Stopping(self),
                    failure_config=tune.FailureConfig(max_failures=0),
                ),
            )  # fmt: skip
            try:
                tuner.fit()
            finally:
                shutil.rmtree(place, ignore_errors=True)

    def check_room(self, there: dict[str, float]) -> None:
        """See that a trial fits the cluster, and all of them at once where they are a population."""
        many = self.section.trials if self.population else 1
        for what, each in (("CPU", self.section.cpus), ("GPU", self.gpus)):
            if each * many > there.get(what, 0) + 1e-9:
                who = f"A population of {many} trials, which train at once," if self.population else "A trial"
                key, has = f"sweep.{what.lower()}s", there.get(what, 0)
                raise SweepError(f"{who} takes {each * many:g} {what}s and the cluster has {has:g}; `{key}` is {each:g}.")

    def suggest(self) -> Trial | None:
        """The next trial: one that was begun before, or a new one; None where there is no more."""
        if self.waiting:
            return self.sweep.trials[self.waiting.pop(0)]
        ids, candidates, state = self.searching.search.ask(self.searching.key, self.state, 1)
        if not len(ids):
            return None
        i = int(ids[0])
        self.sweep.add_trial(i, self.searching.space.values(candidates, 0))
        self.state = state
        self.save()
        return self.sweep.trials[i]

    def trial_settings(self, trial: Trial, source: Path | None = None) -> dict[str, Any]:
        """What a trial's process is told."""
        values = trial.now
        section, generation = self.section, len(trial.changes)
        root = (self.sweep.path / "runs" / str(trial.id) / str(generation)).absolute()
        words = [word for name, value in values.items() for word in configs.override_words(name, value)]
        quiet = [f"run.root={root}", "run.progress=false", "run.tensorboard=false", "fresh=false"]
        quiet += ["parallel=jit"] if self.gpus <= 1 else []
        if self.searching.scheduler is not None:  # what is cloned must be there
            quiet.append(configs.override_word("every.save", self.config.settings.every.evaluate))
        threads = str(max(1, int(section.cpus)))
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment |= dict.fromkeys(("NPROC", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        if 0 < self.gpus < 1:
            environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 * self.gpus:.3f}"
        return {
            "trial": trial.id, "words": [*self.programs.words, *words, *quiet], "environment": environment,
            "directory": os.getcwd(), "gpus": self.gpus, "source": None if source is None else str(source),
        }  # fmt: skip

    def metric_value(self, values: dict[str, Any]) -> float | None:
        """The metric's value, of a learner with members their mean; None where it is not a number."""
        return Judge.of(self.section).value(values)

    def decide(self, id: int, result: dict[str, Any]) -> int:
        """A report of a trial: CONTINUE, STOP or the trial to go on from."""
        kind, step, sweep = result["kind"], result["step"], self.sweep
        if sweep.trials[id].state in ENDED:
            return STOP
        if kind == "failed":
            self.fail_trial(id, step, result["reason"], result["trace"])
            return STOP
        value = self.metric_value(result["values"]) if kind != "train" else None
        if kind == "complete":
            if value is None:
                self.fail_trial(id, step, f"The metric `{self.section.metric}` is not finite at step {step}.")
            else:
                sweep.end_trial(id, "complete", step, value)
                self.say(f"trial {id} is complete: {self.section.metric} {value:.4g} at step {step}")
            self.forget()
            return STOP
        if not any(line.kind == kind and line.step == step and line.trials == [id] for line in sweep.lines[-64:]):
            sweep.log_values(kind, step, [id], {name: [number] for name, number in result["values"].items()})
        scheduler = self.searching.scheduler
        if scheduler is None or kind == "train" or value is None:
            return CONTINUE
        decision = self.ask_scheduler(id, step, sweep.sign(value))
        if decision == STOP:
            sweep.end_trial(id, "stopped", step, value)
            self.forget()
        return decision

    def ask_scheduler(self, id: int, step: int, value: float | None = None) -> int:
        """What the scheduler says of a report, also of one that it had before."""
        scheduler, sweep = self.searching.scheduler, self.sweep
        assert scheduler is not None
        if value is None:
            line = next(line for line in reversed(sweep.lines) if line.kind == "validation" and line.trials == [id])
            value = sweep.sign(self.metric_value({name: numbers[0] for name, numbers in line.values.items()}))
        for gone in (one.id for one in sweep.trials.values() if one.state == "failed"):  # nobody is to wait for these
            self.scheduling, _ = scheduler.report(self.scheduling, gone, step, np.nan)
        self.scheduling, decision = scheduler.report(self.scheduling, id, step, value)
        return int(decision)

    def living_members(self) -> set[int]:
        """Members of the population that train, or will."""
        ended = {one.id for one in self.sweep.trials.values() if one.state in ENDED}
        return set(range(self.section.trials)) - ended

    def fail_trial(self, id: int, step: int, reason: str, trace: str = "") -> None:
        """A trial that went wrong; what ends the sweep is raised once Ray has let go."""
        try:
            self.sweep.fail_trial(id, step, reason, trace)
        except SweepError as error:
            self.ending = error

    def lose_trial(self, id: int, reason: str) -> None:
        """A trial whose process died; not one that a signal ended with the sweep."""
        if self.sweep.trials[id].state not in ENDED and not self.interrupted():
            steps = [line.step for line in self.sweep.lines if id in line.trials]
            self.fail_trial(id, max(steps, default=0), " ".join(reason.split())[:400], reason)

    def tell(self, trial: Trial) -> None:
        """The sampler learns of a trial that ended."""
        value = self.sweep.sign(trial.value)
        told = np.array([trial.id]), np.array([[value]]), np.array([np.isfinite(value)])
        self.state = self.searching.search.tell(self.state, *told)

    def save(self) -> None:
        """Keep the states."""
        self.sweep.save(self.state, self.scheduling, len(self.sweep.trials), 0)

    def clone(self, id: int, source: int, step: int) -> dict[str, Any] | None:
        """What a trial is told that goes on from another one, with values near that one's; None where that has nothing yet."""
        sweep, space = self.sweep, self.searching.space
        path = self.folder(source)
        if path is None or not list(path.glob("checkpoints/*/commit.json")):
            return None
        values = sweep.trials[source].now
        key = jax.random.fold_in(jax.random.fold_in(self.searching.key, id), len(sweep.trials[id].changes))
        values = space.values(clip_to_bounds(space, explore(key, space, space.candidate(values))), 0)
        values |= {name: value for name, value in sweep.trials[id].values.items() if name == "seed"}
        sweep.change_trial(id, step, values, source)
        return self.trial_settings(sweep.trials[id], path)

    def folder(self, id: int) -> Path | None:
        """The newest run folder of a trial."""
        found = sorted((self.sweep.path / "runs" / str(id)).glob("*/*/*/identity.json"), key=lambda path: int(path.parts[-4]))
        return found[-1].parent if found else None

    def forget(self) -> None:
        """Drop the folders of trials that ended and are not among the best."""
        kept = {one.id for one in self.sweep.best()}
        population = any(one.changes for one in self.sweep.trials.values())  # others may yet go on from any
        for one in () if population else self.sweep.trials.values():
            if one.state in ENDED and one.id not in kept:
                shutil.rmtree(self.sweep.path / "runs" / str(one.id), ignore_errors=True)

    def promote(self, trial: Trial, config: Config) -> Path:
        """Make the folder of a trial the run folder that its command would have; one that is there and complete stays."""
        found = self.folder(trial.id)
        root, name = Path(config.settings.run.root), config.settings.name
        if found is None:  # promoted before
            return root / name / folder.identity(mathematics(config, build(config).data, inherited_params(config)))
        about = folder.read_mathematics(found)
        if trial.changes:
            about = about | {"changes": [[step, values] for step, values in trial.changes]}
        sources = folder.fingerprints([package.split(".")[0] for package in config.settings.trusted])
        with folder.claim(root, name, about, sources, False) as path:
            if folder.read_status(path).get("state") == "complete" and folder.read_status(path).get("step", 0) >= trial.step:
                return path
            for item in found.iterdir():
                if item.name not in (".lock", "identity.json"):
                    shutil.rmtree(path / item.name, ignore_errors=True)
                    (shutil.copytree if item.is_dir() else shutil.copy2)(item, path / item.name)
            trained = configs.read_config(found).values  # the modes of the metrics that judged the trial are filled in there
            judges = {"early_stopping": trained["early_stopping"]}
            judges["run"] = config.values["run"] | {"checkpoints": trained["run"]["checkpoints"]}
            config = config.replace(config.values | judges)
            folder.write_config(path, configs.as_yaml(config), config.overrides, folder.environment())
            return path
