"""The loss: one value for every row, lower is better."""

from typing import Annotated

import jax.numpy as jnp
from annotated_types import Interval
from arsenal.records import Loss


def quantile(level: Annotated[float, Interval(gt=0, lt=1)] = 0.5) -> Loss:
    """The pinball loss, whose least value is at the quantile `level` (traced). Koenker & Bassett, Econometrica 46 (1978).

    Outputs [n, 1] or [n], y [n]; at level 0.5 it is half the absolute error.
    """

    def value(outputs, batch, hp):
        above = batch.y - outputs.reshape(batch.y.shape)
        return jnp.maximum(hp["level"] * above, (hp["level"] - 1) * above)

    return Loss(value, readout={"predict": lambda outputs: outputs.reshape(outputs.shape[0])}, hp={"level": level})
