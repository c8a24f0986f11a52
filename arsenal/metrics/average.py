"""Any value of a row, averaged over the rows by weight; how a metric reads answers."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from arsenal.records import Batch, Mean, Metric, compute


def average(name: str, value: Callable[[dict, Batch], jax.Array], mode: str | None = None) -> Metric:
    """The weighted mean of `value(outputs, batch) -> [n]`, under `name`; NaN where no row was counted.

    `mode` is `min` or `max` where small or large values are known to be good.

    >>> from arsenal.records import batch
    >>> metric = average("size", lambda outputs, batch: outputs["predict"])
    >>> rows = batch(y=[0.0, 0.0], weight=[3.0, 1.0])
    >>> float(metric.compute(metric.update(metric.empty(), {"predict": jnp.array([2.0, 6.0])}, rows))["size"])
    3.0
    """

    def update(acc, outputs, batch):
        weight = batch.weight.astype(acc.weight.dtype)
        each = zero_dead_rows(value(outputs, batch).astype(weight.dtype), weight)
        return Mean(acc.total + jnp.sum(each * weight), acc.weight + weight.sum())

    return Metric(
        empty=lambda: Mean(jnp.zeros(()), jnp.zeros(())),
        update=update,
        merge=add,
        compute=lambda acc: compute({name: acc}),
        mode=mode,
    )


def add(a, b):
    """The sum of two accumulators whose every leaf is a sum."""
    return jax.tree.map(jnp.add, a, b)


def zero_dead_rows(value: jax.Array, weight: jax.Array) -> jax.Array:
    """`value` [n, ...] with zeros in the rows of weight 0, since 0 * NaN is NaN."""
    return jnp.where((weight > 0).reshape(-1, *(1,) * (value.ndim - 1)), value, jnp.zeros_like(value))


def answer(outputs: dict, name: str, metric: str) -> jax.Array:
    """The answer `name`; ValueError where the learner has none, naming those it has."""
    if name not in outputs:
        raise ValueError(f"`{metric}` reads the answer `{name}`; the learner gives {', '.join(sorted(outputs)) or 'none'}.")
    return outputs[name]


def as_float(value: jax.Array) -> jax.Array:
    """`value` as floats of 32 bits or more: whole numbers and half precision become float32."""
    wide = jnp.issubdtype(value.dtype, jnp.floating) and jnp.finfo(value.dtype).bits >= 32
    return value if wide else value.astype(jnp.float32)
