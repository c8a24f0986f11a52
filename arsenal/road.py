"""The road from an experiment to an artifact, as functions: compose, build, fit, evaluate, export, load."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.random import fold_in

from arsenal import config as configs
from arsenal.combine import chain, learner, whole
from arsenal.config import Config, compose
from arsenal.data import arrays, as_dataset
from arsenal.data.column import take
from arsenal.data.dataset import Dataset, Schema
from arsenal.data.frame import framed, shaped, tensors
from arsenal.evaluation.answers import answers, scorer
from arsenal.records import Additive, Batch, Estimator, Learner, Mean, Metric, Source, Transform, compute, living
from arsenal.runs import events, folder, schema, signals
from arsenal.runs.cache import compile_cache
from arsenal.runs.checkpoints import Checkpoints, digest
from arsenal.runs.journal import Journal, Listener
from arsenal.storage.files import read_json
from arsenal.training.driver import TrainState, advance, drive, start, streams
from arsenal.training.length import Length

__all__ = ["Config", "Run", "build", "compose", "evaluate", "export", "fit", "load", "predict"]


class Parts(NamedTuple):
    """What a config describes apart from its data: enough to answer."""

    features: Transform
    learner: Learner
    metrics: dict[str, Metric]


class Experiment(NamedTuple):
    """What a config describes, built: enough to train."""

    parts: Parts
    data: Dataset
    splits: dict[str, Batch]
    """Host rows of train, validation and test."""

    @property
    def examples(self) -> Batch:
        """Rows to show: of the first of test, validation and train that has any."""
        return next(rows for name in ("test", "validation", "train") if len((rows := self.splits[name]).weight))


def parts(config: Config) -> Parts:
    """Build everything but the data."""
    values = config.values
    features = [configs.build(node, f"features.{name}") for name, node in values["features"].items()]
    metrics = {name: configs.build(node, f"metrics.{name}") for name, node in values["metrics"].items()}
    return Parts(chain(*features), as_learner(configs.build(values["learner"], "learner")), metrics)


def as_learner(made: Any) -> Learner:
    """A `Learner` as it is; an `Additive` or an `Estimator` made one."""
    if isinstance(made, Learner):
        return made
    if isinstance(made, Additive):
        return learner(made)
    if isinstance(made, Estimator):
        return whole(made)
    raise configs.ConfigError(f"`learner` must make a Learner, an Additive or an Estimator; got {type(made).__name__}.")


def build(config: Config) -> Experiment:
    """Build everything, and see that the rows fit the learner before anything compiles."""
    values = config.values
    made = parts(config)
    try:
        data = as_dataset(configs.build(values["data"], "data"))
    except (ValueError, TypeError) as error:
        raise configs.ConfigError(f"`data`: {error}") from error
    masks = configs.build(values["split"], "split")(data.rows.row)
    splits = {name: take(data.rows, mask) for name, mask in masks.items()}
    if len(splits["train"].weight) == 0:
        raise configs.ConfigError(f"`split` leaves no row for training; the data has {len(data.rows.weight)}.")
    try:
        seen = jax.eval_shape(lambda rows: made.features.fit(jax.random.key(0), rows)[1].x, data.rows)
        made.learner.check(data.rows._replace(x=seen))
    except ValueError as error:
        raise configs.ConfigError(f"The data does not fit the learner: {error}") from error
    return Experiment(made, data, splits)


def mathematics(config: Config, data: Dataset) -> dict[str, Any]:
    """What defines the run: the data by its content, not its path; not length, logging, devices or folders."""
    kept = ("seed", "batch_size", "split", "features", "learner")
    return {key: config.values[key] for key in kept} | {"data": data.fingerprint}


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder and what is needed to answer from it; the data is read when first asked for."""

    folder: Path
    config: Config

    @functools.cached_property
    def parts(self) -> Parts:
        """Transforms, learner and metrics."""
        return parts(self.config)

    @functools.cached_property
    def experiment(self) -> Experiment:
        """The parts with the data, which must be what the run was trained on."""
        built = build(self.config)
        if built.data.fingerprint != folder.mathematics(self.folder)["data"]:
            raise folder.RunError(f"The data is not what {self.folder} was trained on: its names, types or values changed.")
        return built

    @functools.cached_property
    def kept(self) -> tuple[Schema, Batch, int]:
        """The schema, a few rows as the data set gives them, and how many rows there were to train on."""
        return schema.kept(self.folder)

    @functools.cached_property
    def restored(self) -> dict[str, Any]:
        """The newest sound checkpoint: `train` and `features`."""
        _, examples, n = self.kept
        rows = jax.tree.map(lambda v: jax.ShapeDtypeStruct((n, *v.shape[1:]), v.dtype), examples)
        made, values = self.parts, self.config.values
        like = jax.eval_shape(lambda rows: first(made, values, *prepare(made, values["seed"], rows)), rows)
        with contextlib.closing(Checkpoints(self.folder / "checkpoints")) as saved:
            found = saved.restore(like)
        if found is None:
            raise folder.RunError(f"The run {self.folder} has no sound checkpoint; train it first.")
        return found

    @property
    def step(self) -> int:
        """Steps taken."""
        return int(self.restored["train"].step)

    @functools.cached_property
    def params(self) -> dict[str, Any]:
        """What inference needs: the transforms' state and the learner's parameters."""
        return {"features": self.restored["features"], "learner": self.parts.learner.params(self.restored["train"].state)}

    @functools.cached_property
    def apply(self) -> dict[str, Callable]:
        """Answers by name, `(params, inputs) -> outputs`, on inputs as the data gives them."""
        made = self.parts

        def through(name, f):
            if name in made.learner.inputs:
                return lambda params, inputs: f(params["learner"], inputs)
            return lambda params, x: f(params["learner"], made.features.apply(params["features"], x))

        return {name: through(name, f) for name, f in made.learner.apply.items()}

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was logged: `{"kind": "train" or "validation", "step": ..., "values": {...}}`."""
        return [event for event in events.read(self.folder / "events.jsonl") if "values" in event]

    @functools.cached_property
    def results(self) -> dict[str, tuple[dict[str, np.ndarray], dict[str, float]]]:
        """For validation and test: the answers [n, ...] by name, and the metrics."""
        return {name: self.score(rows) for name, rows in self.experiment.splits.items() if name != "train" and len(rows.weight)}

    def score(self, rows: Batch) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Answers and metrics over rows as the data set gives them."""
        learner, trained = self.parts.learner, self.restored["train"]
        rows = seen(self.parts, self.restored["features"], rows)
        params = learner.params(trained.state)
        size = self.config.values["batch_size"] or len(rows.weight)
        values = scorer(learner, self.parts.metrics, rows, size)(streams(trained.key)["evaluate"], params)
        given = answers(learner.apply, learner.inputs, params, rows, size)
        return given, {name: np.asarray(value).tolist() for name, value in values.items()}

    @property
    def metrics(self) -> dict[str, float]:
        """`{"test/accuracy": 0.98, ...}` over validation and test."""
        return {f"{split}/{name}": v for split, (_, values) in self.results.items() for name, v in values.items()}

    @property
    def unmet(self) -> list[str]:
        """What the experiment states and this run does not reach, one line each."""
        return [
            f"{name} must be {'>=' if side == 'min' else '<='} {bound}; got {self.metrics.get(name)}"
            for name, bounds in self.config.values["expect"].items()
            for side, bound in bounds.items()
            if not met(self.metrics.get(name), side, bound)
        ]

    def predict(self, frame: Any, method: str | None = None) -> Any:
        """Answer a data frame, an array or a dict of arrays: a frame of one row each, labels decoded.

        All methods that read the data's inputs answer unless `method` names one.
        """
        return predict(self, frame, method)


