"""A sweep from its config to its report: what `arsenal tune` does, as a function."""

import contextlib
import inspect
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from arsenal import config as configs
from arsenal import session
from arsenal.config import Config, ConfigError, TuningSettings
from arsenal.data import feed
from arsenal.evaluation.report import html_table, number, report_link, uri
from arsenal.evaluation.sweep import Axis, Row, write_sweep
from arsenal.experiment import Experiment, build, fill_modes, mathematics
from arsenal.records import Scheduler, Search
from arsenal.road import inherited_params
from arsenal.runs import folder, signals
from arsenal.runs.cache import compile_cache
from arsenal.search.engines.lanes import Lanes
from arsenal.search.engines.programs import Programs
from arsenal.search.searching import Searching
from arsenal.search.space import Dimension, Space, space
from arsenal.search.sweep import Sweep, SweepError, Trial, claim_folder, count_states, sweep_identity
from arsenal.storage.files import read_json, write_json
from arsenal.training.length import Length

NAMED = 5
"""So many of the best trials are named at the end."""
FEW = 8
"""Values of a dimension up to which each is named along its axis."""


class SweepResult(NamedTuple):
    """What came of a sweep."""

    folder: Path
    trials: list[Trial]
    """Those with a value, best first."""
    counted: dict[str, int]
    """How many are in each state."""
    runs: dict[int, Path]
    """The run folders of the best, by trial."""
    commands: dict[int, str]
    """What trains each of them again."""
    metric: str
    skipped: dict[int, float] = {}
    """The share of steps that `on_nan: skip` left out, of the best trials that left out any."""

    def summary(self) -> Iterator[str]:
        """What there is to say, in lines."""
        yield "Trials: " + ", ".join(f"{n} {state}" for state, n in self.counted.items())
        for trial in self.trials[:NAMED]:
            pairs = ((name, f"{value:.4g}" if isinstance(value, float) else value) for name, value in trial.now.items())
            values = ", ".join(f"{name} {value}" for name, value in pairs)
            yield f"  trial {trial.id}: {self.metric} {trial.value:.4g} at step {trial.step}: {values}"
            if trial.id in self.skipped:
                yield f"    `on_nan=skip` left out {self.skipped[trial.id]:.0%} of its steps, whose numbers were not finite."
        for i, path in self.runs.items():
            yield f"Run folder of trial {i}: {path}"
            if i in self.commands:
                yield f"  {self.commands[i]}"
        yield f"Report: {self.folder / 'report' / 'index.html'}"

    def _repr_html_(self) -> str:
        """The sweep in a notebook: the best trials, the way to the best value, the report."""
        names = list(dict.fromkeys(name for trial in self.trials[:NAMED] for name in trial.now))
        lines = [
            [str(trial.id), number(trial.value), number(trial.step),
             *(number(v) if isinstance(v, float) else str(v) for v in (trial.now.get(name, "-") for name in names))]
            for trial in self.trials[:NAMED]
        ]  # fmt: skip
        counted = ", ".join(f"{n} {state}" for state, n in self.counted.items())
        report = self.folder / "report"
        picture = report / "best.png"
        image = f'<img alt="" src="{uri(picture.read_bytes())}" style="max-width: 24em">' if picture.is_file() else ""
        link = report_link(report / "index.html")
        table = html_table(["trial", self.metric, "step", *names], lines)
        return f"<div><p>Trials: {escape(counted)}<br><code>{escape(str(self.folder))}</code></p>{table}{link}{image}</div>"


