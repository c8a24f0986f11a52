"""The road from an experiment to an artifact, as functions: compose, build, fit, evaluate, export, load."""

import contextlib
import dataclasses
import functools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal import config as configs
from arsenal import session
from arsenal.config import Config, compose
from arsenal.data import ahead, arrays
from arsenal.data.column import streamed
from arsenal.data.dataset import Schema
from arsenal.data.frame import framed, shaped, tensors
from arsenal.evaluation.answers import answers
from arsenal.evaluation.report import write_report
from arsenal.experiment import (
    Experiment,
    Parts,
    build,
    directed,
    first,
    judging,
    lying,
    mathematics,
    parts,
    prepared,
    sampling,
    shape_of,
    showing,
    strategy,
)
from arsenal.records import Batch
from arsenal.runs import events, folder, processes, schema, signals
from arsenal.runs.cache import compile_cache
from arsenal.runs.checkpoints import Checkpoints, digest
from arsenal.runs.journal import MACHINE, Journal, Listener, Tracker
from arsenal.runs.judge import Judge, evaluations
from arsenal.storage.files import read_json
from arsenal.training.driver import TrainState, streams
from arsenal.training.length import Length
from arsenal.training.parallel import place
from arsenal.training.transfer import Transfer, transfer

__all__ = ["Config", "Run", "build", "compose", "evaluate", "export", "fit", "load", "predict"]



def inherited(config: Config) -> Any:
    """The parameters of the run that `init_from` names; None where it names none."""
    path = config.values["init_from"]
    return None if path is None else load(path).params["learner"]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder and what is needed to answer from it; the data is read when first asked for."""

    folder: Path
    config: Config
    view: str | None = None
    """Which of the learner's views answers, such as `raw`; None: what it answers with by itself."""
    checkpoint: str = "last"
    """last, best or a step."""

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
        """The schema, a few rows as the data set gives them, and how many rows the transforms were fitted on."""
        return schema.kept(self.folder)

    @functools.cached_property
    def restored(self) -> dict[str, Any]:
        """The newest sound checkpoint: `train` and `features`."""
        _, examples, n = self.kept
        rows = jax.tree.map(lambda v: jax.ShapeDtypeStruct((n, *v.shape[1:]), v.dtype), examples)
        like = shape_of(self.parts, self.config.values, rows)
        with contextlib.closing(Checkpoints(self.folder / "checkpoints", best=self.ranking)) as saved:
            found = saved.restore(like, which=self.checkpoint)
        if found is None:
            raise folder.RunError(f"The run {self.folder} has no sound checkpoint; train it first.")
        return found

    def ranking(self) -> list[int]:
        """The steps that the log judges, best first; none where the config keeps none of the best."""
        section = self.config.values["run"]["checkpoints"]
        return Judge.of(section).best(evaluations(events.read(self.folder / "events.jsonl"))) if section["best"] else []

    @property
    def step(self) -> int:
        """Steps taken."""
        return int(self.restored["train"].step)

    @functools.cached_property
    def params(self) -> dict[str, Any]:
        """What inference needs: the transforms' state and the learner's parameters."""
        learner = self.parts.learner
        read = learner.params if self.view is None else learner.views.get(self.view)
        if read is None:
            known = ", ".join(learner.views) or "none"
            raise folder.RunError(f"`params` of this run must be one of its learner's views, {known}; got {self.view}.")
        return {"features": self.restored["features"], "learner": read(self.restored["train"].state)}

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
    def results(self) -> dict[str, "Judged"]:
        """Validation and test, as far as they have rows."""
        splits = self.experiment.splits
        return {name: self.score(rows) for name, rows in splits.items() if name != "train" and len(rows.weight)}

    def score(self, rows: Batch) -> "Judged":
        """Metrics of all rows as the data set gives them, and the answers that a report shows."""
        learner, trained, fitted = self.parts.learner, self.restored["train"], self.restored["features"]
        params, size = self.params["learner"], self.config.values["batch_size"] or len(rows.weight)
        judge = judging(self.parts, fitted, rows, size)
        values = judge(streams(trained.key)["evaluate"], params, trained.hp) if judge else None
        shown, apply = showing(self.parts, fitted, params, rows)
        given = answers(apply, learner.inputs, params, shown, size)
        return Judged(given, {name: np.asarray(value).tolist() for name, value in (values or {}).items()}, shown)

    def texts(self, split: str) -> list[tuple[str, str]]:
        """Prompts from a few rows of a split, and how the learner goes on; empty where it writes no text."""
        rows, described = self.experiment.splits[split], self.kept[0]
        sample = sampling(self.parts, self.restored["features"], rows, described)
        return [pair for pairs in sample(self.params["learner"]).texts.values() for pair in pairs] if sample else []

    @property
    def metrics(self) -> dict[str, float]:
        """`{"test/accuracy": 0.98, ...}` over validation and test."""
        return {f"{split}/{name}": v for split, judged in self.results.items() for name, v in judged.metrics.items()}

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


