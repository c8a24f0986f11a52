"""The laws: what must hold of every record, whoever wrote it.

Each check takes a `Case` and raises AssertionError with the law in words. `LAWS[type(record)]` lists those of a
kind by name. A record gets out of a law only by an exemption that it declares in `record.exempt`.
"""

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arsenal import records
from arsenal.combine import learner as as_steps
from arsenal.combine import population, whole
from arsenal.combine.whole import trace_host
from arsenal.data import arrays
from arsenal.numerics.weighted import ROWS
from arsenal.records import Batch, Source, Training, compute, hyperparameters, living
from arsenal.runs.checkpoints import Checkpoints, digest
from arsenal.training.driver import advance, start


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


def close(case: Case, got: Any, wanted: Any, law: str) -> None:
    """Trees equal within the case's tolerance, whole numbers exactly."""
    assert jax.tree.structure(got) == jax.tree.structure(wanted), f"{law}: the structures differ."  # type: ignore[operator]
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(wanted), strict=True):
        a, b = plain(a), plain(b)
        where = f"{law}: {jax.tree_util.keystr(path) or 'the result'}"
        assert a.shape == b.shape, f"{where} has shape {a.shape}, not {b.shape}."
        if np.issubdtype(a.dtype, np.floating):
            scale = max(1.0, float(np.abs(b[np.isfinite(b)]).max(initial=0)))
            same = np.allclose(a, b, rtol=0, atol=case.tolerance * scale, equal_nan=True)
            assert same, f"{where} differs by {np.nanmax(np.abs(a - b)):.3g}, more than {case.tolerance * scale:.3g}."
        else:
            assert np.array_equal(a, b), f"{where} differs."


def same(got: Any, wanted: Any, law: str) -> None:
    """Trees equal to the last bit."""
    assert digest(got) == digest(wanted), f"{law}: the bits differ."


def plain(leaf: Any) -> np.ndarray:
    """The leaf as numpy; keys as their data."""
    key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if key else leaf)


def precise(case: Case) -> Any:
    """float64 where the case asks for it."""
    return jax.enable_x64(case.double)


def typed(rows: Any) -> Any:
    """The rows with floats in the precision that now holds."""

    def one(leaf):
        return jnp.asarray(leaf, dtype=float) if jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating) else jnp.asarray(leaf)

    return jax.tree.map(one, rows)


def key(number: int = 0) -> jax.Array:
    """A key."""
    return jax.random.key(number)


def varied(case: Case, hp: Any) -> Any:
    """The hyperparameters, every one of them changed."""
    return jax.tree.map(lambda v: v * (case.pace or 0.5) + 0.01, hp)


def counted(function: Callable) -> tuple[Callable, list]:
    """The function, and a list that grows whenever Python runs it."""
    calls = []

    def counting(*arguments):
        calls.append(1)
        return function(*arguments)

    return counting, calls


def with_dead(rows: Batch) -> Batch:
    """The rows with two more between and after them that are not there: weight 0, floats NaN."""

    def one(value):
        bad = jnp.full_like(value[:1], jnp.nan) if jnp.issubdtype(value.dtype, jnp.floating) else value[:1]
        return jnp.concatenate([value[:1], bad, value[1:], bad])

    grown = jax.tree.map(one, rows)
    n = rows.weight.shape[0]
    return grown._replace(weight=grown.weight.at[jnp.array([1, n + 1])].set(0))


def twice(rows: Batch, position: int = 1) -> tuple[Batch, Batch]:
    """The rows with one of weight 2, and the rows with that one there twice, in place; as long as `with_dead(rows)`.

    One length for all three, so that one program serves them.
    """
    heavy = rows._replace(weight=rows.weight.at[position].mul(2))
    double = jax.tree.map(lambda v: jnp.concatenate([v[: position + 1], v[position:]]), rows)
    return with_dead(heavy), padded(double)


