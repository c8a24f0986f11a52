"""The laws: what must hold of every record, whoever wrote it.

Each check takes a `Case` and raises AssertionError with the law in words. `LAWS[type(record)]` lists those of a
kind by name. A record gets out of a law only by an exemption that it declares in `record.exempt`.
"""

import functools
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.export import symbolic_shape

from arsenal import records
from arsenal.combine import learner as as_steps
from arsenal.combine import whole
from arsenal.combine.whole import trace_host
from arsenal.data import arrays
from arsenal.numerics.weighted import ROWS
from arsenal.records import Batch, Source, Training, compute, hyperparameters, mask_dead_rows
from arsenal.runs.checkpoints import Checkpoints, digest
from arsenal.training.driver import advance, first_state, start


class Case(NamedTuple):
    """A record and what to try it on."""

    record: Any
    rows: Any = None
    """A `Batch` of a few rows; for a codec, values; for an optimizer, parameters."""
    source: Callable[[Any], Source] | None = None
    """Of a learner, made from the rows; batches of half of them unless given."""
    tolerance: float = 1e-5
    """Largest difference of float results, relative to the largest value, where equality is algebra."""
    double: bool = False
    """Whether equalities of algebra are checked in float64: for discrete learners and iterative fits."""
    pace: float | None = None
    """Hyperparameters are changed by this factor when traces are counted; 0.5 unless given."""


def check(record: Any, rows: Any = None, **more: Any) -> None:
    """Run every law of the record's kind; raises AssertionError for the first that does not hold."""
    case = Case(record, rows, **more)
    if type(record) not in LAWS:
        raise TypeError(f"`record` must be one of {', '.join(kind.__name__ for kind in LAWS)}; got {type(record).__name__}.")
    for law in LAWS[type(record)].values():
        law(case)


# What the checks are made of.


NAMELESS = "['']"
"""The place of a loss's own value among its measures."""


def close(case: Case, got: Any, wanted: Any, law: str) -> None:
    """Trees equal within the case's tolerance, whole numbers exactly."""
    assert jax.tree.structure(got) == jax.tree.structure(wanted), f"{law}: the structures differ."  # type: ignore[operator]
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(wanted), strict=True):
        a, b = to_numpy(a), to_numpy(b)
        place = jax.tree_util.keystr(path).replace(NAMELESS, "")
        where = f"{law}: {place or 'the result'}"
        assert a.shape == b.shape, f"{where} has shape {a.shape}, not {b.shape}."
        if np.issubdtype(a.dtype, np.floating):
            scale = max(1.0, float(np.abs(b[np.isfinite(b)]).max(initial=0)))
            same = np.allclose(a, b, rtol=0, atol=case.tolerance * scale, equal_nan=True)
            assert same, f"{where} differs by {np.nanmax(np.abs(a - b)):.3g}, more than {case.tolerance * scale:.3g}."
        else:
            assert np.array_equal(a, b), f"{where} differs."


def identical(got: Any, wanted: Any, law: str) -> None:
    """Trees equal to the last bit."""
    assert digest(got) == digest(wanted), f"{law}: the bits differ."


def to_numpy(leaf: Any) -> np.ndarray:
    """The leaf as numpy; keys as their data."""
    key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if key else leaf)


def use_float64(case: Case) -> Any:
    """float64 where the case asks for it."""
    return jax.enable_x64(case.double)


def cast_rows(rows: Any) -> Any:
    """The rows with floats in the precision that now holds."""

    def one(leaf):
        leaf = np.asarray(leaf)  # NumPy converts without a program
        return jnp.asarray(leaf.astype(jnp.result_type(float)) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf)

    return jax.tree.map(one, rows)


def key(number: int = 0) -> jax.Array:
    """A key."""
    return jax.random.key(number)


def change_hp(case: Case, hp: Any) -> Any:
    """The hyperparameters, every one of them changed."""
    return jax.tree.map(lambda v: v * (case.pace or 0.5) + 0.01, hp)


def reads_every_float(run: Callable, hp: Any) -> None:
    """No float of `hp` is one that `run(hp)` never looks at, as one that a record closes over would be."""
    program = jax.make_jaxpr(run)(hp).jaxpr
    read = {id(variable) for equation in program.eqns for variable in equation.invars} | {id(v) for v in program.outvars}
    for (path, _), variable in zip(jax.tree_util.tree_leaves_with_path(hp), program.invars, strict=True):
        assert id(variable) in read, f"Every float of `hp` is read: `{jax.tree_util.keystr(path)}` is not."


def add_dead_rows(rows: Batch) -> Batch:
    """The rows with two more between and after them that are not there: weight 0, floats NaN."""

    def one(value):
        return np.concatenate([value[:1], unreadable_value(value), value[1:], unreadable_value(value)])

    n = len(rows.weight)
    grown = jax.tree.map(lambda v: one(np.asarray(v)), rows)
    return cast_rows(grown._replace(weight=np.where(np.isin(np.arange(n + 2), [1, n + 1]), 0, grown.weight)))


def pad_rows(rows: Batch, more: int = 1) -> Batch:
    """The rows and more behind them that are not there, as a ragged last batch has."""
    grown = jax.tree.map(lambda v: np.concatenate([np.asarray(v), *[unreadable_value(np.asarray(v))] * more]), rows)
    return cast_rows(grown._replace(weight=np.where(np.arange(len(grown.weight)) < len(rows.weight), grown.weight, 0)))


def unreadable_value(value: np.ndarray) -> np.ndarray:
    """A row that nobody may read: NaN where it can be."""
    return np.full_like(value[:1], np.nan) if jnp.issubdtype(value.dtype, jnp.floating) else value[:1]


def heavy_and_twice(rows: Batch, position: int = 1) -> tuple[Batch, Batch]:
    """The rows with one of weight 2, and the rows with that one there twice, in place."""
    heavy = rows._replace(weight=np.where(np.arange(len(rows.weight)) == position, 2, 1) * np.asarray(rows.weight))
    twice = jax.tree.map(lambda v: np.concatenate([np.asarray(v)[: position + 1], np.asarray(v)[position:]]), rows)
    return cast_rows(heavy), cast_rows(twice)


class Lane(NamedTuple):
    """What one program tries beside others of the same shapes."""

    seed: int
    rows: Batch
    hp: Any


