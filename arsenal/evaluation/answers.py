"""A learner's answers and metrics over a whole set, a batch at a time in one program and in constant memory."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from arsenal.data import ahead, feed, through
from arsenal.numerics.wide import as_types, widen
from arsenal.records import Batch, Learner, Metric, Source, anything, compute, hyperparameters, mask_dead_rows

PATIENCE = 2.0
"""Seconds of work in one dispatch, about: how long an interruption waits for an answer."""
FIRST = 16
"""Batches of the first dispatch, by which the next ones are measured."""


def sequential_source(
    rows: Batch, batch_size: int, seen: tuple[Callable, Any] | None, lay: Callable[[Source], Source] = lambda source: source,
    check: Callable[[Batch], None] = anything,
) -> Source:  # fmt: skip
    """The rows in their order, the ragged last batch filled up; `seen` is a transform's apply and its state.

    Rows that are read as they go are checked as they come.
    """
    source = lay(feed(rows, min(batch_size, len(rows.weight)), None, shuffle=False, check=check))
    return source if seen is None else through(source, *seen)


def steps(source: Source) -> int:
    """How many batches all rows are."""
    return -(-(source.size or 0) // source.batch_size)


def windows(source: Source) -> Iterator[tuple[int, int]]:
    """Spans of steps that one block serves, to the end of the rows."""
    end = steps(source)
    for start in range(0, end, source.window or end):
        yield start, min(start + (source.window or end), end)


def answer_function(apply: dict[str, Callable], inputs: dict[str, Callable]) -> Callable:
    """`(params, batch) -> {name: answer}`: every method on its own inputs."""
    return lambda params, batch: {name: f(params, inputs.get(name, lambda b: b.x)(batch)) for name, f in apply.items()}


def quantities(learner: Learner, metrics: dict[str, Metric], rows: Batch) -> tuple[dict[str, str | None], dict[str, Any]]:
    """All that a scorer gives, by name: min or max, which of its values are good, or None; and the shapes of the answers.

    From rows or their shapes. ValueError where an answer is no array with a row for each of x, where a metric does not fit
    the answers, or two measure something of one name.
    """
    modes = {}
    # What reads something other than x is asked for only where a metric may read it.
    asked = {name: f for name, f in learner.apply.items() if metrics or name not in learner.inputs}
    answer = answer_function(asked, learner.inputs)

    def judged(rows):
        hp = hyperparameters(learner.hp)
        params = learner.params(learner.init(jax.random.key(0), rows, hp))
        found = compute(learner.evaluate(jax.random.key(0), params, rows, hp))
        modes.update({name: learner.modes.get(name, "min" if name == "loss" else None) for name in found})
        outputs, of = answer(params, rows), {}
        for name in asked.keys() - learner.inputs.keys():
            if not getattr(outputs[name], "shape", ()):
                raise ValueError(
                    f"The answer `{name}` must be an array with a row for each row of x; got {type(outputs[name]).__name__}. "
                    "Of several outputs the `readout` of the loss takes one for each answer."
                )
        for name, metric in metrics.items():
            try:
                values = metric.compute(metric.update(metric.empty(), outputs, rows))
            except (ValueError, TypeError, KeyError, IndexError) as error:
                said = " ".join(str(error).split())
                raise ValueError(f"The metric `{name}` does not fit what the learner answers: {said}") from error
            for one in values:
                if one in of:
                    raise ValueError(f"The metrics `{of[one]}` and `{name}` both measure `{one}`.")
            found, of = found | values, of | dict.fromkeys(values, name)
            modes.update({one: metric.mode or modes.get(one) for one in values})
        return outputs

    shapes = jax.eval_shape(judged, rows)
    return dict(sorted(modes.items())), shapes


def scorer(
    learner: Learner, metrics: dict[str, Metric], rows: Batch, batch_size: int, *,
    interrupted: Callable[[], bool] | None = None, seen: tuple[Callable, Any] | None = None,
    lay: Callable[[Source], Source] = lambda source: source, lanes: bool = False, check: Callable[[Batch], None] = anything,
) -> Callable[[jax.Array, Any, Any], dict[str, Any] | None]:  # fmt: skip
    """`(key, params, hp) -> {name: value}` over the rows: the learner's own evaluation and the metrics.

    With `lanes` keys, parameters, floats and values have a leading axis of runs, all judged in one program.

    Rows in memory are one block that stays on the device; of others a block at a time is, read ahead. `interrupted` is
    asked every two seconds or so; once it says true the answer is None. `lay` puts blocks where they are computed with.
    `seen`, `check`: see `sequential_source`.
    """
    answer = answer_function(learner.apply, learner.inputs)
    source = sequential_source(rows, batch_size, seen, lay, check)

    def batch_of(block, step):
        return mask_dead_rows(source.at(None, block, step))

    def compiled(f, axes):
        return jax.jit(jax.vmap(f, axes) if lanes else f)

    def nothing(key, params, hp, block):
        means = jax.eval_shape(lambda: learner.evaluate(key, params, batch_of(block, jnp.zeros((), jnp.int32)), hp))
        zeros = widen(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), means))
        return zeros, {name: metric.empty() for name, metric in metrics.items()}

    def judge(key, params, hp, block, sums, begin, end):
        def one(carry):
            step, means, accs = carry
            batch = batch_of(block, step)
            outputs = answer(params, batch) if metrics else {}
            accs = {name: metric.update(accs[name], outputs, batch) for name, metric in metrics.items()}
            own = learner.evaluate(jax.random.fold_in(key, step), params, batch, hp)
            return step + 1, jax.tree.map(jnp.add, means, as_types(own, means)), accs

        _, means, accs = lax.while_loop(lambda carry: carry[0] < end, one, (begin, *sums))
        values = {key: value for name, metric in metrics.items() for key, value in metric.compute(accs[name]).items()}
        return (means, accs), compute(means) | values

    empty, run = compiled(nothing, (0, 0, 0, None)), compiled(judge, (0, 0, 0, None, 0, None, None))

    def score(key, params, hp):
        with ahead(source, steps(source)) as blocks:
            sums, values, pace = None, {}, None
            for start, stop in windows(source):
                block = blocks.block(start, start + (source.window or stop))
                sums = empty(key, params, hp, block) if sums is None else sums
                while start < stop:
                    if interrupted and interrupted():
                        return None
                    goal = min(stop, start + (max(1, int(PATIENCE / pace)) if pace else FIRST)) if interrupted else stop
                    began = time.perf_counter()
                    sums, values = run(key, params, hp, block, sums, np.int32(start), np.int32(goal))
                    if interrupted and goal < stop:
                        jax.block_until_ready(values)
                        pace = (time.perf_counter() - began) / (goal - start)
                    start = goal
        return jax.device_get(values)

    return score


def answers(
    apply: dict[str, Callable], inputs: dict[str, Callable], params: Any, rows: Batch, batch_size: int,
    seen: tuple[Callable, Any] | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """All answers [n, ...] by name, in one compiled program. `seen`: see `sequential_source`."""
    answer, source = answer_function(apply, inputs), sequential_source(rows, batch_size, seen)

    @jax.jit
    def run(params, block, steps):
        return lax.map(lambda step: answer(params, mask_dead_rows(source.at(None, block, step))), steps)

    n, parts = len(rows.weight), []
    with ahead(source, steps(source)) as blocks:
        for start, stop in windows(source):
            inside = np.arange(start, start + (source.window or stop), dtype=np.int32)
            made = run(params, blocks.block(start, start + len(inside)), inside)
            parts.append(jax.tree.map(lambda v: np.asarray(v).reshape(-1, *v.shape[2:]), made))
    return {name: np.concatenate([part[name] for part in parts])[:n] for name in apply}
