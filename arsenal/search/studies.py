"""A study from its config to its table: what `arsenal study` does, as a function."""

import contextlib
import io
import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import jax
import numpy as np

from arsenal import config as configs
from arsenal.config import Config, ConfigError, StudySettings
from arsenal.data import arrays
from arsenal.data.column import is_streamed, take
from arsenal.evaluation.report import report_link
from arsenal.evaluation.study import (
    ANSWERS,
    SplitPart,
    Study,
    as_study,
    choose_metric,
    fits,
    grid_candidates,
    measure,
    place_line,
    table_line,
    tested_answers,
    widen_masks,
)
from arsenal.evaluation.study_page import write_study
from arsenal.experiment import Experiment, build, fit_whole, mathematics
from arsenal.records import Batch, Splits
from arsenal.runs import folder, signals
from arsenal.runs.cache import compile_cache
from arsenal.runs.events import Events, read_events
from arsenal.search.engines.groups import Groups
from arsenal.search.engines.programs import Program, Programs
from arsenal.search.space import Dimension, Space
from arsenal.search.sweep import claim_folder
from arsenal.storage.files import write_bytes
from arsenal.training.length import Length

NAMED = 10
"""So many of the best candidates are named at the end."""
KEPT = 10_000_000
"""Up to so many numbers (40 MB) the answers to the rows that test are kept unasked: they are what rows are compared by."""


class StudyResult(NamedTuple):
    """What came of a study."""

    folder: Path
    study: Study
    command: str
    """What trains the best candidate as a run."""

    def summary(self) -> Iterator[str]:
        """What there is to say, in lines."""
        yield from self.study.lines(NAMED)
        yield f"Train the best: {self.command}"
        yield f"Report: {self.folder / 'report' / 'index.html'}"

    def _repr_html_(self) -> str:
        """The study in a notebook: its leaderboard, what trains the best, its report."""
        link = report_link(self.folder / "report" / "index.html")
        return f"<div>{self.study._repr_html_()}<p>Train the best: <code>{escape(self.command)}</code></p>{link}</div>"


def study(config: Config, say: Callable[[str], None] = lambda text: None) -> StudyResult:
    """Fit and judge every candidate on every split: begin, go on, extend, or find that it is complete.

    What is measured is kept at once, so whatever ends the process costs the fits that were under way. `say` hears how it goes.
    """
    settings = cast(StudySettings, config.settings)
    if settings.preflight:
        raise ConfigError("`preflight` looks at one run: give it to `arsenal train`.")
    compile_cache()
    candidates = grid_candidates(settings.grid)
    with signals.interrupts() as interrupted:
        with interrupted.at_once(lambda: signals.BEFORE):
            programs = Programs(config.overrides, grid_space(settings.grid))
            programs.check()
            groups = Groups(config, build(config), programs, interrupted)
            experiment = groups.experiment
            rows, masks, places = study_parts(experiment, settings)
            try:
                metric, mode = choose_metric(experiment.parts.metrics, settings.study.metric, settings.study.mode)
            except ValueError as error:
                raise ConfigError(f"`study`: {error}") from error
            about = study_identity(config, experiment, settings.study.rows)
        with claim_folder(config, about, settings.study.folder, "study") as path, contextlib.closing(FitLog(path)) as log:
            say(f"Study {path}")
            if log.done:
                say(f"Before: {len(log.done)} fits")
            folder.set_status(path, "running")
            seeds = [settings.seed + i for i in range(settings.study.seeds)]
            try:
                for program, values in group_candidates(programs, candidates):
                    group = groups.experiment_of(program)
                    if group is not experiment:
                        rows, masks, places = study_parts(group, settings)
                    judge_group(log, group, program, values, rows, masks, places, seeds, settings, interrupted, say)
            except Exception as error:
                with contextlib.suppress(OSError):
                    folder.set_status(path, "interrupted" if hasattr(error, "number") else "failed", error=str(error))
                raise
            return conclude(path, log, programs, metric, mode, config)


def grid_space(grid: Mapping[str, Sequence[Any]]) -> Space:
    """The grid as a space, by which programs are told apart; a `ConfigError` for a key without values, or one twice."""
    for key, values in grid.items():
        if not values or len({json.dumps(value) for value in values}) < len(values):
            raise ConfigError(f"`grid` gives each key values of which none is there twice; `{key}` has {values}.")
    return Space({key: Dimension("choice", 0.0, len(values) - 1.0, tuple(values)) for key, values in grid.items()})


