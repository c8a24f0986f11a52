"""A run folder that answers: its parameters, its history, what it is worth, and predictions."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
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
from arsenal.evaluation import plot
from arsenal.evaluation.answers import answers
from arsenal.evaluation.expectation import holds
from arsenal.evaluation.labels import display_name
from arsenal.evaluation.plot import LIGHT, Theme, duplicate_quantities, learning_curves
from arsenal.evaluation.report import html_table, interval_texts, is_labels, number, png, report_link, sound_rows, split_rank, uri
from arsenal.experiment import Experiment, Parts, build, build_sampler, build_scorer, example_answers, parts, shape_of
from arsenal.records import Batch
from arsenal.refusal import Refusal
from arsenal.runs import events, folder, schema
from arsenal.runs.cache import compile_cache
from arsenal.runs.checkpoints import Checkpoints
from arsenal.runs.journal import of_learning
from arsenal.runs.judge import Judge, evaluations
from arsenal.storage.files import read_json
from arsenal.training.driver import streams

if TYPE_CHECKING:  # pandas is slow to load
    import pandas as pd
    from matplotlib.figure import Figure


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

    @functools.cached_property
    def trained(self) -> "Judgement":
        """The training rows, judged as the others are."""
        return self.score(self.experiment.splits["train"])

    @property
    def plot(self) -> "Plots":
        """Its pictures, as `run.plot.roc()`."""
        return Plots(self)

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
    """A run as HTML: where it stands, its metrics, with intervals once it was evaluated, its first curves, its report."""
    status = folder.read_status(run.folder)
    state, step = status.get("state"), status.get("step")
    where = f"{state} at step {number(step)}" if step is not None else str(state)
    table = html_table((), metric_lines(run))
    head = f"<b>{escape(run.config.settings.name)}</b> {where}<br><code>{escape(str(run.folder))}</code>"
    history = logged_rows(run)
    names = list(dict.fromkeys(name for row in history for name in row["values"]))
    same = duplicate_quantities(history, names)
    first = [name for name in names if name not in same and sum(name in row["values"] for row in history) > 1][:CURVES]
    picture = f'<img alt="" src="{uri(png(learning_curves(history, first)))}" style="max-width: 100%">' if first else ""
    link = report_link(run.folder / "report" / "index.html")
    return f"<div>{head}{table}{link}{picture}</div>"


CURVES = 2
"""So many curves are shown with a run in a notebook."""


def metric_lines(run: Run) -> list[tuple[str, str, str]]:
    """Name, value and interval of the report's metrics; before there is a report, the newest of the validation rows."""
    report = run.folder / "report"
    if (report / "metrics.json").is_file():
        ends = interval_texts(read_json(report / "findings.json") if (report / "findings.json").is_file() else None)
        metrics = read_json(report / "metrics.json")
        ranked = sorted((split_rank((parts := name.rpartition("/"))[0]), parts[0], parts[2], name) for name in metrics)
        return [
            (f"{split} {display_name(what)}", number(metrics[name]), ends.get(name, "")) for _, split, what, name in ranked
        ]
    last = next((row["values"] for row in reversed(logged_rows(run)) if row["split"] == "validation"), {})
    return [(f"validation {display_name(name)}", number(value), "") for name, value in last.items()]


def logged_rows(run: Run) -> list[dict[str, Any]]:
    """What was logged of learning, `{"step", "split", "values"}`, as pictures take it."""
    return [{"step": event["step"], "split": event["kind"], "values": of_learning(event["values"])} for event in run.history]


def slope_of(run: Run) -> tuple[np.ndarray, list[str]] | None:
    """The coefficients of a linear run, and the names of its inputs; None for another one."""
    slope = getattr(run.params["learner"], "slope", None)
    if slope is None or np.ndim(slope) not in (1, 2):
        return None
    known = column_names(run).get("x", [])
    return np.asarray(slope), known if len(known) == len(slope) else [f"input {i + 1}" for i in range(len(slope))]


def column_names(run: Run) -> dict[str, list[str]]:
    """What the columns of each input that the learner sees are called; of those that nobody knows nothing."""
    given = {name: list(tensor.columns) for name, tensor in run.kept[0].inputs.items() if tensor.columns}
    rename = run.parts.features.names
    return rename(given) if rename is not None and len(given) == len(run.kept[0].inputs) else {}


