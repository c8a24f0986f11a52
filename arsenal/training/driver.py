"""The driver: every learner, from boosting to PPO, advances under this one loop, compiled to a traced stop."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.random import fold_in

from arsenal.records import Learner, Mean, Source, hyperparameters, living

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
    """The state before the first step. `hp` defaults to the learner's own."""
    hp = hyperparameters(learner.hp if hp is None else hp)
    block = source.block(0, source.window or 1)

    def make(key, block, hp):
        batch = living(source.at(streams(key)["data"], block, jnp.zeros((), jnp.int32)))
        state = learner.init(streams(key)["init"], batch, hp)
        # Weakly typed leaves would make the second dispatch a program of its own.
        return TrainState(key, jnp.zeros((), jnp.int32), jax.tree.map(lambda v: lax.convert_element_type(v, v.dtype), state), hp)

    return jax.jit(make)(jax.random.key(seed), block, hp)


def advance(learner: Learner, source: Source) -> Callable:
    """The compiled `(train, block, stop) -> (train, {name: Mean})`; `train` is donated, `stop` is traced.

    Metrics are sums since the call. A `while_loop` to a traced stop gives the same bits for every chunk length.
    """

    def one(train, block):
        key = streams(train.key)
        batch = living(source.at(key["data"], block, train.step))
        state, metrics = learner.step(fold_in(key["step"], train.step), train.state, batch, train.hp)
        return train._replace(step=train.step + 1, state=state), metrics

    def many(train, block, stop):
        empty = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(one, train, block)[1])

        def body(carry):
            train, metrics = one(carry[0], block)
            return train, jax.tree.map(jnp.add, carry[1], metrics)

        return lax.while_loop(lambda carry: carry[0].step < stop, body, (train, empty))

    return jax.jit(many, donate_argnums=0)


def drive(
    advance: Callable[..., tuple[TrainState, dict[str, Mean]]],
    source: Source,
    train: TrainState,
    stop: int,
    *,
    log: Callable[[int, dict[str, Mean]], None],
    log_every: int,
    evaluate: Callable[[int, TrainState], None] = lambda step, train: None,
    evaluate_every: int | None = None,
    save: Callable[[int, TrainState], None] = lambda step, train: None,
    save_due: Callable[[int], bool] = lambda step: False,
    save_every: int | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Train to `stop` steps; `log` gets the sums of every `log_every` steps while the next ones already run.

    Between dispatches it asks `interrupted`, and `save_due` for saves by the clock; it neither reads a file
    nor a signal itself.
    """
    step, pending, sums, rate = int(train.step), [], None, None
    every = [n for n in (log_every, evaluate_every, save_every, source.window) if n]
    block, block_start = None, None

    def flush():
        while pending:
            log(*pending.pop())

    while step < stop and not interrupted():
        goal = min([stop, *((step // n + 1) * n for n in every)])
        goal = min(goal, step + (max(1, int(PATIENCE / rate)) if rate else 16))
        window = source.window or goal
        if block is None or (source.window and block_start != step // window * window):
            block_start = step // window * window
            block = source.block(block_start, block_start + window)
        began = time.perf_counter()
        train, means = advance(train, block, jnp.asarray(goal, jnp.int32))
        sums = means if sums is None else jax.tree.map(jnp.add, sums, means)
        flush()
        if not rate or goal - step < 16:
            jax.block_until_ready(means)
        taken = (time.perf_counter() - began) / (goal - step)
        rate, step = min(taken, rate or taken), goal
        if step % log_every == 0 or step == stop:
            pending.append((step, sums))
            sums = None
        if evaluate_every and (step % evaluate_every == 0 or step == stop):
            flush()
            evaluate(step, train)
        if step < stop and ((save_every and step % save_every == 0) or save_due(step)):
            save(step, train)
    flush()
    save(step, train)
    return train
