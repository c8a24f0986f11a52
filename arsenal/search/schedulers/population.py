"""Population-based training: the worst take over from the best as they train, and explore from there.

Jaderberg et al. 2017 (1711.09846), with truncation selection.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.records import CONTINUE, Scheduler
from arsenal.search.schedulers.halving import add_report, no_reports, or_infinite
from arsenal.search.space import Space

FACTORS = (0.8, 1.25)
SHARE = 0.1
"""Of a range that is not logarithmic."""


def population_based(trials: int, interval: int = 1, fraction: float = 0.25, seed: int = 0) -> Scheduler:
    """Truncation selection: at every `interval` steps the worst `fraction` of the trials each clone one of the best.

    Ids are 0 to `trials` - 1. A round is decided when all have reported in it; a trial that came earlier is told at its
    next report, of the same step or a later one, once. What is not finite is worst and never cloned; report NaN for a
    trial that is gone. A clone takes the other's parameters and hyperparameters, these through `explore`.
    """
    if trials < 2:
        raise ValueError(f"`trials` of `population_based` must be >= 2; got {trials}.")
    if interval < 1:
        raise ValueError(f"`interval` of `population_based` must be >= 1 step; got {interval}.")
    if not 0 < fraction <= 0.5:
        raise ValueError(f"`fraction` of `population_based` must be above 0 and at most 0.5; got {fraction}.")
    many = max(1, int(trials * fraction))

    def report(state, number, step, value):
        if not 0 <= number < trials:
            raise ValueError(f"`population_based` knows trials 0 to {trials - 1}; got {number}.")
        mine, turn = state.trial == number, step // interval
        if turn >= 1 and not (mine & (state.rung >= turn)).any():
            state = add_report(state, number, turn, or_infinite(value), False)
        mine = np.flatnonzero((state.trial == number) & ~state.stopped)
        for at in mine[::-1]:  # the newest round that is complete
            peers = state.rung == state.rung[at]
            if len(np.unique(state.trial[peers])) == trials:
                return decide_round(state, number, int(state.rung[at]))
        return state, CONTINUE

    def decide_round(state, number, turn):
        """`stopped` marks what has been told."""
        told = (state.trial == number) & (state.rung <= turn)
        here = np.flatnonzero(state.rung == turn)
        ranked = here[np.lexsort((state.trial[here], state.value[here]))]
        best = state.trial[ranked[:many]][np.isfinite(state.value[ranked[:many]])]
        worst = state.trial[ranked[trials - many :]]
        state = state._replace(stopped=state.stopped | told)
        own = state.value[here[state.trial[here] == number][0]]
        if not len(best) or (number not in worst and np.isfinite(own)):
            return state, CONTINUE
        return state, int(best[np.random.default_rng([seed, turn, int(number)]).integers(len(best))])

    return Scheduler(no_reports, report, trials, clones=True)


def explore(key: jax.Array, space: Space, candidate: Mapping[str, Any]) -> dict[str, Any]:
    """The candidate with every float moved: a logarithmic one by a factor of 0.8 or 1.25, others by a tenth of their range.

    Arrays of any one shape, traced or not; values stay within bounds. What fixes a program, ints and choices, stays, and
    so do seeds.
    """
    moved = dict(candidate)
    for i, (name, one) in enumerate(space.dimensions.items()):
        if one.size is not None or name not in candidate:
            continue
        value = jnp.asarray(candidate[name])
        up = jax.random.bernoulli(jax.random.fold_in(key, i), shape=value.shape)
        if one.is_logarithmic:
            value = value * jnp.where(up, FACTORS[1], FACTORS[0]).astype(value.dtype)
        else:
            step = SHARE * (one.high - one.low)
            value = value + jnp.where(up, step, -step).astype(value.dtype)
        moved[name] = jnp.clip(value, one.low, one.high)
    return moved
