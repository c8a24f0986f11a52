"""What a config describes, built: transforms, learner and metrics, the data and its splits, and what is made of them."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal import config as configs
from arsenal.combine import chain, learner, skipping, whole
from arsenal.combine.chain import shapes_behind
from arsenal.config import Config, Settings
from arsenal.data import arrays, as_dataset, as_split, reading, through
from arsenal.data.column import even_positions, gather, is_streamed, row_bytes, row_shapes, rows_at, take
from arsenal.data.dataset import Dataset, Schema
from arsenal.data.text import decode
from arsenal.evaluation.answers import answer_function, quantities, scorer
from arsenal.evaluation.plot import is_images
from arsenal.evaluation.report import can_show
from arsenal.metrics import as_metric, regression
from arsenal.records import (
    Additive,
    Batch,
    Estimator,
    Learner,
    Metric,
    Source,
    Transform,
    anything,
    hyperparameters,
    mask_dead_rows,
)
from arsenal.runs import schema
from arsenal.runs.checkpoints import digest
from arsenal.training.driver import TrainState, start, streams
from arsenal.training.fitting import as_estimator
from arsenal.training.parallel import Strategy

SAMPLE_ROWS, SAMPLE_BYTES = 65_536, 64 * 2**20
"""Of data that is read as it goes: transforms are fitted on so much of the training rows, evenly spaced."""
SHOWN_ROWS, SHOWN_BYTES = 20_000, 256 * 2**20
"""A report's pictures show so many rows of a split, evenly spaced, in so much memory at most."""

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
    modes: dict[str, str | None] = {}
    """All that is measured, by name: whether small (min) or large (max) values are good; None where nobody knows."""

    @property
    def examples(self) -> Batch:
        """Rows to show: of the first of test, validation and train that has any."""
        rows = next(rows for name in ("test", "validation", "train") if len((rows := self.splits[name]).weight))
        return limit_rows(rows, schema.EXAMPLES, SAMPLE_BYTES)


def parts(config: Config, schema: Schema | None = None) -> Parts:
    """Build everything but the data, which is described by `schema` where it is known."""
    settings = config.settings
    metrics: dict[str, Metric] = {}
    for name, node in settings.metrics.items():
        made = configs.instantiate(node, f"metrics.{name}", schema)
        try:
            metrics |= made if isinstance(made, dict) else {name: as_metric(made, name)}
        except TypeError as error:
            raise configs.ConfigError(f"`metrics.{name}`: {error}") from error
    learner = as_learner(configs.instantiate(settings.learner, "learner", schema))
    return Parts(transforms(settings, schema), skipping(learner) if settings.on_nan == "skip" else learner, metrics)


def transforms(settings: Settings, schema: Schema | None) -> Transform:
    """The transforms of a config as one."""

    def one(name: str, node: Any) -> Transform:
        path = f"features.{name}"
        if not isinstance(node, dict) or "_target_" not in node:
            raise configs.ConfigError(f"`{path}` must be a factory of a transform, {{_target_: ...}}; got {node!r}.")
        return configs.instantiate(node, path, schema)

    return chain(*(one(name, node) for name, node in settings.features.items()))


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
    settings = config.settings
    parts(config)  # what can be refused without the data is refused before it is read
    try:
        data = as_dataset(configs.instantiate(configs.open_data(settings.data, settings.registry), "data"))
    except (ValueError, TypeError) as error:
        raise configs.ConfigError(f"`data`: {error}") from error
    made = parts(config, data.schema)
    try:
        masks = as_split(configs.instantiate(settings.split, "split")).masks(data.rows, data.schema)
    except (ValueError, TypeError) as error:
        raise configs.ConfigError(f"`split`: {error}") from error
    splits = {name: take(data.rows, mask) for name, mask in masks.items()}
    if len(splits["train"].weight) == 0:
        raise configs.ConfigError(f"`split` leaves no row for training; the data has {len(data.rows.weight)}.")
    try:
        rows = limit_rows(data.rows, SAMPLE_ROWS, SAMPLE_BYTES)
        row_check(made)(rows)
        seen = shapes_behind(made.features)(rows).x
    except ValueError as error:
        raise configs.ConfigError(f"The data does not fit the learner: {error}") from error
    try:
        modes, shapes = quantities(made.learner, made.metrics, jax.eval_shape(mask_dead_rows, rows._replace(x=seen)))
        check_target(data.schema, shapes.get("predict"), rows)
        check_numbers(settings, data.schema, shapes.get("predict"))
    except ValueError as error:
        raise configs.ConfigError(str(error)) from error
    for key, split, name, allowed, _ in configs.judge_metrics(settings):
        if split not in allowed or name not in modes:
            whose = " or ".join(allowed)
            got = f"{split}/{name}" if name else split
            known = f"one of {', '.join(modes)}" if modes else "a metric, and there is none"
            raise configs.ConfigError(f"`{key}` must name {known}, of the {whose} rows; got {got}.")
        if len(splits[split].weight) == 0:
            raise configs.ConfigError(f"`{key}` judges {split}/{name}, and `split` leaves no such rows.")
    fill_modes(config, modes)
    return Experiment(made, data, splits, modes)