def padded(rows: Batch) -> Batch:
    """The rows and one more of weight 0."""
    grown = jax.tree.map(lambda v: jnp.concatenate([v, v[-1:]]), rows)
    return grown._replace(weight=grown.weight.at[-1].set(0))


def exempt(record: Any, *words: str) -> bool:
    """Whether the record declares one of the exemptions; undeclared words are an error."""
    for word, why in record.exempt.items():
        assert word in records.EXEMPTIONS, f"An exemption is one of {', '.join(records.EXEMPTIONS)}; got {word}."
        assert why, f"The exemption {word} needs a reason."
    return any(word in record.exempt for word in words)


# Learners.


def everything(rows: Batch) -> Source:
    """One batch: all rows."""
    return arrays(rows, None)


def source_of(case: Case) -> Source:
    """The case's source, or batches of half the rows."""
    rows = typed(case.rows)
    return case.source(rows) if case.source else arrays(rows, max(1, len(rows.weight) // 2))


def one_step(case: Case, rows: Batch) -> tuple[Any, dict]:
    """Parameters and metrics after one step over the rows."""
    return stepping(case.record.init, case.record.step, case.record.params)(rows, hyperparameters(case.record.hp))


@functools.lru_cache(64)
def stepping(init: Callable, step: Callable, params: Callable) -> Callable:
    """`(rows, hp) -> (params, metrics)`, compiled once for all laws of a learner."""

    @jax.jit
    def run(rows, hp):
        rows = living(rows)
        state, metrics = step(key(1), init(key(), rows, hp), rows, hp)
        return params(state), metrics

    return run


def first_batch(case: Case) -> Batch:
    """A batch of the case."""
    source = source_of(case)
    return living(source.at(key(), source.block(0, source.window or 1), jnp.zeros((), jnp.int32)))


def learner_is_a_function(case: Case) -> None:
    """Same key, same inputs: same bits."""
    rows = first_batch(case)
    same(one_step(case, rows), one_step(case, rows), "Same inputs, same bits")


def learner_jit_is_eager(case: Case) -> None:
    """`jit` changes nothing but speed."""
    with precise(case):
        learner, hp, rows = case.record, hyperparameters(case.record.hp), first_batch(case)
        state, metrics = learner.step(key(1), learner.init(key(), rows, hp), rows, hp)
        close(case, (learner.params(state), metrics), one_step(case, rows), "jit equals eager")


def learner_vmap_is_a_loop(case: Case) -> None:
    """A member of a population is the learner alone."""
    learner, seeds = case.record, (0, 3)
    with precise(case):
        rows = first_batch(case)
        many = population(learner, seeds)
        hp = hyperparameters(learner.hp)
        many_hp = hyperparameters(many.hp)

        @jax.jit
        def together(rows, hp):
            return many.params(many.step(key(1), many.init(key(), rows, hp), rows, hp)[0])

        @jax.jit
        def alone(seed, rows, hp):
            state = learner.init(jax.random.fold_in(key(), seed), rows, hp)
            return learner.params(learner.step(jax.random.fold_in(key(1), seed), state, rows, hp)[0])

        lanes = together(rows, many_hp)
        for i, seed in enumerate(seeds):
            lane = jax.tree.map(lambda v, i=i: v[i], lanes)
            close(case, lane, alone(jnp.uint32(seed), rows, hp), f"vmap equals a loop (member {i})")


def learner_traces_once(case: Case) -> None:
    """Neither a second call nor other hyperparameters trace the step again."""
    learner = case.record
    step, calls = counted(learner.step)
    source = source_of(case)
    rows, train = first_batch(case), jax.eval_shape(lambda: start(learner, source, 0))
    state = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), train.state)
    # Lowering traces exactly when a call would, and compiles nothing.
    run, hp = jax.jit(step), hyperparameters(learner.hp)
    run.lower(key(), state, rows, hp)
    state = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), run.eval_shape(key(), state, rows, hp)[0])
    run.lower(key(2), state, rows, varied(case, hp))
    assert len(calls) == 1, f"No retrace: the step was traced {len(calls)} times for one program's worth of inputs."