class Judged(NamedTuple):
    """What a run is worth on some rows."""

    answers: dict[str, np.ndarray]
    """[m, ...] by name: those that a report shows, for the rows that it shows."""
    metrics: dict[str, float]
    """Over all rows."""
    shown: Batch
    """[m]: the rows of the answers, as the learner sees them."""


def met(value: Any, side: str, bound: float) -> bool:
    """Whether a number keeps to a bound; `side` is min or max."""
    return isinstance(value, int | float) and (value >= bound if side == "min" else value <= bound)


class Interrupted(Exception):
    """A signal ended training early; everything is saved."""

    def __init__(self, number: int, path: Path, step: int):
        """`number` is the signal's."""
        super().__init__(f"Interrupted at step {step} and saved; the same command resumes {path}.")
        self.number = number


BEFORE = "Interrupted before the first step; the same command begins or resumes the run."


def silent(kind: str, step: int, values: dict[str, Any]) -> None:
    """Hear nothing."""


def fit(config: Config, listener: Listener = silent) -> Run:
    """Train to the config's length in its run folder: begin, go on, extend, or find that it is complete.

    `listener(kind, step, values)` hears what the log hears. SIGTERM and Ctrl-C save and raise `Interrupted`; where the
    main thread is busy with something that cannot be asked, as compiling, SIGTERM saves and ends the process.
    """
    values = config.values
    processes.enough_threads()
    compile_cache()
    with signals.interrupts() as interrupted:
        with interrupted.at_once(lambda: BEFORE):
            experiment = build(config)
            config = directed(config, experiment.modes)
            origin = inherited(config)
        sources = folder.fingerprints([package.split(".")[0] for package in values["trusted"]])
        identity = mathematics(config, experiment.data, origin)
        with claimed(values, identity, sources) as path:
            try:
                return train(Run(path, config), experiment, origin, interrupted, listener if processes.first() else silent)
            except Exception as error:
                if not isinstance(error, Interrupted) and processes.first():
                    with contextlib.suppress(OSError):  # on a full disk the first error is the one to tell
                        folder.set_status(path, "failed", error=f"{type(error).__name__}: {error}")
                raise


@contextlib.contextmanager
def claimed(values: dict[str, Any], identity: dict[str, Any], sources: dict[str, str]) -> Iterator[Path]:
    """The run folder, held by the first process for all."""
    root, name = Path(values["run"]["root"]), values["name"]
    path = root / name / folder.identity(identity)
    if not processes.alike(folder.identity(identity)):
        raise folder.RunError(f"Process {jax.process_index()} has another run than the first: its data or its config differ.")
    if not processes.first():
        processes.agreed(True)
        yield path
        return
    with folder.claim(root, name, identity, sources, values["fresh"]) as path:
        processes.agreed(True)  # what the others wait for
        yield path


