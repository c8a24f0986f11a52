"""A run folder that answers: its parameters, its history, what it is worth, and predictions."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from arsenal import config as configs
from arsenal.config import Config
from arsenal.data.dataset import Schema
from arsenal.data.frame import answer_frame, as_inputs, tensors
from arsenal.data.tabular import table_inputs
from arsenal.evaluation.answers import answers
from arsenal.evaluation.expectation import holds
from arsenal.evaluation.labels import display_name
from arsenal.evaluation.plot import learning_curves
from arsenal.evaluation.report import number, png, uri
from arsenal.experiment import Experiment, Parts, build, build_sampler, build_scorer, example_answers, parts, shape_of
from arsenal.records import Batch
from arsenal.refusal import Refusal
from arsenal.runs import events, folder, schema
from arsenal.runs.cache import compile_cache
from arsenal.runs.checkpoints import Checkpoints
from arsenal.runs.journal import of_learning
from arsenal.runs.judge import Judge, evaluations
from arsenal.training.driver import streams

if TYPE_CHECKING:  # pandas is slow to load
    import pandas as pd


def load(path: str | Path, params: str | None = None, checkpoint: str = "last") -> "Run":
    """The run in a folder; a copy of the folder on another machine will do.

    `params` names one of the learner's views, as `raw` beside an average; `checkpoint` is last, best or a step.
    """
    path = Path(path)
    if not (path / "config.yaml").is_file():
        raise folder.RunError(f"{path} is not a run folder: it has no config.yaml.")
    compile_cache()
    return Run(path, configs.read_config(path), params, checkpoint)


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
        return parts(self.config, self.kept[0] if (self.folder / "schema.json").is_file() else None)

    @functools.cached_property
    def experiment(self) -> Experiment:
        """The parts with the data, which must be what the run was trained on."""
        built = build(self.config)
        if built.data.fingerprint != folder.read_mathematics(self.folder)["data"]:
            raise folder.RunError(f"The data is not what {self.folder} was trained on: its names, types or values changed.")
        return built

    @functools.cached_property
    def kept(self) -> tuple[Schema, Batch, int]:
        """The schema, a few rows as the data set gives them, and how many rows the transforms were fitted on."""
        return schema.read_schema(self.folder)

    @functools.cached_property
    def restored(self) -> dict[str, Any]:
        """The newest sound checkpoint: `train` and `features`."""
        _, examples, n = self.kept
        rows = jax.tree.map(lambda v: jax.ShapeDtypeStruct((n, *v.shape[1:]), v.dtype), examples)
        like = shape_of(self.parts, self.config.settings, rows)
        with contextlib.closing(Checkpoints(self.folder / "checkpoints", best=self.ranking)) as saved:
            found = saved.restore(like, which=self.checkpoint)
        if found is None:
            raise folder.RunError(f"The run {self.folder} has no sound checkpoint; train it first.")
        return found

    def ranking(self) -> list[int]:
        """The steps that the log judges, best first; none where the config keeps none of the best."""
        section = self.config.settings.run.checkpoints
        return Judge.of(section).best(evaluations(events.read_events(self.folder / "events.jsonl"))) if section.best else []

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
    def apply(self) -> dict[str, Callable[..., Any]]:
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
        return [event for event in events.read_events(self.folder / "events.jsonl") if "values" in event]

    @functools.cached_property
    def results(self) -> dict[str, "Judgement"]:
        """Validation and test, as far as they have rows."""
        splits = self.experiment.splits
        return {name: self.score(rows) for name, rows in splits.items() if name != "train" and len(rows.weight)}

    def score(self, rows: Batch) -> "Judgement":
        """Metrics of all rows as the data set gives them, and the answers that a report shows."""
        learner, trained, fitted = self.parts.learner, self.restored["train"], self.restored["features"]
        params, size = self.params["learner"], self.config.settings.batch_size or len(rows.weight)
        judge = build_scorer(self.parts, fitted, rows, size)
        values = judge(streams(trained.key)["evaluate"], params, trained.hp) if judge else None
        shown, apply = example_answers(self.parts, fitted, params, rows)
        given = answers(apply, learner.inputs, params, shown, size)
        return Judgement(given, {name: np.asarray(value).tolist() for name, value in (values or {}).items()}, shown)

    def texts(self, split: str) -> list[tuple[str, str]]:
        """Prompts from a few rows of a split, and how the learner goes on; empty where it writes no text."""
        rows, described = self.experiment.splits[split], self.kept[0]
        sample = build_sampler(self.parts, self.restored["features"], rows, described)
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
            for name, bounds in self.config.settings.expect.items()
            for side, bound in bounds.items()
            if not holds(self.metrics.get(name), side, bound)
        ]

    def __repr__(self) -> str:
        """Name, state and folder."""
        status = folder.read_status(self.folder)
        return f"Run({self.config.settings.name}, {status.get('state')} at step {status.get('step')}, {self.folder})"

    def _repr_html_(self) -> str:
        """The run in a notebook: where it stands, its last numbers, its curves."""
        return card(self)

    def predict(self, frame: Any, method: str | None = None) -> "pd.DataFrame":
        """Answer a data frame, an array or a dict of arrays: a frame of one row each, labels decoded.

        All methods that read the data's inputs answer unless `method` names one.
        """
        return predict(self, frame, method)


def card(run: Run) -> str:
    """A run as HTML: where it stands, its newest numbers of the validation rows, and its curves."""
    status, history = folder.read_status(run.folder), run.history
    rows = [{"step": event["step"], "split": event["kind"], "values": of_learning(event["values"])} for event in history]
    last = next((row["values"] for row in reversed(rows) if row["split"] == "validation"), {})
    named = ((escape(display_name(name)), number(value)) for name, value in last.items())
    cells = "".join(f"<tr><td>validation {name}</td><td>{value}</td></tr>" for name, value in named)
    where = f"{status.get('state')} at step {status.get('step')}<br><code>{escape(str(run.folder))}</code>"
    head = f"<b>{escape(run.config.settings.name)}</b> {where}"
    picture = f'<img src="{uri(png(learning_curves(rows)))}" style="max-width: 100%">' if rows else ""
    return f"<div>{head}<table>{cells}</table>{picture}</div>"


class Judgement(NamedTuple):
    """What a run is worth on some rows."""

    answers: dict[str, np.ndarray]
    """[m, ...] by name: those that a report shows, for the rows that it shows."""
    metrics: dict[str, float]
    """Over all rows."""
    shown: Batch
    """[m]: the rows of the answers, as the learner sees them."""


def predict(run: Run, inputs: Any, method: str | None = None) -> "pd.DataFrame":
    """Answers as a data frame: a column for each answer, one for each label of `predict_proba`."""
    import pandas as pd

    names = [name for name in run.apply if name not in run.parts.learner.inputs] if method is None else [method]
    for name in names:
        if name not in run.apply:
            raise ValueError(f"`method` must be one of {', '.join(run.apply)}; got {name!r}.")
    if not names:
        raise ValueError(f"No method of this run reads the data's inputs; name one of {', '.join(run.apply)} as `method`.")
    described, examples, _ = run.kept
    if isinstance(inputs, pd.DataFrame) and inputs.empty:
        raise ValueError("There is no row to answer.")
    if isinstance(inputs, pd.DataFrame):
        x = table_inputs(inputs, described) if described.table else tensors(inputs, described)
    else:
        x = as_inputs(inputs, examples.x)
    n = len(jax.tree.leaves(x)[0])
    if n == 0:
        raise ValueError("There is no row to answer.")
    rows = Batch(x, None, np.ones(n, np.float32), np.arange(n, dtype=np.int32))
    size = run.config.settings.batch_size or 1024
    given = answers({name: run.apply[name] for name in names}, {}, run.params, rows, size)
    return answer_frame(given, described)


class Unmet(Refusal):
    """A run does not reach the result that its experiment states."""
