"""An experiment that is looked at while it runs: always-valid p-values and intervals, and boundaries for planned looks.

A z test that is repeated until it finds something finds something. What is here holds at every look (mixture likelihood ratios)
or at the looks that were planned (alpha spending).
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, special

from arsenal.evaluation.ab.two_samples import split_arms
from arsenal.evaluation.significance import check_binary, check_confidence

NODES = 240
"""Of the integration over where an experiment may be, in each interval between two boundaries."""
FARTHEST = 12.0
"""No boundary is beyond so many standard deviations."""


class AlwaysValid(NamedTuple):
    """At every look [looks]: the p-value so far, and an interval; all of them hold together."""

    p_value: jax.Array
    low: jax.Array
    high: jax.Array


class Looks(NamedTuple):
    """What is known at every look, [looks] each: units in either arm, the effect, treatment - control, and its variance."""

    control: jax.Array
    treatment: jax.Array
    effect: jax.Array
    variance: jax.Array


def log_mixture_ratio(effect: jax.Array, variance: jax.Array, mixing: jax.Array) -> jax.Array:
    """The logarithm of how much likelier an effect is where true ones are normal with deviation `mixing` than where none is.

    `½ log(v / (v + τ²)) + effect² τ² / (2 v (v + τ²))`, v the variance of the estimate; 0 where it is 0, as before units came.
    Robbins, Annals of Mathematical Statistics 41 (1970).
    """
    known, square = variance > 0, jnp.square(mixing)
    v = jnp.where(known, variance, jnp.ones_like(variance))
    both = v + square
    ratio = (jnp.log(v / both) + jnp.square(effect) * square / (v * both)) / 2
    return jnp.where(known, ratio, jnp.zeros_like(ratio))


def always_valid(effect: Any, variance: Any, mixing: float, confidence: float = 0.95) -> AlwaysValid:
    """p-values and intervals of estimates [looks] with variances [looks] that hold however often and whenever one looks.

    The mixture sequential probability ratio test with its dual confidence sequence. `mixing` is the deviation of the effects
    that one expects, chosen beforehand (`best_mixing`): it moves power, never the guarantee. Johari, Koomen, Pekelis & Walsh,
    Operations Research 70 (2022); Howard et al., Annals of Statistics 49 (2021), 3.2.

    >>> found = always_valid([0.5, 0.4, 0.4], [0.04, 0.01, 0.005], mixing=0.3)
    >>> [round(float(p), 4) for p in found.p_value]
    [0.2072, 0.0024, 0.0]
    """
    check_confidence("always_valid", confidence)
    if not mixing > 0:
        raise ValueError(f"`mixing` of `always_valid` must be > 0; got {mixing:g}.")
    effect, variance, tau = (jnp.asarray(part, float) for part in (effect, variance, mixing))
    ratio = log_mixture_ratio(effect, variance, tau)
    p = jnp.minimum(jnp.exp(-jax.lax.cummax(ratio)), 1)
    square = jnp.square(tau)
    known = variance > 0
    v = jnp.where(known, variance, jnp.ones_like(variance))
    limit = jnp.log((v + square) / v) - 2 * jnp.log(jnp.asarray(1 - confidence, float))
    reach = jnp.where(known, jnp.sqrt(v * (v + square) / square * limit), jnp.inf)
    return AlwaysValid(p, effect - reach, effect + reach)


def best_mixing(variance: float, confidence: float = 0.95) -> float:
    """The `mixing` whose interval is narrowest at the look where the estimate has this variance. Howard et al. (2021), 3.5.

    >>> round(best_mixing(0.01), 3)
    0.287
    """
    check_confidence("best_mixing", confidence)
    if not variance > 0:
        raise ValueError(f"`variance` of `best_mixing` must be > 0; got {variance:g}.")
    # x = mixing² / variance is where (1 + 1/x)(log(1 + x) - 2 log alpha) is least: x = log(1 + x) - 2 log alpha.
    alpha = 1 - confidence
    x = -1 - special.lambertw(-(alpha**2) / np.e, -1).real
    return float(np.sqrt(x * variance))


def look_moments(name: str, y: Any, treated: Any, at: Any, binary: bool) -> Looks:
    """What is known of y [n] after the first `at` [looks] units."""
    y, treated, at = np.asarray(y, float), np.asarray(treated, float), np.asarray(at)
    if at.ndim != 1 or not len(at) or (at < 1).any() or (at > len(y)).any() or (np.diff(at) <= 0).any():
        raise ValueError(f"`at` of `{name}` must be rising numbers of units in 1..{len(y)}; got {at.tolist()}.")
    split_arms(name, treated, None, least=1, y=y)
    if binary:
        check_binary(name, "y", y)
    arm = np.stack([treated == 0, treated == 1])
    count, total, square = (np.cumsum(arm * part, 1)[:, at - 1] for part in (1.0, y - y.mean(), np.square(y - y.mean())))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
        if binary:
            share = (total.sum(0) / count.sum(0)) + y.mean()
            variance = share * (1 - share) * (1 / count).sum(0)
        else:
            variance = ((square - count * np.square(mean)) / (count - 1) / count).sum(0)
    early = ~np.isfinite(variance) | (count.min(0) < (1 if binary else 2))
    effect, variance = np.where(early, 0.0, mean[1] - mean[0]), np.where(early, 0.0, np.maximum(variance, 0))
    return Looks(*(jnp.asarray(part, float) for part in (*count, effect, variance)))


def msprt_means(y: Any, treated: Any, at: Any, mixing: float, confidence: float = 0.95) -> AlwaysValid:
    """Always-valid p-values and intervals of a mean effect on y [n], in the order in which units came, at the first `at` [looks].

    The variances are those measured so far, so an early look wants tens of units in either arm. See `always_valid`.
    """
    looks = look_moments("msprt_means", y, treated, at, binary=False)
    return always_valid(looks.effect, looks.variance, mixing, confidence)


def msprt_shares(y: Any, treated: Any, at: Any, mixing: float, confidence: float = 0.95) -> AlwaysValid:
    """Always-valid p-values and intervals of the difference of two shares, of y [n] in {0, 1} in the order in which units came.

    By the normal approximation with the pooled share so far. See `always_valid`.
    """
    looks = look_moments("msprt_shares", y, treated, at, binary=True)
    return always_valid(looks.effect, looks.variance, mixing, confidence)


class Boundaries(NamedTuple):
    """At every planned look [looks]: the share of the units that are there, the z beyond which to stop, alpha spent so far."""

    share: np.ndarray
    z: np.ndarray
    spent: np.ndarray


def check_shares(name: str, shares: Any) -> np.ndarray:
    """The shares of the units at the looks, or ValueError."""
    found = np.asarray(shares, float)
    if found.ndim != 1 or not len(found) or not (found > 0).all() or not (np.diff(found) > 0).all() or found[-1] > 1 + 1e-12:
        raise ValueError(f"`shares` of `{name}` must rise within (0, 1]; got {found.tolist()}.")
    return found


Spending = Literal["obrien_fleming", "pocock"]


def spend(share: np.ndarray, alpha: float, spending: Spending) -> np.ndarray:
    """How much of alpha may be spent, on both sides together, when this share of the units is there. Lan & DeMets (1983)."""
    if spending == "obrien_fleming":
        return 4 * special.ndtr(special.ndtri(alpha / 4) / np.sqrt(share))
    if spending == "pocock":
        return alpha * np.log1p((np.e - 1) * share)
    raise ValueError(f"`spending` of `group_sequential` must be obrien_fleming or pocock; got {spending}.")


def group_sequential(shares: Any, alpha: float = 0.05, spending: Spending = "obrien_fleming") -> Boundaries:
    """Two-sided boundaries for looks when `shares` [looks] of the units are there, that find nothing where nothing is but `alpha`
    of times.

    obrien_fleming spends hardly anything early, pocock about the same at every look. Lan & DeMets, Biometrika 70 (1983), by the
    recursion of Armitage, McPherson & Rowe, JRSS A 132 (1969).

    >>> group_sequential([0.2, 0.4, 0.6, 0.8, 1.0]).z.round(3).tolist()
    [4.877, 3.357, 2.68, 2.29, 2.031]
    """
    shares = check_shares("group_sequential", shares)
    if not 0 < alpha < 1:
        raise ValueError(f"`alpha` of `group_sequential` must be in (0, 1); got {alpha:g}.")
    spent = spend(np.minimum(shares, 1), alpha, spending)
    points, mass, z = np.zeros(1), np.ones(1), []
    for step, share, cost in zip(np.diff(shares, prepend=0), shares, np.diff(spent, prepend=0), strict=True):

        def overspent(bound, points=points, mass=mass, step=step, share=share, cost=cost):
            return leave(points, mass, step, bound * np.sqrt(share)).sum() - cost

        z.append(optimize.brentq(overspent, 0.0, FARTHEST, xtol=1e-10) if overspent(FARTHEST) < 0 else FARTHEST)
        points, mass = remain(points, mass, step, z[-1] * np.sqrt(share))
    return Boundaries(shares, np.array(z), spent)


def wang_tsiatis(shares: Any, alpha: float = 0.05, shape: float = 0.0) -> Boundaries:
    """Two-sided boundaries `c share^(shape - 1/2)`: O'Brien & Fleming's for `shape` 0, Pocock's for 1/2.

    Wang & Tsiatis, Biometrics 43 (1987); Jennison & Turnbull, Group Sequential Methods (2000), 2.

    >>> round(float(wang_tsiatis([0.2, 0.4, 0.6, 0.8, 1.0], shape=0.5).z[0]), 3)
    2.413
    """
    shares = check_shares("wang_tsiatis", shares)
    if not 0 < alpha < 1:
        raise ValueError(f"`alpha` of `wang_tsiatis` must be in (0, 1); got {alpha:g}.")
    form = shares ** (shape - 0.5)
    constant = optimize.brentq(lambda c: crossing_rates(shares, c * form).sum() - alpha, 0.01, FARTHEST, xtol=1e-9)
    return Boundaries(shares, constant * form, np.cumsum(crossing_rates(shares, constant * form)))


def crossing_rates(shares: Any, z: Any, drift: float = 0.0) -> np.ndarray:
    """How often an experiment stops at each look [looks], beyond ± z, where the z of all units has the mean `drift`.

    Without drift their sum is the rate of false findings; with it, the power.
    """
    shares, z = check_shares("crossing_rates", shares), np.asarray(z, float)
    if z.shape != shares.shape or not (z > 0).all():
        raise ValueError(f"`z` of `crossing_rates` must be {len(shares)} numbers > 0; got {z.tolist()}.")
    points, mass, found = np.zeros(1), np.ones(1), []
    for step, share, bound in zip(np.diff(shares, prepend=0), shares, np.minimum(z, FARTHEST), strict=True):
        found.append(leave(points, mass, step, bound * np.sqrt(share), drift).sum())
        points, mass = remain(points, mass, step, bound * np.sqrt(share), drift)
    return np.array(found)


def leave(points: np.ndarray, mass: np.ndarray, step: float, limit: float, drift: float = 0.0) -> np.ndarray:
    """How much of the mass [m] at points [m] is beyond ± limit, [2], after a step of Brownian motion."""
    at = points + drift * step
    return np.array([mass @ special.ndtr(sign * (at - sign * limit) / np.sqrt(step)) for sign in (1, -1)])


def remain(
    points: np.ndarray, mass: np.ndarray, step: float, limit: float, drift: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The points and the mass [nodes] between ± limit after a step of Brownian motion, by Gauss and Legendre's nodes."""
    node, weight = nodes()
    to = limit * node
    density = np.exp(-np.square(to[:, None] - points - drift * step) / (2 * step)) @ mass / np.sqrt(2 * np.pi * step)
    return to, limit * weight * density