def learner_obeys_weights(case: Case) -> None:
    """A row of weight 0 is not there, NaN included; weight 2 is the row twice."""
    if exempt(case.record, "batch-coupled", "in expectation", "host"):
        return
    with precise(case):
        rows = first_batch(case)
        wanted = one_step(case, rows)
        close(case, one_step(case, with_dead(rows)), wanted, "A row of weight 0 is not there")
        heavy, double = twice(rows)
        close(case, one_step(case, heavy), one_step(case, double), "Weight 2 is the row twice")


def learner_sums_over_rows(case: Case) -> None:
    """A step that sees rows only through sums is the same with half of the rows on each of two devices."""
    learner = case.record
    if not learner.sums or exempt(learner, "batch-coupled", "host"):
        return

    def spread(key, state, rows, hp):
        rows = padded(rows) if rows.weight.shape[0] % 2 else rows
        halves = jax.tree.map(lambda v: v.reshape(2, -1, *v.shape[1:]), rows)
        # A mapped axis is what rows on many devices are, also on one device.
        both = jax.vmap(learner.step, (None, None, 0, None), axis_name=ROWS)(key, state, halves, hp)
        return jax.tree.map(lambda v: v[0], both)

    with precise(case):
        rows = first_batch(case)
        got = one_step(case._replace(record=learner._replace(step=spread)), rows)
        close(case, got, one_step(case, rows), "Sums over devices are sums over rows")


