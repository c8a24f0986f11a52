"""A portfolio of candidates within a budget, from its config to a trained run: what `arsenal automl` does, as a function.

Successive halving over folds (Jamieson & Talwalkar, AISTATS 2016), the greedy ensemble of Caruana et al. (ICML 2004), stacking.
"""

import contextlib
import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from arsenal import config as configs
from arsenal.combine.stacking import as_features
from arsenal.config import AutomlSettings, Config, ConfigError
from arsenal.evaluation.selection import (
    answer_scores,
    honest_scores,
    members,
    pays,
    select_ensemble,
    stack_answers,
)
from arsenal.evaluation.study import (
    Fit,
    Measured,
    Study,
    as_study,
    choose_metric,
    fits,
    measure,
    shrink_training,
    table_line,
    tested_answers,
)
from arsenal.evaluation.study_page import Table, write_study
from arsenal.experiment import Experiment, build
from arsenal.records import Batch, Metric
from arsenal.road import evaluate, fit
from arsenal.run import Run
from arsenal.runs import folder, signals
from arsenal.runs.cache import compile_cache
from arsenal.search.portfolio import Candidate, Family, PortfolioData, answer_of, make_families, portfolio
from arsenal.search.studies import FitLog, study_identity, study_rows
from arsenal.search.sweep import claim_folder
from arsenal.storage.files import write_text

RANKS = ("log_loss", "root_mean_squared_error")
"""Metrics that rank candidates where none is named, if they are measured."""
SPREAD, KEPT = 3, 2
"""A rung of the ladder has so many times the folds of the one before it, and one of so many candidates goes on."""
PROBED, PROBE = 8_000, 2_000
"""With more rows than these to train on, a candidate's first fit is of so many, and says what all of them will take."""
GROWTH = 1.2
"""The power of the number of rows with which a fit is taken to grow, from a probe to all rows."""
REFIT_BASE, REFIT_COMPILES, PAGE, REPORT = 2.5, 1.2, 2.0, 3.0
"""Seconds of a run apart from its fit; its compilations over a fold's; seconds of the page; a run's report over the run."""
SURE = 1.25
"""What is predicted is taken to last so much longer."""
TOP = 3
"""So many of the best candidates are compared on equal folds, and time is kept to train them as an ensemble."""
STACKED = 5
"""Folds of a stacking that is trained as a run, and most members that it has."""
STACKED_COMPILES = 3
"""A stacking's compilations over those of its members alone."""
WINNER = "winner"
"""The experiment that the folder holds at the end."""


class Option(NamedTuple):
    """What may answer in the end: a candidate, an ensemble, a stacking."""

    kind: str
    """single, ensemble or stacking."""
    weights: dict[str, float]
    """Of its members, by name."""
    scores: np.ndarray
    """[splits]"""


class AutomlResult(NamedTuple):
    """What came of the search."""

    folder: Path
    run: Run
    """The winner, trained."""
    study: Study
    """What was measured of those that were judged on equal folds."""
    winner: Option
    seconds: float
    """What this command took, to the end of the run's training and the page."""
    reported: bool
    """Whether there was time for the run's own report."""

    @property
    def command(self) -> str:
        """What trains the winner again."""
        return shlex.join(["arsenal", "train", "--config-dir", str(self.folder / "conf"), f"+experiment={WINNER}"])

    def summary(self) -> Iterator[str]:
        """What there is to say, in lines."""
        yield from self.study.lines(10)
        yield f"Winner: {describe(self.winner)}; trained in {self.run.folder}"
        yield f"Train it again: {self.command}"
        yield f"Leaderboard: {self.folder / 'report' / 'index.html'}"
        if self.reported:
            yield f"Report of the run: {self.run.folder / 'report' / 'index.html'}"
        else:
            yield f"The budget left no time for the run's report: arsenal evaluate run={self.run.folder}"
        yield f"In all {self.seconds:.1f} s"


def describe(option: Option) -> str:
    """An option in words."""
    if option.kind == "single":
        return next(iter(option.weights))
    of = [f"{name} {weight:.0%}" if option.kind == "ensemble" else name for name, weight in option.weights.items()]
    return f"{option.kind} of {', '.join(of)}"