def lanes_of(case: Case, rows: Batch) -> dict[str, Lane]:
    """The lanes of a record's one program, all of two rows more than `rows`, which are not there.

    `alone` and `other`, with another seed and other hyperparameters; with rows `between` that are not there; one row
    `heavy` and that row `twice`. Of a record that may see the order of rows, those that are not there stand behind all others;
    of one whose laws hold in expectation, there are the first two, of the rows as they are.
    """
    record, hp = case.record, hyperparameters(getattr(case.record, "hp", {}))
    if is_exempt(record, "in expectation"):
        return {"alone": Lane(0, rows, hp), "other": Lane(3, rows, change_hp(case, hp))}
    lanes = {"alone": Lane(0, pad_rows(rows, 2), hp), "other": Lane(3, pad_rows(rows, 2), change_hp(case, hp))}
    if not is_exempt(record, "batch-coupled"):
        heavy, twice = heavy_and_twice(rows)
        lanes |= {
            "between": Lane(0, add_dead_rows(rows), hp),
            "heavy": Lane(0, add_dead_rows(heavy), hp),
            "twice": Lane(0, pad_rows(twice), hp),
        }
    return lanes


def side_by_side(run: Callable, lanes: dict[str, Lane], *more: Any) -> dict[str, Any]:
    """What a compiled `run(lane, *more)` gives for each of the lanes, by name."""
    stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(v) for v in leaves]), *lanes.values())
    stacked = stacked._replace(rows=cast_rows(stacked.rows), hp=cast_rows(stacked.hp))
    made = run(stacked, *more)
    return {name: jax.tree.map(lambda v, i=i: v[i], made) for i, name in enumerate(lanes)}


def weigh(case: Case, got: dict[str, Any]) -> None:
    """A row of weight 0 is not there, NaN included; weight 2 is the row twice: as far as the lanes say.

    That rows behind the others are not there is what the comparison with the rows alone, shows.
    """
    if "between" in got:
        close(case, got["between"], got["alone"], "A row of weight 0 is not there")
        close(case, got["heavy"], got["twice"], "Weight 2 is the row twice")


def weigh_on_average(case: Case, draw: Callable, rows: Batch) -> None:
    """The same of the mean over many keys, `draw(seed, rows) -> answers`: within five standard errors of each other."""
    heavy, twice = heavy_and_twice(rows)
    run = jax.jit(jax.vmap(draw, (0, None)))
    pairs = {
        "A row of weight 0 is not there": (rows, add_dead_rows(rows)),
        "Weight 2 is the row twice": (add_dead_rows(heavy), pad_rows(twice)),
    }
    for law, both in pairs.items():
        many = [run(jnp.arange(i * DRAWS, (i + 1) * DRAWS, dtype=jnp.uint32), one) for i, one in enumerate(both)]
        for first, second in zip(*map(jax.tree.leaves, many), strict=True):
            first, second = to_numpy(first).astype(float), to_numpy(second).astype(float)
            error = np.sqrt((first.var(0) + second.var(0)) / DRAWS)
            beyond = np.abs(first.mean(0) - second.mean(0)) - 5 * error - case.tolerance
            assert (beyond <= 0).all(), f"{law}, on average over {DRAWS} keys: means differ by more than five standard errors."


DRAWS = 512
"""Keys of a law that holds in expectation."""


def is_exempt(record: Any, *words: str) -> bool:
    """Whether the record declares one of the exemptions; undeclared words are an error."""
    for word, why in record.exempt.items():
        assert word in records.EXEMPTIONS, f"An exemption is one of {', '.join(records.EXEMPTIONS)}; got {word}."
        assert why, f"The exemption {word} needs a reason."
    return any(word in record.exempt for word in words)


# Learners.


def one_batch(rows: Batch) -> Source:
    """One batch: all rows."""
    return arrays(rows, None)


def source_of(case: Case) -> Source:
    """The case's source, or batches of half the rows."""
    rows = cast_rows(case.rows)
    return case.source(rows) if case.source else arrays(rows, max(1, len(rows.weight) // 2))


def first_batch(case: Case) -> Batch:
    """A batch of the case."""
    source = source_of(case)
    return mask_dead_rows(source.at(key(), source.block(0, source.window or 1), jnp.zeros((), jnp.int32)))


class Learned(NamedTuple):
    """What comes of one step."""

    params: Any
    metrics: dict
    answers: dict
    evaluation: dict


def learn_lane(learner: records.Learner, lane: Lane, inputs: dict) -> Learned:
    """One step of the lane, its answers for `inputs`, and what evaluation on its rows says of them."""
    rows = mask_dead_rows(lane.rows)
    state = learner.init(jax.random.fold_in(key(), lane.seed), rows, lane.hp)
    state, metrics = learner.step(jax.random.fold_in(key(1), lane.seed), state, rows, lane.hp)
    params = learner.params(state)
    answers = {name: f(params, inputs[name]) for name, f in learner.apply.items()}
    return Learned(params, metrics, answers, learner.evaluate(key(), params, rows, lane.hp))


def inputs_of(case: Case, rows: Batch) -> dict:
    """What each answer of a record reads, of these rows."""
    return {name: case.record.inputs.get(name, lambda b: b.x)(rows) for name in case.record.apply}


def learn_side_by_side(case: Case, rows: Batch) -> dict[str, Learned]:
    """One step of every lane, by one program that all laws of a learner share."""
    learner = case.record
    names = tuple(learner.apply.items())
    run = learner_program(learner.init, learner.step, learner.params, names, learner.evaluate)
    return side_by_side(run, lanes_of(case, rows), inputs_of(case, rows))


@functools.lru_cache(16)
def learner_program(init: Callable, step: Callable, params: Callable, apply: tuple, evaluate: Callable) -> Callable:
    """`(lanes, inputs) -> Learned` of every lane, compiled once."""
    learner = records.Learner(init, step, params, dict(apply), evaluate)
    return jax.jit(jax.vmap(lambda lane, inputs: learn_lane(learner, lane, inputs), (0, None)))


def learner_is_a_function(case: Case) -> None:
    """Same key, same inputs: same bits."""
    with use_float64(case):
        rows = first_batch(case)
        identical(learn_side_by_side(case, rows), learn_side_by_side(case, rows), "Same inputs, same bits")


EAGER = "jit equals eager"
JIT = "jit, with rows of weight 0 behind the others, equals eager without them"


def learner_jit_is_eager(case: Case) -> None:
    """`jit` changes nothing but speed, in a step, its answers and its evaluation; no answer is NaN."""
    with use_float64(case):
        rows = first_batch(case)
        wanted = learn_lane(case.record, Lane(0, rows, hyperparameters(case.record.hp)), inputs_of(case, rows))
        got = learn_side_by_side(case, rows)["alone"]
        close(
            case,
            got._replace(evaluation=compute(got.evaluation)),
            wanted._replace(evaluation=compute(wanted.evaluation)),
            JIT,
        )
        for name, answer in got.answers.items():
            assert all(np.isfinite(to_numpy(leaf)).all() for leaf in jax.tree.leaves(answer)), f"`{name}` answers NaN."


def learner_vmap_is_a_loop(case: Case) -> None:
    """A lane with a seed and hyperparameters of its own is the learner alone, judged by its own floats."""
    with use_float64(case):
        rows = first_batch(case)
        lane = lanes_of(case, rows)["other"]._replace(rows=rows)
        wanted = learn_lane(case.record, lane, inputs_of(case, rows))
        got = learn_side_by_side(case, rows)["other"]
        close(
            case,
            got._replace(evaluation=compute(got.evaluation)),
            wanted._replace(evaluation=compute(wanted.evaluation)),
            "vmap equals a loop",
        )


def learner_traces_once(case: Case) -> None:
    """Neither a second call nor other hyperparameters trace the step again; every one of them is read."""
    learner, source = case.record, source_of(case)
    calls = []

    def step(*arguments):
        calls.append(1)
        return learner.step(*arguments)

    rows, train = first_batch(case), jax.eval_shape(lambda: start(learner, source, 0))
    state = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), train.state)
    # Lowering traces exactly when a call would, and compiles nothing.
    run, hp = jax.jit(step), hyperparameters(learner.hp)
    run.lower(key(), state, rows, hp)
    state = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), run.eval_shape(key(), state, rows, hp)[0])
    run.lower(key(2), state, rows, change_hp(case, hp))
    assert len(calls) == 1, f"No retrace: the step was traced {len(calls)} times for one program's worth of inputs."
    reads_every_float(lambda hp: learn_lane(learner, Lane(0, rows, hp), inputs_of(case, rows)), hp)


