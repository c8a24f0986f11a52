"""What Ray Tune asks for: a searcher, a scheduler and a stopper, each a thin face of the engine's own."""

import json
from pathlib import Path
from typing import Any

from ray.tune import Stopper
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from arsenal.launchers.cluster import print_lines
from arsenal.records import CONTINUE, STOP
from arsenal.search.engines.processes import Processes


class Face:
    """What all of them have: Ray writes copies of them to its own folder, which nobody reads and which hold nothing."""

    engine: Processes

    def __getstate__(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def __deepcopy__(self, memo: Any) -> Any:
        """Itself."""
        return self


class Suggesting(Face, Searcher):
    """A `Search` as Ray asks it."""

    def __init__(self, engine: Processes):
        """Of this engine's sweep."""
        super().__init__(metric="step", mode="max")
        self.engine, self.ids = engine, {}

    def suggest(self, trial_id: str) -> Any:
        """What the next trial is told."""
        found = self.engine.suggest()
        if found is None:
            return Searcher.FINISHED
        self.ids[trial_id] = found.id
        # A member of a population goes on with the values that it had last, in the folder that it had.
        return self.engine.trial_settings(found)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """A trial that ended, however it did."""
        self.engine.tell(self.ids[trial_id])

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the sweep's own log is what counts."""


class Deciding(Face, FIFOScheduler):
    """A `Scheduler` as Ray asks it."""

    def __init__(self, engine: Processes):
        """Of this engine's sweep."""
        super().__init__()
        self.engine, self.held, self.passed = engine, {}, 0

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A trial whose process died; this comes before the searcher hears of its end."""
        said = Path(trial.error_file).read_text() if trial.error_file and Path(trial.error_file).is_file() else ""
        self.engine.lose_trial(trial.config["trial"], said.partition("\n")[2] or "The process ended without a word.")
        self.release(tune_controller)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        """Go on, stop, or go on from another one."""
        id, said = trial.config["trial"], json.loads(result["said"])
        decision = self.engine.decide(id, said)
        if decision == STOP:
            self.release(tune_controller)
            return FIFOScheduler.STOP
        if not self.engine.population or said["kind"] != "validation" or said["last"]:
            return FIFOScheduler.CONTINUE
        if said["step"] > self.passed:
            # Its process waits, since Ray does not ask it to go on.
            self.held[id] = (trial, said["step"], decision)
            self.release(tune_controller, trial)
            return FIFOScheduler.NOOP if id in self.held or trial.status != "RUNNING" else FIFOScheduler.CONTINUE
        return FIFOScheduler.CONTINUE

    def release(self, controller: Any, current: Any = None) -> None:
        """Once all members of a population have come to a round, each goes on, or goes on from another one."""
        if not self.held or not self.engine.living_members() <= self.held.keys():
            return
        waiting, self.held = self.held, {}
        self.passed = max(step for _, step, _ in waiting.values())
        for id, (trial, step, decision) in sorted(waiting.items(), key=lambda one: one[0]):
            source = self.engine.decide_again(id, step) if decision == CONTINUE else decision
            told = None if source in (CONTINUE, STOP) else self.engine.clone(id, source, step)
            if told is not None:
                controller.pause_trial(trial, should_checkpoint=False)
                trial.set_config(told)
            elif trial is not current:
                controller._schedule_trial_train(trial)


class Stopping(Face, Stopper):
    """A signal as Ray asks for it."""

    def __init__(self, engine: Processes):
        """Of this engine's process."""
        self.engine = engine

    def __call__(self, trial_id: str, result: dict) -> bool:
        """No trial by itself."""
        return False

    def stop_all(self) -> bool:
        """Whether a signal came, or a failure that ends the sweep."""
        ends = bool(self.engine.interrupted()) or self.engine.ending is not None
        if ends:
            print_lines(False)
        return ends
