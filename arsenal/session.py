"""One run while it trains: what the driver calls to log, evaluate, sample, save, profile and fail, in the run's folder."""

import contextlib
import time
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.random import fold_in

from arsenal import config as configs
from arsenal.config import Config, Settings
from arsenal.optim import Schedule
from arsenal.records import Learner, Mean, Source, compute, hyperparameters
from arsenal.runs import events, folder, processes
from arsenal.runs.checkpoints import Checkpoints, Keep
from arsenal.runs.journal import Journal, Tracker
from arsenal.runs.judge import Judge, evaluations
from arsenal.runs.profile import Profiler
from arsenal.runs.signals import Interrupts
from arsenal.runs.tensorboard import tensorboard
from arsenal.training.driver import TrainState, advance, are_finite, drive, streams
from arsenal.training.length import Length
from arsenal.training.operations import operations_per_step, peak_rate
from arsenal.training.parallel import Strategy
from arsenal.training.replay import replay
from arsenal.training.stopping import is_exhausted

NOTHING = 0.01
"""A factor of the learning rate below which a run that goes on learns next to nothing."""
TEXTS = 2
"""Texts that are shown of what a run writes while it trains."""


def retention(settings: Settings, source: Source) -> Keep:
    """Which checkpoints the config keeps."""
    given = settings.run.checkpoints
    every = Length.parse(given.every) if given.every else None
    timed = every is not None and every.unit == "seconds"
    return Keep(
        last=given.last,
        every=every.steps(source) if every and not timed else None,
        seconds=every.amount if every and timed else None,
        best=given.best,
    )


def trackers(path: Path, step: int, config: Config) -> list[Tracker]:
    """Where the config writes a run down, from a step on."""
    own = {name: configs.instantiate(node, f"run.trackers.{name}") for name, node in config.settings.run.trackers.items()}
    boards = [tensorboard(path, step, config.values)] if config.settings.run.tensorboard else []
    return [events.events(path), *boards, *(factory(path, step, config.values) for factory in own.values())]