def met(value: Any, side: str, bound: float) -> bool:
    """Whether a number keeps to a bound; `side` is min or max."""
    return isinstance(value, int | float) and (value >= bound if side == "min" else value <= bound)


def prepare(made: Parts, seed: int, rows: Batch) -> tuple[Any, Batch]:
    """The transforms fitted on the training rows, and these rows as training shall see them."""
    key = streams(jax.random.key(seed))["features"]
    return jax.jit(made.features.fit)(key, living(jax.tree.map(jnp.asarray, rows)))


def first(made: Parts, values: dict[str, Any], fitted: Any, rows: Batch) -> dict[str, Any]:
    """What a checkpoint holds, before the first step."""
    source = arrays(rows, values["batch_size"])
    return {"train": start(made.learner, source, values["seed"]), "features": fitted}


class Interrupted(Exception):
    """A signal ended training early; everything is saved."""

    def __init__(self, number: int, path: Path, step: int):
        """`number` is the signal's."""
        super().__init__(f"Interrupted at step {step} and saved; the same command resumes {path}.")
        self.number = number


def fit(config: Config, listener: Listener = lambda kind, step, values: None) -> Run:
    """Train to the config's length in its run folder: begin, go on, extend, or find that it is complete.

    `listener(kind, step, values)` hears what the log hears. SIGTERM and Ctrl-C save and raise `Interrupted`.
    """
    values = config.values
    compile_cache()
    with signals.interrupts() as interrupted:
        experiment = build(config)
        sources = folder.fingerprints([package.split(".")[0] for package in values["trusted"]])
        identity = mathematics(config, experiment.data)
        with folder.claim(Path(values["run"]["root"]), values["name"], identity, sources, values["fresh"]) as path:
            try:
                return train(Run(path, config), experiment, interrupted, listener)
            except Exception as error:
                if not isinstance(error, Interrupted):
                    with contextlib.suppress(OSError):  # on a full disk the first error is the one to tell
                        folder.set_status(path, "failed", error=f"{type(error).__name__}: {error}")
                raise


