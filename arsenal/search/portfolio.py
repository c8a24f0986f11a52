"""The candidates of a portfolio, composed, and their fits: features once for all that share them, a program for each learner.

Nearly all of the first fit's time is XLA's compiling. So transforms are fitted once a split for all candidates that have the
same, learners that differ by traced floats are lanes of one program, and what judges is one program for all.
"""

import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from arsenal import config as configs
from arsenal.combine.chain import shapes_behind
from arsenal.combine.folds import summarize
from arsenal.config import AutomlSettings, Config, ConfigError
from arsenal.data import arrays
from arsenal.evaluation.answers import answer_function, by_place
from arsenal.evaluation.study import SIDES, Fit, Measured, check_masks, measure_sides
from arsenal.experiment import Experiment, Parts, parts
from arsenal.records import Batch, Estimator, hyperparameters, mask_dead_rows
from arsenal.search.engines.programs import SWEEPING, leaf_differences, leaves_by_name, walk_leaves
from arsenal.training.driver import streams
from arsenal.training.fitting import as_estimator
from arsenal.training.length import Length

FREE = ("learner", "features")
"""Keys of an experiment that a candidate may change."""
KEPT_BYTES = 2**30
"""Transformed rows are kept in so much memory, those that were used last."""


class Candidate(NamedTuple):
    """An entry of the portfolio, composed."""

    name: str
    given: dict[str, Any]
    config: Config
    made: Parts
    estimator: Estimator | None
    """What learns, behind the features, where it is an Estimator: ensembles take no others."""


def portfolio(
    config: Config, experiment: Experiment, rows: Batch, masks: Mapping[str, np.ndarray]
) -> tuple[list[Candidate], dict[str, str]]:
    """The candidates for the data's kind of target, and why others are left out, by name; a `ConfigError` names a wrong entry."""
    settings, found, out = cast(AutomlSettings, config.settings), [], {}
    own = configs.instantiate(config.values["learner"], "learner", experiment.data.schema)
    if not isinstance(own, Estimator):
        raise ConfigError("`arsenal automl` tries estimators, and the learner of this experiment is none.")
    which = "classes" if experiment.data.schema.target.columns else "numbers"
    words, train, shapes = configs.own_words(config.overrides, SWEEPING), int(masks["train"].sum(1).max()), {}
    for name, given in getattr(settings.portfolio, which).items():
        if not re.fullmatch(r"[\w.-]+", name):
            raise ConfigError(f"`portfolio.{which}` names candidates by letters, digits, `_`, `-` and `.`; got {name!r}.")
        values = {key: value for key, value in given.items() if key != "most_rows"}
        more = (word for key, value in values.items() for word in configs.override_words(key, value))
        try:
            one = configs.compose_words([*words, *more])
        except ConfigError as error:
            raise ConfigError(f"`portfolio.{which}.{name}`: {error}") from error
        if changed := [key for key in ("data", "split", "metrics", "seed") if one.values[key] != config.values[key]]:
            raise ConfigError(f"`portfolio.{which}.{name}` may change what learns and its features; it changes `{changed[0]}`.")
        if isinstance(most := given.get("most_rows"), int) and train > most:
            out[name] = f"it takes {most:,} rows to train on at most (`most_rows`); there are {train:,}."
            continue
        try:
            made = parts(one, experiment.data.schema)
            seen = json.dumps(one.values["features"], sort_keys=True)
            if seen not in shapes:
                made.features.check(rows)
                shapes[seen] = shapes_behind(made.features)(rows)
            made.learner.check(shapes[seen])
            learner = configs.instantiate(one.values["learner"], "learner", experiment.data.schema)
        except (ConfigError, ValueError) as error:
            out[name] = " ".join(str(error).split())
            continue
        if answer_of(experiment) not in made.learner.apply:
            out[name] = f"it answers {', '.join(made.learner.apply)}, not {answer_of(experiment)}."
            continue
        found.append(Candidate(name, values, one, made, learner if isinstance(learner, Estimator) else None))
    if not found:
        name, reason = next(iter(out.items()), ("portfolio", "it is empty."))
        raise ConfigError(f"No candidate takes this data; `{name}`: {reason}")
    return found, out


def answer_of(experiment: Experiment) -> str:
    """The answer that candidates give and ensembles average."""
    return "predict_proba" if experiment.data.schema.target.columns else "predict"