class Session:
    """The training of one run from a step on, in a folder that this process holds."""

    journal: Journal

    def __init__(
        self, path: Path, settings: Settings, learner: Learner, source: Source, fitted: Any,
        saved: Checkpoints, interrupted: Interrupts, step: int, stop: int, how: Strategy,
        judge: Callable[[jax.Array, Any, Any], dict[str, Any] | None] | None,
        sample: Callable[[Any], Any] | None = None,
        unchanged: Callable[[], None] = lambda: None,
    ):  # fmt: skip
        """From a step on to another, with what it judges and draws by.

        `judge(key, params, hp)` gives the validation rows' metrics, or None where it was interrupted; `sample(params)`
        `pictures` and `texts` to look at; `unchanged()` raises where the data is no longer what it was.
        """
        self.path, self.settings, self.learner, self.source, self.fitted = path, settings, learner, source, fitted
        self.saved, self.interrupted, self.judge, self.sample, self.unchanged = saved, interrupted, judge, sample, unchanged
        self.how = how
        self.every = {name: Length.parse(text) for name, text in settings.every}
        self.evaluate_every = self.every["evaluate"].steps(source) if judge else None
        self.save_every = None if self.every["save"].unit == "seconds" else self.every["save"].steps(source)
        self.step, self.stop = step, stop
        log = [event for event in events.read_events(path / "events.jsonl") if event["step"] <= step]
        self.history = evaluations(log, self.evaluate_every, stop)
        self.stopping, self.keeping = Judge.of(settings.early_stopping), Judge.of(settings.run.checkpoints)
        saved.best = lambda: self.keeping.best(self.history)
        self.logged: tuple[int, float] | None = None
        self.paused, self.saved_at, self.operations = 0.0, time.perf_counter(), None
        self.worth_saving = False
        kept = next((event["sums"] for event in reversed(log) if event["kind"] == "sums" and event["step"] == step), None)
        self.sums = kept and {name: Mean(*(jnp.asarray(part, dtype=float) for part in parts)) for name, parts in kept.items()}
        """What was summed between the last log and the checkpoint; None where they are at one step."""
        self.skipped = np.zeros(2)
        """Steps that were left out, and steps."""
        self.latest: dict[str, Any] = {}
        """What training measured last."""

    @property
    def is_exhausted(self) -> bool:
        """Whether early stopping ends the run here."""
        section = self.settings.early_stopping
        if not section.patience:
            return False
        values = [self.stopping.value(self.history[step]) for step in sorted(self.history)]
        return is_exhausted(values, section.patience, section.min_delta, self.stopping.mode)

    def is_due(self, step: int) -> bool:
        """Whether a run that goes on beyond a step is judged there."""
        return self.evaluate_every is not None and step % self.evaluate_every == 0

    def misses_evaluation(self, step: int) -> bool:
        """Whether the evaluation that is due at a step was never made: the run was interrupted before it."""
        due = self.evaluate_every is not None and step > 0 and (self.is_due(step) or step == self.stop)
        return due and step not in self.history

    def go(self, train: TrainState) -> TrainState:
        """Train to the end, or as far as signals, early stopping and the numbers allow."""
        run = advance(self.learner, self.source, keep_failing=self.settings.on_nan == "replay")
        profiler, window = Profiler(self.path / "profile"), None
        if (begin := self.settings.run.profile.start) is not None:
            profiler.check()
            window = (begin, begin + self.settings.run.profile.steps)
        self.saved_at = time.perf_counter()
        return drive(
            self.compile(run), self.source, train, self.stop,
            log=self.log, log_every=self.every["log"].steps(self.source),
            evaluate=self.evaluate, evaluate_every=self.evaluate_every, evaluate_first=self.misses_evaluation(self.step),
            sums=self.sums, keep_sums=self.keep_sums,
            save=self.save, save_every=self.save_every, save_due=self.save_due,
            window=window, enter=profiler.enter, leave=profiler.leave,
            failed=self.report_failure, interrupted=lambda: bool(self.interrupted()), agreed=processes.broadcast,
        )  # fmt: skip

    def compile(self, run: Callable) -> Callable:
        """The driver's program; SIGTERM ends the process while it compiles, when nothing is lost by that."""

        def first(train, block, stop):
            nonlocal call
            batch = jax.eval_shape(lambda train, block: self.source.at(train.key, block, train.step), train, block)
            self.operations = operations_per_step(self.learner, train.state, batch)
            with self.interrupted.at_once(lambda: self.last_words(self.step)):
                call = one_by_one if self.how.devices[0].platform == "cpu" and len(self.how.devices) > 1 else run
                return call(train, block, stop)

        def one_by_one(*given):
            # Devices that share the cores of one machine wait for each other for ever when two programs are under way.
            return jax.block_until_ready(run(*jax.block_until_ready(given)))

        call = first
        return lambda *given: call(*given)

    def log(self, step: int, means: dict[str, Mean]) -> None:
        """The means since the last log, and the pace: evaluations and saves are no part of it."""
        before, self.logged = self.logged, (step, time.perf_counter() - self.paused)
        if self.settings.on_nan == "skip":
            self.skipped += [np.mean(part) for part in jax.device_get(means["skipped"])]
        # The first interval holds the compilation, which is no pace.
        pace = self.pace((step - before[0]) / (self.logged[1] - before[1])) if before else {}
        with np.errstate(divide="ignore", invalid="ignore"):  # nothing counted is NaN
            self.latest = compute(jax.device_get(means))
            self.journal.measure("train", step, self.latest | pace)

    @property
    def remarks(self) -> list[tuple[str, str]]:
        """What to say at the end, each a warning or a note: steps left out, a fit that did not converge, early stopping."""
        found, (out, of) = [], self.skipped
        if out:
            said = f"`on_nan=skip` left out {out:,.0f} of {of:,.0f} steps ({out / of:.0%}), whose numbers were not finite."
            found.append(("warning", said))
        if self.latest.get("converged") == 0:
            steps = f" after {self.latest['iterations']:.0f} iterations" if "iterations" in self.latest else ""
            found.append(("warning", f"The fit had not converged{steps}: inputs of one scale, or another tolerance, may help."))
        if self.is_exhausted:
            patience, metric = self.settings.early_stopping.patience, self.settings.early_stopping.metric
            found.append(("note", f"Stopped early: {patience} evaluations without a better {metric} of the validation rows."))
        return found

    def pace(self, rate: float) -> dict[str, float]:
        """Steps a second in other words; MFU where the model has a formula and the device a peak."""
        found = {"steps_per_second": rate, "examples_per_second": rate * self.source.batch_size, "step_time": 1 / rate}
        devices = self.how.devices
        most = self.settings.run.peak_flops or peak_rate(devices[0].device_kind)
        return found | ({"mfu": rate * self.operations / (most * len(devices))} if self.operations and most else {})

    def evaluate(self, step: int, train: TrainState) -> bool:
        """Judge the validation rows; whether that was the last time. SIGTERM saves and ends the process meanwhile."""
        began = time.perf_counter()
        with self.interrupted.at_once(lambda: self.last_words(step, train)):
            params = self.learner.params(train.state)
            values = self.judge(fold_in(streams(train.key)["evaluate"], step), params, train.hp) if self.judge else None
            if values is None:
                return False
            drawn = self.sample(params) if self.sample else None
        values = {name: np.asarray(value).tolist() for name, value in values.items()}
        self.journal.measure("validation", step, values)
        self.history[step] = values
        if drawn and drawn.pictures:
            self.journal.say("images", step, **drawn.pictures)
        if drawn and drawn.texts:
            shown = {name: "\n\n".join(map("│".join, pairs[:TEXTS])) for name, pairs in drawn.texts.items()}
            self.journal.say("text", step, **shown)
        best = self.settings.run.checkpoints.best
        self.worth_saving = self.is_due(step) and step in self.keeping.best(self.history)[:best]
        self.paused += time.perf_counter() - began
        return self.is_exhausted

    def save_due(self, step: int) -> bool:
        """Whether it is time to save, or the last evaluation makes it worth it."""
        every = self.every["save"]
        return self.worth_saving or (every.unit == "seconds" and time.perf_counter() - self.saved_at > every.amount)

    def save(self, step: int, train: TrainState) -> None:
        """A checkpoint; writing goes on in the background."""
        began = time.perf_counter()
        self.unchanged()
        due = self.save_due(step) or (self.save_every is not None and step % self.save_every == 0)
        self.saved.save(step, {"train": train, "features": self.fitted}, due)
        self.worth_saving, self.saved_at = False, time.perf_counter()
        self.paused += self.saved_at - began

    def keep_sums(self, step: int, sums: dict[str, Mean]) -> None:
        """Write down what was summed since the last log: whoever resumes from here goes on with it."""
        totals = {name: [np.asarray(part).tolist() for part in mean] for name, mean in jax.device_get(sums).items()}
        self.journal.say("sums", step, sums=totals)

    def report_failure(self, step: int, means: dict[str, Mean], train: TrainState, block: Any) -> None:
        """Say what was not finite; with `on_nan: replay` also which operation, and keep the state before that step."""
        names = ", ".join(f"`{name}`" for name, sound in are_finite(means).items() if not sound)
        said = f"Training diverged: {names} is not finite at step {step}"
        if self.settings.on_nan != "replay":
            self.journal.say("failed", step, text=said)
            raise folder.RunError(f"{said}; `on_nan=replay` names the operation, `on_nan=skip` leaves such steps out.")
        operation = replay(self.learner, self.source, train, block) or "no operation gives NaN, one overflows to infinity"
        self.save(step, train)
        self.saved.wait()
        self.journal.say("failed", step, text=f"{said}: {operation}")
        raise folder.RunError(f"{said}: {operation}. The state before that step is saved.")

    def last_words(self, step: int, train: TrainState | None = None) -> str:
        """Save what there is and say so, for a process that ends at once."""
        if train is not None and jax.process_count() == 1:  # several would have to agree, and nobody can be asked
            self.saved.save(step, {"train": train, "features": self.fitted}, due=False)
            self.saved.wait()
        if processes.is_writer():
            folder.set_status(self.path, "interrupted", step=step)
        return f"Interrupted at step {step} and saved; the same command resumes {self.path}."