def train(run: Run, experiment: Experiment, origin: Any, interrupted: signals.Interrupts, listener: Listener) -> Run:
    """Train in a folder that this process holds."""
    path, values, made = run.folder, run.config.values, experiment.parts
    with contextlib.ExitStack() as stack:
        with interrupted.at_once(lambda: BEFORE):
            how = strategy(made, values, experiment.splits["train"])
            fitted, rows, source = prepared(made, values, experiment.splits["train"], how.source)
            made = made._replace(learner=how.learner(made.learner))
            stop = Length.parse(values["length"]).steps(source)
            saved = stack.enter_context(contextlib.closing(Checkpoints(path / "checkpoints", session.keep(values, source))))
            source = stack.enter_context(ahead(source, stop))
            like = jax.eval_shape(lambda rows: first(made, values, fitted, arrays(rows, values["batch_size"])), rows)
            like, transferred = place(like, lying(made, how, like)), None
            state = saved.restore(like, lambda text: listener("warning", 0, {"text": text}))
            if state is None:
                state, transferred = adopted(made, first(made, values, fitted, source), origin, values)
                state = place(state, lying(made, how, state))
            held_out = experiment.splits["validation"]
            asked = (lambda: bool(interrupted())) if jax.process_count() == 1 else None  # several must not differ
            judge = judging(made, state["features"], held_out, source.batch_size, asked, how.source)
        step = int(state["train"].step)
        going = session.Session(
            path, values, made.learner, source, state["features"], saved, interrupted, step, stop, how, judge,
            sample=sampling(made, state["features"], experiment.examples, experiment.data.schema),
            unchanged=experiment.data.unchanged,
        )  # fmt: skip
        if (step >= stop and not going.unjudged(step)) or going.exhausted:
            told(run, "complete", step=step, length=stop)
            listener("complete", step, {"length": stop, "folder": str(path)})
            return run
        writes = processes.first()
        if writes:
            folder.describe(path, configs.text(run.config), run.config.overrides, folder.environment())
            schema.keep(path, experiment.data.schema, rows, experiment.examples)
        told(run, "running", step=step, length=stop)
        journal = Journal(*session.trackers(path, step, values), Tracker(listener)) if writes else Journal()
        going.journal = stack.enter_context(contextlib.closing(journal))
        about = {"length": stop, "evaluate": going.evaluate_every, "folder": str(path), "parallel": f"{how.name}, {how.why}"}
        journal.say("start", step, **about)
        for text in session.overlong(values["learner"], stop):
            journal.say("warning", step, text=text)
        if streamed(experiment.splits["train"]) and values["features"]:
            total = len(experiment.splits["train"].weight)
            journal.say("note", step, text=f"Transforms are fitted on {len(rows.weight):,} of {total:,} training rows.")
        if transferred:
            journal.say("note", step, text=inheritance(transferred, values["init_from"]))
        trained = going.go(state["train"])
        saved.wait()
        step = int(trained.step)
        cut = processes.agreed(bool(interrupted())) and not going.exhausted and (step < stop or going.unjudged(step))
        journal.say("cache", step, **compile_cache())
        told(run, "interrupted" if cut else "complete", step=step, length=stop)
        journal.say("interrupted" if cut else "complete", step, length=stop, folder=str(path))
        if cut:
            raise Interrupted(interrupted() or signal.SIGTERM, path, step)
    return run


def told(run: Run, state: str, **more: Any) -> None:
    """The run's status, by the process that writes."""
    if processes.first():
        folder.set_status(run.folder, state, **more)


def adopted(made: Parts, state: dict[str, Any], origin: Any, values: dict[str, Any]) -> tuple[dict[str, Any], Transfer | None]:
    """The first state with the parameters that it inherits, and what became of each."""
    if origin is None:
        return state, None
    begun: TrainState = state["train"]
    if made.learner.adopt is None:
        raise configs.ConfigError("`init_from`: this learner has no parameters to begin with.")
    try:
        transferred = transfer(origin, made.learner.params(begun.state), values["init_map"] or {}, values["init_allow"])
    except ValueError as error:
        raise configs.ConfigError(str(error)) from error
    state["train"] = begun._replace(state=jax.jit(made.learner.adopt)(begun.state, transferred.params, begun.hp))
    return state, transferred


def inheritance(transferred: Transfer, path: str) -> str:
    """What became of each leaf, in a line."""
    parts = [f"{len(transferred.taken)} arrays taken from {path}"]
    parts += [f"missing there: {', '.join(transferred.missing)}"] if transferred.missing else []
    parts += [f"unused here: {', '.join(transferred.unused)}"] if transferred.unused else []
    return "; ".join(parts)


