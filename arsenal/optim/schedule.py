"""Learning rates that change with the step: schedules as functions of their hyperparameters, lengths included.

Optax's own branch on values in Python; these take every float traced, so one program serves all lengths. Lengths
are in steps of the optimizer, and after its length a schedule stays at its end.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from annotated_types import Ge, Gt, Interval

from arsenal.optim.gradient import as_optimizer
from arsenal.optim.nested import multiply, reads
from arsenal.records import Optimizer


class Schedule(NamedTuple):
    """What the learning rate is multiplied by, step for step."""

    factor: Callable[..., Any]
    """`(step, hp) -> []`, a float; step [] is int32 and counts from 0."""
    hp: dict[str, Any] = {}
    """A tree of floats, as in every record."""
    length: Callable[..., Any] | None = None
    """`hp -> steps` after which the factor stays as it is; None where it never does."""


class ScheduledState(NamedTuple):
    """What a scheduled optimizer holds: the number of steps behind it, int32 [], and the optimizer's own state."""

    count: Any
    optimizer: Any


def scheduled(optimizer: Any, schedule: Schedule) -> Optimizer:
    """The optimizer with its `learning_rate` times the schedule's factor; `hp` is {"optimizer": ..., "schedule": ...}.

    The learning rate may stand inside further combinators. Schedules multiply where they are nested. Raises
    ValueError for an optimizer without a learning rate.

    >>> from arsenal.optim.gradient import sgd
    >>> optimizer, x = scheduled(sgd(1.0), linear(2)), jnp.array(0.0)
    >>> state = optimizer.init(x, optimizer.hp)
    >>> for _ in range(3):
    ...     state, x = optimizer.update(state, x, jnp.array(1.0), optimizer.hp, None)
    >>> float(x)
    -1.5
    """
    optimizer = as_optimizer(optimizer)
    if not reads(optimizer.hp, "learning_rate"):
        names = ", ".join(f"`{name}`" for name in optimizer.hp) or "nothing"
        raise ValueError(f"`optimizer` of `scheduled` must have a `learning_rate` in its hp; its hp has {names}.")

    def set_pace(count, hp):
        return multiply(hp["optimizer"], "learning_rate", schedule.factor(count, hp["schedule"]))

    def init(params, hp):
        count = jnp.zeros((), jnp.int32)
        return ScheduledState(count, optimizer.init(params, set_pace(count, hp)))

    def update(state, params, gradient, hp, value):
        inner, params = optimizer.update(state.optimizer, params, gradient, set_pace(state.count, hp), value)
        return ScheduledState(optax.safe_increment(state.count), inner), params

    return Optimizer(init, update, {"optimizer": optimizer.hp, "schedule": schedule.hp})


def constant() -> Schedule:
    """No change: the factor is 1 at every step.

    >>> float(constant().factor(jnp.int32(7), {}))
    1.0
    """
    return Schedule(lambda step, hp: jnp.ones(()), length=lambda hp: 0.0)


def linear(length: Annotated[float, Ge(0)], end: Annotated[float, Ge(0)] = 0.0) -> Schedule:
    """From 1 to `end` in a straight line over `length` steps.

    >>> schedule = linear(100)
    >>> float(schedule.factor(jnp.int32(25), schedule.hp))
    0.75
    """

    def factor(step, hp):
        return between(1.0, hp["end"], progress(step, hp["length"]))

    return Schedule(factor, {"length": length, "end": end}, lambda hp: hp["length"])


def cosine(length: Annotated[float, Ge(0)], end: Annotated[float, Ge(0)] = 0.0) -> Schedule:
    """From 1 to `end` along half a cosine over `length` steps. Loshchilov & Hutter, ICLR 2017 (1608.03983), eq. 5.

    >>> schedule = cosine(100, end=0.5)
    >>> round(float(schedule.factor(jnp.int32(50), schedule.hp)), 6)
    0.75
    """

    def factor(step, hp):
        return between(1.0, hp["end"], ease(progress(step, hp["length"])))

    return Schedule(factor, {"length": length, "end": end}, lambda hp: hp["length"])


def warmup(schedule: Schedule, steps: Annotated[float, Ge(0)], start: Annotated[float, Ge(0)] = 0.0) -> Schedule:
    """From `start` times the schedule's first factor up to it over `steps` steps, then the schedule from its step 0.

    Goyal et al., 2017 (1706.02677), section 2.2. With `start` 0 the very first step does not move. The schedule
    begins at the first whole step at or after `steps`, so its own length comes on top of them.

    >>> schedule = warmup(linear(100), 10)
    >>> [float(schedule.factor(jnp.int32(step), schedule.hp)) for step in (0, 5, 10, 60)]
    [0.0, 0.5, 1.0, 0.5]
    """

    def factor(step, hp):
        whole = jnp.ceil(jnp.asarray(hp["steps"], dtype=float)).astype(jnp.int32)
        ramp = between(hp["start"], 1.0, progress(step, hp["steps"]))
        return ramp * schedule.factor(jnp.maximum(step - whole, 0), hp["schedule"])

    def length(hp):
        return hp["steps"] + schedule.length(hp["schedule"])

    return Schedule(factor, {"schedule": schedule.hp, "steps": steps, "start": start}, schedule.length and length)