def train(run: Run, experiment: Experiment, interrupted: Callable[[], int], listener: Listener) -> Run:
    """Train in a folder that this process holds."""
    path, values, made = run.folder, run.config.values, experiment.parts
    fitted, rows = prepare(made, values["seed"], experiment.splits["train"])
    source = arrays(rows, values["batch_size"])
    stop = Length.parse(values["length"]).steps(source)
    with contextlib.closing(Checkpoints(path / "checkpoints", values["run"]["checkpoints"])) as saved:
        like = jax.eval_shape(lambda rows: first(made, values, fitted, rows), rows)
        found = saved.restore(like, lambda text: listener("warning", 0, {"text": text}))
        state = found or first(made, values, fitted, rows)
        step = int(state["train"].step)
        if step >= stop:
            folder.set_status(path, "complete", step=step, length=step)
            listener("complete", step, {"length": stop, "folder": str(path)})
            return run
        folder.describe(path, configs.text(run.config), run.config.overrides, folder.environment())
        schema.keep(path, experiment.data.schema, rows, experiment.examples)
        folder.set_status(path, "running", step=step, length=stop)
        with contextlib.closing(Journal(path, step, values["run"]["tensorboard"], listener)) as journal:
            journal.say("start", step, length=stop, folder=str(path))
            trained = drive(
                advance(made.learner, source), source, state["train"], stop,
                interrupted=lambda: bool(interrupted()),
                **watching(run, experiment, source, state["features"], journal, saved),
            )  # fmt: skip
            saved.wait()
            step = int(trained.step)
            if step < stop:
                folder.set_status(path, "interrupted", step=step, length=stop)
                journal.say("interrupted", step, length=stop, folder=str(path))
                raise Interrupted(interrupted(), path, step)
            folder.set_status(path, "complete", step=step, length=stop)
            journal.say("complete", step, length=stop, folder=str(path))
    return run


def watching(
    run: Run, experiment: Experiment, source: Source, fitted: Any, journal: Journal, saved: Checkpoints
) -> dict[str, Any]:
    """What the driver calls while it trains: log, evaluate and save, each at its interval."""
    values, made = run.config.values, experiment.parts
    every = {name: Length.parse(text) for name, text in values["every"].items()}
    held_out = seen(made, fitted, experiment.splits["validation"])
    judge = scorer(made.learner, made.metrics, held_out, source.batch_size) if len(held_out.weight) else None
    logged, last_save = None, time.perf_counter()

    def log(step: int, means: dict[str, Mean]):
        nonlocal logged
        before, logged = logged, (step, time.perf_counter())
        # The first interval holds the compilation, which is no pace.
        rate = {"steps_per_second": (step - before[0]) / (logged[1] - before[1])} if before else {}
        means = jax.device_get(means)
        journal.measure("train", step, compute(means) | rate)
        diverged = [name for name, mean in means.items() if not np.isfinite(mean.total).any()]
        if diverged:
            last = f"the last finite values are those of step {before[0]}" if before else "it was never logged finite"
            raise folder.RunError(f"Training diverged: `{diverged[0]}` is not finite at step {step}; {last}.")

    def evaluate(step: int, train: TrainState):
        key = fold_in(streams(train.key)["evaluate"], step)
        params = made.learner.params(train.state)
        journal.measure("validation", step, judge(key, params))

    def save(step: int, train: TrainState):
        nonlocal last_save
        last_save = time.perf_counter()
        saved.save(step, {"train": train, "features": fitted})

    timed = every["save"].unit == "seconds"
    return {
        "log": log,
        "log_every": every["log"].steps(source),
        "evaluate": evaluate,
        "evaluate_every": every["evaluate"].steps(source) if judge else None,
        "save": save,
        "save_every": None if timed else every["save"].steps(source),
        "save_due": lambda step: timed and time.perf_counter() - last_save > every["save"].amount,
    }


