"""A learner's answers and metrics over a whole set, a batch at a time in one program."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from arsenal.records import Batch, Learner, Metric, compute, living


def pieces(rows: Batch, batch_size: int) -> Batch:
    """The rows as [pieces, batch_size, ...]; the last piece is filled up with rows of weight 0."""
    n = len(rows.weight)
    parts = -(-n // batch_size)
    at = np.minimum(np.arange(parts * batch_size), n - 1)
    padded = jax.tree.map(lambda v: np.asarray(v)[at], rows)
    padded = padded._replace(weight=padded.weight * (np.arange(parts * batch_size) < n))
    return jax.tree.map(lambda v: jnp.asarray(v.reshape(parts, batch_size, *v.shape[1:])), padded)


def answering(apply: dict[str, Callable], inputs: dict[str, Callable]) -> Callable:
    """`(params, batch) -> {name: answer}`: every method on its own inputs."""
    return lambda params, batch: {name: f(params, inputs.get(name, lambda b: b.x)(batch)) for name, f in apply.items()}


def scorer(
    learner: Learner, metrics: dict[str, Metric], rows: Batch, batch_size: int
) -> Callable[[jax.Array, Any], dict[str, Any]]:
    """`(key, params) -> {name: value}` over the rows: the learner's own evaluation and the metrics, in one program."""
    answer = answering(learner.apply, learner.inputs)

    @jax.jit
    def run(key, params, batches):
        def one(carry, batch):
            step, accs = carry
            batch = living(batch)
            outputs = answer(params, batch) if metrics else {}
            accs = {name: metric.update(accs[name], outputs, batch) for name, metric in metrics.items()}
            return (step + 1, accs), learner.evaluate(jax.random.fold_in(key, step), params, batch)

        (_, accs), means = lax.scan(one, (0, {name: metric.empty() for name, metric in metrics.items()}), batches)
        own = compute(jax.tree.map(lambda v: v.sum(0), means))
        return own | {key: value for name, metric in metrics.items() for key, value in metric.compute(accs[name]).items()}

    batches = pieces(rows, min(batch_size, len(rows.weight)))
    return lambda key, params: jax.device_get(run(key, params, batches))


def answers(
    apply: dict[str, Callable], inputs: dict[str, Callable], params: Any, rows: Batch, batch_size: int
) -> dict[str, np.ndarray]:
    """All answers [n, ...] by name, in one compiled program."""
    answer = answering(apply, inputs)
    run = jax.jit(lambda params, batches: lax.map(lambda batch: answer(params, living(batch)), batches))
    n = len(rows.weight)
    outputs = run(params, pieces(rows, min(batch_size, n)))
    return {name: np.asarray(v).reshape(-1, *v.shape[2:])[:n] for name, v in outputs.items()}
