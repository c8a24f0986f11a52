"""What a report says beyond its metrics: how sure they are, what a simpler model does, where the model is worse, what leaks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from arsenal_serving.artifact import codecs
from arsenal_serving.export import Tensor

from arsenal.combine import after
from arsenal.combine.whole import trace_host
from arsenal.estimators import logistic, ridge
from arsenal.evaluation.answers import by_place
from arsenal.evaluation.bootstrap import plan_resamples, resample
from arsenal.evaluation.drift import Drift, find_drift
from arsenal.evaluation.explain import Importances, columns_of, permutation_importance
from arsenal.evaluation.fairness import Fairness, fairness
from arsenal.evaluation.leakage import Leak, find_leaks
from arsenal.evaluation.mistakes import Mistake, worst_mistakes
from arsenal.evaluation.robustness import Perturbed, Robustness, disturbances
from arsenal.evaluation.slices import Slice, find_worst, slices_of
from arsenal.evaluation.threshold import Costs, Thresholds, judge_thresholds
from arsenal.features import standardize, tabular
from arsenal.metrics import log_loss, mean_squared_error
from arsenal.nearest import nearest
from arsenal.records import Batch, Estimator, Metric, hyperparameters, mask_dead_rows

SAMPLES, HOST_SAMPLES = 1000, 200
"""Resamples of an interval: of metrics in the program, and of those on the host."""
SHOWN, COLUMNS = 5, 60
"""Slices of a kind that are shown; columns up to which their importance is looked for."""
CONFIDENCE = 0.95
NUMBERS = 20_000_000
"""Rows times classes up to which rows are resampled, columns dealt out anew, and a linear model is fitted."""

Outputs = Mapping[str, Any]


class Draws(NamedTuple):
    """A metric of one model's answers: its value on the rows, and on every resample of them [samples]."""

    value: float
    draws: np.ndarray


class Compared(NamedTuple):
    """A simpler model beside the run, on the same rows."""

    name: str
    value: float
    """Of the first metric."""
    better: float
    """How much better the run is: the difference, so that above 0 is better."""
    low: float
    high: float
    ends: tuple[float, float] = (float("nan"), float("nan"))
    """The interval of `value`."""


class Findings(NamedTuple):
    """All of it, of the rows of one split."""

    split: str
    intervals: dict[str, tuple[float, float]] = {}
    """By metric: the 95 % interval of a bootstrap of the rows."""
    validation: dict[str, tuple[float, float]] = {}
    """The same of the validation rows, where they are not the split itself."""
    why_none: dict[str, str] = {}
    """By metric: why it has no interval."""
    metric: str = ""
    """By which simpler models are compared."""
    compared: Sequence[Compared] = ()
    value_name: str = ""
    """What slices are compared by."""
    slices: Mapping[str, Sequence[Slice]] = {}
    worst: Sequence[Slice] = ()
    groups: Mapping[str, Fairness] = {}
    leaks: Sequence[Leak] = ()
    names: Sequence[str] = ()
    """Of the columns whose importance was looked for."""
    importance: Importances | None = None
    remarks: Sequence[str] = ()
    """What was not looked for, and why."""
    thresholds: Thresholds | None = None
    """Of two classes: what a threshold of the probability does."""
    mistakes: Sequence[Mistake] = ()
    drift: Sequence[Drift] = ()
    robustness: Robustness | None = None