def row_check(made: Parts) -> Callable[[Batch], None]:
    """What raises ValueError where rows, as the data set gives them, do not fit the transforms or the learner."""

    @functools.lru_cache(8)  # data that is read as it goes comes in blocks of one shape
    def seen(structure, *leaves):
        return shapes_behind(made.features)(jax.tree.unflatten(structure, leaves)).x

    def check(rows):
        leaves, structure = jax.tree.flatten(rows)
        made.features.check(rows)
        x = seen(structure, *(jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype) for leaf in leaves))
        made.learner.check(rows._replace(x=x))

    return check


def check_target(schema: Schema, predict: Any, rows: Batch) -> None:
    """Raise ValueError where strings are the target and the answer is a number, which would be learned from their codes."""
    numbers = predict is not None and jnp.issubdtype(predict.dtype, jnp.floating)
    if schema.target.codec and numbers and predict.shape in (np.shape(rows.y), (*np.shape(rows.y), 1)):
        known = ", ".join(f"`{label}`" for label in (schema.target.columns or ())[:3])
        raise ValueError(
            f"The target holds labels ({known}, …) and `predict` gives numbers: that takes a loss or an estimator of classes, "
            "such as cross_entropy, or a target of numbers."
        )


def check_numbers(settings: Settings, schema: Schema, predict: Any) -> None:
    """Raise ValueError where a metric of numbers is asked about labels, whose codes it would take for numbers."""
    labels = schema.target.columns or ()
    if not labels or predict is None or not jnp.issubdtype(predict.dtype, jnp.integer):
        return
    for name, node in settings.metrics.items():
        path = str(node.get("_target_", "")) if isinstance(node, dict) else ""
        made = getattr(regression, path.rpartition(".")[2], None) if path.startswith("arsenal.metrics.") else None
        if getattr(made, "__module__", "") == regression.__name__:
            known = ", ".join(f"`{label}`" for label in labels[:3])
            raise ValueError(
                f"The metric `{name}` is of numbers, and the target holds labels ({known}{', …' * (len(labels) > 3)}): "
                "metrics=classification, or a target of numbers."
            )


def fill_modes(config: Config, modes: dict[str, str | None]) -> Config:
    """The config that says of every metric that judges which values are good, as `modes` know where it does not itself."""
    found = {}
    for key, _, name, _, path in configs.judge_metrics(config.settings):
        if path and configs.section(config.settings, path).mode is None:
            mode = modes.get(name)
            if mode is None:
                word = key.removesuffix("metric") + "mode"
                raise configs.ConfigError(f"`{word}` must be min or max: `{name}` does not say which of its values are good.")
            found[path] = mode
    return configs.set_modes(config, found)


