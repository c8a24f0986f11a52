"""Trials as processes: each is `road.fit`, which resumes by itself from its run folder.

What runs the processes is given; it asks here which trial is next and what its process is told, and says what that reports.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from arsenal import config as configs
from arsenal.config import Config
from arsenal.experiment import build, mathematics
from arsenal.records import CONTINUE, STOP
from arsenal.road import inherited_params
from arsenal.runs import folder
from arsenal.runs.signals import Interrupted, Interrupts
from arsenal.search.decisions import Decisions, promote
from arsenal.search.engines.programs import Programs
from arsenal.search.schedulers.population import explore
from arsenal.search.searching import Searching, clip_to_bounds
from arsenal.search.sweep import ENDED, Sweep, SweepError, Trial

PASSED_ON = ("XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_X64", "PYTHONPATH")
"""Of this process's environment, what trials have too: the compile cache is shared."""


class Processes:
    """The engine that runs the trials of a sweep as processes."""

    def __init__(
        self, sweep: Sweep, config: Config, programs: Programs, searching: Searching, interrupted: Interrupts,
        say: Callable[[str], None], run_trials: Callable[["Processes", int], None],
    ):  # fmt: skip
        """`say` hears how it goes; `run_trials` runs so many trials of this engine."""
        self.sweep, self.config, self.programs, self.searching = sweep, config, programs, searching
        self.interrupted, self.say, self.run_trials = interrupted, say, run_trials
        self.section, self.gpus = config.settings.sweep, 0.0
        self.population = bool(searching.scheduler and searching.scheduler.clones)
        self.decisions = Decisions(sweep, searching, self.section)
        self.ending: SweepError | None = None
        """What ends the sweep."""

    def run(self) -> None:
        """Run what is left of the sweep."""
        sweep, decisions = self.sweep, self.decisions
        for _ in range(len(sweep.trials) - decisions.told):  # suggested before their state could be saved
            decisions.ask(1)
        ended = [one.id for one in sweep.trials.values() if one.state in ENDED]
        for i in ended:
            decisions.tell([i])
        self.waiting = [one.id for one in sweep.trials.values() if one.state not in ENDED]
        if (left := self.section.trials - len(ended)) > 0:
            self.run_trials(self, left)
        if self.ending:
            raise self.ending
        if self.interrupted() and any(one.state not in ENDED for one in sweep.trials.values()):
            raise Interrupted(self.interrupted(), sweep.path, max((one.step for one in sweep.trials.values()), default=0))

    def check_room(self, there: dict[str, float]) -> None:
        """See that a trial fits the cluster, and all of them at once where they are a population."""
        self.gpus = min(1.0, there.get("GPU", 0.0)) if self.section.gpus is None else self.section.gpus
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
        ids = self.decisions.suggest(1)
        if not ids:
            return None
        self.decisions.save(len(self.sweep.trials))
        return self.sweep.trials[ids[0]]

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

    def decide(self, id: int, result: dict[str, Any]) -> int:
        """A report of a trial: CONTINUE, STOP or the trial to go on from."""
        kind, step, sweep, decisions = result["kind"], result["step"], self.sweep, self.decisions
        if sweep.trials[id].state in ENDED:
            return STOP
        if kind == "failed":
            with self.hold_back():
                sweep.fail_trial(id, step, result["reason"], result["trace"])
            return STOP
        value = decisions.judge.value(result["values"]) if kind != "train" else None
        if kind == "complete":
            with self.hold_back():
                for sound in decisions.judge_trials(step, {id: value}).values():
                    sweep.end_trial(id, "complete", step, sound)
                    self.say(f"trial {id} is complete: {self.section.metric} {sound:.4g} at step {step}")
            self.forget()
            return STOP
        if not any(line.kind == kind and line.step == step and line.trials == [id] for line in sweep.lines[-64:]):
            sweep.log_values(kind, step, [id], {name: [number] for name, number in result["values"].items()})
        if value is None:
            return CONTINUE
        decision = decisions.decide_one(step, id, value)
        if decision == STOP:
            sweep.end_trial(id, "stopped", step, value)
            self.forget()
        return decision

    def decide_again(self, id: int, step: int) -> int:
        """What becomes of a member of a population, of whom the scheduler had a report, once all have reported."""
        line = next(line for line in reversed(self.sweep.lines) if line.kind == "validation" and line.trials == [id])
        return self.decisions.decide_one(step, id, self.decisions.judge.each(line.values)[0])

    def living_members(self) -> set[int]:
        """Members of the population that train, or will."""
        ended = {one.id for one in self.sweep.trials.values() if one.state in ENDED}
        return set(range(self.section.trials)) - ended

    @contextlib.contextmanager
    def hold_back(self) -> Iterator[None]:
        """What ends the sweep is raised once the runner has let go."""
        try:
            yield
        except SweepError as error:
            self.ending = error

    def lose_trial(self, id: int, reason: str) -> None:
        """A trial whose process died; not one that a signal ended with the sweep."""
        if self.sweep.trials[id].state not in ENDED and not self.interrupted():
            steps = [line.step for line in self.sweep.lines if id in line.trials]
            with self.hold_back():
                self.sweep.fail_trial(id, max(steps, default=0), " ".join(reason.split())[:400], reason)

    def tell(self, id: int) -> None:
        """The sampler learns of a trial whose process ended, if that was its end."""
        if self.sweep.trials[id].state in ENDED:
            self.decisions.tell([id])
            self.decisions.save(len(self.sweep.trials))

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
        """Make the folder of a trial the run folder that its command would have."""
        found = self.folder(trial.id)
        if found is None:  # promoted before
            name = folder.identity(mathematics(config, build(config).data, inherited_params(config)))
            return Path(config.settings.run.root) / config.settings.name / name

        def fill(path: Path) -> None:
            for item in found.iterdir():
                if item.name not in (".lock", "identity.json"):
                    shutil.rmtree(path / item.name, ignore_errors=True)
                    (shutil.copytree if item.is_dir() else shutil.copy2)(item, path / item.name)
            trained = configs.read_config(found).values  # the modes of the metrics that judged the trial are filled in there
            judges = {"early_stopping": trained["early_stopping"]}
            judges["run"] = config.values["run"] | {"checkpoints": trained["run"]["checkpoints"]}
            own = config.replace(config.values | judges)
            folder.write_config(path, configs.as_yaml(own), own.overrides, folder.environment())

        return promote(trial, config, folder.read_mathematics(found), fill)
