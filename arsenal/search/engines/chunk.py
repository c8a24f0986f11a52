"""A chunk of lanes while it trains: what the driver calls to log, judge, save and drop them.

Lanes that end early are dropped when that halves their number, so there are few programs; the rest go on.
"""

import contextlib
import shutil
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.random import fold_in

from arsenal.data import ahead
from arsenal.experiment import fill_modes
from arsenal.records import STOP, Mean, compute
from arsenal.road import transfer_around
from arsenal.runs.checkpoints import MARKER, Checkpoints, Keep
from arsenal.runs.folder import RunError
from arsenal.runs.judge import Judge
from arsenal.runs.signals import Interrupted, Interrupts
from arsenal.search.decisions import Decisions
from arsenal.search.engines.compiler import COMPILING, compile_advance, compile_exchange, compile_start, lane_shapes, start_inputs
from arsenal.search.engines.groups import Group
from arsenal.search.engines.progress import Progress
from arsenal.search.searching import clip_to_bounds
from arsenal.search.sweep import ENDED, SweepError
from arsenal.storage.files import read_json
from arsenal.training import lanes
from arsenal.training.driver import TrainState, are_finite, drive, streams
from arsenal.training.length import Length
from arsenal.training.stopping import is_exhausted

EMPTY = -1
"""The trial of a lane that has none."""