def find(
    key: jax.Array, split: str, splits: Mapping[str, Batch], outputs: Outputs, metrics: Mapping[str, Metric], schema: Any,
    apply: Mapping[str, Callable], params: Any, groups: Sequence[str] = (), costs: Costs | None = None,
    validation: Outputs | None = None, robustness: bool = False,
) -> Findings:  # fmt: skip
    """What there is to say of the answers `outputs` to the rows of a split, as the data set gives them.

    `apply` are the answers as functions of such rows, `(params, x)`; `groups` names columns whose levels are groups of people.
    `costs` are those of a false alarm and of a miss; `validation` are the answers to the validation rows, where they are not the
    split itself: by them the threshold is found. `robustness` answers the rows again, disturbed, once for every column and ten
    times more. Raises ValueError for a group that is no column, or whose answers are not yes
    or no, and for costs where there are not two classes with probabilities.
    """
    rows, train = splits[split], splits["train"]
    classes = len(schema.target.columns or ())
    columns = named_columns(rows.x, schema)
    for name in groups:
        if name not in columns:
            raise ValueError(f"`groups` must name columns, {', '.join(columns)}; got `{name}`.{nearest(name, columns)}")
    if groups and (classes != 2 or "predict" not in outputs):
        raise ValueError(f"`groups` compares what is said yes or no to; this target has {classes or 'no'} classes.")
    measured = metrics_that_fit(metrics, outputs, rows)
    thresholds, no_threshold = find_thresholds(key, splits, split, outputs, validation, schema, costs)
    simple, remarks = simple_answers(key, train, rows, schema)
    draws, why_none = draw_metrics(key, measured, {"": outputs, **simple}, rows)
    intervals = {name: percentiles(one[""].draws) for name, one in draws.items()}
    judged: dict[str, tuple[float, float]] = {}
    if validation is not None and len(splits["validation"].weight):
        others = splits["validation"]
        drawn, _ = draw_metrics(key, metrics_that_fit(metrics, validation, others), {"": validation}, others)
        judged = {name: percentiles(one[""].draws) for name, one in drawn.items()}
    modes = {name: one.mode for one in measured.values() for name in one.compute(one.empty())}
    metric = next((name for name in modes if name in draws and modes[name]), "")
    value_name, value, worse = value_of_rows(outputs, rows, classes)
    beside = [who for who in simple if metric and who in draws[metric]]
    compared = [compare(who, draws[metric][""], draws[metric][who], str(modes[metric])) for who in beside]
    slices, worst = {}, []
    if value is not None and columns:
        slices = slices_of(columns, value, rows.weight)
        worst = find_worst(columns, value, rows.weight, rows.row, worse, most=SHOWN)
    importance, names, why = column_importance(key, apply, params, rows, schema, classes)
    matter = [] if importance is None else [names[i] for i in np.argsort(-np.asarray(importance.mean), kind="stable")]
    mistakes = [] if rows.y is None or not columns else worst_mistakes(
        rows.y, rows.row, rows.weight, outputs, columns, schema.target.columns, matter
    )  # fmt: skip
    sturdy = find_robustness(key, rows, train, schema, apply, params, outputs, measured, metric) if robustness else None
    drift, no_drift = drift_of_columns(splits, columns, schema)
    said = np.asarray(outputs["predict"]) if groups else None
    fair = {name: fairness(rows.y, said, columns[name], rows.weight) for name in groups}
    return Findings(
        split, intervals, judged, why_none, metric, compared, value_name, slices, worst, fair, find_leaks(splits), names,
        importance, [*remarks, *why, *no_threshold, *no_drift], thresholds, mistakes, drift, sturdy,
    )  # fmt: skip


def find_thresholds(
    key: jax.Array, splits: Mapping[str, Batch], split: str, outputs: Outputs, validation: Outputs | None, schema: Any,
    costs: Costs | None,
) -> tuple[Thresholds | None, list[str]]:  # fmt: skip
    """What a threshold does to rows of two classes, and why none was chosen. Raises ValueError for costs of anything else."""

    def scored(name, said):
        rows, proba = splits[name], np.asarray(said["predict_proba"])
        return np.asarray(rows.y), proba[:, 1], np.asarray(rows.weight)

    labels = schema.target.columns or ()
    fit = splits[split].y is not None and np.ndim(splits[split].y) == 1 and np.ndim(outputs.get("predict_proba", ())) == 2
    if len(labels) != 2 or not fit:
        if costs is not None:
            raise ValueError(f"`costs` are of yes or no, by a probability; this target has {len(labels) or 'no'} classes.")
        return None, []
    chosen = validation is not None and "predict_proba" in validation and bool((splits["validation"].weight > 0).any())
    why = [] if chosen or costs is None else ["No threshold is chosen: that takes validation rows beside the rows that test."]
    by = scored("validation", validation) if chosen and validation is not None else None
    return judge_thresholds(key, scored(split, outputs), "validation", by, costs, str([*labels][1])), why


