"""A learner's answers and metrics over a whole set, a batch at a time in one program."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from arsenal.records import Batch, Learner, Mean, Metric, living


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


def evaluator(learner: Learner, batch_size: int) -> Callable[[jax.Array, Any, Batch], dict[str, Mean]]:
    """`(key, params, rows) -> {name: Mean}`: the learner's own evaluation, summed over the rows."""

    @jax.jit
    def sums(key, params, batches):
        def one(carry, batch):
            return carry + 1, learner.evaluate(jax.random.fold_in(key, carry), params, living(batch))

        _, means = lax.scan(one, jnp.zeros((), jnp.int32), batches)
        return jax.tree.map(lambda v: v.sum(0), means)

    return lambda key, params, rows: sums(key, params, pieces(rows, min(batch_size, len(rows.weight))))


def answers(
    apply: dict[str, Callable], inputs: dict[str, Callable], metrics: dict[str, Metric],
    params: Any, rows: Batch, batch_size: int,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:  # fmt: skip
    """All answers [n, ...] by name and the metrics over them, in one compiled program."""
    answer = answering(apply, inputs)

    @jax.jit
    def run(params, batches):
        def one(carry, batch):
            outputs = answer(params, living(batch))
            return {name: metric.update(carry[name], outputs, batch) for name, metric in metrics.items()}, outputs

        carry, outputs = lax.scan(one, {name: metric.empty() for name, metric in metrics.items()}, batches)
        values = {key: value for name, metric in metrics.items() for key, value in metric.compute(carry[name]).items()}
        return outputs, values

    n = len(rows.weight)
    outputs, values = run(params, pieces(rows, min(batch_size, n)))
    flat = {name: np.asarray(v).reshape(-1, *v.shape[2:])[:n] for name, v in outputs.items()}
    return flat, {name: np.asarray(value).tolist() for name, value in values.items()}