def limit_rows(rows: Batch, most: int, size: int, least: int = 1) -> Batch:
    """The rows themselves where they are in memory; else at most `most` of them or `size` bytes, evenly spaced, read."""
    if not is_streamed(rows):
        return rows
    return gather(rows, even_positions(len(rows.weight), max(least, min(most, size // max(1, row_bytes(rows))))))


def mathematics(config: Config, data: Dataset, inherited: Any = None, teacher: Any = None) -> dict[str, Any]:
    """What defines the run: data and inherited parameters by content, not path; not length, logging, devices or folders."""
    kept = ("seed", "batch_size", "split", "features", "learner")
    found = {key: config.values[key] for key in kept} | {"data": data.fingerprint}
    if config.settings.on_nan == "skip":
        found["on_nan"] = "skip"
    if teacher is not None:
        found["teacher"] = digest(teacher)
    if inherited is not None:
        found["init"] = {"params": digest(inherited), "map": config.settings.init_map}
    return found


def prepare(made: Parts, seed: int, rows: Batch) -> tuple[Any, Batch]:
    """The transforms fitted on the training rows, and these rows as training shall see them."""
    key = streams(jax.random.key(seed))["features"]
    there = jax.jit(mask_dead_rows)(jax.tree.map(jnp.asarray, rows))
    return jax.jit(made.features.fit)(key, there, hyperparameters(made.features.hp))


def fit_whole(made: Parts, steps: int, batch_size: int | None) -> Estimator:
    """The transforms and the training of so many steps as one fit: with a run's key, of its training rows, that run."""
    learned = as_estimator(made.learner, steps, batch_size)
    behind = made.features.apply

    def fit(key, rows, hp):
        fitted, rows = made.features.fit(streams(key)["features"], rows, hyperparameters(made.features.hp))
        params, info = learned.fit(key, rows, hp)
        return (fitted, params), info

    def read(name, f):
        if name in learned.inputs:
            return lambda params, inputs: f(params[1], inputs)
        return lambda params, x: f(params[1], behind(params[0], x))

    exempt = made.features.exempt | learned.exempt
    answers = {name: read(name, f) for name, f in learned.apply.items()}
    return learned._replace(fit=fit, apply=answers, check=row_check(made), exempt=exempt)


def strategy(made: Parts, settings: Settings, rows: Batch) -> Strategy:
    """How the step runs on the devices that there are, for a learner and its training rows."""
    choose = configs.instantiate(settings.parallel, "parallel")
    try:
        return choose(made.learner, settings.batch_size or len(rows.weight))
    except ValueError as error:
        raise configs.ConfigError(f"`parallel`: {error}") from error


def prepare_data(
    made: Parts, settings: Settings, rows: Batch, lay: Callable[[Source], Source] = lambda source: source
) -> tuple[Any, Batch, Source]:
    """The transforms fitted, the rows they were fitted on as training sees them, and the source of all training rows.

    `lay` is the strategy's `source`. Rows that are read as they go pass through the transforms batch by batch, inside the
    program.
    """
    key, size = jax.random.key(settings.seed), settings.batch_size
    if not is_streamed(rows):
        fitted, rows = prepare(made, settings.seed, rows)
        return fitted, rows, lay(arrays(rows, size))
    source = lay(reading(rows, size, streams(key)["data"], check=row_check(made)))
    known = limit_rows(rows, SAMPLE_ROWS if settings.features else 1, SAMPLE_BYTES, least=size or 1)
    fitted, known_seen = prepare(made, settings.seed, known)
    if not batches_match(known_seen, transform_rows(made, fitted, known)):
        raise configs.ConfigError(
            "`features` change training rows in another way than later ones, which takes all rows in memory; this data is "
            "read as it goes."
        )
    return fitted, known_seen, through(source, made.features.apply, fitted)


def batches_match(rows: Batch, others: Batch) -> bool:
    """Whether two batches hold the same, but for rounding."""
    if jax.tree.structure(rows) != jax.tree.structure(others):  # type: ignore[operator]
        return False
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(jax.tree.leaves(rows), jax.tree.leaves(others), strict=True)]
    return all(a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True) for a, b in pairs)


def initial_state(made: Parts, settings: Settings, fitted: Any, source: Source) -> dict[str, Any]:
    """What a checkpoint holds, before the first step."""
    return {"train": start(made.learner, source, settings.seed), "features": fitted}


def shardings_of(made: Parts, how: Strategy, saved: dict[str, Any]) -> dict[str, Any]:
    """How every leaf of what a checkpoint holds lies under a strategy, from arrays or their shapes."""
    train: TrainState = saved["train"]
    everywhere = jax.tree.map(lambda leaf: how.whole, saved)
    return everywhere | {"train": everywhere["train"]._replace(state=how.shardings(made.learner, train.state))}


def shape_of(made: Parts, settings: Settings, rows: Batch) -> dict[str, Any]:
    """The shapes and types of a checkpoint, from rows that the transforms were fitted on."""

    def make(rows):
        fitted, rows = prepare(made, settings.seed, rows)
        return initial_state(made, settings, fitted, arrays(rows, settings.batch_size))

    return jax.eval_shape(make, rows)


def transform_rows(made: Parts, fitted: Any, rows: Batch) -> Batch:
    """The rows as the learner sees them: behind the transforms."""
    return rows._replace(x=jax.jit(made.features.apply)(fitted, jax.tree.map(jnp.asarray, rows.x)))


def build_scorer(
    made: Parts, fitted: Any, rows: Batch, batch_size: int, interrupted: Callable[[], bool] | None = None,
    lay: Callable[[Source], Source] = lambda source: source,
) -> Callable[[jax.Array, Any, Any], dict[str, Any] | None] | None:  # fmt: skip
    """The scorer of rows as the data set gives them, in memory or read as it goes; None where there are none."""
    if len(rows.weight) == 0:
        return None
    behind = (made.features.apply, fitted) if is_streamed(rows) else None
    rows = rows if behind else transform_rows(made, fitted, rows)
    check = row_check(made) if behind else anything
    return scorer(made.learner, made.metrics, rows, batch_size, interrupted=interrupted, seen=behind, lay=lay, check=check)


class Samples(NamedTuple):
    """What a learner makes of a few rows, by the name of the answer."""

    pictures: dict[str, np.ndarray]
    """[n, height, width] or [n, height, width, channels]."""
    texts: dict[str, list[tuple[str, str]]]
    """Prompts, and how each goes on."""


def build_sampler(made: Parts, fitted: Any, rows: Batch, described: Schema) -> Callable[[Any], Samples] | None:
    """`params -> Drawn` for a few rows, of the answers that read something other than x; None where there is none."""
    if not made.learner.inputs:
        return None
    few = transform_rows(made, fitted, gather(rows_at(rows, even_positions(len(rows.weight), schema.EXAMPLES))))
    inputs = {name: read(few) for name, read in made.learner.inputs.items()}
    run = jax.jit(lambda params, inputs: {name: made.learner.apply[name](params, given) for name, given in inputs.items()})

    def text(codes):
        return decode(described, codes)

    def is_shown(given, answer):
        return is_images(answer) or (isinstance(given, dict) and "tokens" in given)

    def sample(params):
        shapes = jax.eval_shape(run, params, inputs)
        drawn = jax.device_get(run(params, {name: given for name, given in inputs.items() if is_shown(given, shapes[name])}))
        texts = {}
        for name, answer in drawn.items():
            prompt = inputs[name].get("tokens") if isinstance(inputs[name], dict) else None
            if prompt is not None and np.issubdtype(getattr(answer, "dtype", None), np.integer):
                texts[name] = [(text(before), text(after)) for before, after in zip(prompt, answer, strict=True)]
        return Samples({name: answer for name, answer in drawn.items() if is_images(answer)}, texts)

    return sample


def example_answers(made: Parts, fitted: Any, params: Any, rows: Batch) -> tuple[Batch, dict[str, Callable[..., Any]]]:
    """The rows that a report shows, as the learner sees them, and the answers about them that it can draw."""
    shapes = row_shapes(rows)
    one = jax.eval_shape(lambda rows: rows._replace(x=made.features.apply(fitted, rows.x)), shapes)
    given = jax.eval_shape(answer_function(made.learner.apply, made.learner.inputs), params, one)
    drawn = {name: answer for name, answer in given.items() if can_show(name, answer)}
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((shapes.x, one.x, one.y, drawn)))
    most = min(SHOWN_ROWS, max(1, SHOWN_BYTES // max(1, size)))
    shown = gather(rows_at(rows, even_positions(len(rows.weight), most)))
    return transform_rows(made, fitted, shown), {name: made.learner.apply[name] for name in drawn}