def learner_resumes(case: Case) -> None:
    """2N steps equal N, a checkpoint on disk and N more, and any other chunks, bit for bit."""
    if exempt(case.record, "host"):
        return
    learner, source = case.record, source_of(case)
    run = advance(learner, source)

    def go(train, *stops):
        for stop in stops:
            begin = int(train.step)
            while begin < stop:
                window = source.window or stop
                end = min(stop, (begin // window + 1) * window)
                block = source.block(begin // window * window, (begin // window + 1) * window)
                train, *_ = run(train, block, jnp.asarray(end, jnp.int32))
                begin = end
        return train

    wanted = go(start(learner, source, 0), 6)
    same(go(start(learner, source, 0), 1, 2, 4, 6), wanted, "Other chunks, same bits")
    with tempfile.TemporaryDirectory() as folder:
        saved = Checkpoints(Path(folder))
        half = go(start(learner, source, 0), 3)
        saved.save(3, half)
        saved.wait()
        restored = saved.restore(jax.eval_shape(lambda: start(learner, source, 0)))
        saved.close()
    same(go(restored, 6), wanted, "N steps, a checkpoint and N more are 2N steps")


def learner_answers(case: Case) -> None:
    """Every answer is a function of parameters and inputs: jit equals eager, NaN nowhere."""
    with precise(case):
        learner, hp, rows = case.record, hyperparameters(case.record.hp), first_batch(case)
        state, _ = jax.jit(learner.step)(key(1), learner.init(key(), rows, hp), rows, hp)
        params = learner.params(state)
        for name, f in learner.apply.items():
            inputs = learner.inputs.get(name, lambda b: b.x)(rows)
            answer = jax.jit(f)(params, inputs)
            close(case, answer, f(params, inputs), f"jit equals eager in `{name}`")
            assert all(np.isfinite(plain(leaf)).all() for leaf in jax.tree.leaves(answer)), f"`{name}` answers NaN."
        means = compute(jax.jit(learner.evaluate)(key(), params, rows, hp))
        close(case, compute(learner.evaluate(key(), params, rows, hp)), means, "jit equals eager in `evaluate`")


def learner_evaluates_by_hp(case: Case) -> None:
    """What judges parameters is a function of the floats that it is given: one trace for all values, lanes equal a loop."""
    learner = case.record
    with precise(case):
        rows, hp = first_batch(case), hyperparameters(learner.hp)
        params, _ = one_step(case, rows)
        evaluate, calls = counted(lambda params, rows, hp: compute(learner.evaluate(key(), params, rows, hp)))
        run, both = jax.jit(evaluate), [hp, varied(case, hp)]
        alone = [run(params, rows, one) for one in both]
        assert len(calls) == 1, f"No retrace: `evaluate` was traced {len(calls)} times for one program's worth of inputs."
        if not jax.tree.leaves(hp):
            return
        stacked = jax.tree.map(lambda *v: jnp.stack(v), *both)
        lanes = jax.jit(jax.vmap(lambda hp: compute(learner.evaluate(key(), params, rows, hp))))(stacked)
        for i, one in enumerate(alone):
            close(case, jax.tree.map(lambda v, i=i: v[i], lanes), one, f"A lane's floats judge it (lane {i})")


def additive_adds(case: Case) -> None:
    """Two halves measured apart give the step of the whole."""
    if exempt(case.record, "batch-coupled"):
        return
    with precise(case):
        rows = first_batch(case)
        n = rows.weight.shape[0] // 2 * 2
        rows = jax.tree.map(lambda v: v[:n], rows)
        whole_step = one_step(case._replace(record=as_steps(case.record)), rows)
        close(case, one_step(case._replace(record=as_steps(case.record, 2)), rows), whole_step, "Sums add over parts")


# Estimators and transforms.


def fitted(case: Case, rows: Batch, hp: Any = None) -> Any:
    """Parameters after a fit."""
    hp, fit = hyperparameters(case.record.hp) if hp is None else hp, trace_host(case.record).fit
    return jax.jit(lambda rows, hp: fit(key(), living(rows), hp))(rows, hp)[0]


def estimator_jit_is_eager(case: Case) -> None:
    """`jit` changes nothing but speed, and the same inputs give the same bits."""
    with precise(case):
        rows = typed(case.rows)
        params = fitted(case, rows)
        same(fitted(case, rows), params, "Same inputs, same bits")
        close(case, trace_host(case.record).fit(key(), rows, hyperparameters(case.record.hp))[0], params, "jit equals eager")
        for name, f in case.record.apply.items():
            inputs = case.record.inputs.get(name, lambda b: b.x)(rows)
            close(case, jax.jit(f)(params, inputs), f(params, inputs), f"jit equals eager in `{name}`")


def estimator_vmap_is_a_loop(case: Case) -> None:
    """A regularisation path is a vmap."""
    with precise(case):
        rows, hp, fit = typed(case.rows), hyperparameters(case.record.hp), trace_host(case.record).fit
        values = [hp, varied(case, hp)]
        stacked = jax.tree.map(lambda *v: jnp.stack(v), *values)
        axes = (None, 0) if jax.tree.leaves(hp) else (0, None)
        many = (rows, stacked) if jax.tree.leaves(hp) else (jax.tree.map(lambda v: jnp.stack([v, v]), rows), hp)
        lanes = jax.jit(jax.vmap(lambda rows, hp: fit(key(), rows, hp)[0], axes))(*many)
        for i, one in enumerate(values):
            close(case, jax.tree.map(lambda v, i=i: v[i], lanes), fitted(case, rows, one), f"vmap equals a loop (lane {i})")


def estimator_traces_once(case: Case) -> None:
    """Other hyperparameters do not trace the fit again."""
    fit, calls = counted(trace_host(case.record).fit)
    run, rows, hp = jax.jit(fit), typed(case.rows), hyperparameters(case.record.hp)
    run(key(), rows, hp)
    run(key(1), rows, varied(case, hp))
    assert len(calls) == 1, f"No retrace: the fit was traced {len(calls)} times."


def estimator_obeys_weights(case: Case) -> None:
    """A row of weight 0 is not there, NaN included; weight 2 is the row twice."""
    if exempt(case.record, "batch-coupled", "in expectation", "host"):
        return
    with precise(case):
        rows = typed(case.rows)

        def answers(params):
            return {name: f(params, rows.x) for name, f in case.record.apply.items() if name not in case.record.inputs}

        wanted = answers(fitted(case, rows))
        close(case, answers(fitted(case, with_dead(rows))), wanted, "A row of weight 0 is not there")
        heavy, double = twice(rows)
        close(case, answers(fitted(case, heavy)), answers(fitted(case, double)), "Weight 2 is the row twice")


def estimator_is_a_learner(case: Case) -> None:
    """As a learner whose only batch is the whole set, it is saved and restored bit for bit."""
    learner_resumes(case._replace(record=whole(case.record), source=everything))


def transform_jit_is_eager(case: Case) -> None:
    """`jit` changes nothing but speed."""
    with precise(case):
        rows = typed(case.rows)
        hp = hyperparameters(case.record.hp)
        made = jax.jit(case.record.fit)(key(), rows, hp)
        close(case, case.record.fit(key(), rows, hp), made, "jit equals eager")
        close(case, case.record.apply(made[0], rows.x), jax.jit(case.record.apply)(made[0], rows.x), "jit equals eager in apply")


def transform_obeys_weights(case: Case) -> None:
    """A row of weight 0 is not there, NaN included; weight 2 is the row twice."""
    if exempt(case.record, "batch-coupled", "in expectation"):
        return
    with precise(case):
        rows = typed(case.rows)

        def apply(rows_):
            state, _ = case.record.fit(key(), living(rows_), hyperparameters(case.record.hp))
            return case.record.apply(state, rows.x)

        wanted = apply(rows)
        close(case, apply(with_dead(rows)), wanted, "A row of weight 0 is not there")
        heavy, double = twice(rows)
        close(case, apply(heavy), apply(double), "Weight 2 is the row twice")


def transform_keeps_rows(case: Case) -> None:
    """The batch keeps its rows, ids and weights; an inverse undoes what was done."""
    with precise(case):
        rows = typed(case.rows)
        case.record.check(rows)
        state, changed = case.record.fit(key(), rows, hyperparameters(case.record.hp))
        same((changed.row, changed.weight), (rows.row, rows.weight), "Rows keep their ids and weights")
        if case.record.inverse:
            close(case, case.record.inverse(state, case.record.apply(state, rows.x)), rows.x, "The inverse undoes the transform")


# Models, losses, optimizers.


def model_jit_is_eager(case: Case) -> None:
    """`jit` changes nothing but speed; same key, same parameters."""
    model, x = case.record, case.rows.x
    variables = model.init(key(), x)
    same(model.init(key(), x), variables, "Same key, same parameters")
    close(case, jax.jit(lambda v, x: model.apply(v, x)[0])(variables, x), model.apply(variables, x)[0], "jit equals eager")
    for name, given in model.inputs.items():
        f, inputs = model.methods[name], given(case.rows)
        close(case, jax.jit(f)(variables, inputs), f(variables, inputs), f"jit equals eager in `{name}`")


def model_rows_are_strangers(case: Case) -> None:
    """An answer has the same bits whatever its neighbours; hyperparameters are for training only."""
    model, x = case.record, case.rows.x
    variables = model.init(key(), x)
    apply = jax.jit(lambda v, x: model.apply(v, x)[0])
    others = jax.tree.map(lambda v: v.at[1:].set(v[1:][::-1]), x)
    if not exempt(model, "batch-coupled"):
        first, second = (jax.tree.map(lambda v: v[:1], apply(variables, value)) for value in (x, others))
        same(first, second, "Rows are strangers")
    for name, given in model.inputs.items():
        answer = jax.jit(model.methods[name])
        first, second = (answer(variables, given(case.rows._replace(x=value))) for value in (x, others))
        first, second = (jax.tree.map(lambda v: v[:1], made) for made in (first, second))
        same(first, second, f"Rows are strangers in `{name}`")


def model_training_obeys_weights(case: Case) -> None:
    """In training a row of weight 0 changes neither the others' outputs nor the collections."""
    model, hp = case.record, hyperparameters(case.record.hp)
    if exempt(model, "batch-coupled", "in expectation"):
        return
    variables = model.init(key(), case.rows.x)
    apply = jax.jit(lambda rows, hp: model.apply(variables, rows.x, Training(key(1), rows.weight, rows.row, hp)))
    rows = case.rows
    outputs, collections = apply(rows, hp)
    grown_outputs, grown_collections = apply(living(with_dead(rows)), hp)
    kept = jnp.array([0, *range(2, rows.weight.shape[0] + 1)])
    grown_outputs = jax.tree.map(lambda v: v[kept], grown_outputs)
    close(case, (grown_outputs, grown_collections), (outputs, collections), "A row of weight 0 is not there")


def augmentation_keeps_rows(case: Case) -> None:
    """Ids and weights stay, dead rows lend nothing to the others; a function of key and batch, traced once."""
    augmentation, hp, rows = case.record, hyperparameters(case.record.hp), case.rows
    exempt(augmentation)
    apply, calls = counted(augmentation.apply)
    run = jax.jit(apply)
    changed = run(key(1), rows, hp)
    same(run(key(1), rows, hp), changed, "Same key, same inputs, same bits")
    run(key(2), rows, varied(case, hp))
    assert len(calls) == 1, f"No retrace: the augmentation was traced {len(calls)} times."
    close(case, augmentation.apply(key(1), rows, hp), changed, "jit equals eager")
    same((changed.row, changed.weight), (rows.row, rows.weight), "Rows keep their ids and weights")
    grown = jax.jit(augmentation.apply)(key(1), with_dead(rows), hp)
    kept = jnp.array([0, *range(2, rows.weight.shape[0] + 1)])
    close(case, jax.tree.map(lambda v: v[kept], grown), changed, "A row of weight 0 is not there")


def loss_is_per_row(case: Case) -> None:
    """One value for every row, from that row alone unless rows are coupled; other hyperparameters do not trace it again."""
    loss, hp = case.record, hyperparameters(case.record.hp)
    value, calls = counted(loss.value)
    run = jax.jit(value)
    values = run(case.rows.x, case.rows, hp)
    assert values.shape == case.rows.weight.shape, f"A loss gives one value for every row; got shape {values.shape}."
    close(case, loss.value(case.rows.x, case.rows, hp), values, "jit equals eager")
    if not exempt(loss, "batch-coupled"):
        few = jax.tree.map(lambda v: v[:2], case.rows)
        close(case, loss.value(few.x, few, hp), values[:2], "Rows are strangers")
    run(case.rows.x, case.rows, varied(case, hp))
    assert len(calls) == 1, f"No retrace: the loss was traced {len(calls)} times."
    loss.check(jax.ShapeDtypeStruct(case.rows.x.shape, case.rows.x.dtype), case.rows)


def optimizer_is_a_function_of_hp(case: Case) -> None:
    """One program for all values; vmap over values equals a loop; it goes downhill on a bowl."""
    optimizer, params, hp = case.record, case.rows, hyperparameters(case.record.hp)

    def steps(params, hp):
        state = optimizer.init(params, hp)
        for _ in range(3):
            value = sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params)) / 2
            state, params = optimizer.update(state, params, params, hp, value)  # params is the gradient of value
        return params

    counting, calls = counted(steps)
    run, other = jax.jit(counting), varied(case, hp)
    moved = run(params, hp)
    run(params, other)
    assert len(calls) == 1, f"No retrace: the optimizer was traced {len(calls)} times."
    close(case, steps(params, hp), moved, "jit equals eager")
    lanes = jax.vmap(steps, (None, 0))(params, jax.tree.map(lambda a, b: jnp.stack([a, b]), hp, other))
    close(case, jax.tree.map(lambda v: v[0], lanes), moved, "vmap equals a loop")
    before, after = (sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(tree)) for tree in (params, moved))
    assert after < before, f"Downhill: |params|² went from {before} to {after}."


