"""What becomes of trials: who is suggested, whose value counts, who fails, stops or goes on, and who is promoted.

The engines train and ask here; nothing else of a sweep speaks to its sampler and its scheduler.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arsenal.config import Config, SweepSettings
from arsenal.records import CONTINUE
from arsenal.runs import folder
from arsenal.runs.judge import Judge
from arsenal.search.searching import Searching
from arsenal.search.sweep import Sweep, Trial


class Decisions:
    """Those of a sweep, with the states of its sampler and its scheduler, as they were saved last."""

    def __init__(self, sweep: Sweep, searching: Searching, section: SweepSettings):
        """`section` names the metric."""
        self.sweep, self.searching, self.section, self.judge = sweep, searching, section, Judge.of(section)
        begin = searching.search.init(searching.key), searching.scheduler.init() if searching.scheduler else ()
        self.state, self.scheduling, self.told, self.chunks = sweep.restore(*begin)

    def ask(self, number: int) -> tuple[list[int], dict[str, np.ndarray]]:
        """The ids and candidates that the sampler suggests: at most so many, none where there are no more."""
        ids, candidates, state = self.searching.search.ask(self.searching.key, self.state, number)
        self.state = state if len(ids) else self.state
        return [int(i) for i in ids], candidates

    def suggest(self, number: int) -> list[int]:
        """As `ask`, and they are trials of the sweep."""
        ids, candidates = self.ask(number)
        for at, i in enumerate(ids):
            self.sweep.add_trial(i, self.searching.space.values(candidates, at))
        return ids

    def tell(self, ids: Sequence[int]) -> None:
        """The sampler learns of trials that ended."""
        values = np.array([[self.sweep.sign(self.sweep.trials[i].value)] for i in ids])
        self.state = self.searching.search.tell(self.state, np.array(ids), values, np.isfinite(values[:, 0]))

    def save(self, told: int) -> None:
        """Keep the states; the sampler was told of so many trials."""
        self.sweep.save(self.state, self.scheduling, told, len(self.sweep.chunks))

    def judge_trials(self, step: int, values: Mapping[int, float | None]) -> dict[int, float]:
        """The trials whose metric is a number; the others fail."""
        for i, value in values.items():
            if value is None:
                self.sweep.fail_trial(i, step, f"The metric `{self.section.metric}` is not finite at step {step}.")
        return {i: value for i, value in values.items() if value is not None}

    def report(self, step: int, values: Iterable[tuple[int, float | None]]) -> dict[int, int]:
        """The scheduler's decision after each of these values: CONTINUE, STOP or the trial to go on from."""
        found, scheduler = {}, self.searching.scheduler
        for i, value in values:
            decision = CONTINUE
            if scheduler:
                self.scheduling, decision = scheduler.report(self.scheduling, i, step, self.sweep.sign(value))
            found[i] = int(decision)
        return found

    def decide_one(self, step: int, id: int, value: float | None) -> int:
        """What becomes of a trial that runs on its own, after an evaluation."""
        gone = [one.id for one in self.sweep.trials.values() if one.state == "failed"]  # nobody is to wait for these
        self.report(step, ((i, None) for i in gone))
        return self.report(step, [(id, value)])[id]

    def decide_together(self, step: int, trials: Sequence[int], values: dict[int, float | None]) -> dict[int, int]:
        """What becomes of those of the trials that came to an evaluation at once.

        Of those that failed the scheduler hears NaN. It is asked twice, and the second answer counts: only once all have
        reported may a rung be decided. A clone is told once, so that answer stands.
        """
        known = self.sweep.trials
        gone = {i: None for i in trials if i not in values and known[i].state == "failed" and known[i].step <= step}
        reports = sorted((values | gone).items())
        first, second = self.report(step, reports), self.report(step, reports)
        return {i: first[i] if first[i] >= 0 else second[i] for i in values}

    def replay(self, trials: Sequence[int]) -> None:
        """What trials that train together said so far, once more to the scheduler."""
        for line in self.sweep.lines if self.searching.scheduler else ():
            if line.kind == "validation" and set(line.trials) <= set(trials):
                found = zip(line.trials, self.judge.each(line.values), strict=True)
                self.decide_together(line.step, trials, dict(found))


def promote(trial: Trial, config: Config, mathematics: dict[str, Any], fill: Callable[[Path], None]) -> Path:
    """The run folder that a trial's command would have, which `fill` writes; one that is there and complete stays."""
    if trial.changes:  # no single run trains like this: it must not be taken for one
        mathematics = mathematics | {"changes": [[step, given] for step, given in trial.changes]}
    settings = config.settings
    sources = folder.fingerprints([package.split(".")[0] for package in settings.trusted])
    with folder.claim(Path(settings.run.root), settings.name, mathematics, sources, False) as path:
        status = folder.read_status(path)
        if status.get("state") != "complete" or status.get("step", 0) < trial.step:
            fill(path)
        return path