def learner_obeys_weights(case: Case) -> None:
    """A row of weight 0 is not there, NaN included; weight 2 is the row twice."""
    if is_exempt(case.record, "host"):
        return
    with use_float64(case):
        rows = first_batch(case)
        if is_exempt(case.record, "in expectation"):
            inputs, hp = inputs_of(case, rows), hyperparameters(case.record.hp)
            weigh_on_average(case, lambda seed, rows: learn_lane(case.record, Lane(seed, rows, hp), inputs).answers, rows)
            return
        got = {name: one._replace(evaluation=compute(one.evaluation)) for name, one in learn_side_by_side(case, rows).items()}
        weigh(case, got)


def one_step(case: Case, rows: Batch) -> tuple[Any, dict]:
    """Parameters and metrics after one step over the rows."""
    learner = case.record

    @jax.jit
    def run(rows, hp):
        rows = mask_dead_rows(rows)
        state, metrics = learner.step(key(1), learner.init(key(), rows, hp), rows, hp)
        return learner.params(state), metrics

    return run(rows, hyperparameters(learner.hp))


def learner_sums_over_rows(case: Case) -> None:
    """A step that sees rows only through sums is the same with half of the rows on each of two devices."""
    learner = case.record
    if not learner.sums or is_exempt(learner, "batch-coupled", "host"):
        return

    def spread(key, state, rows, hp):
        halves = jax.tree.map(lambda v: v.reshape(2, -1, *v.shape[1:]), rows)
        # A mapped axis is what rows on many devices are, also on one device.
        both = jax.vmap(learner.step, (None, None, 0, None), axis_name=ROWS)(key, state, halves, hp)
        return jax.tree.map(lambda v: v[0], both)

    with use_float64(case):
        rows = first_batch(case)
        got = one_step(case._replace(record=learner._replace(step=spread)), pad_rows(rows, len(rows.weight) % 2))
        close(case, got, one_step(case, rows), "Sums over devices are sums over rows")


