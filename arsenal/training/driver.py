"""The driver: every learner, from boosting to PPO, advances under this one loop, compiled to a traced stop."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.random import fold_in

from arsenal.numerics.wide import as_types, widen
from arsenal.records import Learner, Mean, Source, hyperparameters, mask_dead_rows

PATIENCE = 2.0
"""Seconds of work in one dispatch, about: how long a signal waits for an answer."""


class TrainState(NamedTuple):
    """All that training is: saved whole, it goes on as if nothing had happened."""

    key: jax.Array
    step: jax.Array
    state: Any
    hp: Any


def streams(key: jax.Array) -> dict[str, jax.Array]:
    """The run's independent keys by purpose; names are appended, never reordered."""
    return {name: fold_in(key, i) for i, name in enumerate(("data", "init", "step", "evaluate", "features"))}


def start(learner: Learner, source: Source, seed: int, hp: Any = None) -> TrainState:
    """The state before the first step. `seed` is in 0..2**32 - 1, as JAX's keys are; `hp` the learner's own unless given."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"`seed` must be in 0..{2**32 - 1}; got {seed}.")
    hp = hyperparameters(learner.hp if hp is None else hp)
    block = source.block(0, source.window or 1)
    return jax.jit(lambda key, block, hp: first_state(learner, source, key, block, hp))(jax.random.key(seed), block, hp)


def first_state(learner: Learner, source: Source, key: jax.Array, block: Any, hp: Any) -> TrainState:
    """The state before the first step, traced."""
    batch = mask_dead_rows(source.at(streams(key)["data"], block, jnp.zeros((), jnp.int32)))
    state = learner.init(streams(key)["init"], batch, hp)
    # Weakly typed leaves would make the second dispatch a program of its own.
    return TrainState(key, jnp.zeros((), jnp.int32), jax.tree.map(lambda v: lax.convert_element_type(v, v.dtype), state), hp)


class Failure(NamedTuple):
    """The step at which a metric of the learner stopped being finite, int32 [] or [lanes], or -1; and what was reported."""

    step: jax.Array
    means: dict[str, Mean]


def are_finite(means: dict[str, Mean]) -> dict[str, jax.Array]:
    """Whether each metric is a number; of a population, whether any member's is. [] bool by name."""
    return {name: jnp.isfinite(mean.total).any() for name, mean in means.items()}


def advance(learner: Learner, source: Source, keep_failing: bool = False) -> Callable:
    """The compiled `(train, block, stop) -> (train, {name: Mean}, Failure)`; `train` is donated, `stop` is traced.

    Metrics are sums since the call. A `while_loop` to a traced stop gives the same bits for every chunk length. It
    ends at a step that reports something not finite: `train.step` is then -1 minus that step, so that every further
    call is none; with `keep_failing` the state is as it was before that step, at the price of a copy in every step.
    """

    def one(train, block):
        learned = step_of(learner, source, train, block)
        return train._replace(state=learned[0]), learned[1]

    def many(train, block, stop):
        shapes = jax.eval_shape(one, train, block)[1]
        empty = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        none = widen(empty)

        def body(carry):
            before, sums, _ = carry
            after, means = one(before, block)
            # A learner may have nothing to report.
            sound = jnp.stack([jnp.array(True), *are_finite(means).values()]).all()
            if keep_failing:
                after = jax.tree.map(lambda new, old: lax.select(sound, new, old), after, before)
            step = jnp.where(sound, before.step + 1, -1 - before.step)
            counted = jax.tree.map(lambda new: jnp.where(sound, new, jnp.zeros_like(new)), means)
            sums = jax.tree.map(jnp.add, sums, as_types(counted, sums))
            return after._replace(step=step), sums, means

        def unfinished(carry):
            return (carry[0].step < stop) & (carry[0].step >= 0)

        train, sums, last = lax.while_loop(unfinished, body, (train, none, empty))
        failed = jnp.where(train.step < 0, -1 - train.step, -1)
        return train, sums, Failure(failed, last)

    return jax.jit(many, donate_argnums=0)


def step_of(learner: Learner, source: Source, train: TrainState, block: Any) -> tuple[Any, dict[str, Mean]]:
    """The learner's state and metrics after the step that `train` stands before."""
    key = streams(train.key)
    batch = mask_dead_rows(source.at(key["data"], block, train.step))
    return learner.step(fold_in(key["step"], train.step), train.state, batch, train.hp)


