"""Experiments that move units to the better arm as they learn: Thompson sampling, UCB1, epsilon greedy, and what they cost.

Lattimore & Szepesvári, Bandit Algorithms (2020). A bandit is one pure function of what was seen; a life of it is one scan.
"""

import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Ge

from arsenal.records import hyperparameters

Rewards = Literal["bernoulli", "normal"]


class Pulls(NamedTuple):
    """What was seen of every arm [arms]: how often it was pulled, and the sum of its rewards."""

    times: jax.Array
    total: jax.Array


class Bandit(NamedTuple):
    """A way to choose an arm."""

    choose: Callable[..., jax.Array]
    """`(key, Pulls, hp) -> arm`, int32 []."""
    hp: dict[str, Any] = {}


class RegretCurve(NamedTuple):
    """What many lives of a bandit cost: expected regret so far [seeds, steps], and pulls of every arm [seeds, arms]."""

    regret: jax.Array
    pulls: jax.Array


def mean_rewards(pulls: Pulls) -> jax.Array:
    """The mean reward [arms]; infinite where nothing was pulled, so that each arm is tried."""
    return jnp.where(pulls.times > 0, pulls.total / jnp.maximum(pulls.times, 1), jnp.inf)


def first_best(values: jax.Array) -> jax.Array:
    """The first of the arms with the largest value."""
    return jnp.argmax(values).astype(jnp.int32)


def thompson_beta(successes: float = 1.0, failures: float = 1.0) -> Bandit:
    """Thompson sampling of rewards 0 and 1: the arm whose share, drawn from what is believed of it, is largest.

    The prior is Beta(`successes`, `failures`). Thompson, Biometrika 25 (1933); Chapelle & Li, NeurIPS 2011.
    """

    def choose(key, pulls, hp):
        lost = pulls.times - pulls.total
        return first_best(jax.random.beta(key, hp["successes"] + pulls.total, hp["failures"] + lost))

    return Bandit(choose, {"successes": successes, "failures": failures})


def thompson_normal(deviation: float = 1.0, mean: float = 0.0, prior: float = 1.0) -> Bandit:
    """Thompson sampling of normal rewards of known `deviation`, whose means are Normal(`mean`, `prior`²) beforehand."""

    def choose(key, pulls, hp):
        sharp, before = 1 / jnp.square(hp["deviation"]), 1 / jnp.square(hp["prior"])
        precision = before + pulls.times * sharp
        centre = (hp["mean"] * before + pulls.total * sharp) / precision
        return first_best(centre + jax.random.normal(key, centre.shape, centre.dtype) / jnp.sqrt(precision))

    return Bandit(choose, {"deviation": deviation, "mean": mean, "prior": prior})


def ucb1(exploration: float = 2.0) -> Bandit:
    """The arm with the largest upper bound `mean + sqrt(exploration log t / pulls)`, of rewards in 0..1; each arm once first.

    With exploration 2 the regret is at most `8 Σ log t / gap + (1 + π²/3) Σ gap`. Auer, Cesa-Bianchi & Fischer,
    Machine Learning 47 (2002).
    """

    def choose(key, pulls, hp):
        spread = hp["exploration"] * jnp.log(jnp.maximum(pulls.times.sum(), 1)) / jnp.maximum(pulls.times, 1)
        return first_best(mean_rewards(pulls) + jnp.sqrt(spread))

    return Bandit(choose, {"exploration": exploration})


def epsilon_greedy(epsilon: float = 0.1) -> Bandit:
    """The arm with the largest mean so far, but any arm with probability `epsilon`; each arm once first."""

    def choose(key, pulls, hp):
        explore, which = jax.random.split(key)
        other = jax.random.randint(which, (), 0, pulls.times.shape[0], jnp.int32)
        return jnp.where(jax.random.uniform(explore) < hp["epsilon"], other, first_best(mean_rewards(pulls)))

    return Bandit(choose, {"epsilon": epsilon})


def regret_curve(
    key: jax.Array, bandit: Bandit, means: Any, steps: Annotated[int, Ge(1)], seeds: Annotated[int, Ge(1)] = 100,
    rewards: Rewards = "bernoulli", deviation: float = 1.0,
) -> RegretCurve:  # fmt: skip
    """How much less a bandit expects to earn than the best arm would, so far: `seeds` lives of `steps` pulls, in one program.

    `means` [arms] are the arms' mean rewards: shares of 1 for "bernoulli", any numbers for "normal" with `deviation`.

    >>> found = regret_curve(jax.random.key(0), thompson_beta(), [0.1, 0.5], steps=200, seeds=20)
    >>> bool(found.regret[:, -1].mean() < 0.1 * 200 * 0.4)
    True
    """
    means = jnp.asarray(means, float)
    if means.ndim != 1 or means.shape[0] < 2:
        raise ValueError(f"`means` of `regret_curve` must be of two arms or more; got shape {list(means.shape)}.")
    if rewards not in ("bernoulli", "normal"):
        raise ValueError(f"`rewards` of `regret_curve` must be bernoulli or normal; got {rewards}.")
    if rewards == "bernoulli" and not bool(((means >= 0) & (means <= 1)).all()):
        raise ValueError(f"`means` of `regret_curve` must be in 0..1 for bernoulli rewards; got {means.tolist()}.")
    hp = hyperparameters({"bandit": bandit.hp, "deviation": deviation})
    return live(jax.random.split(key, seeds), means, hp, bandit.choose, steps, rewards)


@functools.partial(jax.jit, static_argnames=("choose", "steps", "rewards"))
def live(keys: jax.Array, means: jax.Array, hp: Any, choose: Any, steps: int, rewards: Rewards) -> RegretCurve:
    """The lives of a bandit with these keys [seeds]."""

    def step(pulls, key):
        choice, luck = jax.random.split(key)
        arm = choose(choice, pulls, hp["bandit"])
        if rewards == "bernoulli":
            reward = (jax.random.uniform(luck, (), means.dtype) < means[arm]).astype(means.dtype)
        else:
            reward = means[arm] + hp["deviation"] * jax.random.normal(luck, (), means.dtype)
        return Pulls(pulls.times.at[arm].add(1), pulls.total.at[arm].add(reward)), means.max() - means[arm]

    def one(key):
        pulls, cost = jax.lax.scan(step, Pulls(jnp.zeros_like(means), jnp.zeros_like(means)), jax.random.split(key, steps))
        return RegretCurve(jnp.cumsum(cost), pulls.times)

    return jax.vmap(one)(keys)