def learner_resumes(case: Case) -> None:
    """2N steps equal N, a checkpoint on disk and N more, and any other chunks, bit for bit."""
    if is_exempt(case.record, "host"):
        return
    learner, source = case.record, source_of(case)
    run, block = advance(learner, source), source.block(0, source.window or 1)
    begin = jax.jit(lambda key, block: first_state(learner, source, key, block, hyperparameters(learner.hp)))

    def go(train, *stops):
        for stop in stops:
            first = int(train.step)
            while first < stop:
                window = source.window or stop
                end = min(stop, (first // window + 1) * window)
                block = source.block(first // window * window, (first // window + 1) * window)
                train, *_ = run(train, block, jnp.asarray(end, jnp.int32))
                first = end
        return train

    wanted = go(begin(key(), block), 6)
    identical(go(begin(key(), block), 1, 2, 4, 6), wanted, "Other chunks, same bits")
    with tempfile.TemporaryDirectory() as folder:
        saved = Checkpoints(Path(folder))
        half = go(begin(key(), block), 3)
        saved.save(3, half)
        saved.wait()
        restored = saved.restore(jax.eval_shape(begin, key(), block))
        saved.close()
    identical(go(restored, 6), wanted, "N steps, a checkpoint and N more are 2N steps")


def additive_adds(case: Case) -> None:
    """Two halves measured apart give the step of the whole."""
    if is_exempt(case.record, "batch-coupled"):
        return
    with use_float64(case):
        rows = first_batch(case)
        both = pad_rows(rows, len(rows.weight) % 2)
        whole_step = one_step(case._replace(record=as_steps(case.record)), rows)
        close(case, one_step(case._replace(record=as_steps(case.record, 2)), both), whole_step, "Sums add over parts")


# Estimators and transforms.


def fit_lane(estimator: records.Estimator, lane: Lane, inputs: dict) -> tuple[Any, dict]:
    """Parameters after a fit of the lane, and the answers for `inputs`."""
    params, _ = estimator.fit(jax.random.fold_in(key(), lane.seed), mask_dead_rows(lane.rows), lane.hp)
    return params, {name: f(params, inputs[name]) for name, f in estimator.apply.items()}


def fit_side_by_side(case: Case, rows: Batch) -> dict[str, tuple[Any, dict]]:
    """A fit of every lane, by one program that all laws of an estimator share."""
    run = estimator_program(trace_host(case.record).fit, tuple(case.record.apply.items()))
    return side_by_side(run, lanes_of(case, rows), inputs_of(case, rows))


@functools.lru_cache(16)
def estimator_program(fit: Callable, apply: tuple) -> Callable:
    """`(lanes, inputs) -> (params, answers)` of every lane, compiled once."""
    estimator = records.Estimator(fit, dict(apply))
    return jax.jit(jax.vmap(lambda lane, inputs: fit_lane(estimator, lane, inputs), (0, None)))


def close_fit(case: Case, got: tuple[Any, dict], wanted: tuple[Any, dict], law: str) -> None:
    """Equal answers, and equal parameters unless they hold rows, of which one side has two more that are not there."""
    shapes = [jax.tree.map(jnp.shape, params) for params, _ in (got, wanted)]
    whole = shapes[0] == shapes[1]
    close(case, got if whole else got[1], wanted if whole else wanted[1], law)


def estimator_is_a_function(case: Case) -> None:
    """Same key, same inputs: same bits."""
    with use_float64(case):
        rows = cast_rows(case.rows)
        identical(fit_side_by_side(case, rows), fit_side_by_side(case, rows), "Same inputs, same bits")


def estimator_jit_is_eager(case: Case) -> None:
    """`jit` changes nothing but speed."""
    with use_float64(case):
        rows = cast_rows(case.rows)
        got = fit_side_by_side(case, rows)
        wanted = fit_lane(trace_host(case.record), Lane(0, rows, hyperparameters(case.record.hp)), inputs_of(case, rows))
        close_fit(case, got["alone"], wanted, JIT)


def estimator_vmap_is_a_loop(case: Case) -> None:
    """A regularisation path is a vmap."""
    with use_float64(case):
        rows = cast_rows(case.rows)
        lane = lanes_of(case, rows)["other"]._replace(rows=rows)
        wanted = fit_lane(trace_host(case.record), lane, inputs_of(case, rows))
        close_fit(case, fit_side_by_side(case, rows)["other"], wanted, "vmap equals a loop")


def estimator_reads_its_floats(case: Case) -> None:
    """No hyperparameter is one that the fit never looks at."""
    reads_every_float(lambda hp: trace_host(case.record).fit(key(), cast_rows(case.rows), hp), hyperparameters(case.record.hp))


def estimator_obeys_weights(case: Case) -> None:
    """A row of weight 0 is not there, NaN included; weight 2 is the row twice."""
    if is_exempt(case.record, "host"):
        return
    with use_float64(case):
        rows = cast_rows(case.rows)
        if is_exempt(case.record, "in expectation"):
            inputs, hp = inputs_of(case, rows), hyperparameters(case.record.hp)
            weigh_on_average(case, lambda seed, rows: fit_lane(case.record, Lane(seed, rows, hp), inputs)[1], rows)
            return
        got = {name: answers for name, (_, answers) in fit_side_by_side(case, rows).items()}
        weigh(case, got)


def estimator_is_a_learner(case: Case) -> None:
    """As a learner whose only batch is the whole set, it is saved and restored bit for bit."""
    learner_resumes(case._replace(record=whole(case.record), source=one_batch))


class Transformed(NamedTuple):
    """What comes of a transform."""

    state: Any
    training: Any
    """Inputs as training sees them."""
    applied: Any
    """The rows of the case as everybody else sees them."""


def transform_lane(transform: records.Transform, lane: Lane, x: Any) -> Transformed:
    """A fit of the lane, and `x` through it."""
    state, changed = transform.fit(jax.random.fold_in(key(), lane.seed), mask_dead_rows(lane.rows), lane.hp)
    return Transformed(state, changed.x, transform.apply(state, x))


def transform_side_by_side(case: Case, rows: Batch) -> dict[str, Transformed]:
    """A fit of every lane, by one program; of what training sees, the rows that are there."""
    run = transform_program(case.record.fit, case.record.apply)
    lanes = lanes_of(case, rows)
    made = side_by_side(run, lanes, rows.x)
    there = {name: np.flatnonzero(to_numpy(lane.rows.weight) > 0) for name, lane in lanes.items()}
    return {
        name: one._replace(training=jax.tree.map(lambda v, at=there[name]: v[at], one.training)) for name, one in made.items()
    }


@functools.lru_cache(16)
def transform_program(fit: Callable, apply: Callable) -> Callable:
    """`(lanes, x) -> Transformed` of every lane, compiled once."""
    return jax.jit(jax.vmap(lambda lane, x: transform_lane(records.Transform(fit, apply), lane, x), (0, None)))


def transform_jit_is_eager(case: Case) -> None:
    """`jit` changes nothing but speed; a fold of a cross-validation is a lane."""
    with use_float64(case):
        rows = cast_rows(case.rows)
        got = transform_side_by_side(case, rows)
        for name in ("alone", "other"):
            lane = lanes_of(case, rows)[name]._replace(rows=rows)
            alone = transform_lane(case.record, lane, rows.x)
            close(case, drop_rows(case, rows, got[name]), drop_rows(case, rows, alone), JIT)


def drop_rows(case: Case, rows: Batch, made: Transformed) -> Transformed:
    """Without the state where it holds rows, as neighbours do: then those that are not there are among them, in their places."""

    def shapes(rows):
        state = jax.eval_shape(lambda rows, hp: case.record.fit(key(), rows, hp)[0], rows, hyperparameters(case.record.hp))
        return jax.tree.map(lambda leaf: leaf.shape, state)

    return made if shapes(rows) == shapes(pad_rows(rows, 2)) else made._replace(state=())


def transform_obeys_weights(case: Case) -> None:
    """A row of weight 0 is not there, NaN included; weight 2 is the row twice."""
    with use_float64(case):
        rows = cast_rows(case.rows)
        if is_exempt(case.record, "in expectation"):
            hp = hyperparameters(case.record.hp)
            weigh_on_average(case, lambda seed, rows_: transform_lane(case.record, Lane(seed, rows_, hp), rows.x).applied, rows)
            return
        got = transform_side_by_side(case, rows)
        weigh(case, {name: drop_rows(case, rows, one)._replace(training=()) for name, one in got.items()})
        if "between" in got:
            close(
                case, got["between"].training, got["alone"].training, "A row of weight 0 is not there for the others in training"
            )


def transform_reads_its_floats(case: Case) -> None:
    """No hyperparameter is one that the fit never looks at."""
    reads_every_float(lambda hp: case.record.fit(key(), cast_rows(case.rows), hp), hyperparameters(case.record.hp))


def transform_keeps_rows(case: Case) -> None:
    """The batch keeps its rows, ids and weights; an inverse undoes what was done."""
    with use_float64(case):
        rows = cast_rows(case.rows)
        case.record.check(rows)
        state, changed = case.record.fit(key(), rows, hyperparameters(case.record.hp))
        identical((changed.row, changed.weight), (rows.row, rows.weight), "Rows keep their ids and weights")
        if case.record.inverse:
            close(case, case.record.inverse(state, case.record.apply(state, rows.x)), rows.x, "The inverse undoes the transform")


def transform_takes_any_number_of_rows(case: Case) -> None:
    """It can be traced for a number of rows that is a symbol, as an artifact's programs are."""
    rows = cast_rows(case.rows)
    state = jax.eval_shape(lambda rows, hp: case.record.fit(key(), rows, hp)[0], rows, hyperparameters(case.record.hp))
    (n,) = symbolic_shape("n")
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((n, *leaf.shape[1:]), leaf.dtype), rows.x)
    try:
        behind = jax.eval_shape(case.record.apply, state, x)
    except Exception as error:  # whatever JAX, or Python's own `len`, says of a symbol
        raise AssertionError(f"It takes any number of rows, unknown while it is traced: {error}") from error
    assert all(leaf.shape[0] == n for leaf in jax.tree.leaves(behind)), "As many rows behind it as before it."


def transform_names_columns(case: Case) -> None:
    """As many names behind it as there are columns, each once."""
    rows, names = cast_rows(case.rows), case.record.names
    if names is None:
        return
    _, changed = jax.eval_shape(lambda rows, hp: case.record.fit(key(), rows, hp), rows, hyperparameters(case.record.hp))
    before, behind = (x if isinstance(x, dict) else {"x": x} for x in (rows.x, changed.x))
    if any(leaf.ndim != 2 for leaf in before.values()):
        return
    made = names({name: [f"{name}{i}" for i in range(leaf.shape[1])] for name, leaf in before.items()})
    assert {name: len(found) for name, found in made.items()} == {name: leaf.shape[1] for name, leaf in behind.items()}, (
        f"Every column behind it has a name: {made} of {jax.tree.map(jnp.shape, behind)}."
    )
    for name, found in made.items():
        assert len(set(found)) == len(found), f"No two columns of `{name}` have one name: {found}."


# Models, losses, optimizers.


def model_program(case: Case) -> tuple[Any, Callable]:
    """The model's variables, and its compiled answer."""
    model = case.record
    return jax.jit(model.init)(key(), case.rows.x), jax.jit(lambda variables, x: model.apply(variables, x)[0])


def model_jit_is_eager(case: Case) -> None:
    """`jit` changes nothing but speed."""
    model, x = case.record, case.rows.x
    variables, apply = model_program(case)
    close(case, apply(variables, x), model.apply(variables, x)[0], EAGER)
    for name, given in model.inputs.items():
        f, inputs = model.methods[name], given(case.rows)
        close(case, jax.jit(f)(variables, inputs), f(variables, inputs), f"{EAGER} in `{name}`")


def model_rows_are_strangers(case: Case) -> None:
    """An answer has the same bits whatever its neighbours; hyperparameters are for training only; same key, same parameters."""
    model, x = case.record, case.rows.x
    variables, apply = model_program(case)
    identical(jax.jit(model.init)(key(), x), variables, "Same key, same parameters")
    n = len(jax.tree.leaves(x)[0])
    others = jax.tree.map(lambda v: jnp.asarray(np.asarray(v)[[0, *[n - 1] * (n - 1)]]), x)
    if not is_exempt(model, "batch-coupled"):
        first, second = (jax.tree.map(lambda v: v[:1], apply(variables, value)) for value in (x, others))
        identical(first, second, "Rows are strangers")
    for name, given in model.inputs.items():
        answer = jax.jit(model.methods[name])
        first, second = (answer(variables, given(case.rows._replace(x=value))) for value in (x, others))
        first, second = (jax.tree.map(lambda v: v[:1], made) for made in (first, second))
        identical(first, second, f"Rows are strangers in `{name}`")


def model_training_obeys_weights(case: Case) -> None:
    """In training a row of weight 0 changes neither the others' outputs nor the collections."""
    model, hp = case.record, hyperparameters(case.record.hp)
    variables, rows = jax.jit(model.init)(key(), case.rows.x), case.rows

    def train(seed, rows):
        rows = mask_dead_rows(rows)
        return model.apply(variables, rows.x, Training(jax.random.fold_in(key(1), seed), rows.weight, rows.row, hp))

    if is_exempt(model, "in expectation"):
        weigh_on_average(case, lambda seed, rows: train(seed, rows)[1], rows)
        return
    # Of a model that may see the order of rows, those that are not there stand behind all others.
    grown = pad_rows(rows, 2) if is_exempt(model, "batch-coupled") else add_dead_rows(rows)
    kept = np.flatnonzero(to_numpy(grown.weight) > 0)
    apply = jax.jit(train)
    outputs, collections = apply(0, rows)
    grown_outputs, grown_collections = apply(0, grown)
    there = np.flatnonzero(to_numpy(rows.weight) > 0)
    got, wanted = jax.tree.map(lambda v: v[kept], grown_outputs), jax.tree.map(lambda v: v[there], outputs)
    close(case, (got, grown_collections), (wanted, collections), "A row of weight 0 is not there")


def augmentation_keeps_rows(case: Case) -> None:
    """Ids and weights stay, dead rows lend nothing to the others; a function of key and batch."""
    augmentation, hp, rows = case.record, hyperparameters(case.record.hp), case.rows
    is_exempt(augmentation)
    run = jax.jit(augmentation.apply)
    changed = run(key(1), rows, hp)
    identical(run(key(1), rows, hp), changed, "Same key, same inputs, same bits")
    reads_every_float(lambda hp: augmentation.apply(key(1), rows, hp), hp)
    identical((changed.row, changed.weight), (rows.row, rows.weight), "Rows keep their ids and weights")
    grown = run(key(1), add_dead_rows(rows), hp)
    kept = np.array([0, *range(2, len(rows.weight) + 1)])
    close(case, jax.tree.map(lambda v: v[kept], grown), changed, "A row of weight 0 is not there")


def augmentation_jit_is_eager(case: Case) -> None:
    """`jit` changes nothing but speed."""
    augmentation, hp = case.record, hyperparameters(case.record.hp)
    made = jax.jit(augmentation.apply)(key(1), case.rows, hp)
    close(case, made, augmentation.apply(key(1), case.rows, hp), EAGER)


def measure_rows(loss: records.Loss, lane: Lane) -> dict[str, Any]:
    """The loss's value of every row, under the name "", and its measures."""
    given = mask_dead_rows(lane.rows)
    return {"": loss.value(given.x, given, lane.hp)} | {name: f(given.x, given) for name, f in loss.measures.items()}


def loss_jit_is_eager(case: Case) -> None:
    """`jit` changes nothing but speed."""
    rows, n = cast_rows(case.rows), len(case.rows.weight)
    lanes = lanes_of(case, rows)
    got = side_by_side(loss_program(case.record), lanes)
    for name in ("alone", "other"):
        close(case, jax.tree.map(lambda v: v[:n], got[name]), measure_rows(case.record, lanes[name]._replace(rows=rows)), JIT)


def loss_program(loss: records.Loss) -> Callable:
    """`lanes -> measure_rows` of every lane."""
    return jax.jit(jax.vmap(functools.partial(measure_rows, loss)))


def loss_is_per_row(case: Case) -> None:
    """One value for every row, from that row alone unless rows are coupled; a row that is not there moves no other's value."""
    loss, rows = case.record, cast_rows(case.rows)
    n = len(rows.weight)
    lanes = lanes_of(case, rows)
    if not is_exempt(loss, "batch-coupled"):
        others = jax.tree.map(lambda v: v[np.array([0, *[n - 1] * (n + 1)])], rows)
        lanes["strange"] = lanes["alone"]._replace(rows=others)
    got = side_by_side(loss_program(loss), lanes)
    reads_every_float(lambda hp: loss.value(rows.x, rows, hp), lanes["alone"].hp)
    for name in ("alone", "other"):
        for what, values in got[name].items():
            m = len(lanes[name].rows.weight)
            assert values.shape == (m,), f"A loss gives one value for every row; got shape {values.shape} in `{what or 'value'}`."
    if "between" in got:
        alone = jax.tree.map(lambda v: v[:n], got["alone"])
        kept = np.array([0, *range(2, n + 1)])
        close(case, jax.tree.map(lambda v: v[kept], got["between"]), alone, "A row of weight 0 is not there")
        close(case, jax.tree.map(lambda v: v[kept], got["heavy"]), alone, "A row's value does not know its weight")
        close(
            case,
            jax.tree.map(lambda v: v[np.array([0, 2, *range(3, n + 1)])], got["twice"]),
            alone,
            "Each of two rows has the value of the one",
        )
        close(case, jax.tree.map(lambda v: v[:1], got["strange"]), jax.tree.map(lambda v: v[:1], alone), "Rows are strangers")
    loss.check(jax.ShapeDtypeStruct(rows.x.shape, rows.x.dtype), rows)


def descend(optimizer: records.Optimizer, carry: tuple[Any, Any], hp: Any) -> tuple[Any, Any]:
    """A step down a bowl."""
    state, params = carry
    value = sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params)) / 2
    return optimizer.update(state, params, params, hp, value)  # params is the gradient of value