# Metrics, codecs, sources.


def metric_is_a_monoid(case: Case) -> None:
    """Any partition of the rows, merged, gives the whole; dead rows are not there, weight 2 is twice."""
    metric, (outputs, rows) = case.record, case.rows

    def over(outputs, rows, acc=None):
        return jax.jit(metric.update)(metric.empty() if acc is None else acc, outputs, rows)

    def part(tree, at):
        return jax.tree.map(lambda v: v[at], tree)

    wanted = metric.compute(over(outputs, rows))
    left, right = slice(0, 3), slice(3, None)
    halves = [over(part(outputs, at), part(rows, at)) for at in (left, right)]
    close(case, metric.compute(metric.merge(*halves)), wanted, "Merging parts gives the whole")
    close(
        case, metric.compute(over(part(outputs, right), part(rows, right), halves[0])), wanted, "Updating in turn gives the whole"
    )
    at = jnp.array([0, 0, *range(1, rows.weight.shape[0])])
    grown = part(rows, at)
    close(
        case,
        metric.compute(over(part(outputs, at), grown._replace(weight=grown.weight.at[1].set(0)))),
        wanted,
        "A row of weight 0 is not there",
    )
    heavy = rows._replace(weight=rows.weight.at[0].mul(2))
    close(case, metric.compute(over(part(outputs, at), grown)), metric.compute(over(outputs, heavy)), "Weight 2 is the row twice")