def schedule_warnings(settings: Settings, stop: int) -> list[str]:
    """What to say of every schedule of a learner that is longer than the run of `stop` steps, or ends in nothing before it."""
    found = []
    for path, schedule in schedules(settings.learner, "learner", configs.trusted_packages(settings.trusted)):
        hp = hyperparameters(schedule.hp)
        length = None if schedule.length is None else float(schedule.length(hp))
        if length is None:
            continue
        last = float(schedule.factor(jnp.asarray(int(np.ceil(length)), jnp.int32), hp))
        if length > stop:
            found.append(f"The schedule `{path}` is {length:g} steps long and the run {stop}: it does not reach its end.")
        elif length < stop and last < NOTHING:
            found.append(
                f"The schedule `{path}` ends at step {length:g} and the run at {stop}: from there the learning rate is "
                f"multiplied by {last:g}, and little is learned."
            )
    return found


def schedules(node: Any, path: str, trust: tuple[str, ...]) -> Iterator[tuple[str, Schedule]]:
    """Every schedule that is described at or below a config's node, the outermost of those in each other, with its path."""
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        with contextlib.suppress(NameError, TypeError):  # annotations that cannot be read promise nothing
            if typing.get_type_hints(configs.locate(node["_target_"], path, trust)).get("return") is Schedule:
                yield path, configs.instantiate(node, path)
                return
    for key, value in node.items():
        yield from schedules(value, f"{path}.{key}", trust)