def optimizer_jit_is_eager(case: Case) -> None:
    """`jit` and a scan change nothing but speed."""
    optimizer, params, hp = case.record, case.rows, hyperparameters(case.record.hp)
    carry = optimizer.init(params, hp), params
    for _ in range(3):
        carry = descend(optimizer, carry, hp)
    close(case, jax.jit(functools.partial(descend_thrice, optimizer))(params, hp), carry[1], EAGER)


def descend_thrice(optimizer: records.Optimizer, params: Any, hp: Any) -> Any:
    """The parameters after three steps."""
    begin = optimizer.init(params, hp), params
    return lax.scan(lambda carry, _: (descend(optimizer, carry, hp), None), begin, length=3)[0][1]


def optimizer_is_a_function_of_hp(case: Case) -> None:
    """One program for all values; vmap over values equals a loop; it goes downhill on a bowl."""
    optimizer, params, hp = case.record, case.rows, hyperparameters(case.record.hp)
    steps = functools.partial(descend_thrice, optimizer)
    values = [hp, change_hp(case, hp)]
    both = jax.tree.map(lambda *v: np.stack([np.asarray(one) for one in v]), *values)
    lanes = jax.jit(jax.vmap(steps, (None, 0), axis_size=2))(params, both)
    reads_every_float(lambda hp: steps(params, hp), hp)
    alone = jax.jit(steps)
    for i, one in enumerate(values):
        close(case, jax.tree.map(lambda v, i=i: v[i], lanes), alone(params, one), f"vmap equals a loop (value {i})")
    before, after = (
        sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(tree)) for tree in (params, jax.tree.map(lambda v: v[0], lanes))
    )
    assert after < before, f"Downhill: |params|² went from {before} to {after}."