class Shown(NamedTuple):
    """What a picture shows of a split: the rows that are there and whose answers are numbers."""

    x: Any
    y: np.ndarray | None
    weight: np.ndarray
    predict: np.ndarray | None
    proba: np.ndarray | None
    sample: np.ndarray | None

    @property
    def said(self) -> Any:
        """The label that each row is given, [m]."""
        return self.proba.argmax(1) if self.predict is None and self.proba is not None else self.predict

    def of_labels(self) -> bool:
        """Whether y and the answers are labels."""
        return self.y is not None and len(self.weight) > 0 and is_labels(self.y, self.predict, self.proba)

    def of_probabilities(self) -> bool:
        """Whether they are labels with their probabilities."""
        return self.proba is not None and self.of_labels()

    def of_numbers(self) -> bool:
        """Whether y and `predict` are numbers."""
        alike = self.y is not None and self.predict is not None and self.predict.shape == self.y.shape
        return bool(alike and self.y.dtype.kind in "fiu" and not self.of_labels())  # type: ignore[union-attr]


def shown_rows(run: Run, split: str | None) -> tuple[str, Shown]:
    """A split, test unless there is none, and what its pictures show; ValueError for a split without rows."""
    splits = run.experiment.splits
    filled = [name for name in ("test", "validation", "train") if len(splits[name].weight)]
    if split is not None and split not in filled:
        raise Unfit(f"`split` must be one of {', '.join(filled)}, which have rows; got {split!r}.")
    name = split or filled[0]
    judged = run.trained if name == "train" else run.results[name]
    (x, y, weight, answers), _ = sound_rows(judged.shown, judged.answers)
    return name, Shown(x, y, weight, *(answers.get(one) for one in ("predict", "predict_proba", "sample")))