def tune(config: Config, say: Callable[[str], None] = lambda text: None) -> SweepResult:
    """Search the config's space: begin, go on, extend, or find that it is complete. `say` hears how it goes.

    SIGTERM and Ctrl-C save and raise `Interrupted`; the same config goes on.
    """
    settings = config.settings
    if settings.preflight:
        raise ConfigError("`preflight` looks at one run: give it to `arsenal train`.")
    if not configs.instantiate(settings.launcher, "launcher").alone:
        raise ConfigError("`launcher` places one run; where a sweep's trials go is said by `sweep.engine` and `sweep.gpus`.")
    compile_cache()
    with signals.interrupts() as interrupted:
        with interrupted.at_once(lambda: signals.BEFORE):
            dimensions = build_space(settings.space)
            search, scheduler = build_search(settings, dimensions)
            programs = Programs(config.overrides, dimensions)
            programs.check()
            experiment = build(config)
            source = feed(experiment.splits["train"], settings.batch_size, jax.random.key(0))
            for text in session.schedule_warnings(settings, Length.parse(settings.length).steps(source)):
                say(text)
            config = fill_modes(config, experiment.modes)
            settings = config.settings
            origin = inherited_params(config)
            about = sweep_identity(config, mathematics(config, experiment.data, origin), dimensions)
        section = settings.sweep
        kept = section.mode or "min", section.keep, section.on_failure
        with claim_folder(config, about, section.folder) as path, contextlib.closing(Sweep(path, *kept)) as sweep:
            engine, reason = choose_engine(path, settings, programs, experiment, scheduler)
            say(f"Sweep {path}")
            say(f"Engine {engine}: {reason}")
            if sweep.trials:
                say("Before: " + ", ".join(f"{n} {state}" for state, n in count_states(list(sweep.trials.values())).items()))
            folder.set_status(path, "running")
            searching = Searching(dimensions, search, scheduler, jax.random.key(section.seed))
            try:
                running: Any
                if engine == "lanes":
                    running = Lanes(sweep, config, experiment, programs, searching, interrupted, say, origin)
                else:
                    from arsenal.search.engines.processes import Processes
                    from arsenal.search.engines.raytune import run_trials

                    running = Processes(sweep, config, programs, searching, interrupted, say, run_trials)
                running.run()
            except Exception as error:
                with contextlib.suppress(OSError):
                    folder.set_status(path, "interrupted" if hasattr(error, "number") else "failed", error=str(error))
                raise
            if not sweep.rank():
                reason = next((one.reason for one in sweep.trials.values() if one.reason), "there was none")
                folder.set_status(path, "failed", **count_states(list(sweep.trials.values())))
                raise SweepError(f"No trial of {path} has a value; the first one: {reason}")
            runs, commands = promote_best(sweep, programs, running)
            promoted = {str(trial): f"{run.parent.name}/{run.name}" for trial, run in runs.items()}  # which runs came of it
            folder.set_status(path, "complete", runs=promoted, **count_states(list(sweep.trials.values())))
            report(sweep, config, dimensions, runs, commands)
            best, metric = sweep.rank(), section.metric
            skipped = {one.id: share for one in best[:NAMED] if (share := sweep.skipped_share(one.id))}
            return SweepResult(path, best, count_states(list(sweep.trials.values())), runs, commands, metric, skipped)


def build_space(spec: dict[str, Any]) -> Space:
    """The space of the config."""
    if not spec:
        raise ConfigError(
            "`space` is empty; name what may vary, as in 'space={optimizer.learning_rate: {log: [1e-4, 1e-1]}, seed: {seed: 4}}'."
        )
    try:
        return space(spec)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def build_search(settings: TuningSettings, dimensions: Space) -> tuple[Search, Scheduler | None]:
    """The sampler and the scheduler of the config, over its space."""
    found = []
    for name in ("search", "scheduler"):
        node = getattr(settings, name)
        try:
            factory = configs.instantiate(node | {"_partial_": True}, name) if node else None
            given = (dimensions,) if factory and "space" in inspect.signature(factory.func).parameters else ()
            found.append(factory(*given) if factory else None)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"`{name}`: {error}") from error
    together = found[1].trials if found[1] else 0
    if found[0] and found[0].learns and together > settings.sweep.generation:
        raise ConfigError(
            f"`scheduler` compares {together} trials with each other, and a search that learns suggests "
            f"`sweep.generation`={settings.sweep.generation} at a time; use search=random or sweep.generation={together}."
        )
    return found[0], found[1]  # type: ignore[return-value]