# Metrics, codecs, sources.


def metric_is_a_monoid(case: Case) -> None:
    """Any partition of the rows, merged, gives the whole; dead rows are not there, weight 2 is twice."""
    metric, (outputs, rows) = case.record, case.rows
    n, host = len(rows.weight), is_exempt(case.record, "host")
    program, array = (lambda f: f, np.asarray) if host else (jax.jit, jnp.asarray)

    @program
    def over(acc, outputs, rows):
        acc = metric.update(acc, outputs, rows)
        return acc, metric.compute(acc)

    @program
    def merge(first, second):
        return metric.compute(metric.merge(first, second))

    def part(at, weight):
        """The rows at these positions, seven always, so that one program serves all."""
        at = np.array([*at, *[0] * (n + 1 - len(at))])
        given, measured = (jax.tree.map(lambda v: array(np.asarray(v)[at]), tree) for tree in (outputs, rows))
        return given, measured._replace(
            weight=measured.weight * array(np.array([*weight, *[0] * (n + 1 - len(weight))], np.float32))
        )

    wanted = over(metric.empty(), *(part(range(n), np.ones(n)) if host else (outputs, rows)))[1]
    left, right = (part(at, np.ones(len(at))) for at in (range(3), range(3, n)))
    halves = [over(metric.empty(), *one)[0] for one in (left, right)]
    close(case, merge(*halves), wanted, "Merging parts gives the whole")
    close(case, over(halves[0], *right)[1], wanted, "Updating in turn gives the whole")
    dead = over(metric.empty(), *part([0, 0, *range(1, n)], [1, 0, *np.ones(n - 1)]))[1]
    close(case, dead, wanted, "A row of weight 0 is not there")
    if host:
        close(case, merge(*halves[::-1]), wanted, "Parts may be merged in any order")
        none = over(metric.empty(), *part(range(n), np.zeros(n)))[1]
        assert none.keys() == wanted.keys(), "Its names are known before any row is counted."
        assert all(np.isnan(value).all() for value in none.values()), "Without rows there is no value."
    twice, heavy = part([0, 0, *range(1, n)], np.ones(n + 1)), part(range(n), [2, *np.ones(n - 1)])
    close(case, over(metric.empty(), *twice)[1], over(metric.empty(), *heavy)[1], "Weight 2 is the row twice")