def drive(
    advance: Callable[..., tuple[TrainState, dict[str, Mean], Failure]],
    source: Source,
    train: TrainState,
    stop: int,
    *,
    log: Callable[[int, dict[str, Mean]], None],
    log_every: int,
    evaluate: Callable[[int, TrainState], bool] = lambda step, train: False,
    evaluate_every: int | None = None,
    evaluate_first: bool = False,
    save: Callable[[int, TrainState], None] = lambda step, train: None,
    sums: dict[str, Mean] | None = None,
    keep_sums: Callable[[int, dict[str, Mean]], None] = lambda step, sums: None,
    save_due: Callable[[int], bool] = lambda step: False,
    save_every: int | None = None,
    window: tuple[int, int] | None = None,
    enter: Callable[[], None] = lambda: None,
    leave: Callable[[], None] = lambda: None,
    failed: Callable[[Any, dict[str, Mean], TrainState, Any], None] | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    agreed: Callable[[int], int] = lambda number: number,
) -> TrainState:
    """Train to `stop` steps; `log` gets the sums of every `log_every` steps while the next ones already run.

    `evaluate` says whether that was enough; `evaluate_first` asks it before the first step, for a run that was
    interrupted between a step and its evaluation. `keep_sums` gets what was summed since the last log where a checkpoint
    falls between two, and `sums` is that of the checkpoint that a run resumes from: its first log is then that of the run
    that was never interrupted. Between dispatches it asks `interrupted`, and `save_due` for saves by
    the clock; `agreed` makes such answers, and lengths of dispatches, one process's for all, where there are several. `enter`
    and `leave` surround the steps of `window`, for a profiler. `failed` gets a step that reported
    something not finite, what it reported, the state and the block; it must raise, and does where none is given. Of lanes it
    gets a step for each, and need not. The driver reads neither a file nor a signal itself.
    """
    step, pending, rate = int(train.step), [], None
    every = [n for n in (log_every, evaluate_every, save_every, source.window) if n]
    block, block_start, inside = None, None, False

    def flush():
        while pending:
            at, means, failure, its_block = pending.pop(0)
            wrong = np.asarray(failure.step)
            if (wrong >= 0).any():
                at_step = wrong if wrong.ndim else int(wrong)
                (failed or raise_divergence)(at_step, failure.means, train._replace(step=failure.step), its_block)
            if means is not None:
                log(at, means)

    if evaluate_first:
        if evaluate(step, train):
            stop = step
        if step < stop and agreed(save_due(step)):
            save(step, train)
    while step < stop and not agreed(interrupted()):
        if window and not inside and window[0] <= step < window[1]:
            inside = True
            enter()
        goal = min([stop, *((step // n + 1) * n for n in every), *(edge for edge in window or () if edge > step)])
        goal = agreed(min(goal, step + (max(1, int(PATIENCE / rate)) if rate else 16)))
        span = source.window or goal
        if block is None or (source.window and block_start != step // span * span):
            block_start = step // span * span
            block = source.block(block_start, block_start + span)
        began = time.perf_counter()
        train, means, failure = advance(train, block, jnp.asarray(goal, jnp.int32))
        sums = means if sums is None else jax.tree.map(jnp.add, sums, means)
        flush()
        if not rate or goal - step < 16:
            jax.block_until_ready(means)
        taken = (time.perf_counter() - began) / (goal - step)
        rate, step = min(taken, rate or taken), goal
        if window and inside and step >= window[1]:
            jax.block_until_ready(means)
            inside = False
            leave()
        logged = step % log_every == 0 or step == stop
        pending.append((step, sums if logged else None, failure, block))
        sums = None if logged else sums
        if evaluate_every and (step % evaluate_every == 0 or step == stop):
            flush()
            if evaluate(step, train):
                stop = step
                if sums is not None:
                    pending.append((step, sums, failure, block))
        if step < stop and ((save_every and step % save_every == 0) or agreed(save_due(step))):
            flush()
            save(step, train)
            if sums is not None:
                keep_sums(step, sums)
    flush()
    if inside:
        leave()
    save(step, train)
    if sums is not None and step < stop:
        keep_sums(step, sums)
    return train


def raise_divergence(step: int, means: dict[str, Mean], train: TrainState, block: Any) -> None:
    """Say at which step which metric was not finite."""
    names = [name for name, sound in are_finite(means).items() if not sound]
    raise FloatingPointError(f"`{', '.join(names)}` is not finite at step {step}.")
