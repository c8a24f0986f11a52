"""A learner's answers and metrics over a whole set, a batch at a time in one program and in constant memory.

Metrics that are counted on the host are given each batch's answers by a second program, and keep what they need.
"""

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


def by_place(metrics: dict[str, Metric]) -> tuple[dict[str, Metric], dict[str, Metric]]:
    """The metrics that the program counts, and those that the host does."""
    host = {name: metric for name, metric in metrics.items() if "host" in metric.exempt}
    return {name: metric for name, metric in metrics.items() if name not in host}, host


def host_answers(learner: Learner, metrics: dict[str, Metric]) -> dict[str, Callable]:
    """The answers that metrics on the host read, as far as the learner gives them."""
    return {name: f for name, f in learner.apply.items() if is_read(name, metrics)}


def is_read(name: str, metrics: dict[str, Metric]) -> bool:
    """Whether one of the metrics on the host reads the answer, or `x`."""
    return any(metric.reads is None or name in metric.reads for metric in metrics.values())


def blank_arrays(shapes: Any) -> Any:
    """Zeros of these shapes and types that take no memory."""
    return jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), shapes)


def quantities(learner: Learner, metrics: dict[str, Metric], rows: Batch) -> tuple[dict[str, str | None], dict[str, Any]]:
    """All that a scorer gives, by name: min or max, which of its values are good, or None; and the shapes of the answers.

    From rows or their shapes. ValueError where an answer is no array with a row for each of x, where a metric does not fit
    the answers, or two measure something of one name.
    """
    modes, of = {}, {}
    on_device, on_host = by_place(metrics)
    # What reads something other than x is asked for only where a metric may read it.
    asked = {name: f for name, f in learner.apply.items() if metrics or name not in learner.inputs}
    answer = answer_function(asked, learner.inputs)

    def note(name, metric, values):
        for one in values:
            if one in of:
                raise ValueError(f"The metrics `{of[one]}` and `{name}` both measure `{one}`.")
        of.update(dict.fromkeys(values, name))
        modes.update({one: metric.mode or modes.get(one) for one in values})

    def measure_all(rows):
        hp = hyperparameters(learner.hp)
        params = learner.params(learner.init(jax.random.key(0), rows, hp))
        found = compute(learner.evaluate(jax.random.key(0), params, rows, hp))
        modes.update({name: learner.modes.get(name, "min" if name == "loss" else None) for name in found})
        outputs = answer(params, rows)
        for name in asked.keys() - learner.inputs.keys():
            if not getattr(outputs[name], "shape", ()):
                raise ValueError(
                    f"The answer `{name}` must be an array with a row for each row of x; got {type(outputs[name]).__name__}. "
                    "Of several outputs the `readout` of the loss takes one for each answer."
                )
        for name, metric in on_device.items():
            note(name, metric, try_metric(name, metric, outputs, rows))
        return outputs

    shapes = jax.eval_shape(measure_all, rows)
    blank, none = blank_arrays(shapes), blank_arrays(rows)  # of weight 0: no row is there
    for name, metric in on_host.items():
        note(name, metric, try_metric(name, metric, blank, none))
    return dict(sorted(modes.items())), shapes