def one_cycle(
    length: Annotated[float, Ge(0)],
    peak_at: Annotated[float, Interval(ge=0, le=1)] = 0.3,
    start: Annotated[float, Ge(0)] = 0.04,
    end: Annotated[float, Ge(0)] = 4e-6,
) -> Schedule:
    """From `start` up to 1 at `peak_at * length` and down to `end` at `length`, each along half a cosine.

    Smith & Topin, 2017 (1708.07120), in the two-phase form with the defaults of fast.ai, PyTorch and Optax. The
    optimizer's learning rate is the peak. Unlike Optax's, the peak is not rounded down to a whole step.

    >>> schedule = one_cycle(100)
    >>> [round(float(schedule.factor(jnp.int32(step), schedule.hp)), 6) for step in (0, 30, 65, 100)]
    [0.04, 1.0, 0.500002, 4e-06]
    """

    def factor(step, hp):
        step, peak = jnp.asarray(step, dtype=float), hp["peak_at"] * hp["length"]
        rise = between(hp["start"], 1.0, ease(progress(step, peak)))
        fall = between(1.0, hp["end"], ease(progress(step - peak, hp["length"] - peak)))
        return jnp.where(step < peak, rise, fall)

    return Schedule(factor, {"length": length, "peak_at": peak_at, "start": start, "end": end}, lambda hp: hp["length"])


def inverse_square_root(warmup: Annotated[float, Gt(0)]) -> Schedule:
    """Up in a straight line to 1 at the `warmup`-th step, from there as 1 / sqrt(step); it has no end.

    Vaswani et al., 2017 (1706.03762), eq. 3, divided by its peak. Steps count from 1 there: ours of number 0 is
    their first, so the first factor is 1 / warmup.

    >>> schedule = inverse_square_root(100)
    >>> [float(schedule.factor(jnp.int32(step), schedule.hp)) for step in (49, 99, 399)]
    [0.5, 1.0, 0.5]
    """

    def factor(step, hp):
        number = jnp.asarray(step, dtype=float) + 1
        return jnp.minimum(number / hp["warmup"], jnp.sqrt(hp["warmup"] / number))

    return Schedule(factor, {"warmup": warmup})


def piecewise(boundaries: Sequence[Annotated[float, Ge(0)]], factors: Sequence[Annotated[float, Ge(0)]]) -> Schedule:
    """1 before the first boundary, and from each boundary's step on the factor that stands beside it.

    Factors are of the optimizer's learning rate, as the values of Keras's `PiecewiseConstantDecay`; they do not
    multiply up as those of Optax and PyTorch's `MultiStepLR` do. Raises ValueError unless there is one factor
    for every boundary and the boundaries rise.

    >>> schedule = piecewise([100, 200], [0.5, 0.125])
    >>> [float(schedule.factor(jnp.int32(step), schedule.hp)) for step in (99, 100, 200)]
    [1.0, 0.5, 0.125]
    """
    boundaries, factors = list(boundaries), list(factors)
    if len(boundaries) != len(factors):
        raise ValueError(f"`factors` of `piecewise` must be one for every boundary, here {len(boundaries)}; got {len(factors)}.")
    if sorted(set(boundaries)) != boundaries:
        raise ValueError(f"`boundaries` of `piecewise` must rise; got {boundaries}.")

    def factor(step, hp):
        step, value = jnp.asarray(step, dtype=float), jnp.ones(())
        for boundary, later in zip(hp["boundaries"], hp["factors"], strict=True):
            value = jnp.where(step >= boundary, later, value)
        return value

    own = {"boundaries": boundaries, "factors": factors}
    return Schedule(factor, own, lambda hp: hp["boundaries"][-1] if boundaries else 0.0)


def progress(step: Any, length: Any) -> jax.Array:
    """The part of the length that lies behind a step, [], at most 1; a length of 0 is over at once."""
    step = jnp.asarray(step, dtype=float)
    return jnp.where(step < length, step / jnp.where(length > 0, length, 1.0), 1.0)


def ease(part: Any) -> jax.Array:
    """0 to 1 along half a cosine: flat at both ends."""
    return 0.5 * (1 - jnp.cos(jnp.pi * part))


def between(first: Any, last: Any, part: Any) -> jax.Array:
    """The value that lies `part` of the way from `first` to `last`; both ends are met exactly."""
    return (1 - part) * first + part * last
