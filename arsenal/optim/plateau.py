"""A learning rate that falls when the loss no longer does."""

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from annotated_types import Ge, Interval

from arsenal.optim.gradient import as_optimizer
from arsenal.optim.nested import multiply, reads
from arsenal.records import Optimizer


class Plateau(NamedTuple):
    """What it holds, each [] beside the optimizer's own state: the factor in force, the least mean of a window so far,
    how many windows did not better it, and the sum and the number of losses in the window that is open."""

    scale: Any
    best: Any
    bad: Any
    total: Any
    count: Any
    optimizer: Any


def plateau(
    optimizer: Any,
    factor: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
    patience: Annotated[float, Ge(1)] = 10,
    threshold: Annotated[float, Interval(ge=0, lt=1)] = 1e-4,
    window: Annotated[float, Ge(1)] = 100,
    end: Annotated[float, Ge(0)] = 0.0,
) -> Optimizer:
    """The optimizer with its `learning_rate` times `factor`, again and again, after `patience` windows without progress.

    A window's loss is the mean over `window` steps; progress is one below `(1 - threshold)` times the least before.
    The learning rate never falls below `end` times the optimizer's, and where the rule strikes, that very step is
    shorter. Means of windows do not overlap, so each is news; an exponential average would carry old losses along and
    lag behind. With a window of 1 this is Optax's `reduce_on_plateau`, and PyTorch's `ReduceLROnPlateau` with a
    patience of one less. All floats are traced; hp: {"optimizer": ..., "factor": ..., ...}. The learning rate may
    stand inside further combinators. Raises ValueError for an optimizer without one.

    >>> from arsenal.optim.gradient import sgd
    >>> optimizer, x = plateau(sgd(1.0), factor=0.5, patience=2, window=1), jnp.array(0.0)
    >>> state = optimizer.init(x, optimizer.hp)
    >>> for loss in (3.0, 3.0, 3.0):
    ...     state, x = optimizer.update(state, x, jnp.array(1.0), optimizer.hp, loss)
    >>> float(x)
    -2.5
    """
    optimizer = as_optimizer(optimizer)
    if not reads(optimizer.hp, "learning_rate"):
        names = ", ".join(f"`{name}`" for name in optimizer.hp) or "nothing"
        raise ValueError(f"`optimizer` of `plateau` must have a `learning_rate` in its hp; its hp has {names}.")

    def set_pace(scale, hp):
        return multiply(hp["optimizer"], "learning_rate", scale)

    def init(params, hp):
        none, one = jnp.zeros((), jnp.int32), jnp.ones(())
        return Plateau(one, jnp.full((), jnp.inf), none, 0 * one, none, optimizer.init(params, set_pace(one, hp)))

    def update(state, params, gradient, hp, value):
        total, count = state.total + jnp.asarray(value, dtype=state.total.dtype), state.count + 1
        full = count.astype(float) >= hp["window"]
        mean = total / count.astype(total.dtype)
        better = mean < (1 - hp["threshold"]) * state.best
        bad = jnp.where(better, 0, state.bad + 1)
        strikes = full & (bad.astype(float) >= hp["patience"])
        scale = jnp.where(strikes, jnp.maximum(state.scale * hp["factor"], jnp.minimum(hp["end"], state.scale)), state.scale)
        inner, params = optimizer.update(state.optimizer, params, gradient, set_pace(scale, hp), value)
        state = Plateau(
            scale,
            jnp.where(full & better, mean, state.best),
            jnp.where(full, jnp.where(strikes, 0, bad), state.bad),
            jnp.where(full, 0, total),
            jnp.where(full, 0, count),
            inner,
        )
        return state, params

    own = {"factor": factor, "patience": patience, "threshold": threshold, "window": window, "end": end}
    return Optimizer(init, update, {"optimizer": optimizer.hp} | own)
