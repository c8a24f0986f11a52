"""Exponential moving average of what a learner would answer with. Polyak & Juditsky, SIAM J. Control 30 (1992)."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Interval

from arsenal.numerics.wide import as_types, move_average, widen
from arsenal.records import Learner


class AverageState(NamedTuple):
    """The learner's own state and the average of its parameters, in float32 or more."""

    state: Any
    average: Any


def ema(learner: Learner, decay: Annotated[float, Interval(ge=0, lt=1)] = 0.999) -> Learner:
    """The learner that answers with `average = decay * average + (1 - decay) * params` over its steps; `decay` is traced.

    The average is kept in float32 or more and answers in the parameters' types. Whole numbers are taken
    as they are. The learner's own parameters are the view `raw`.
    hp: {"learner": ..., "decay": ...}.
    """

    def copy(params):
        # A copy also of what is wide already: the driver donates both states to the next step.
        return jax.tree.map(jnp.copy, widen(params))

    def init(key, batch, hp):
        state = learner.init(key, batch, hp["learner"])
        return AverageState(state, copy(learner.params(state)))

    def step(key, averaged, batch, hp):
        state, metrics = learner.step(key, averaged.state, batch, hp["learner"])
        return AverageState(state, move_average(averaged.average, learner.params(state), hp["decay"])), metrics

    def adopt(averaged, params, hp):
        return AverageState(learner.adopt(averaged.state, params, hp["learner"]), copy(params))

    flops = learner.flops
    return learner._replace(
        init=init,
        step=step,
        params=lambda averaged: as_types(averaged.average, learner.params(averaged.state)),
        evaluate=lambda key, params, batch, hp: learner.evaluate(key, params, batch, hp["learner"]),
        adopt=learner.adopt and adopt,
        views={"raw": lambda averaged: learner.params(averaged.state)},
        flops=flops and (lambda averaged, batch: flops(averaged.state, batch)),
        hp={"learner": learner.hp, "decay": decay},
    )
