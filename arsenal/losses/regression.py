"""Losses for numbers."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt

from arsenal.losses.outputs import squeeze_last
from arsenal.records import Batch, Loss


def squared_error() -> Loss:
    """`(output - y)²`, averaged over all but the first axis; outputs and y have one shape, or [n, 1] and [n]."""

    def value(outputs, rows, hp):
        return over_row(jnp.square(residual(outputs, rows)))

    return Loss(
        value,
        readout={"predict": squeeze_last},
        measures={"absolute_error": lambda outputs, rows: over_row(jnp.abs(residual(outputs, rows)))},
        modes={"absolute_error": "min"},
        check=lambda outputs, rows: check_shape("squared_error", outputs, rows),
    )


def absolute_error() -> Loss:
    """`|output - y|`, averaged over all but the first axis; outputs and y have one shape, or [n, 1] and [n].

    Its least value over constants is at the median. Also measures `squared_error`.
    """

    def value(outputs, rows, hp):
        return over_row(jnp.abs(residual(outputs, rows)))

    return Loss(
        value,
        readout={"predict": squeeze_last},
        measures={"squared_error": lambda outputs, rows: over_row(jnp.square(residual(outputs, rows)))},
        modes={"squared_error": "min"},
        check=lambda outputs, rows: check_shape("absolute_error", outputs, rows),
    )


def huber(delta: Annotated[float, Gt(0)] = 1.0) -> Loss:
    """`r² / 2` where `|r| = |output - y| <= delta`, else `delta (|r| - delta / 2)`; averaged over all but the first axis.

    `delta > 0`, in y's units, is traced; outputs and y have one shape, or [n, 1] and [n]. Also measures
    `absolute_error`. Huber, Ann. Math. Stat. 35 (1964).
    """

    def value(outputs, rows, hp):
        size = jnp.abs(residual(outputs, rows))
        delta = hp["delta"].astype(size.dtype)
        near = jnp.minimum(size, delta)
        return over_row(near * near / 2 + delta * (size - near))

    return Loss(
        value,
        readout={"predict": squeeze_last},
        measures={"absolute_error": lambda outputs, rows: over_row(jnp.abs(residual(outputs, rows)))},
        modes={"absolute_error": "min"},
        check=lambda outputs, rows: check_shape("huber", outputs, rows),
        hp={"delta": delta},
    )


def poisson() -> Loss:
    """`-log p(y)` of counts y >= 0 under the Poisson law of rate `exp(output)`: `rate - y output + log y!`.

    Averaged over all but the first axis; outputs and y have one shape, or [n, 1] and [n]. Answers: `predict`, the rate.
    Also measures `absolute_error`, of the rate.
    """

    def value(outputs, rows, hp):
        log_rate = align_outputs(outputs, rows.y)
        y = rows.y.astype(log_rate.dtype)
        return over_row(jnp.exp(log_rate) - y * log_rate + jax.scipy.special.gammaln(y + 1))

    def off(outputs, rows):
        log_rate = align_outputs(outputs, rows.y)
        return over_row(jnp.abs(jnp.exp(log_rate) - rows.y.astype(log_rate.dtype)))

    def check(outputs, rows):
        check_shape("poisson", outputs, rows)
        y = np.asarray(rows.y)[np.asarray(rows.weight) > 0]
        if y.size and not y.min() >= 0:
            raise ValueError(f"Counts of `poisson` must be >= 0; got {y.min()}.")

    return Loss(
        value, readout={"predict": lambda outputs: jnp.exp(squeeze_last(outputs))}, measures={"absolute_error": off},
        modes={"absolute_error": "min"}, check=check,
    )


def align_outputs(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Outputs [n, 1] as [n] where y is [n]."""
    return outputs.reshape(outputs.shape[0]) if outputs.shape == (*y.shape, 1) else outputs


def residual(outputs: jax.Array, rows: Batch) -> jax.Array:
    """`outputs - y` in y's shape."""
    return align_outputs(outputs, rows.y) - rows.y.astype(outputs.dtype)


def over_row(each: jax.Array) -> jax.Array:
    """The mean over all but the first axis. [n]."""
    return jnp.mean(each, axis=tuple(range(1, each.ndim)))


def check_shape(name: str, outputs, rows) -> None:
    """Raise ValueError unless outputs and y have one shape, or [n, 1] and [n]."""
    y = np.shape(rows.y)
    if getattr(outputs, "shape", None) not in (y, (*y, 1)):
        got = getattr(outputs, "shape", type(outputs).__name__)
        raise ValueError(f"`{name}` takes outputs of the targets' shape {y}; got {got}.")