def codec_round_trips(case: Case) -> None:
    """Codes come back as what they were; the state is JSON; what is unknown gets a code of its own, or is refused."""
    codec, values = case.record, np.asarray(case.rows, dtype=object)
    state = json.loads(json.dumps(codec.fit(values)))
    codes = codec.encode(state, values)
    assert codes.dtype == np.int32, f"Codes are int32; got {codes.dtype}."
    assert list(codec.decode(state, codes)) == [str(v) for v in values], "Codes come back as what they were."
    few = json.loads(json.dumps(codec.fit(values[1:])))
    known = dict(zip(codec.encode(few, values[1:]).tolist(), values[1:], strict=True))
    for stranger in {str(values[0]), "no such value"} - set(values[1:]):
        try:
            code = codec.encode(few, np.array([stranger], object))
        except ValueError:
            continue
        back = codec.decode(few, code)[0]
        assert int(code[0]) not in known, (
            f"What is unknown has a code of its own; `{stranger}` got that of `{known.get(int(code[0]))}`."
        )
        assert back not in known.values(), f"The code of the unknown `{stranger}` comes back as `{back}`, which is known."


def split_is_a_partition(case: Case) -> None:
    """Of rows and their schema: a row is on one side or none, the same again, and in whatever order the rows come."""
    split, (rows, schema) = case.record, case.rows
    masks, n = split.masks(rows, schema), len(rows.weight)
    assert sorted(masks) == ["test", "train", "validation"], f"A split names train, validation and test; got {', '.join(masks)}."
    for name, mask in masks.items():
        assert mask.shape == (n,) and mask.dtype == bool, f"Masks are bool [n]; `{name}` is {mask.dtype} {list(mask.shape)}."
    assert sum(mask.astype(int) for mask in masks.values()).max(initial=0) <= 1, "A row is on one side or none."
    identical(split.masks(rows, schema), masks, "Same rows, same sides")
    order = np.random.default_rng(0).permutation(n)
    moved = split.masks(jax.tree.map(lambda v: np.asarray(v)[order], rows), schema)
    identical(moved, {name: mask[order] for name, mask in masks.items()}, "The order of rows does not matter")


def splits_keep_rows_apart(case: Case) -> None:
    """Of rows and their schema: in each split a row trains, tests or neither, the same again, in whatever order rows come."""
    splits, (rows, schema) = case.record, case.rows
    rows = rows._replace(weight=np.asarray(rows.weight).copy())
    rows.weight[1] = 0
    masks, n = splits.masks(rows, schema), len(rows.weight)
    assert sorted(masks) == ["test", "train"], f"Splits name train and test; got {', '.join(masks)}."
    for name, mask in masks.items():
        assert mask.shape == (len(masks["test"]), n) and mask.dtype == bool, f"`{name}` is bool [splits, n]; got {mask.shape}."
        assert mask.any(1).all(), f"Every split has rows to {name}."
        assert not mask[:, 1].any(), "A row that is not there is on no side."
    assert not (masks["train"] & masks["test"]).any(), "No row trains and tests."
    identical(splits.masks(rows, schema), masks, "Same rows, same sides")
    order = np.random.default_rng(0).permutation(n)
    moved = splits.masks(jax.tree.map(lambda v: np.asarray(v)[order], rows), schema)
    identical(moved, {name: mask[:, order] for name, mask in masks.items()}, "The order of rows does not matter")