def study_parts(experiment: Experiment, settings: StudySettings) -> tuple[Batch, dict[str, np.ndarray], list[SplitPart]]:
    """The rows that a study fits and judges, the masks of its splits with their sizes or inner folds, and which is which."""
    rows, masks = study_rows(experiment, settings.splits, settings.study.rows)
    nested = inner_splits(settings)
    try:
        return rows, *widen_masks(masks, rows, settings.study.sizes or (), nested, experiment.data.schema)
    except ValueError as error:
        raise ConfigError(f"`splits`: {error}") from error


def study_rows(
    experiment: Experiment, node: dict[str, Any], which: Literal["development", "all"] = "development"
) -> tuple[Batch, dict[str, np.ndarray]]:
    """The rows that are fitted and judged, and the masks of the splits that a node of the config makes of them."""
    if is_streamed(experiment.data.rows):
        raise ConfigError("A study weighs all rows in memory, and this data is read as it goes.")
    parts = experiment.splits
    kept = ("train", "validation") + (("test",) if which == "all" else ())
    ids = np.concatenate([parts[name].row for name in kept])
    rows = take(experiment.data.rows, np.isin(experiment.data.rows.row, ids))
    made = configs.instantiate(node, "splits")
    if not isinstance(made, Splits):
        raise ConfigError(f"`splits` must make Splits, such as arsenal.data.k_fold; got {type(made).__name__}.")
    try:
        return rows, made.masks(rows, experiment.data.schema)
    except ValueError as error:
        raise ConfigError(f"`splits`: {error}") from error


def inner_splits(settings: StudySettings) -> Splits | None:
    """The splits of a split's training rows: of the same kind, `study.nested` of them, once; None where none are asked for."""
    if settings.study.nested is None:
        return None
    counted = next((key for key in ("folds", "splits") if key in settings.splits), None)
    if counted is None:
        raise ConfigError("`study.nested` gives the kind of `splits` another number, and this one has no `folds` or `splits`.")
    once = {"repeats": 1} if "repeats" in settings.splits else {}
    return configs.instantiate(settings.splits | {counted: settings.study.nested} | once, "splits")


def study_identity(config: Config, experiment: Experiment, which: str) -> dict[str, Any]:
    """What defines a study: the runs, their length, the metrics and the splits; more candidates or seeds extend it."""
    values = config.values
    found = {key: value for key, value in mathematics(config, experiment.data).items() if key != "seed"}
    return {
        "run": found, "length": values["length"], "metrics": values["metrics"], "splits": values["splits"],
        "rows": which,
    }  # fmt: skip


def group_candidates(programs: Programs, candidates: Sequence[dict[str, Any]]) -> Iterator[tuple[Program, list[dict[str, Any]]]]:
    """The candidates by the program that they share, in the order of the grid."""
    found: dict[int, tuple[Program, list[dict[str, Any]]]] = {}
    for values in candidates:
        program = programs.of(values)
        found.setdefault(id(program), (program, []))[1].append(values)
    yield from found.values()