def find_robustness(
    key: jax.Array, rows: Batch, train: Batch, schema: Any, apply: Mapping[str, Callable], params: Any, outputs: Outputs,
    metrics: Mapping[str, Metric], metric: str,
) -> Robustness:  # fmt: skip
    """How much worse the metric is on disturbed rows, on the same resamples. Raises ValueError where there are no columns."""
    made = disturbances(key, rows.x, train, schema) if isinstance(rows.x, Mapping) or np.ndim(rows.x) == 2 else {}
    if not metric or not made or len(made) > COLUMNS + 10:
        raise ValueError(f"`robustness` is of a table of up to {COLUMNS} columns and a metric that says which values are good.")
    asked = {name: apply[name] for name in outputs if name in apply}
    answer = jax.jit(lambda params, x: {name: f(params, x) for name, f in asked.items()})
    said = {repr(what): jax.device_get(answer(params, jax.tree.map(jnp.asarray, x))) for what, x in made.items()}
    mine = {name: one for name, one in metrics.items() if metric in one.compute(one.empty())}
    draws, _ = draw_metrics(key, mine, {"": {name: outputs[name] for name in asked}, **said}, rows)
    mode, lines = str(next(iter(mine.values())).mode), []
    for what in made:
        one = compare("", draws[metric][""], draws[metric][repr(what)], mode)
        lines.append(Perturbed(*what, one.value, one.better, one.low, one.high))
    return Robustness(metric, draws[metric][""].value, lines)


def drift_of_columns(
    splits: Mapping[str, Batch], columns: Mapping[str, np.ndarray], schema: Any
) -> tuple[list[Drift], list[str]]:
    """How far the columns of the other splits, and the target, are from those that train; or why nobody looked."""
    if not columns:
        return [], []
    if len(columns) > COLUMNS:
        return [], [f"Drift is looked for among {COLUMNS} columns; here are {len(columns)}."]

    def named(rows):
        found = named_columns(rows.x, schema)
        if rows.y is not None and np.ndim(rows.y) == 1:
            found["the target"] = np.asarray(rows.y)
        return {name: value for name, value in found.items() if value.dtype.kind in "fiubUS"}, np.asarray(rows.weight)

    return find_drift({name: named(splits[name]) for name in ("train", "test", "validation") if len(splits[name].weight)}), []


def named_columns(x: Any, schema: Any) -> dict[str, np.ndarray]:
    """The raw columns [n] by name, codes of words as words; columns of texts, dates and images are left out."""
    found: dict[str, np.ndarray] = {}
    for leaf, value in (x if isinstance(x, Mapping) else {"x": x}).items():
        value, field = np.asarray(value), schema.inputs.get(leaf, Tensor())
        if value.ndim not in (1, 2) or leaf == "time" or is_language(field, schema):
            continue
        table = value[:, None] if value.ndim == 1 else value
        names = field.columns if field.columns and len(field.columns) == table.shape[1] else None
        names = names or ([leaf] if value.ndim == 1 else [f"{leaf} {i + 1}" for i in range(table.shape[1])])
        kinds = [field.codec] * len(names) if isinstance(field.codec, str) else field.codec or [None] * len(names)
        for i, (name, codec) in enumerate(zip(names, kinds, strict=True)):
            column = table[:, i]
            if codec is not None and codec in schema.codecs:
                column = np.array([str(word) or "missing" for word in codecs.decode(schema.codecs[codec], column)])
            found[name] = column
    return found


def is_language(field: Tensor, schema: Any) -> bool:
    """Whether the codes of a row are one text."""
    return isinstance(field.codec, str) and schema.codecs.get(field.codec, {}).get("kind") == "tokens"


def metrics_that_fit(metrics: Mapping[str, Metric], outputs: Outputs, rows: Batch) -> dict[str, Metric]:
    """Those metrics that can be asked of these answers."""
    return {name: metric for name, metric in metrics.items() if fits_answers(metric, outputs, rows)}