def load(path: str | Path, params: str | None = None, checkpoint: str = "last") -> Run:
    """The run in a folder; a copy of the folder on another machine will do.

    `params` names one of the learner's views, as `raw` beside an average; `checkpoint` is last, best or a step.
    """
    path = Path(path)
    if not (path / "config.yaml").is_file():
        raise folder.RunError(f"{path} is not a run folder: it has no config.yaml.")
    compile_cache()
    return Run(path, configs.read(path), params, checkpoint)


def evaluate(run: Run) -> dict[str, float]:
    """Write `report/` (a page, its pictures and `metrics.json`) into the run folder and return the metrics."""
    history = [{"step": e["step"], "split": e["kind"], "values": of_learning(e["values"])} for e in run.history]
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
        results={name: (judged.shown, judged.answers) for name, judged in run.results.items()},
        totals={name: float(run.experiment.splits[name].weight.sum()) for name in run.results},
        texts={name: run.texts(name) for name in run.results},
    )
    return run.metrics


def of_learning(values: dict[str, Any]) -> dict[str, Any]:
    """The values that tell of learning, not of the machine."""
    return {name: value for name, value in values.items() if name not in MACHINE}


class Unmet(Exception):
    """A run does not reach the result that its experiment states."""


EXPLANATIONS = {"gradient": False, "gradient_times_input": True}
# Programs that make something of seeds and prompts compile slowly: for one caller, and for some at once.
MADE_SIZES = (1, 8)


def export(run: Run, to: str | Path | None = None, explain: str | None = None) -> Path:
    """Write the artifact, which needs none of this code, as the next version in the run's artifact/ or in `to`.

    explain: `gradient` or `gradient_times_input` adds the method `explain`: for each row what of the input moves the
    score of the predicted class, or the predicted number. Returns the version's folder.
    """
    from arsenal_serving.explain import gradient
    from arsenal_serving.export import Method
    from arsenal_serving.export import export as write

    described, rows, _ = run.kept
    target = Path(to) if to is not None else run.folder / "artifact"
    if explain is not None and explain not in EXPLANATIONS:
        raise ValueError(f"`explain` must be one of {', '.join(EXPLANATIONS)}; got {explain!r}.")
    coded = {"predict": described.target._replace(columns=None)} if described.target.codec else {}
    proba = {"predict_proba": described.target._replace(codec=None)} if described.target.columns else {}
    methods = {
        name: Method(
            f,
            run.parts.learner.inputs[name](rows) if name in run.parts.learner.inputs else rows.x,
            inputs={} if name in run.parts.learner.inputs else described.inputs,
            outputs={key: tensor for key, tensor in (coded | proba).items() if key == name},
            sizes=MADE_SIZES if name in run.parts.learner.inputs else None,
        )
        for name, f in run.apply.items()
    }
    if explain is not None:
        moved = gradient(_scores(run), times_input=EXPLANATIONS[explain])
        methods["explain"] = Method(moved, rows.x, inputs=described.inputs)
    provenance = {
        "run": run.folder.name, "step": run.step, "config": run.config.values, "overrides": run.config.overrides,
        "environment": read_json(run.folder / "environment.json"), "parameters": digest(run.params),
    }  # fmt: skip
    return write(target, methods, run.params, name=run.config.values["name"], codecs=described.codecs, provenance=provenance)


def _scores(run: Run) -> Callable:
    """What an explanation explains: scores of classes, or a predicted number."""
    proba, predict = run.apply.get("predict_proba"), run.apply.get("predict")

    def centred(params, x):
        # The scores before the softmax, less their mean: unlike probabilities they do not saturate.
        logs = jnp.log(jnp.maximum(proba(params, x), jnp.finfo(jnp.float32).tiny))
        return logs - logs.mean(-1, keepdims=True)

    if proba is not None:
        return centred
    if predict is None or run.kept[0].target.codec:
        raise ValueError(f"`explain` needs `predict_proba` or a predicted number; this run answers {', '.join(run.apply)}.")
    return predict


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