class Chunk:
    """Trials on their way, `trials[i]` in lane i or `EMPTY`."""

    def __init__(
        self, number: int, group: Group, decisions: Decisions, progress: Progress, interrupted: Interrupts, origin: Any = None
    ):  # fmt: skip
        """Number `number` of the sweep's chunks; `origin` are parameters that every trial begins with."""
        self.group, self.decisions, self.sweep, self.progress = group, decisions, decisions.sweep, progress
        self.interrupted, self.origin, self.place = interrupted, origin, self.sweep.path / "chunks" / str(number)
        self.all, size = list(self.sweep.chunks[number]["trials"]), self.sweep.chunks[number]["lanes"]
        self.trials = [*self.all, *[EMPTY] * (size - len(self.all))]
        self.settings = settings = fill_modes(group.program.config, group.experiment.modes).settings
        self.stopping = Judge.of(settings.early_stopping)
        self.every = {name: Length.parse(text) for name, text in settings.every}
        self.stop = Length.parse(settings.length).steps(group.source)
        self.judged: dict[int, list[float | None]] = {i: [] for i in self.all}
        self.last: dict[int, float] = {}
        self.moves: dict[int, int] = {}
        """Trials that go on from another one, before the next step."""
        self.saved_step, self.saved_at = 0, time.monotonic()
        self.postponed = False
        """Whether a checkpoint was due before lanes were moved."""

    @property
    def alive(self) -> list[int]:
        """The lanes whose trial goes on."""
        return [at for at, i in enumerate(self.trials) if i != EMPTY and self.sweep.trials[i].state not in ENDED]

    def run(self) -> None:
        """Train to the end, from the newest checkpoint where there is one."""
        with contextlib.ExitStack() as stack:
            self.saved = stack.enter_context(contextlib.closing(Checkpoints(self.place, Keep(last=1))))
            train = self.restore()
            if train is None:
                if any(self.has_begun(i) for i in self.all):
                    self.sweep.resume_trials(self.all, -1)
                train = self.begin()
            source = stack.enter_context(ahead(self.group.source, self.stop))
            self.saved_step = int(train.step)
            while self.goes_on(int(train.step)):
                if self.interrupted():
                    self.save(int(train.step), train, now=True)
                    self.saved.wait()
                    raise Interrupted(self.interrupted(), self.sweep.path, int(train.step))
                train = self.drive_lanes(self.exchange(self.pack(train)), source)
            self.complete(self.alive, train)
            self.sweep.forget()
        shutil.rmtree(self.place, ignore_errors=True)

    def begin(self) -> TrainState:
        """The state of the lanes before the first step; those beyond the trials repeat the last one."""
        values = [self.sweep.trials[i].values for i in self.all]
        values += [values[-1]] * (len(self.trials) - len(values))
        with self.interrupted.at_once(lambda: COMPILING):
            train = compile_start(self.group, len(values))(*start_inputs(self.group, values))
        learner = self.group.experiment.parts.learner
        if self.origin is None or learner.adopt is None:
            return train
        like = learner.params(lanes.lane(train, 0).state)
        given = transfer_around(self.origin, like, self.settings.init_map or {}, self.settings.init_allow)
        adopt = jax.jit(jax.vmap(learner.adopt, (0, None, 0)))
        return train._replace(state=adopt(train.state, given.params, train.hp))

    def goes_on(self, step: int) -> bool:
        """Whether there is more to do."""
        return bool(self.alive) and (step < self.stop or self.misses_evaluation(step))

    def misses_evaluation(self, step: int) -> bool:
        """Whether the evaluation that is due at a step was not made, since it was interrupted."""
        due = step > 0 and (step % self.every["evaluate"].steps(self.group.source) == 0 or step == self.stop)
        mine = set(self.all)
        lines = (line for line in reversed(self.sweep.lines) if line.kind == "validation" and line.step == step)
        return due and not any(mine.intersection(line.trials) for line in lines)

    def has_begun(self, i: int) -> bool:
        """Whether a trial has said anything yet."""
        return self.sweep.trials[i].state in ENDED or any(i in line.trials for line in self.sweep.lines)

    def drive_lanes(self, train: TrainState, source: Any) -> TrainState:
        """On until the end, or until lanes are to be moved."""
        timed = self.every["save"].unit == "seconds"
        return drive(
            compile_advance(self.group, len(self.trials)), source, train, self.stop,
            log=self.log, log_every=self.every["log"].steps(source),
            evaluate=self.evaluate, evaluate_every=self.every["evaluate"].steps(source),
            evaluate_first=self.misses_evaluation(int(train.step)),
            save=self.save, save_every=None if timed else self.every["save"].steps(source), save_due=self.save_due,
            failed=self.drop_diverged, interrupted=lambda: bool(self.interrupted()),
        )  # fmt: skip

    def log(self, step: int, means: dict[str, Mean]) -> None:
        """What the lanes that go on reported since the last log."""
        alive = self.alive
        with np.errstate(divide="ignore", invalid="ignore"):
            values = {name: np.asarray(value)[alive].tolist() for name, value in compute(jax.device_get(means)).items()}
        self.sweep.log_values("train", step, [self.trials[at] for at in alive], values)
        self.progress.tell_pace(step, self.stop, len(alive))

    def drop_diverged(self, wrong: np.ndarray, means: dict[str, Mean], train: TrainState, block: Any) -> None:
        """Lanes that diverged end here, and only they."""
        for at in self.alive:
            if wrong[at] >= 0:
                sums = {name: Mean(mean.total[at], mean.weight[at]) for name, mean in means.items()}
                names = ", ".join(f"`{name}`" for name, sound in are_finite(sums).items() if not sound)
                reason = f"Training diverged: {names} is not finite at step {wrong[at]}."
                self.sweep.fail_trial(self.trials[at], int(wrong[at]), reason)

    def evaluate(self, step: int, train: TrainState) -> bool:
        """Judge all lanes; whether some are to be moved before it goes on."""
        sweep, section = self.sweep, self.settings.early_stopping
        keys = jax.vmap(lambda key: fold_in(streams(key)["evaluate"], step))(train.key)
        values = self.group.judge(keys, jax.vmap(self.group.experiment.parts.learner.params)(train.state), train.hp)
        if values is None:
            return False
        alive = self.alive
        trials = [self.trials[at] for at in alive]
        told = {name: np.asarray(value)[alive].tolist() for name, value in values.items()}
        sweep.log_values("validation", step, trials, told)
        found = self.remember(trials, told)
        sound = self.decisions.judge_trials(step, found)
        decisions = self.decisions.decide_together(step, self.all, found)
        for at, i in zip(alive, trials, strict=True):
            if i not in sound or step >= self.stop:
                continue
            if section.patience and is_exhausted(self.judged[i], section.patience, section.min_delta, self.stopping.mode):
                self.complete([at], train)
            elif decisions[i] == STOP:
                sweep.end_trial(i, "stopped", step, sound[i])
        self.progress.tell(step, self.stop, sound)
        self.moves = {i: decisions[i] for i in sound if decisions[i] >= 0 and step < self.stop}
        return bool(self.moves) or not self.alive or self.count_lanes() < len(self.trials)

    def count_lanes(self) -> int:
        """How many lanes are needed: halves of what there is, as long as the trials that go on find room."""
        size, devices = len(self.trials), self.group.mesh.size if self.group.mesh else 1
        while size % (2 * devices) == 0 and size // 2 >= max(devices, len(self.alive)):
            size //= 2
        return size

    def pack(self, train: TrainState) -> TrainState:
        """The lanes that go on, side by side, where that takes half as many."""
        size, alive = self.count_lanes(), self.alive
        if size == len(self.trials) or not alive:
            return train
        self.trials = [*(self.trials[at] for at in alive), *[EMPTY] * (size - len(alive))]
        return lanes.take_lanes(train, [*alive, *[alive[-1]] * (size - len(alive))], self.group.mesh)

    def exchange(self, train: TrainState) -> TrainState:
        """The lanes of a population after those that do badly went on from those that do well."""
        moves, self.moves = self.moves, {}
        if not moves:
            return train
        place = {i: at for at, i in enumerate(self.trials) if i != EMPTY}
        if not moves.keys() | set(moves.values()) <= place.keys():
            raise SweepError("Members of this population would go on from some in other programs; sweep.engine=ray takes them.")
        searching, step = self.decisions.searching, int(train.step)
        source = np.arange(len(self.trials), dtype=np.int32)
        for i, other in moves.items():
            source[place[i]] = place[other]
        moved = np.isin(np.arange(len(self.trials)), [place[i] for i in moves])
        run = compile_exchange(self.group, len(self.trials), searching.space)
        train, found = run(train, source, moved, fold_in(searching.key, step))
        found = clip_to_bounds(searching.space, jax.device_get(found))
        for i, other in moves.items():
            self.sweep.change_trial(i, step, {name: float(values[place[i]]) for name, values in found.items()}, other)
        if self.postponed:
            self.save(step, train, now=True)
        return train

    def complete(self, at: Sequence[int], train: TrainState) -> None:
        """Trials that are trained to their end; the states of those among the best are kept first."""
        sweep, step = self.sweep, int(train.step)
        there = [(sweep.sign(one.value), one.id, EMPTY) for one in sweep.best()]
        there += [(sweep.sign(self.last[self.trials[lane]]), self.trials[lane], lane) for lane in at]
        for _, i, lane in sorted(there)[: sweep.keep]:
            if lane != EMPTY:
                sweep.keep_state(i, lanes.lane(train, lane), self.group.fitted)
        for lane in at:
            i = self.trials[lane]
            sweep.end_trial(i, "complete", step, self.last[i])

    def save_due(self, step: int) -> bool:
        """Whether it is time to save."""
        every = self.every["save"]
        return every.unit == "seconds" and time.monotonic() - self.saved_at > every.amount

    def save(self, step: int, train: TrainState, now: bool = False) -> None:
        """A checkpoint of all lanes if one is due; none where lanes are to be moved first."""
        every = self.every["save"]
        due = self.save_due(step) or (every.unit != "seconds" and step % every.steps(self.group.source) == 0)
        self.postponed = bool(due and self.moves)
        if now or (due and not self.moves and step not in (self.saved_step, self.stop)):
            self.saved.save(step, {"train": train, "trials": np.array(self.trials, np.int32)})
            self.saved_step, self.saved_at = step, time.monotonic()

    def restore(self) -> TrainState | None:
        """The lanes as the newest sound checkpoint has them; what they said since is to be said again."""
        for path in self.saved.list_saved():
            try:
                size = int(read_json(path / MARKER)["leaves"]["['trials']"].partition("[")[2].rstrip("]"))
                like = {"train": lane_shapes(self.group, size), "trials": jax.ShapeDtypeStruct((size,), np.int32)}
                found = self.saved.restore(like, lambda text: None, which=int(path.name))
            except (RunError, ValueError, KeyError):
                found = None
            if found is not None:
                break
        else:
            return None
        self.sweep.resume_trials(self.all, int(found["train"].step))
        self.trials = np.asarray(found["trials"]).tolist()
        self.decisions.replay(self.all)
        for line in self.sweep.lines:
            if line.kind == "validation" and set(line.trials) <= set(self.all):
                self.remember(line.trials, line.values)
        return found["train"]

    def remember(self, trials: Sequence[int], values: dict[str, list]) -> dict[int, float | None]:
        """Remember what was measured of trials; the metric's value of each."""
        found = dict(zip(trials, self.decisions.judge.each(values), strict=True))
        self.last |= {i: value for i, value in found.items() if value is not None}
        if self.settings.early_stopping.patience:
            for i, value in zip(trials, self.stopping.each(values), strict=True):
                self.judged[i].append(value)
        return found