def automl(
    config: Config, say: Callable[[str], None] = lambda text: None, began: float | None = None
) -> AutomlResult:
    """Judge a portfolio of candidates within the config's budget, and train the best, or several as one, as a run.

    Each fit is kept with its answers as it ends, so the same config goes on, with what is left of its budget or a larger one.
    `say` hears how it goes; `began` is when the budget began, by `time.monotonic()`: now, unless it is given. Raises ConfigError
    for an entry of the portfolio that cannot be used, or a budget that is too short for one fit and its run.
    """
    began = time.monotonic() if began is None else began
    settings = cast(AutomlSettings, config.settings)
    if settings.preflight:
        raise ConfigError("`preflight` looks at one run: give it to `arsenal train`.")
    compile_cache()
    with signals.interrupts() as interrupted, interrupted.at_once(lambda: signals.BEFORE):
        experiment = build(config)
        rows, masks = study_rows(experiment, settings.splits)
        metric, mode = rank_metric(experiment, settings)
        candidates, out = portfolio(config, experiment, rows, masks)
        about = study_identity(config, experiment, "development")
    with claim_folder(config, about, settings.automl.folder, "automl") as path, contextlib.closing(FitLog(path)) as log:
        say(f"Search {path}")
        status = folder.read_status(path) if log.lines else {}
        section = {key: value for key, value in config.values["automl"].items() if key not in ("budget", "folder")}
        asked = folder.identity({"portfolio": config.values["portfolio"], "automl": section})
        complete = status.get("state") == "complete" and status["budget"] >= settings.automl.budget and status["asked"] == asked
        kept = status["options"] if complete else []
        before = [Option(kind, dict(weights), np.array(scores)) for kind, weights, scores in kept]
        budget = Budget(began, float(settings.automl.budget), 0.0 if complete else status.get("spent", 0.0))
        if not complete:
            if budget.before and budget.left() < REFIT_BASE + PAGE:
                spent = f"{budget.before:.0f} of the {budget.seconds:g} s of `automl.budget` were spent before"
                raise ConfigError(f"{spent}, which leaves no time for more: a larger one goes on, fresh=true begins anew.")
            folder.set_status(path, "running", spent=budget.spent())
        race = Race(experiment, rows, masks, metric, mode, candidates, out, log, budget, settings, say)
        try:
            if not complete:
                with signals.interrupts() as interrupted:
                    race.run(interrupted)
            return conclude(race, path, before, asked)
        except Exception as error:
            with contextlib.suppress(OSError):
                state = "interrupted" if hasattr(error, "number") else "failed"
                folder.set_status(path, state, error=str(error), spent=budget.spent())
            raise


def rank_metric(experiment: Experiment, settings: AutomlSettings) -> tuple[str, str]:
    """The metric that ranks candidates, and which of its values are good."""
    metrics, section = experiment.parts.metrics, settings.automl
    known = [name for metric in metrics.values() for name in metric.compute(metric.empty())]
    try:
        return choose_metric(metrics, section.metric or next((name for name in RANKS if name in known), None), section.mode)
    except ValueError as error:
        raise ConfigError(f"`automl`: {str(error).replace('of a study', 'of automl')}") from error


class Budget:
    """The seconds that a search may take, and what is left of them."""

    def __init__(self, began: float, seconds: float, before: float = 0.0):
        """`before` is what earlier commands took of it."""
        self.began, self.seconds, self.before = began, seconds, before

    def spent(self) -> float:
        """What was taken, by earlier commands too."""
        return self.before + time.monotonic() - self.began

    def left(self) -> float:
        """What remains."""
        return self.seconds - self.spent()


def ladder(splits: int) -> list[int]:
    """How many folds candidates have at each rung.

    >>> ladder(5), ladder(20)
    ([1, 3, 5], [1, 3, 9, 20])
    """
    found = [1]
    while found[-1] < splits:
        found.append(min(splits, found[-1] * SPREAD))
    return found