@dataclasses.dataclass(frozen=True, repr=False)
class Plots:
    """The pictures of `arsenal.evaluation.plot` of one run, each a matplotlib `Figure`; `dir` and `repr` name all.

    `split` is train, validation or test; test unless that has no rows. Of a large split some rows are shown, evenly spaced, as in
    the report. A picture that does not fit the run's answers raises `Unfit`, which says what it needs.
    """

    run: Run

    def __dir__(self) -> list[str]:
        """The pictures."""
        return sorted(name for name in vars(Plots) if not name.startswith("_"))

    def __repr__(self) -> str:
        """Their names."""
        return f"Plots({', '.join(dir(self))})"

    def learning_curves(self, quantities: Sequence[str] | None = None, theme: Theme = LIGHT) -> "Figure":
        """What was logged over steps, or some of it by name."""
        history = logged_rows(self.run)
        known = list(dict.fromkeys(name for row in history for name in row["values"]))
        for name in quantities or ():
            if name not in known:
                raise Unfit(f"`quantities` must be among {', '.join(known) or 'none, as nothing was logged'}; got {name!r}.")
        if not known:
            raise Unfit("`learning_curves` needs what was logged while a run learned; this one logged nothing.")
        return plot.learning_curves(history, quantities, theme, self.run.parts.learner.axis)

    def confusion_matrix(self, split: str | None = None, theme: Theme = LIGHT) -> "Figure":
        """How often each class was called each; of more than 200 classes the most frequent mistakes."""
        rows = self._pick("confusion_matrix", split, Shown.of_labels, "labels as answers")
        many = max(int(rows.y.max()), int(rows.said.max()) + 1, len(self._labels)) > plot.PAIRS_LIMIT
        draw = plot.confusion_pairs if many else plot.confusion_matrix
        return draw(rows.y, rows.said, rows.weight, self._labels, theme)

    def roc(self, split: str | None = None, theme: Theme = LIGHT) -> "Figure":
        """ROC curves."""
        return self._draw_classes(plot.roc, split, theme)

    def precision_recall(self, split: str | None = None, theme: Theme = LIGHT) -> "Figure":
        """Precision over recall."""
        return self._draw_classes(plot.precision_recall, split, theme)

    def calibration(self, split: str | None = None, bins: int = 15, theme: Theme = LIGHT) -> "Figure":
        """The reliability diagram."""
        rows = self._pick("calibration", split, Shown.of_probabilities, "probabilities of labels")
        return plot.calibration(rows.y, rows.proba, rows.weight, bins, theme)

    def wrong_examples(self, split: str | None = None, count: int = 16, theme: Theme = LIGHT) -> "Figure":
        """The most confident mistakes on images."""
        fits = lambda rows: rows.of_probabilities() and plot.is_images(rows.x)  # noqa: E731
        rows = self._pick("wrong_examples", split, fits, "images and probabilities of their labels")
        return plot.wrong_examples(rows.x, rows.y, rows.proba, rows.weight, self._labels, count, theme)

    def plane(self, split: str | None = None, theme: Theme = LIGHT) -> "Figure":
        """Rows of two inputs as points, by their labels."""
        fits = lambda rows: rows.of_labels() and np.ndim(rows.x) == 2 and rows.x.shape[1] == 2  # noqa: E731
        rows = self._pick("plane", split, fits, "two inputs and labels")
        return plot.plane(rows.x, rows.y, rows.weight, self._labels, theme)

    def prediction_scatter(self, split: str | None = None, theme: Theme = LIGHT) -> "Figure":
        """Predicted numbers over the true ones."""
        return self._draw_numbers(plot.prediction_scatter, split, theme)

    def residuals(self, split: str | None = None, theme: Theme = LIGHT) -> "Figure":
        """Mistakes over predicted numbers."""
        return self._draw_numbers(plot.residuals, split, theme)

    def sample_grid(self, split: str | None = None, count: int = 48, theme: Theme = LIGHT) -> "Figure":
        """Images that the learner drew."""
        rows = self._pick("sample_grid", split, lambda rows: plot.is_images(rows.sample), "a learner that draws images")
        return plot.sample_grid(rows.sample, "Drawn", count=count, theme=theme)

    def coefficients(self, theme: Theme = LIGHT) -> "Figure":
        """The slopes of a linear run."""
        found = slope_of(self.run)
        if found is None:
            learned = type(self.run.params["learner"]).__name__
            raise Unfit(f"`coefficients` needs a linear run, whose parameters have a slope; this one's are {learned}.")
        return plot.coefficients(*found, self._labels, theme)

    def importances(self, split: str | None = None, theme: Theme = LIGHT) -> "Figure":
        """Permutation importance of the columns: how much worse the log loss or the squared error becomes without each."""
        from arsenal.evaluation.findings import column_importance  # SciPy's statistics take a second to load

        run, (name, _) = self.run, shown_rows(self.run, split)
        judged = run.trained if name == "train" else run.results[name]
        key = streams(jax.random.key(run.config.settings.seed))["evaluate"]
        apply = {name: f for name, f in run.apply.items() if name not in run.parts.learner.inputs}
        rows, schema = run.experiment.splits[name], run.kept[0]
        if len(judged.shown.weight) < len(rows.weight):
            raise Unfit(f"`importances` needs rows in memory, few enough to be shown; {name} has {len(rows.weight):,}.")
        found, names, why = column_importance(key, apply, run.params, rows, schema, len(self._labels))
        if found is None:
            raise Unfit(" ".join(why) or "`importances` needs rows with one label or number each, and `predict`.")
        return plot.importances(found.mean, found.deviation, names, "Permutation importance", "", theme)

    @property
    def _labels(self) -> list[str]:
        """The labels' names, none where numbers are predicted."""
        return list(self.run.kept[0].target.columns or ())

    def _pick(self, picture: str, split: str | None, fits: Callable[[Shown], bool], needs: str) -> Any:
        """What a picture shows of a split; `Unfit` where it does not fit."""
        name, rows = shown_rows(self.run, split)
        if not fits(rows):
            there = {"predict": rows.predict, "predict_proba": rows.proba, "sample": rows.sample}
            said = ", ".join(f"{one} {v.dtype}{list(v.shape)}" for one, v in there.items() if v is not None)
            raise Unfit(f"`{picture}` needs {needs}; this run's answers on {name} are {said or 'none of these'}.")
        return rows

    def _draw_classes(self, draw: Callable[..., "Figure"], split: str | None, theme: Theme) -> "Figure":
        """A picture of probabilities."""
        rows = self._pick(draw.__name__, split, Shown.of_probabilities, "probabilities of labels")
        return draw(rows.y, rows.proba, rows.weight, self._labels, theme)

    def _draw_numbers(self, draw: Callable[..., "Figure"], split: str | None, theme: Theme) -> "Figure":
        """A picture of predicted numbers; several for a row are drawn as so many rows."""
        rows = self._pick(draw.__name__, split, Shown.of_numbers, "a predicted number for each target")
        return draw(rows.y.reshape(-1), rows.predict.reshape(-1), np.repeat(rows.weight, rows.y[:1].size), theme)


class Unfit(Refusal, ValueError):
    """A picture, or the split that it is asked of, does not fit the run."""


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


def check_expect(run: Run, deed: str, force: bool = False) -> list[str]:
    """What the experiment states and the run misses, one line each; `Unmet` unless that is nothing or `force` is true.

    `deed` says what would be done, as "exported". What cannot be measured, since the data is not there, is missed.
    """
    if not run.config.settings.expect:
        return []
    run.restored  # noqa: B018 - a checkpoint that does not hold says so itself
    try:
        missed = run.unmet
    except (Refusal, ValueError, OSError) as error:
        missed = [f"it cannot be measured: {' '.join(str(error).split())}"]
    if missed and not force:
        raise Unmet(
            f"{run.folder} misses what its experiment states, so it is not {deed}: {'; '.join(missed)}. "
            "force=true does it all the same, and that is kept; `~expect` in training states nothing."
        )
    return missed