def source_is_a_function_of_step(case: Case) -> None:
    """A batch depends on key and step alone, an epoch holds every row once, and jit equals eager."""
    source = case.record
    at = jax.jit(source.at)
    window = source.window or 1
    blocks = {i: source.block(i * window, (i + 1) * window) for i in range(2)}
    batches = [at(key(), blocks[step // window if source.window else 0], jnp.int32(step)) for step in range(2)]
    again = at(key(), blocks[1 // window if source.window else 0], jnp.int32(1))
    identical(again, batches[1], "A batch is a function of key and step")
    identical(source.at(key(), blocks[0], jnp.int32(0)), batches[0], "jit equals eager")
    if source.size is not None:
        steps = -(-source.size // source.batch_size)
        epoch = [at(key(), blocks[0], jnp.int32(step)) for step in range(steps)]
        rows = np.concatenate([np.asarray(b.row)[np.asarray(b.weight) > 0] for b in epoch])
        assert len(rows) == source.size == len(np.unique(rows)), "An epoch holds every row once."


# Search and worlds.


def store(state: Any) -> Any:
    """The state after it was written to a file of arrays and read again, as a sweep does it."""
    leaves, structure = jax.tree.flatten(state)
    with io.BytesIO() as file:
        np.savez(file, **{f"leaf{i}": leaf for i, leaf in enumerate(leaves)}, allow_pickle=False)
        file.seek(0)
        with np.load(file, allow_pickle=False) as found:
            return jax.tree.unflatten(structure, [found[f"leaf{i}"] for i in range(len(leaves))])


def search_is_resumable(case: Case) -> None:
    """A search that was saved goes on as if it had not been; late, missing and invalid results are taken as they come."""
    search = case.record

    def go(keep):
        """Two asks, results that come late, in another order, invalid or never, and one more ask."""
        ids, first, state = search.ask(key(1), keep(search.init(key())), 4)
        values = np.arange(4.0)[:, None]
        state = search.tell(keep(state), ids[2:], values[2:], np.ones(2, bool))
        more, second, state = search.ask(key(2), keep(state), 4)
        state = search.tell(keep(state), ids[:1], values[:1], np.ones(1, bool))
        state = search.tell(keep(state), more[:1], np.full((1, 1), np.nan), np.zeros(1, bool))
        last, third, state = search.ask(key(3), keep(state), 2)
        return (ids, more, last), (first, second, third), state

    wanted = go(lambda state: state)
    identical(go(lambda state: state), wanted, "Asking is a function of key and state")
    identical(go(store), wanted, "A search that was saved and restored goes on as if it had not been")
    ids = np.concatenate(wanted[0])
    assert len(set(ids.tolist())) == len(ids), "Ids are never given twice."
    for candidates in wanted[1]:
        assert all(np.isfinite(np.asarray(column, float)).all() for column in candidates.values()), "Candidates are numbers."


def scheduler_decides(case: Case) -> None:
    """The best go on and who is not finite does not; clones are of the better; a state that was saved decides alike."""
    scheduler, steps = case.record, 9
    trials = scheduler.trials or 6

    def go(keep):
        """Trial i reports i at every step, the last NaN, and whoever was stopped no more."""
        state, decisions = keep(scheduler.init()), {number: [] for number in range(trials)}
        for step in range(1, steps + 1):
            for number in range(trials):
                if records.STOP not in decisions[number]:
                    value = float(number) if number < trials - 1 else float("nan")
                    state, decision = scheduler.report(keep(state), number, step, value)
                    decisions[number].append(int(decision))
        return decisions, state

    decisions, state = go(lambda state: state)
    assert go(store)[0] == decisions, "A scheduler that was saved and restored decides as if it had not been."
    best, worst = decisions[0], decisions[trials - 1]
    assert len(best) == steps and set(best[:-1]) <= {records.CONTINUE}, (
        f"Who is best at every step goes on; the decisions were {best}."
    )
    assert set(worst) - {records.CONTINUE}, f"Who never has a finite value does not go on; the decisions were {worst}."
    clones = {decision for made in decisions.values() for decision in made} - {records.CONTINUE, records.STOP}
    assert scheduler.clones or not clones, f"A decision is CONTINUE or STOP, unless `clones` says otherwise; got {clones}."
    assert clones <= set(range(trials // 2)), f"Clones are of the better half, 0 to {trials // 2 - 1}; got {clones}."
    last = decisions[trials - 2]
    assert scheduler.clones or records.STOP in last, f"Who is worst at every step is stopped; the decisions were {last}."
    for number, made in decisions.items():
        if records.STOP in made:
            again = scheduler.report(state, number, steps, -1.0)[1]
            assert int(again) == records.STOP, f"Who was stopped stays so; trial {number} was told {again}."


def env_has_fixed_shapes(case: Case) -> None:
    """Steps keep the shapes of reset, which lie in the spaces that it names; jit equals eager; a fleet is a vmap."""
    env, action = case.record, case.rows
    assert contains(env.action, action), f"The action {action} is not in {env.action}."
    observation, state = env.reset(key())
    after = jax.jit(env.step)(key(1), state, action)
    close(case, env.step(key(1), state, action), after, "jit equals eager")
    for seen in (observation, after[0]):
        assert contains(env.observation, seen), f"The observation {seen} is not in {env.observation}."
    shapes = jax.tree.map(lambda v: (v.shape, v.dtype), (observation, state))
    assert jax.tree.map(lambda v: (v.shape, v.dtype), after[:2]) == shapes, "Steps keep the shapes of reset."
    fleet = jax.jit(jax.vmap(env.reset))(jnp.stack([key(), key(1)]))
    close(case, jax.tree.map(lambda v: v[0], fleet), env.reset(key()), "vmap equals a loop")


def contains(space: records.Discrete | records.Box, value: Any) -> bool:
    """Whether a value lies in a space."""
    value = to_numpy(value)
    if isinstance(space, records.Discrete):
        return value.shape == () and np.issubdtype(value.dtype, np.integer) and bool(0 <= value < space.n)
    return value.shape == tuple(space.shape) and bool(((value >= space.low) & (value <= space.high)).all())


LEARNER: dict[str, Callable[[Case], None]] = {
    "same bits": learner_is_a_function,
    "jit is eager": learner_jit_is_eager,
    "vmap is a loop": learner_vmap_is_a_loop,
    "no retrace": learner_traces_once,
    "weights": learner_obeys_weights,
    "sums": learner_sums_over_rows,
    "resume": learner_resumes,
}


def after_steps(law: Callable[[Case], None], case: Case) -> None:
    """A learner's law for an additive, which becomes one."""
    law(case._replace(record=as_steps(case.record)))


# Detectors.


def detector_sees_the_same_in_blocks(case: Case) -> None:
    """In whatever blocks values come, the alarms are the same; after a change it begins anew; what is still has none."""
    detector, values = case.record, np.asarray(case.rows, float)
    _, whole = detector.update(detector.init(), values)
    identical(detector.update(detector.init(), values)[1], whole, "The same values give the same alarms")
    assert whole.drift.any(), "The case has a change, or the laws say nothing."
    for size in (1, 7, len(values) // 2):
        state, parts = detector.init(), []
        for at in range(0, len(values), size):
            state, alarms = detector.update(state, values[at : at + size])
            parts.append(alarms)
        identical(tuple(np.concatenate(one) for one in zip(*parts, strict=True)), tuple(whole), f"Blocks of {size} give the same")
    after = int(whole.drift.argmax()) + 1
    _, rest = detector.update(detector.init(), values[after:])
    identical(tuple(rest), tuple(one[after:] for one in whole), "After a change it begins anew")
    _, still = detector.update(detector.init(), np.full(len(values), 0.5))
    assert not still.drift.any(), "What is still has not changed."
    _, none = detector.update(detector.init(), np.zeros(0))
    assert [len(one) for one in none] == [0, 0], "No values, no alarms."


LAWS: dict[type, dict[str, Callable[[Case], None]]] = {
    records.Learner: LEARNER,
    records.Additive: {"parts": additive_adds, **{name: functools.partial(after_steps, law) for name, law in LEARNER.items()}},
    records.Estimator: {
        "same bits": estimator_is_a_function,
        "jit is eager": estimator_jit_is_eager,
        "vmap is a loop": estimator_vmap_is_a_loop,
        "reads its floats": estimator_reads_its_floats,
        "weights": estimator_obeys_weights,
        "as a learner": estimator_is_a_learner,
    },
    records.Transform: {
        "jit is eager": transform_jit_is_eager,
        "reads its floats": transform_reads_its_floats,
        "weights": transform_obeys_weights,
        "rows": transform_keeps_rows,
        "names": transform_names_columns,
        "any number of rows": transform_takes_any_number_of_rows,
    },
    records.Model: {
        "jit is eager": model_jit_is_eager,
        "strangers": model_rows_are_strangers,
        "weights": model_training_obeys_weights,
    },
    records.Augmentation: {"jit is eager": augmentation_jit_is_eager, "keeps rows": augmentation_keeps_rows},
    records.Loss: {"jit is eager": loss_jit_is_eager, "per row": loss_is_per_row},
    records.Optimizer: {"jit is eager": optimizer_jit_is_eager, "hyperparameters": optimizer_is_a_function_of_hp},
    records.Metric: {"monoid": metric_is_a_monoid},
    records.Codec: {"round trip": codec_round_trips},
    records.Split: {"partition": split_is_a_partition},
    records.Splits: {"apart": splits_keep_rows_apart},
    records.Source: {"function of step": source_is_a_function_of_step},
    records.Search: {"resumable": search_is_resumable},
    records.Scheduler: {"decides": scheduler_decides},
    records.Env: {"fixed shapes": env_has_fixed_shapes},
    records.Detector: {"blocks": detector_sees_the_same_in_blocks},
}
