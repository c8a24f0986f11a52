"""Tables of the weight of rows by their label and by what they were said to be."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from arsenal.metrics.average import answer
from arsenal.metrics.histogram import histogram
from arsenal.records import Metric


def count_pairs(y: jax.Array, said: jax.Array, weight: jax.Array, classes: int, groups: int) -> jax.Array:
    """The weight [n] of rows by y in 0..classes-1 and `said` in 0..groups-1, [classes, groups]; other rows do not count."""
    y, said = y.astype(jnp.int32), said.astype(jnp.int32)
    known = (y >= 0) & (y < classes) & (said >= 0) & (said < groups)
    at = jnp.where(known, y * groups + said, classes * groups)
    return histogram(at, weight, classes * groups).reshape(classes, groups)


def contingency(
    name: str, reads: str, classes: int, groups: int, value: Callable[[jax.Array], jax.Array], mode: str | None = "max"
):
    """The metric `value` of the table [classes, groups] of y [n] and the answer `reads` [n]; NaN where no row was counted."""
    def update(together, outputs, batch):
        said = answer(outputs, reads, name)
        if batch.y.ndim != 1 or said.shape != batch.y.shape:
            raise ValueError(f"`{name}` takes answers and labels [n]; got {said.shape} and {batch.y.shape}.")
        return together + count_pairs(batch.y, said, batch.weight.astype(together.dtype), classes, groups)

    def compute(together):
        return {name: jnp.where(together.sum() > 0, value(together), jnp.nan)}

    return Metric(lambda: jnp.zeros((classes, groups)), update, jnp.add, compute, mode)