@functools.cache
def nodes() -> tuple[np.ndarray, np.ndarray]:
    """Gauss and Legendre's nodes within -1..1, and their weights."""
    return np.polynomial.legendre.leggauss(NODES)


Decide = Callable[[Looks], jax.Array]
"""`looks -> [looks] bool`, traced: at which looks a test would stop and say that there is an effect."""


def z_at_end(alpha: float = 0.05) -> Decide:
    """The z test, made once, when all units are there."""
    limit = -float(special.ndtri(alpha / 2))

    def decide(looks):
        last = jnp.arange(looks.effect.shape[0]) == looks.effect.shape[0] - 1
        return last & is_beyond(looks, limit)

    return decide


def z_at_every_look(alpha: float = 0.05) -> Decide:
    """The z test, made at every look as if it were the only one: the mistake that the others mend."""
    limit = -float(special.ndtri(alpha / 2))
    return lambda looks: is_beyond(looks, limit)


def is_beyond(looks: Looks, limit: Any) -> jax.Array:
    """Whether an effect is beyond so many of its standard errors, [looks]."""
    return jnp.abs(looks.effect) > limit * jnp.sqrt(looks.variance)


def beyond_boundaries(boundaries: Boundaries) -> Decide:
    """Stops beyond the boundaries of as many looks."""
    z = jnp.asarray(boundaries.z, float)

    def decide(looks):
        if looks.effect.shape != z.shape:
            raise ValueError(f"`boundaries` of `beyond_boundaries` are of {z.shape[0]} looks; got {looks.effect.shape[0]}.")
        return is_beyond(looks, z)

    return decide


def msprt(mixing: float, alpha: float = 0.05) -> Decide:
    """Stops when the mixture likelihood ratio reaches 1 / alpha; see `always_valid`."""
    tau, limit = jnp.asarray(mixing, float), -float(np.log(alpha))
    return lambda looks: log_mixture_ratio(looks.effect, looks.variance, tau) >= limit