def try_metric(name: str, metric: Metric, outputs: dict[str, Any], rows: Batch) -> dict[str, Any]:
    """What the metric makes of these; ValueError where they do not fit it."""
    try:
        return metric.compute(metric.update(metric.empty(), outputs, rows))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"The metric `{name}` does not fit what the learner answers: {said}") from error


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
    on_device, on_host = by_place(metrics)
    answer = answer_function(learner.apply, learner.inputs)
    source = sequential_source(rows, batch_size, seen, lay, check)

    def batch_of(block, step):
        return mask_dead_rows(source.at(None, block, step))

    def compile_lanes(f, axes):
        return jax.jit(jax.vmap(f, axes) if lanes else f)

    def empty_sums(key, params, hp, block):
        means = jax.eval_shape(lambda: learner.evaluate(key, params, batch_of(block, jnp.zeros((), jnp.int32)), hp))
        zeros = widen(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), means))
        return zeros, {name: metric.empty() for name, metric in on_device.items()}

    def judge(key, params, hp, block, sums, begin, end):
        def one(carry):
            step, means, accs = carry
            batch = batch_of(block, step)
            outputs = answer(params, batch) if on_device else {}
            accs = {name: metric.update(accs[name], outputs, batch) for name, metric in on_device.items()}
            own = learner.evaluate(jax.random.fold_in(key, step), params, batch, hp)
            return step + 1, jax.tree.map(jnp.add, means, as_types(own, means)), accs

        _, means, accs = lax.while_loop(lambda carry: carry[0] < end, one, (begin, *sums))
        values = {key: value for name, metric in on_device.items() for key, value in metric.compute(accs[name]).items()}
        return (means, accs), compute(means) | values

    empty, run = compile_lanes(empty_sums, (0, 0, 0, None)), compile_lanes(judge, (0, 0, 0, None, 0, None, None))

    observe, conclude = host_counter(learner, on_host, batch_of, lanes)

    def score(key, params, hp):
        with ahead(source, steps(source)) as blocks:
            sums, values, pace = None, {}, None
            kept = [{name: metric.empty() for name, metric in on_host.items()} for _ in range(len(key) if lanes else 1)]
            for start, stop in windows(source):
                block = blocks.block(start, start + (source.window or stop))
                sums = empty(key, params, hp, block) if sums is None else sums
                while start < stop:
                    if interrupted and interrupted():
                        return None
                    goal = min(stop, start + (max(1, int(PATIENCE / pace)) if pace else FIRST)) if interrupted else stop
                    began = time.perf_counter()
                    sums, values = run(key, params, hp, block, sums, np.int32(start), np.int32(goal))
                    kept = observe(kept, params, block, range(start, goal)) if on_host else kept
                    if interrupted and goal < stop:
                        jax.block_until_ready(values)
                        pace = (time.perf_counter() - began) / (goal - start)
                    start = goal
        return jax.device_get(values) | conclude(kept)

    return score


def host_counter(
    learner: Learner, metrics: dict[str, Metric], batch_of: Callable[[Any, Any], Batch], lanes: bool
) -> tuple[Callable[..., list[dict[str, Any]]], Callable[[list[dict[str, Any]]], dict[str, Any]]]:
    """How metrics on the host see the batches of a block, and what they come to; what is kept of each lane is a dictionary."""
    answer = answer_function(host_answers(learner, metrics), learner.inputs)

    def tell(params, block, step):
        batch = batch_of(block, step)
        return answer(params, batch), batch if is_read("x", metrics) else batch._replace(x=None, aux=())

    run = jax.jit(jax.vmap(tell, (0, None, None), (0, None)) if lanes else tell)

    def observe(kept, params, block, inside):
        for step in inside:
            outputs, batch = fetch_whole(run(params, block, np.int32(step)))
            each = [jax.tree.map(lambda v, i=i: v[i], outputs) for i in range(len(kept))] if lanes else [outputs]
            kept = [
                {name: metric.update(accs[name], given, batch) for name, metric in metrics.items()}
                for accs, given in zip(kept, each, strict=True)
            ]
        return kept

    def conclude(kept):
        found = [
            {key: value for name, metric in metrics.items() for key, value in metric.compute(accs[name]).items()} for accs in kept
        ]
        return {key: np.stack([one[key] for one in found]) if lanes else np.asarray(found[0][key]) for key in found[0]}

    return observe, conclude


def fetch_whole(tree: Any) -> Any:
    """The arrays on this host, whole, also where their rows lie on the devices of several processes."""
    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(tree)):
        return jax.device_get(tree)
    from jax.experimental.multihost_utils import process_allgather

    return jax.tree.map(lambda leaf: np.asarray(leaf) if leaf.is_fully_addressable else process_allgather(leaf, tiled=True), tree)


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