class FitLog:
    """`fits.jsonl` of a study's folder, which is its truth: a line for each fit, appended when it was judged."""

    def __init__(self, path: Path):
        """Read what is there, and open it for appending."""
        self.path = path
        self.lines = [line for line in read_events(path / "fits.jsonl") if line["kind"] == "fit"]
        self.done = {fit_key(line) for line in self.lines}
        self.events = Events(path / "fits.jsonl")

    def add(self, line: dict[str, Any]) -> None:
        """A fit that was judged."""
        self.events.write("fit", 0, **line)
        self.lines.append(line)

    def keep(self, said: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """What fits answered, by `fit_key`, as a file of arrays; before they are added, so that no fit is without."""
        if not said:
            return
        names, parts = list(said), list(said.values())
        arrays: Any = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        file = io.BytesIO()
        np.savez(file, key=np.array(names), fit=np.repeat(np.arange(len(names)), [len(part["row"]) for part in parts]), **arrays)
        folder = self.path / "answers"
        folder.mkdir(exist_ok=True)
        write_bytes(folder / f"{len(list(folder.glob('*.npz'))):06d}.npz", file.getvalue())

    def answers(self) -> dict[str, dict[str, np.ndarray]]:
        """What was kept, by `fit_key`."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for path in sorted((self.path / "answers").glob("*.npz")):
            with np.load(path) as arrays:
                whole = {name: arrays[name] for name in arrays.files if name not in ("key", "fit")}
                ends = np.searchsorted(arrays["fit"], np.arange(len(arrays["key"]) + 1))
                for i, key in enumerate(arrays["key"].tolist()):
                    found[key] = {name: column[ends[i] : ends[i + 1]] for name, column in whole.items()}
        return found

    def close(self) -> None:
        """Close the file."""
        self.events.close()


def fit_key(line: Mapping[str, Any]) -> str:
    """What tells a fit's line from all others of a study."""
    inner = [line["inner"], line["inner_folds"]] if "inner" in line else []
    return json.dumps([dict(sorted(line["candidate"].items())), line["seed"], line["split"], *inner])


def judge_group(
    log: FitLog, experiment: Experiment, program: Program, candidates: Sequence[dict[str, Any]], rows: Batch,
    masks: Mapping[str, np.ndarray], places: Sequence[SplitPart], seeds: Sequence[int], settings: StudySettings,
    interrupted: signals.Interrupts, say: Callable[[str], None],
) -> None:  # fmt: skip
    """Fit and judge the candidates of one program, as far as the log does not know them."""
    own = program.config.settings

    def known(fit):
        line = {"split": fit.split, "candidate": candidates[fit.candidate], "seed": seeds[fit.seed]}
        return fit_key(place_line(line, places)) in log.done

    wanted = [one for one in fits(len(candidates), len(seeds), len(places)) if not known(one)]
    if not wanted:
        return
    steps = Length.parse(own.length).steps(arrays(rows, own.batch_size))
    estimator, hp = fit_whole(experiment.parts, steps, own.batch_size), program.lanes(candidates)
    trees = [jax.tree.map(lambda leaf, i=i: leaf[i], hp) for i in range(len(candidates))]
    classes = len(experiment.data.schema.target.columns or ())
    numbers = sum(int(masks["test"][one.split].sum()) for one in wanted if places[one.split].inner is None) * (1 + classes)
    keep = numbers <= KEPT if settings.study.answers is None else settings.study.answers
    kept = [name for name in ANSWERS if keep and name in estimator.apply]
    began, count = time.monotonic(), 0
    try:
        found = measure(
            estimator, rows, masks, experiment.parts.metrics, wanted, candidates=trees, seeds=seeds, answers=kept,
            classes=classes, lanes=settings.study.lanes,
        )  # fmt: skip
        for chunk in found:
            lines = [
                place_line(table_line(candidates[one.fit.candidate], seeds[one.fit.seed], one, rows, masks), places)
                for one in chunk
            ]
            said = [(line, one) for line, one in zip(lines, chunk, strict=True) if kept and "inner" not in line]
            log.keep({fit_key(line): tested_answers(one, rows, masks) for line, one in said})
            for line in lines:
                log.add(line)
            count += len(chunk)
            left = (time.monotonic() - began) / count * (len(wanted) - count)
            say(f"{count} of {len(wanted)} fits{f', about {left:.0f} s left' if count < len(wanted) else ''}")
            if interrupted():
                raise signals.Interrupted(interrupted(), log.path, count)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def conclude(path: Path, log: FitLog, programs: Programs, metric: str, mode: str, config: Config) -> StudyResult:
    """Write the table and the page; what there is to say."""
    settings = cast(StudySettings, config.settings)
    found, said = as_study(log.lines, metric, mode, settings.study.confidence, settings.study.nested or 0), log.answers()
    outer = [line for line in log.lines if "inner" not in line]
    found = found._replace(answers={i: said[key] for i, line in enumerate(outer) if (key := fit_key(line)) in said})
    found.table.to_parquet(path / "study.parquet")
    if found.inner is not None:
        found.choice().to_parquet(path / "choice.parquet")
    first = found.fits_of(found.leaderboard()["candidate"].iloc[0]).index[0]  # the log has its values as they were given
    values = {key: value for key, value in outer[first]["candidate"].items() if key != "size"}
    command = shlex.join(["arsenal", "train", *programs.compose(values).overrides])
    folder.set_status(path, "complete", fits=len(found.table))
    status = {key: value for key, value in folder.read_status(path).items() if key != "host"}
    title, text = f"Study of {settings.name}", configs.as_yaml(config)
    write_study(path / "report", found, title=title, status=status, command=command, config=text)
    return StudyResult(path, found, command)