class Race:
    """What is known of every candidate, and the order in which more is learned."""

    def __init__(
        self, experiment: Experiment, rows: Batch, masks: Mapping[str, np.ndarray], metric: str, mode: str,
        candidates: Sequence[Candidate], out: dict[str, str], log: FitLog, budget: Budget, settings: AutomlSettings,
        say: Callable[[str], None],
    ):  # fmt: skip
        """Read what the log knows of these candidates."""
        self.experiment, self.rows, self.masks, self.metric, self.mode = experiment, rows, masks, metric, mode
        self.candidates, self.out, self.log, self.budget, self.settings, self.say = candidates, out, log, budget, settings, say
        self.families, self.splits = make_families(candidates), len(masks["train"])
        self.ending = False
        self.answer, said = answer_of(experiment), log.answers()
        train = masks["train"].sum(1).mean()
        self.share = PROBE / train if train > PROBED else None
        self.growth = (1 / self.share) ** GROWTH if self.share else 1.0
        self.wide = shrink_training(masks, rows, (self.share, 1.0) if self.share else (1.0,))
        self.data = PortfolioData(experiment, rows, self.wide, masks, settings.seed)
        self.found: dict[str, dict[int, dict[str, Any]]] = {one.name: {} for one in candidates}
        self.kept: dict[str, dict[int, np.ndarray]] = {
            one.name: {s: said[key][self.answer] for s in range(self.splits) if (key := self.key(one, s)) in said}
            for one in candidates
        }
        known = {one.name: json.dumps(one.given) for one in candidates}
        for line in log.lines:
            name = line["candidate"]["name"]
            if known.get(name) == json.dumps(line["given"]) and line["split"] in self.kept[name]:
                self.found[name][line["split"]] = line
        for family in self.families:
            lines = [line for one in family.candidates for line in self.found[one.name].values()]
            family.fit_seconds = max((line["seconds"] for line in lines), default=0.0)
            family.compile_seconds = max((line["compile_seconds"] for line in lines), default=0.0)
            if lines:
                features = self.data.features_of(family.candidates[0])
                self.data.transform_seconds[features] = max(line["transform_seconds"] for line in lines)

    # Answers and scores.

    def key(self, one: Candidate, split: int) -> str:
        """What tells a candidate's answers of a split from all others, also from those of another entry of its name."""
        return json.dumps([one.name, one.given, split])

    def keep(self, one: Candidate, split: int, measured: Measured, seconds: float, family: Family) -> None:
        """Write down a fit: its answers first, then its line, which counts."""
        self.kept[one.name][split] = measured.answers[self.answer]
        measured = measured._replace(fit=Fit(0, 0, split))
        self.log.keep({self.key(one, split): tested_answers(measured, self.rows, self.masks)})
        line = table_line({"name": one.name}, self.settings.seed, measured, self.rows, self.masks)
        line |= {"given": one.given, "seconds": seconds, "compile_seconds": family.compile_seconds}
        line["transform_seconds"] = self.data.transform_seconds[self.data.features_of(one)]
        self.log.add(line)
        self.found[one.name][split] = line

    def scores(self, name: str, folds: int) -> np.ndarray:
        """The metric on the first folds [folds]."""
        values = [self.found[name][split]["values"][f"test/{self.metric}"] for split in range(folds)]
        return np.array([np.nan if value is None else value for value in values], float)

    def folds(self, name: str) -> int:
        """How many of the first folds a candidate has."""
        return next(split for split in range(self.splits + 1) if split not in self.found[name])

    def rank(self, folds: int, names: Sequence[str] | None = None) -> list[str]:
        """Those that have so many folds, by their mean on these alone, best first."""
        sign = 1.0 if self.mode == "min" else -1.0
        there = [one.name for one in self.candidates if self.folds(one.name) >= folds and (names is None or one.name in names)]
        means = {name: sign * self.scores(name, folds).mean() for name in there}
        return sorted(there, key=lambda name: (np.isnan(means[name]), means[name]))

    @property
    def level(self) -> int:
        """The most folds that the best few candidates have: on these alone all that have them are compared."""
        had = sorted((self.folds(one.name) for one in self.candidates if self.folds(one.name)), reverse=True)
        return had[min(TOP, len(had)) - 1] if had else 0

    # Fits.

    def family_of(self, name: str) -> Family:
        """The program of a candidate."""
        return next(family for family in self.families if any(one.name == name for one in family.candidates))

    def predict(self, family: Family) -> float:
        """The seconds that the next fit of a program takes: its own before, or those of the slowest that was begun so far."""
        compiling = 0.0 if family.program else family.compile_seconds
        if family.fit_seconds:
            return compiling + family.fit_seconds
        if family.probe_seconds:
            return compiling + family.probe_seconds + family.host_seconds * (self.growth - 1)
        begun = [other for other in self.families if other.program and other.fit_seconds]
        transforms, features = self.data.transform_seconds, self.data.features_of(family.candidates[0])
        transforming = 0.0 if features in transforms else max(transforms.values(), default=0.0)
        return transforming + max((other.compile_seconds + other.fit_seconds for other in begun), default=0.0)

    def refit(self, weights: Mapping[str, float], stacked: bool = False) -> float:
        """The seconds that a run of these members takes, as far as they are known."""
        fits = 1 + STACKED if stacked else 1
        share = self.splits / max(1, self.splits - 1)
        families = [self.family_of(name) for name in weights]
        features = [self.data.features_of(one.candidates[0]) for one in families]
        # Behind a stacking each member has features of its own, and is compiled for the folds and again for all rows.
        transforming = sum(self.data.transform_seconds.get(one, 0.0) for one in (features if stacked else set(features)))
        compiling = (transforming + sum(one.compile_seconds for one in families)) * (STACKED_COMPILES if stacked else 1)
        return SURE * (REFIT_BASE + REFIT_COMPILES * compiling + sum(one.fit_seconds * share * fits for one in families))

    def reserve(self, several: bool = False) -> float:
        """The seconds that the end takes: a run of the best candidate, or of several as an ensemble, and the page."""
        level = self.level
        best = self.rank(level)[: TOP if several and self.settings.automl.ensemble else 1] if level else []
        return self.refit(dict.fromkeys(best, 1.0)) + PAGE

    def advance(self, name: str, folds: int, alive: Sequence[str], interrupted: signals.Interrupts) -> bool:
        """Fit a candidate, and those alive that share its program, to so many folds; False where the time does not allow it."""
        family = self.family_of(name)
        mates = [(i, one) for i, one in enumerate(family.candidates) if one.name in alive or one.name == name]
        wanted = [(i, one, split) for split in range(folds) for i, one in mates if split not in self.found[one.name]]
        if not wanted:
            return True
        if not self.allows(family):
            return False
        try:
            if family.program is None:
                family.compile(self.data)
            if self.share and not family.fit_seconds and not family.probe_seconds:
                _, family.probe_seconds = family.fit(self.data, [Fit(wanted[0][0], 0, 0)])
            offset = self.splits if self.share else 0
            for split in sorted({split for *_, split in wanted}):
                if not self.allows(family):
                    return False
                chosen = [(i, one) for i, one, at in wanted if at == split]
                measured, seconds = family.fit(self.data, [Fit(i, 0, split + offset) for i, _ in chosen])
                family.fit_seconds = max(seconds, family.fit_seconds)
                for (_, one), found in zip(chosen, measured, strict=True):
                    self.keep(one, split, found, seconds / len(chosen), family)
                if interrupted():
                    raise signals.Interrupted(interrupted(), self.log.path, len(self.log.lines))
        except (ValueError, jax.errors.JaxRuntimeError) as error:  # the latter of a fit that a program calls back
            reason = " ".join(str(error).split())[:500]
            for one in family.candidates:
                self.out[one.name] = reason
                self.say(f"{one.name} is left out: {reason}")
            gone = {one.name for one in family.candidates}
            self.candidates = [one for one in self.candidates if one.name not in gone]
        return True

    def allows(self, family: Family) -> bool:
        """Whether the next fit of a program ends in time, and leaves what the end takes. The first fit of all is begun.

        On the ladder what is compiled is fitted again; else a fit is begun only where time for an ensemble stays.
        """
        if not any(self.found.values()):
            return self.budget.left() > REFIT_BASE + PAGE
        return self.budget.left() > SURE * self.predict(family) + self.reserve(several=self.ending or family.program is None)

    def ranking_metric(self) -> Metric:
        """The record that measures what ranks."""
        metrics = self.experiment.parts.metrics.values()
        return next(one for one in metrics if self.metric in one.compute(one.empty()))

    def stack(self, names: Sequence[str]) -> np.ndarray:
        """What a stacking of these scores on each split [splits], fitted on their answers to the rows of the others."""
        made = configs.instantiate(final_node(self), "final", self.experiment.data.schema)
        columns = []
        for name in names:
            whole = np.zeros((len(self.rows.weight), *self.kept[name][0].shape[1:]), np.float32)
            for split, mask in enumerate(self.masks["test"]):
                whole[mask] = self.kept[name][split]
            columns.append(np.asarray(as_features({self.answer: jax.numpy.asarray(whole)})))
        seen = self.rows._replace(x=np.concatenate(columns, 1))
        name, classes = f"test/{self.metric}", len(self.experiment.data.schema.target.columns or ())
        wanted, metrics = fits(1, 1, self.splits), {"": self.ranking_metric()}
        [every] = measure(made, seen, self.masks, metrics, wanted, classes=classes, lanes=self.splits)
        return np.array([one.values[name] for one in every])

    def run(self, interrupted: signals.Interrupts) -> None:
        """Climb the ladder, halving; then, in the time that is left, let those that were stopped go on, the best first."""
        alive = [one.name for one in self.candidates]
        for folds in ladder(self.splits):
            for name in alive:
                if name not in self.out:
                    self.advance(name, folds, alive, interrupted)
            ranked = self.rank(folds, alive)
            if ranked:
                best = self.scores(ranked[0], folds).mean()
                at = f"{self.budget.spent():.0f} s: {folds} of {self.splits} folds, {len(ranked)} candidates"
                self.say(f"{at}, {self.metric} {best:.4f} by {ranked[0]}")
            alive = ranked[: -(-len(ranked) // KEPT)] if folds < self.splits else ranked
        self.ending = True
        for folds in reversed(ladder(self.splits)[:-1]):
            for name in self.rank(folds):
                self.advance(name, self.splits, [name], interrupted)
        for one in self.candidates:
            if not self.folds(one.name):
                self.advance(one.name, 1, [one.name], interrupted)
        if not self.level:
            raise self.too_short("no fit could be made in it")

    def too_short(self, why: str) -> ConfigError:
        """Why the budget does not do."""
        needed = self.budget.spent() - self.budget.before + self.reserve() + (0.0 if self.level else REFIT_BASE + PAGE)
        budget = f"`automl.budget` of {self.budget.seconds:g} s is too short"
        return ConfigError(f"{budget}: {why}; about {needed * SURE:.0f} s would do.")


# What is made of what was measured.


def conclude(race: Race, path: Path, before: Sequence[Option], asked: str) -> AutomlResult:
    """Choose the winner, or take that of a search that was complete `before`; write its experiment, train it, write the pages."""
    found, began = list(before) or options(race), time.monotonic()
    winner, file, say = found[0], path / "conf" / "experiment" / f"{WINNER}.yaml", race.say
    if not before:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, experiment_text(race, winner))
        say(f"{race.budget.spent():.0f} s: training {describe(winner)}")
    run = fit(configs.compose(WINNER, config_dir=path / "conf"), listener=warn(say))
    trained, study = time.monotonic() - began, study_of(race, found)
    result = AutomlResult(path, run, study, winner, race.budget.spent(), (run.folder / "report" / "index.html").is_file())
    if before:
        return result
    kept = [(one.kind, list(one.weights.items()), one.scores.tolist()) for one in found]
    about: dict[str, Any] = {"budget": race.budget.seconds, "asked": asked, "fits": len(race.log.lines), "options": kept}
    about["runs"] = {"winner": f"{run.folder.parent.name}/{run.folder.name}"}
    shown = {"state": "complete", "time": time.time(), "seconds": f"{race.budget.spent():.0f} of {race.budget.seconds:g}"}
    write_study(
        path / "report", study, title=f"AutoML of {race.settings.name}", status=shown, command=result.command,
        config=file.read_text(encoding="utf-8"), tables=tables(race, winner), seconds=fit_seconds(race),
    )  # fmt: skip
    folder.set_status(path, "complete", spent=race.budget.spent(), **about)
    if not result.reported and race.budget.left() > REPORT * trained:
        say(f"{race.budget.spent():.0f} s: writing the report of the run")
        result = result._replace(run=run, reported=bool(evaluate(run, brief=True)))
    spent = race.budget.spent()
    folder.set_status(path, "complete", spent=spent, **about)
    return result._replace(seconds=spent - race.budget.before)


def warn(say: Callable[[str], None]) -> Callable[[str, int, dict[str, Any]], None]:
    """A listener that hears of a run what is a warning."""
    return lambda kind, step, values: say(str(values["text"])) if kind == "warning" else None


def options(race: Race) -> list[Option]:
    """What can be trained in the time that is left: the best candidate, an ensemble, a stacking; the first is the winner.

    An ensemble wins if it pays beside the candidate, a stacking if it pays beside the winner of these.
    """
    level, mode = race.level, race.mode
    ranked = race.rank(level)

    def in_time(weights: Mapping[str, float], stacked: bool = False, sure: float = 1.0) -> bool:
        return race.refit(weights, stacked) / sure + PAGE < race.budget.left()

    single = next((name for name in ranked if in_time({name: 1.0}, sure=SURE)), None)
    if single is None:
        if sum(bool(one.fit_seconds) for one in race.families) == 1 and level == 1:
            raise race.too_short(f"after one fit `{ranked[0]}` as a run takes about {race.refit({ranked[0]: 1.0}):.0f} s more")
        single = ranked[0]
        race.say(f"Fits took longer than those before them: the run of {single} will end late.")
    found = [Option("single", {single: 1.0}, race.scores(single, level))]
    combining = {one.name for one in race.candidates if one.estimator is not None}
    pool = [name for name in ranked if name in combining and np.isfinite(race.scores(name, level)).all()]
    masks = {side: mask[:level] for side, mask in race.masks.items()}
    ratio = float((masks["test"].sum(1) / masks["train"].sum(1)).mean())
    if not race.settings.automl.ensemble or level < 2:
        return found
    score = answer_scores(race.ranking_metric(), race.metric, race.answer)
    weights: dict[str, float] = {}
    while len(pool) > 1:
        answers = stack_answers([[race.kept[name][split] for split in range(level)] for name in pool], race.rows, masks["test"])
        weights = members(pool, select_ensemble(answers, score, mode))
        if in_time(weights):
            break
        pool.remove(max(weights, key=lambda name: race.refit({name: 1.0})))
    if len(pool) < 2 or len(weights) < 2:
        return found
    ensemble = Option("ensemble", weights, honest_scores(answers, score, mode))
    found.insert(0 if pays(ensemble.scores, found[0].scores, mode, ratio) else 1, ensemble)
    whole = level == race.splits and (masks["test"].sum(0) == (race.rows.weight > 0)).all()
    chosen = dict.fromkeys(list(weights)[:STACKED], 1.0)
    if race.settings.automl.stacking and whole and in_time(chosen, stacked=True):
        stacking = Option("stacking", chosen, race.stack(list(chosen)))
        found.insert(0 if pays(stacking.scores, found[0].scores, mode, ratio) else len(found), stacking)
    return found


def final_node(race: Race) -> dict[str, Any]:
    """The estimator that learns from the answers of others, as a config has it."""
    name = "logistic" if race.answer == "predict_proba" else "ridge"
    return {"_target_": f"arsenal.estimators.{name}", "alpha": 1.0}


def experiment_text(race: Race, winner: Option) -> str:
    """The winner as an experiment's file."""
    by_name = {one.name: one.config.values for one in race.candidates}
    values = dict(by_name[next(iter(winner.weights))])
    if winner.kind == "ensemble":
        values |= ensemble_values(by_name, winner.weights)
    elif winner.kind == "stacking":
        nodes = {name: behind(by_name[name]["features"], by_name[name]["learner"]) for name in winner.weights}
        learner = {"_target_": "arsenal.combine.stacking", "estimators": nodes, "final": final_node(race), "folds": STACKED}
        values |= {"features": {}, "learner": learner}
    judged = race.settings.early_stopping.patience or race.settings.run.checkpoints.best
    if not judged and values["split"].get("validation"):
        values["split"] = {"_target_": "arsenal.data.without_validation", "split": values["split"]}
    values |= {"fresh": False, "expect": {key: value for key, value in values["expect"].items() if key.startswith("test/")}}
    score = f"{race.metric} {winner.scores.mean():.4g} over {len(winner.scores)} folds"
    return configs.experiment_yaml(values, f"What `arsenal automl` found: {describe(winner)}; {score}.")


def ensemble_values(by_name: Mapping[str, Any], weights: Mapping[str, float]) -> dict[str, Any]:
    """The features and the learner of an ensemble; members with the same features vote behind them, which are compiled once."""
    shared: dict[str, dict[str, float]] = {}
    for name, weight in weights.items():
        shared.setdefault(json.dumps(by_name[name]["features"], sort_keys=True), {})[name] = weight
    made = []
    for mine in shared.values():
        features = by_name[next(iter(mine))]["features"]
        one = vote({name: by_name[name]["learner"] for name in mine}, list(mine.values()))
        made.append((" ".join(mine), features, one, sum(mine.values())))
    if len(made) == 1:
        return {"features": made[0][1], "learner": made[0][2]}
    nodes = {name.replace(" ", "_and_"): behind(features, one) for name, features, one, _ in made}
    return {"features": {}, "learner": vote(nodes, [weight for *_, weight in made])}


def vote(nodes: dict[str, Any], weights: Sequence[float]) -> dict[str, Any]:
    """Learners that answer as one, as a config has them; one alone as it is."""
    if len(nodes) == 1:
        return next(iter(nodes.values()))
    return {"_target_": "arsenal.combine.voting", "weights": [round(weight, 6) for weight in weights], "estimators": nodes}


def behind(features: Mapping[str, Any], learner: dict[str, Any]) -> dict[str, Any]:
    """A learner behind features, as a config has it."""
    transforms = list(features.values())
    if not transforms:
        return learner
    chained = transforms[0] if len(transforms) == 1 else {"_target_": "arsenal.combine.chain", "_args_": transforms}
    return {"_target_": "arsenal.combine.after", "transform": chained, "estimator": learner}


def study_of(race: Race, found: Sequence[Option]) -> Study:
    """What was measured on equal folds, ensembles and stackings among it, as a study."""
    names = race.rank(race.level)
    lines = [race.found[name][split] for name in names for split in range(race.level)]
    for option in (one for one in found if one.kind != "single"):
        for split, value in enumerate(option.scores):
            values = {f"test/{race.metric}": float(value), f"train/{race.metric}": float("nan")}
            lines.append(race.found[names[0]][split] | {"candidate": {"name": option.kind}, "values": values, "converged": True})
    return as_study(lines, race.metric, race.mode, race.settings.automl.confidence)


def fit_seconds(race: Race) -> dict[str, float]:
    """The seconds of a fit, by candidate."""
    return {
        name: float(np.mean([line["seconds"] for line in lines.values()])) for name, lines in race.found.items() if lines
    }  # fmt: skip


def tables(race: Race, winner: Option) -> list[Table]:
    """What the page says beside the leaderboard: the winner's members, who was stopped, who was left out."""

    def about(name: str) -> str:
        given = next(one.given for one in race.candidates if one.name == name)
        words = [configs.override_word(key, value) for key, value in given.items() if key != "features"]
        to = given.get("features", {}).get("tabular", {}).get("to")
        return " ".join([*words, *([f"features.tabular.to={to}"] if to else [])]) or "the experiment as it is"

    shares = [(name, f"{weight:.3f}", about(name)) for name, weight in winner.weights.items()]
    note = (
        "Trained as a run; nothing here has seen the rows of its test. An ensemble or a stacking wins only if better by more "
        "than the standard error of the difference on the same folds."
    )
    made = [Table(f"The winner: {winner.kind}", note, ("candidate", "weight", "what it is"), shares)]
    if winner.kind != "ensemble":
        made = [Table(made[0].title, note, ("candidate", "what it is"), [(name, text) for name, _, text in shares])]
    level, best, stopped = race.level, race.rank(race.level)[0], []
    for one in race.candidates:
        if 0 < (folds := race.folds(one.name)) < level:
            scores = [f"{race.scores(name, folds).mean():.4g}" for name in (one.name, best)]
            stopped.append((one.name, f"{folds} of {race.splits}", *scores))
    if stopped:
        head = ("candidate", "folds", race.metric, f"{race.metric} of {best} on these")
        made.append(Table("Stopped early", "Others were better on equal folds, or the time was over.", head, stopped))
    late = {one.name: "No time was left for its first fit." for one in race.candidates if not race.folds(one.name)}
    if gone := [*race.out.items(), *late.items()]:
        made.append(Table("Left out", "", ("candidate", "why"), gone))
    return made