def choose_engine(
    path: Path, settings: TuningSettings, programs: Programs, experiment: Experiment, scheduler: Scheduler | None
) -> tuple[str, str]:
    """The engine and why; a sweep that was begun goes on with its own."""
    asked, known = settings.sweep.engine, path / "engine.json"
    if known.exists():
        begun = read_json(known)["engine"]
        if asked not in ("auto", begun):
            raise SweepError(f"The sweep {path} was begun with engine {begun}; got sweep.engine={asked}. fresh=true begins anew.")
        return begun, "as it was begun"
    trials = settings.sweep.trials
    count = programs.count(trials)
    host = experiment.parts.learner.exempt.get("host")
    varying = ", ".join(programs.fixed_dimensions)
    if asked != "auto":
        engine, reason = asked, "as asked for"
    elif host:
        engine, reason = "ray", f"the learner does not run in a compiled program: {host}"
    elif count > 1 and scheduler and scheduler.clones:
        engine, reason = "ray", f"{varying} fix a program, and a population's members take over from each other"
    elif count == 1:
        engine, reason = "lanes", "only traced floats and seeds vary, so all trials are lanes of one compiled program"
    elif trials >= 2 * count:
        engine = "lanes"
        reason = f"{varying} fix a program, at most {count:.0f} for {trials} trials; each program's trials are its lanes"
    else:
        engine, reason = "ray", f"{varying} would make a program for nearly every trial, so each is a process"
    write_json(known, {"engine": engine})
    return engine, reason


def promote_best(sweep: Sweep, programs: Programs, engine: Any) -> tuple[dict[int, Path], dict[int, str]]:
    """The run folders of the best trials, and the commands that train them again."""
    runs, commands = {}, {}
    for trial in sweep.best():
        config = programs.config_of(trial.now)
        runs[trial.id] = engine.promote(trial, config)
        if not trial.changes:
            commands[trial.id] = shlex.join(["arsenal", "train", *config.overrides])
    return runs, commands


def report(sweep: Sweep, config: Config, dimensions: Space, runs: dict[int, Path], commands: dict[int, str]) -> Path:
    """Write the sweep's page: `report/index.html`, its pictures and `trials.csv`."""
    place, trials = sweep.path / "report", [sweep.trials[i] for i in sorted(sweep.trials)]
    links = {i: os.path.relpath(path, place) for i, path in runs.items()}
    links |= {one.id: f"../trials/{one.id}/failure.txt" for one in trials if one.state == "failed"}
    settings = config.settings
    return write_sweep(
        place,
        title=f"Sweep of {settings.name}",
        status={key: value for key, value in folder.read_status(sweep.path).items() if key != "host"},
        command=next(iter(commands.values()), ""),
        config=configs.as_yaml(config),
        metric=settings.sweep.metric,
        mode=settings.sweep.mode or "min",
        rows=[Row(one.id, one.state, one.step, one.value, one.now, one.reason, links.get(one.id, "")) for one in trials],
        axes=[axis(name, one, trials) for name, one in dimensions.dimensions.items()],
    )


def axis(name: str, one: Dimension, trials: Sequence[Trial]) -> Axis:
    """A dimension as an axis of the report; a trial that does not have it lies in the middle."""
    numbers = [one.number(trial.now[name]) if name in trial.values else None for trial in trials]
    known = np.array([number is not None for number in numbers], bool)
    unit = np.full(len(trials), 0.5)
    unit[known] = one.to_unit(np.array([number for number in numbers if number is not None], float))
    if one.size is not None and one.size <= FEW:
        every = one.numbers
        return Axis(name, unit, {float(u): str(one.value(v)) for u, v in zip(one.to_unit(every), every, strict=True)})
    return Axis(name, unit, {u: f"{one.value(one.from_unit(np.array([u]))[0]):.3g}" for u in (0.0, 0.5, 1.0)})