def seen(made: Parts, fitted: Any, rows: Batch) -> Batch:
    """The rows as the learner sees them: behind the transforms."""
    return rows._replace(x=jax.jit(made.features.apply)(fitted, jax.tree.map(jnp.asarray, rows.x)))


def load(path: str | Path) -> Run:
    """The run in a folder; a copy of the folder on another machine will do."""
    path = Path(path)
    if not (path / "config.yaml").is_file():
        raise folder.RunError(f"{path} is not a run folder: it has no config.yaml.")
    compile_cache()
    return Run(path, configs.read(path))


def evaluate(run: Run) -> dict[str, float]:
    """Write `report/` (a page, its pictures and `metrics.json`) into the run folder and return the metrics."""
    from arsenal.evaluation.report import write_report

    history = [{"step": e["step"], "split": e["kind"], "values": quantities(e["values"])} for e in run.history]
    status = folder.status(run.folder)
    write_report(
        run.folder / "report",
        title=run.config.values["name"],
        status={
            "state": status["state"],
            "step": run.step,
            "seed": run.config.values["seed"],
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(run.params["learner"])),
        },
        command=" ".join(["python -m arsenal.train", *run.config.overrides]),
        config=configs.text(run.config),
        environment=read_json(run.folder / "environment.json"),
        history=history,
        metrics=run.metrics,
        expect=run.config.values["expect"],
        labels=run.kept[0].target.columns,
        results={
            name: (seen(run.parts, run.restored["features"], run.experiment.splits[name]), given)
            for name, (given, _) in run.results.items()
        },
    )
    return run.metrics


def quantities(values: dict[str, Any]) -> dict[str, Any]:
    """The values that tell of learning, not of the machine."""
    return {name: value for name, value in values.items() if name != "steps_per_second"}


class Unmet(Exception):
    """A run does not reach the result that its experiment states."""


def export(run: Run, to: str | Path | None = None) -> Path:
    """Write the artifact, into the run folder unless `to` says where: a folder that needs none of this code."""
    from arsenal_serving.export import Method
    from arsenal_serving.export import export as write

    described, rows, _ = run.kept
    target = Path(to) if to is not None else run.folder / "artifact"
    coded = {"predict": described.target._replace(columns=None)} if described.target.codec else {}
    proba = {"predict_proba": described.target._replace(codec=None)} if described.target.columns else {}
    methods = {
        name: Method(
            f,
            run.parts.learner.inputs[name](rows) if name in run.parts.learner.inputs else rows.x,
            inputs={} if name in run.parts.learner.inputs else described.inputs,
            outputs={key: tensor for key, tensor in (coded | proba).items() if key == name},
        )
        for name, f in run.apply.items()
    }
    provenance = {
        "run": run.folder.name, "step": run.step, "config": run.config.values, "overrides": run.config.overrides,
        "environment": read_json(run.folder / "environment.json"), "parameters": digest(run.params),
    }  # fmt: skip
    write(target, methods, run.params, name=run.config.values["name"], codecs=described.codecs, provenance=provenance)
    return target


def predict(run: Run, inputs: Any, method: str | None = None) -> Any:
    """Answers as a data frame: a column for each answer, one for each label of `predict_proba`."""
    import pandas as pd

    names = [name for name in run.apply if name not in run.parts.learner.inputs] if method is None else [method]
    for name in names:
        if name not in run.apply:
            raise ValueError(f"`method` must be one of {', '.join(run.apply)}; got {name!r}.")
    if not names:
        raise ValueError(f"No method of this run reads the data's inputs; name one of {', '.join(run.apply)} as `method`.")
    described, examples, _ = run.kept
    x = tensors(inputs, described) if isinstance(inputs, pd.DataFrame) else shaped(inputs, examples.x)
    n = len(jax.tree.leaves(x)[0])
    if n == 0:
        raise ValueError("There is no row to answer.")
    rows = Batch(x, None, np.ones(n, np.float32), np.arange(n, dtype=np.int32))
    size = run.config.values["batch_size"] or 1024
    given = answers({name: run.apply[name] for name in names}, {}, run.params, rows, size)
    return framed(given, described)