class PortfolioData:
    """The rows, the splits, and what all candidates share: transformed rows, and the program that judges."""

    def __init__(
        self, experiment: Experiment, rows: Batch, masks: Mapping[str, np.ndarray], checked: Mapping[str, np.ndarray], seed: int
    ):
        """`masks` are `train` and `test` [splits, n]; `checked` those of them that every candidate must take."""
        self.checked = checked
        self.there, self.rows, self.masks = jax.tree.map(np.asarray, rows), jax.tree.map(jnp.asarray, rows), masks
        self.classes, self.answer = len(experiment.data.schema.target.columns or ()), answer_of(experiment)
        self.key = jax.random.key(np.uint32(seed))
        self.on_device, self.on_host = by_place(experiment.parts.metrics)
        self.transforms: dict[str, Any] = {}
        self.transform_seconds: dict[str, float] = {}
        self.seen: OrderedDict[tuple[str, int], tuple[Batch, Batch]] = OrderedDict()
        self.judging = jax.jit(self.judge)

    def weigh(self, rows: Batch, mask: Any) -> Batch:
        """The rows with those outside the mask dead."""
        return mask_dead_rows(rows._replace(weight=rows.weight * mask.astype(rows.weight.dtype)))

    def read(self, answers: Mapping[str, Any]) -> dict[str, Any]:
        """Of the answers those that the metrics read, which are all where one does not say."""
        metrics = [*self.on_device.values(), *self.on_host.values()]
        named = {name for metric in metrics for name in (answers if metric.reads is None else metric.reads)}
        return {name: f for name, f in answers.items() if name in named}

    def judge(self, outputs: dict[str, Any], sides: dict[str, Any], rows: Batch) -> dict[str, Any]:
        """What the program measures of answers."""
        return measure_sides(self.on_device, outputs, {side: self.weigh(rows, mask) for side, mask in sides.items()})

    def warm(self, outputs: dict[str, Any]) -> None:
        """Compile what judges, for answers of these shapes."""
        blank = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in outputs.items()}
        self.judging(blank, {side: jnp.asarray(self.masks[side][0]) for side in SIDES}, self.rows)

    def features_of(self, one: Candidate) -> str:
        """What tells the features of a candidate from others."""
        return json.dumps(one.config.values["features"], sort_keys=True)

    def transformed(self, one: Candidate, split: int) -> tuple[Batch, Batch]:
        """The rows that train as the learner sees them, and all rows as others see them."""
        name, began = self.features_of(one), time.monotonic()
        if (name, split) in self.seen:
            self.seen.move_to_end((name, split))
            return self.seen[name, split]
        if name not in self.transforms:
            transform = one.made.features

            def fit(key, every, mask):
                state, rows = transform.fit(streams(key)["features"], self.weigh(every, mask), hyperparameters(transform.hp))
                return rows, every._replace(x=transform.apply(state, mask_dead_rows(every).x))

            self.transforms[name] = jax.jit(fit)
        made = self.transforms[name](self.key, self.rows, jnp.asarray(self.masks["train"][split]))
        self.transform_seconds.setdefault(name, time.monotonic() - began)
        self.seen[name, split] = made
        each = sum(leaf.nbytes for leaf in jax.tree.leaves(made))
        while len(self.seen) > max(1, KEPT_BYTES // max(1, each)):
            self.seen.popitem(last=False)
        return made

    def measured(self, fits: Sequence[Fit], outputs: dict[str, Any], converged: Any) -> list[Measured]:
        """What lanes of one split answered, judged."""
        split = fits[0].split
        sides = {side: jnp.asarray(self.masks[side][split]) for side in SIDES}
        outputs, converged = jax.device_get((outputs, converged))
        found = []
        for i, fit in enumerate(fits):
            mine = {name: answer[i] for name, answer in outputs.items()}
            numbers = {name: float(value) for name, value in jax.device_get(self.judging(mine, sides, self.rows)).items()}
            if self.on_host:
                weighed = {side: self.there._replace(weight=self.there.weight * self.masks[side][split]) for side in SIDES}
                numbers |= {name: float(value) for name, value in measure_sides(self.on_host, mine, weighed).items()}
            kept = {self.answer: mine[self.answer][self.masks["test"][split]]}
            found.append(Measured(fit, numbers, bool(converged[i]), kept))
        return found


class Family:
    """Candidates that share a compiled program, and what it takes."""

    def __init__(self, first: Candidate):
        """Nothing is compiled yet."""
        self.candidates, self.program = [first], cast("Callable[..., Any] | None", None)
        self.compile_seconds, self.fit_seconds, self.probe_seconds = 0.0, 0.0, 0.0
        self.host_seconds = 0.0  # of the fit's seconds those that grow with the rows that train: the program has all rows always

    def compile(self, data: PortfolioData) -> None:
        """Make the program, of a lane for each candidate; a ValueError where it does not take the rows."""
        first = self.candidates[0]
        seen, shown = data.transformed(first, 0)
        began = time.monotonic()
        settings = first.config.settings
        steps = Length.parse(settings.length).steps(arrays(data.there, settings.batch_size))
        check_masks(first.made.learner, data.there._replace(x=seen.x), data.checked, data.classes)
        learned = first.estimator or as_estimator(first.made.learner, steps, settings.batch_size)
        answer = answer_function({data.answer: learned.apply[data.answer]} | data.read(learned.apply), learned.inputs)
        hp = self.floats([0] * len(self.candidates))
        one_hp = jax.tree.map(lambda leaf: leaf[0], hp)
        if "host" in learned.exempt:
            like, _ = cast(Callable, learned.shapes)(seen, one_hp)
            self.program = self.compile_host(learned, answer, shown, like, data.key)
        else:
            like, _ = jax.eval_shape(learned.fit, data.key, seen, one_hp)

            def one(hp, key, rows, shown):
                params, info = learned.fit(key, rows, hp)
                return answer(params, shown), summarize(info).converged

            lanes = jax.vmap(one, (0, None, None, None), axis_size=len(self.candidates))
            self.program = jax.jit(lanes).lower(hp, data.key, seen, shown).compile()
        self.compile_seconds = time.monotonic() - began
        data.warm(jax.eval_shape(answer, like, shown))

    def compile_host(self, learned: Estimator, answer: Callable, shown: Batch, like: Any, key: Any) -> Callable:
        """The program of one that fits on the host: of its answers alone, from what is `like` that which it will learn."""
        words = np.asarray(jax.random.key_data(key))
        answering = jax.jit(answer).lower(like, shown).compile()

        def program(hp, key, rows, shown):
            there, outputs, converged, self.host_seconds = jax.tree.map(np.asarray, rows), [], [], 0.0
            for lane in range(len(self.candidates)):
                began = time.monotonic()
                params, info = learned.fit(words, there, jax.tree.map(lambda leaf, lane=lane: np.asarray(leaf[lane]), hp))
                self.host_seconds += time.monotonic() - began
                params = jax.tree.map(lambda s, leaf: jnp.asarray(leaf, s.dtype), like, params)
                outputs.append(answering(params, shown))
                converged.append(np.all(info.converged))
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs), np.array(converged)

        return program

    def floats(self, chosen: Sequence[int]) -> Any:
        """The hp of candidates, by their places in the family, as lanes."""
        hps = [hyperparameters(self.candidates[i].made.learner.hp) for i in chosen]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *hps)

    def fit(self, data: PortfolioData, fits: Sequence[Fit]) -> tuple[list[Measured], float]:
        """Fits of one split, and the seconds that they took."""
        began, lanes = time.monotonic(), len(self.candidates)
        filled = [fit.candidate for fit in fits] + [fits[-1].candidate] * (lanes - len(fits))
        seen, shown = data.transformed(self.candidates[0], fits[0].split)
        outputs, converged = cast(Callable[..., Any], self.program)(self.floats(filled), data.key, seen, shown)
        return data.measured(fits, outputs, converged), time.monotonic() - began

    def takes(self, other: Candidate) -> bool:
        """Whether the other differs from the first by floats of the learner alone, each of them in its `hp`."""
        one = self.candidates[0]
        changed = leaf_differences(*(dict(walk_leaves({k: c.config.values[k] for k in FREE})) for c in (one, other)))
        traced = leaf_differences(*(leaves_by_name(c.made.learner.hp) for c in (one, other)))
        floats = all(path[0] == "learner" and all(isinstance(v, float) for v in pair) for path, pair in changed.items())
        return floats and sorted(changed.values()) == sorted((float(a), float(b)) for a, b in traced.values())


def make_families(candidates: Sequence[Candidate]) -> list[Family]:
    """The candidates by the program that they share, in their order."""
    found: list[Family] = []
    for one in candidates:
        family = next((family for family in found if family.takes(one)), None)
        if family is None:
            found.append(Family(one))
        else:
            family.candidates.append(one)
    return found