def codec_round_trips(case: Case) -> None:
    """Codes come back as what they were; the state is JSON; what is unknown gets a code of its own."""
    codec, values = case.record, np.asarray(case.rows, dtype=object)
    state = json.loads(json.dumps(codec.fit(values)))
    codes = codec.encode(state, values)
    assert codes.dtype == np.int32, f"Codes are int32; got {codes.dtype}."
    assert list(codec.decode(state, codes)) == [str(v) for v in values], "Codes come back as what they were."


def split_is_a_partition(case: Case) -> None:
    """Of rows and their schema: a row is on one side or none, the same again, and in whatever order the rows come."""
    split, (rows, schema) = case.record, case.rows
    masks, n = split.masks(rows, schema), len(rows.weight)
    assert sorted(masks) == ["test", "train", "validation"], f"A split names train, validation and test; got {', '.join(masks)}."
    for name, mask in masks.items():
        assert mask.shape == (n,) and mask.dtype == bool, f"Masks are bool [n]; `{name}` is {mask.dtype} {list(mask.shape)}."
    assert sum(mask.astype(int) for mask in masks.values()).max(initial=0) <= 1, "A row is on one side or none."
    same(split.masks(rows, schema), masks, "Same rows, same sides")
    order = np.random.default_rng(0).permutation(n)
    moved = split.masks(jax.tree.map(lambda v: np.asarray(v)[order], rows), schema)
    same(moved, {name: mask[order] for name, mask in masks.items()}, "The order of rows does not matter")