def fits_answers(metric: Metric, outputs: Outputs, rows: Batch) -> bool:
    """Whether a metric can be asked of these answers: simpler models give fewer, and of other shapes."""
    try:
        if "host" in metric.exempt:
            metric.compute(metric.update(metric.empty(), dict(outputs), jax.tree.map(np.asarray, rows)))
        else:
            jax.eval_shape(lambda: metric.compute(metric.update(metric.empty(), dict(outputs), rows)))
    except (ValueError, TypeError, KeyError, IndexError):
        return False
    return True


def simple_answers(key: jax.Array, train: Batch, rows: Batch, schema: Any) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What a constant says of the rows, and a linear model of tables; and why there is none of a kind."""
    y = None if train.y is None else np.asarray(train.y)
    if y is None or y.ndim != 1:
        return {}, ["No simpler model is compared: the target is not one number or label a row."]
    classes, weight = len(schema.target.columns or ()), np.asarray(train.weight, float)
    n = len(rows.weight)
    if classes:
        share = np.bincount(y[weight > 0].astype(int), weight[weight > 0], classes) / weight.sum()
        constant = {
            "predict": np.full(n, share.argmax(), np.int32), "predict_proba": np.tile(share.astype(np.float32), (n, 1))
        }  # fmt: skip
    else:
        constant = {"predict": np.full(n, np.average(y[weight > 0], weights=weight[weight > 0]), np.float32)}
    if classes * len(train.weight) > NUMBERS:
        why = f"{len(train.weight):,} rows times {classes:,} classes are more than {NUMBERS:,}."
        return {"constant": constant}, [f"No linear model is compared: {why}"]
    estimator = logistic(classes=classes) if classes else ridge()
    table = isinstance(train.x, Mapping)
    if not table and (np.ndim(train.x) != 2 or is_language(schema.inputs.get("x", Tensor()), schema)):
        return {"constant": constant}, ["No linear model is compared: an input is no table of columns."]
    model = after(tabular("linear", schema=schema) if table else standardize(), estimator)
    try:
        linear = fit_answers(model, key, train, rows)
    except ValueError as error:
        return {"constant": constant}, [f"No linear model is compared: {error}"]
    return {"constant": constant, "linear model": linear}, []


def fit_answers(model: Estimator, key: jax.Array, train: Batch, rows: Batch) -> dict[str, np.ndarray]:
    """The answers of a model that is fitted for the purpose."""
    model.check(train)
    called = trace_host(model)

    def run(key, train, x, hp):
        params, _ = called.fit(key, mask_dead_rows(train), hp)
        return {name: f(params, x) for name, f in model.apply.items()}

    given = jax.tree.map(jnp.asarray, train._replace(aux=()))
    return jax.device_get(jax.jit(run)(key, given, jax.tree.map(jnp.asarray, rows.x), hyperparameters(model.hp)))


def draw_metrics(
    key: jax.Array, metrics: Mapping[str, Metric], answers: Mapping[str, Outputs], rows: Batch
) -> tuple[dict[str, dict[str, Draws]], dict[str, str]]:
    """Every metric of every model's answers on the same resamples of the rows, by metric and model; and why one has none.

    The run's own answers go by the name "".
    """
    on_device, on_host = by_place(dict(metrics))
    largest = max((np.size(answer) for said in answers.values() for answer in said.values()), default=0)
    if largest > NUMBERS:
        why = f"the answers are {largest:,} numbers, and rows are resampled up to {NUMBERS:,}."
        return {}, {name: why for metric in metrics.values() for name in metric.compute(metric.empty())}
    try:
        units, _ = plan_resamples(rows.weight, rows.row, None, None)
    except ValueError as error:
        return {}, {name: str(error) for metric in metrics.values() for name in metric.compute(metric.empty())}
    live = mask_dead_rows(jax.tree.map(jnp.asarray, rows._replace(aux=())))
    outputs = jax.tree.map(jnp.asarray, {who: dict(said) for who, said in answers.items()})

    def measure(some, batch, said):
        able = [one for one in some.values() if fits_answers(one, said, batch)]
        return {name: value for one in able for name, value in one.compute(one.update(one.empty(), said, batch)).items()}

    def value(weight):
        batch = live._replace(weight=weight.astype(live.weight.dtype))
        return {who: measure(on_device, batch, said) for who, said in outputs.items()}

    whole, drawn = jax.device_get(resample(key, value, units, SAMPLES)) if on_device else ({}, {})
    found: dict[str, dict[str, Draws]] = {}
    for who in whole:
        for name, one in whole[who].items():
            found.setdefault(name, {})[who] = Draws(float(one), np.asarray(drawn[who][name], float))
    if on_host:
        _, weights = jax.device_get(resample(key, lambda weight: weight, units, HOST_SAMPLES))  # the first of the same draws
        there = jax.tree.map(np.asarray, live)
        for who, said in jax.device_get(outputs).items():
            first = measure(on_host, there, said)
            rest = [measure(on_host, there._replace(weight=weight), said) for weight in weights]
            for name, one in first.items():
                found.setdefault(name, {})[who] = Draws(float(one), np.array([each[name] for each in rest], float))
    gone = {
        name: f"{(~np.isfinite(some[''].draws)).sum():,} of {len(some[''].draws):,} resamples of the rows have no value."
        for name, some in found.items()
        if not np.isfinite(some[""].draws).all()
    }
    return {name: some for name, some in found.items() if name not in gone}, gone


def percentiles(draws: np.ndarray) -> tuple[float, float]:
    """The ends of the interval."""
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def compare(name: str, mine: Draws, other: Draws, mode: str) -> Compared:
    """How much better the run is than another model on the same resamples."""
    sign = 1 if mode == "max" else -1
    low, high = percentiles(sign * (mine.draws - other.draws))
    return Compared(name, other.value, sign * (mine.value - other.value), low, high, percentiles(other.draws))


def value_of_rows(outputs: Outputs, rows: Batch, classes: int) -> tuple[str, np.ndarray | None, str]:
    """What slices are compared by: its name, a value for each row, and which values are bad."""
    predict = outputs.get("predict")
    if predict is None or rows.y is None or np.shape(predict) != np.shape(rows.y) or np.ndim(rows.y) != 1:
        return "", None, "low"
    predict, y = np.asarray(predict), np.asarray(rows.y)
    if classes:
        return "accuracy", (predict == y).astype(float), "low"
    return "absolute error", np.abs(predict.astype(float) - y), "high"


def column_importance(
    key: jax.Array, apply: Mapping[str, Callable], params: Any, rows: Batch, schema: Any, classes: int
) -> tuple[Importances | None, Sequence[str], list[str]]:
    """How much worse the log loss or the squared error becomes without each column; or why nobody looked."""
    if rows.y is None or np.ndim(rows.y) != 1 or "predict" not in apply:
        return None, (), []
    if classes and "predict_proba" not in apply:
        return None, (), ["The importance of columns is of probabilities, which this run does not give."]
    try:
        players = columns_of(rows.x, schema)
    except ValueError as error:
        return None, (), [f"The importance of columns: {error}"]
    if len(players.names) > COLUMNS:
        return None, (), [f"The importance of columns is looked for among {COLUMNS}; here are {len(players.names)}."]
    if classes * len(rows.weight) > NUMBERS:
        why = f"{len(rows.weight):,} rows times {classes:,} classes are more than {NUMBERS:,}."
        return None, (), [f"The importance of columns is not looked for: {why}"]
    measure = log_loss() if classes else mean_squared_error()
    asked = {name: apply[name] for name in ("predict", "predict_proba") if name in apply}

    def run(params, rows):
        said = lambda params, x: {name: f(params, x) for name, f in asked.items()}  # noqa: E731
        return permutation_importance(key, said, params, rows, measure, players)

    return jax.device_get(jax.jit(run)(params, jax.tree.map(jnp.asarray, rows._replace(aux=())))), players.names, []
