"""What a test does in thousands of experiments that never were: how often it finds an effect that is not there, or one that is.

Of normal and binary outcomes the mean and the spread of a block of units are drawn, whose distributions are known, rather than
the units. NumPy draws them, ten times as fast as JAX draws chi-squares on a CPU; the experiments are lanes of the compiled test.
"""

import functools
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge
from scipy import stats

from arsenal.evaluation.ab.sequential import Decide, Looks
from arsenal.evaluation.significance import check_confidence, generator

CHUNK = 2**23
"""Units that are in memory at a time, about."""


class UnitBlocks(NamedTuple):
    """What blocks of units come to, [experiments, looks]: their means and sums of squared distances from them."""

    mean: np.ndarray
    square: np.ndarray


Draw = Callable[[np.random.Generator, tuple[int, int], int, float], UnitBlocks]
"""`(generator, (experiments, looks), size, effect) -> UnitBlocks`: what blocks of `size` units come to, with an effect."""


class Simulation(NamedTuple):
    """How often an effect was found, with the interval of that rate; units in an arm on average; the rate by look so far."""

    rate: float
    low: float
    high: float
    units: float
    by_look: np.ndarray


def normal_outcomes(deviation: float = 1.0) -> Draw:
    """Normal outcomes: a block's mean is normal, its spread chi-square, and they are independent (Cochran)."""
    if not deviation > 0:
        raise ValueError(f"`deviation` of `normal_outcomes` must be > 0; got {deviation:g}.")

    def draw(generator, shape, size, effect):
        mean = generator.normal(effect, deviation / np.sqrt(size), shape)
        return UnitBlocks(mean, deviation**2 * generator.chisquare(size - 1, shape))

    return draw


def binary_outcomes(share: float) -> Draw:
    """Outcomes of 0 and 1, `share` of them 1 without an effect."""
    if not 0 <= share <= 1:
        raise ValueError(f"`share` of `binary_outcomes` must be in 0..1; got {share:g}.")

    def draw(generator, shape, size, effect):
        if not 0 <= share + effect <= 1:
            raise ValueError(f"`effect` on a share of {share:g} must be in {-share:g}..{1 - share:g}; got {effect:g}.")
        mean = generator.binomial(size, share + effect, shape) / size
        return UnitBlocks(mean, size * mean * (1 - mean))

    return draw


def known_outcomes(values: Any) -> Draw:
    """Outcomes drawn from those of earlier units [n], an effect added: for an A/A simulation of a metric of whatever shape."""
    values = np.asarray(values, float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"`values` of `known_outcomes` must be numbers [n]; got shape {list(values.shape)}.")

    def draw(generator, shape, size, effect):
        mean, square = np.empty(shape), np.empty(shape)
        at_once = max(1, CHUNK // (shape[1] * size))
        for start in range(0, shape[0], at_once):
            part = slice(start, min(start + at_once, shape[0]))
            drawn = values[generator.integers(0, len(values), (part.stop - start, shape[1], size))]
            mean[part], square[part] = drawn.mean(2) + effect, size * drawn.var(2)
        return UnitBlocks(mean, square)

    return draw


def simulate(
    key: jax.Array, decide: Decide, draw: Draw, units: Annotated[int, Ge(2)], looks: Annotated[int, Ge(1)] = 1,
    effect: float = 0.0, experiments: Annotated[int, Ge(1)] = 10_000, confidence: float = 0.95,
) -> Simulation:  # fmt: skip
    """Experiments with `units` in either arm, looked at `looks` times at equal distances until `decide` stops them.

    Without an effect, an A/A simulation, the rate is that of false findings; with one it is the power. The rate's interval is
    Clopper & Pearson's.

    >>> from arsenal.evaluation.ab import z_at_every_look
    >>> simulate(jax.random.key(0), z_at_every_look(), normal_outcomes(), units=1000, looks=20).rate > 0.2
    True
    """
    check_confidence("simulate", confidence)
    if looks < 1 or units < 2 * looks or units % looks:
        said = f"must be a multiple of `looks`, {looks}, with two units or more for each; got {units}."
        raise ValueError(f"`units` of `simulate` {said}")
    if experiments < 1:
        raise ValueError(f"`experiments` of `simulate` must be >= 1; got {experiments}.")
    size, source = units // looks, generator(key)
    arms = [merge_blocks(draw(source, (experiments, looks), size, shift), size) for shift in (0.0, effect)]
    (mean0, variance0), (mean1, variance1) = arms
    count = np.broadcast_to(size * np.arange(1.0, looks + 1), mean0.shape)
    seen = Looks(*(jnp.asarray(part, float) for part in (count, count, mean1 - mean0, (variance0 + variance1) / count)))
    stop = np.asarray(first_stop(decide, seen))
    found = int((stop < looks).sum())
    low, high = stats.binomtest(found, experiments).proportion_ci(confidence)
    by_look = np.cumsum(np.bincount(stop, minlength=looks + 1)[:looks]) / experiments
    used = np.minimum(stop + 1, looks).mean() * size
    return Simulation(found / experiments, float(low), float(high), float(used), by_look)


@functools.partial(jax.jit, static_argnames=("decide",))
def first_stop(decide: Decide, looks: Looks) -> jax.Array:
    """The look [experiments] at which each experiment [experiments, looks] stops; the number of looks where it never does."""

    def one(looks):
        stops = decide(looks)
        return jnp.where(stops.any(), jnp.argmax(stops).astype(jnp.int32), jnp.int32(stops.shape[0]))

    return jax.vmap(one)(looks)


def merge_blocks(blocks: UnitBlocks, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the variance of the units of the first 1, 2, ... blocks [experiments, looks]. Chan et al. (1983)."""
    count = np.arange(1.0, blocks.mean.shape[1] + 1)
    apart = blocks.mean - blocks.mean[:, :1]  # small numbers, whose squares may be subtracted
    mean = np.cumsum(apart, 1) / count
    square = np.cumsum(blocks.square, 1) + size * (np.cumsum(np.square(apart), 1) - count * np.square(mean))
    return blocks.mean[:, :1] + mean, square / (size * count - 1)