def source_is_a_function_of_step(case: Case) -> None:
    """A batch depends on key and step alone, an epoch holds every row once, and jit equals eager."""
    source = case.record
    at = jax.jit(source.at)
    window = source.window or 1
    blocks = {i: source.block(i * window, (i + 1) * window) for i in range(2)}
    batches = [at(key(), blocks[step // window if source.window else 0], jnp.int32(step)) for step in range(2)]
    again = at(key(), blocks[1 // window if source.window else 0], jnp.int32(1))
    same(again, batches[1], "A batch is a function of key and step")
    same(source.at(key(), blocks[0], jnp.int32(0)), batches[0], "jit equals eager")
    if source.size is not None:
        steps = -(-source.size // source.batch_size)
        epoch = [at(key(), blocks[0], jnp.int32(step)) for step in range(steps)]
        rows = np.concatenate([np.asarray(b.row)[np.asarray(b.weight) > 0] for b in epoch])
        assert len(rows) == source.size == len(np.unique(rows)), "An epoch holds every row once."


# Search and worlds.


def search_is_resumable(case: Case) -> None:
    """Asking is a function of key and state; late, missing and invalid results are taken as they come."""
    search = case.record
    ids, candidates, state = search.ask(key(1), search.init(key()), 4)
    same((ids, candidates), search.ask(key(1), search.init(key()), 4)[:2], "Same key, same candidates")
    values = jnp.arange(4.0)[:, None]
    late = search.tell(search.tell(state, ids[2:], values[2:], jnp.ones(2, bool)), ids[:2], values[:2], jnp.ones(2, bool))
    more = search.ask(key(2), late, 4)
    assert len(set(np.asarray(ids).tolist()) & set(np.asarray(more[0]).tolist())) == 0, "Ids are never given twice."
    search.tell(state, ids[:1], jnp.full((1, 1), jnp.nan), jnp.zeros(1, bool))


def scheduler_decides(case: Case) -> None:
    """Every report gets a decision, in whatever order reports come."""
    state = case.record.init()
    for number, step, value in ((3, 1, 0.1), (0, 1, 0.5), (1, 1, 0.9), (2, 1, 0.7), (0, 2, 0.4)):
        state, decision = case.record.report(state, number, step, value)
        assert int(decision) >= records.STOP, f"A decision is CONTINUE, STOP or an id; got {decision}."


def env_has_fixed_shapes(case: Case) -> None:
    """Steps keep the shapes of reset, which lie in the spaces that it names; jit equals eager; a fleet is a vmap."""
    env, action = case.record, case.rows
    assert inside(env.action, action), f"The action {action} is not in {env.action}."
    observation, state = env.reset(key())
    after = jax.jit(env.step)(key(1), state, action)
    close(case, env.step(key(1), state, action), after, "jit equals eager")
    for seen in (observation, after[0]):
        assert inside(env.observation, seen), f"The observation {seen} is not in {env.observation}."
    shapes = jax.tree.map(lambda v: (v.shape, v.dtype), (observation, state))
    assert jax.tree.map(lambda v: (v.shape, v.dtype), after[:2]) == shapes, "Steps keep the shapes of reset."
    fleet = jax.vmap(env.reset)(jnp.stack([key(), key(1)]))
    close(case, jax.tree.map(lambda v: v[0], fleet), env.reset(key()), "vmap equals a loop")


def inside(space: records.Discrete | records.Box, value: Any) -> bool:
    """Whether a value lies in a space."""
    value = plain(value)
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
    "answers": learner_answers,
    "judged by its floats": learner_evaluates_by_hp,
}



def after_steps(law: Callable[[Case], None], case: Case) -> None:
    """A learner's law for an additive, which becomes one."""
    law(case._replace(record=as_steps(case.record)))


LAWS: dict[type, dict[str, Callable[[Case], None]]] = {
    records.Learner: LEARNER,
    records.Additive: {"parts": additive_adds, **{name: functools.partial(after_steps, law) for name, law in LEARNER.items()}},
    records.Estimator: {
        "jit is eager": estimator_jit_is_eager,
        "vmap is a loop": estimator_vmap_is_a_loop,
        "no retrace": estimator_traces_once,
        "weights": estimator_obeys_weights,
        "as a learner": estimator_is_a_learner,
    },
    records.Transform: {
        "jit is eager": transform_jit_is_eager,
        "weights": transform_obeys_weights,
        "rows": transform_keeps_rows,
    },
    records.Model: {
        "jit is eager": model_jit_is_eager,
        "strangers": model_rows_are_strangers,
        "weights": model_training_obeys_weights,
    },
    records.Augmentation: {"keeps rows": augmentation_keeps_rows},
    records.Loss: {"per row": loss_is_per_row},
    records.Optimizer: {"hyperparameters": optimizer_is_a_function_of_hp},
    records.Metric: {"monoid": metric_is_a_monoid},
    records.Codec: {"round trip": codec_round_trips},
    records.Split: {"partition": split_is_a_partition},
    records.Source: {"function of step": source_is_a_function_of_step},
    records.Search: {"resumable": search_is_resumable},
    records.Scheduler: {"decides": scheduler_decides},
    records.Env: {"fixed shapes": env_has_fixed_shapes},
}
