"""A pole on a cart, to be balanced by pushes. Barto, Sutton & Anderson, IEEE SMC 13 (1983), with CartPole-v1's constants."""

import math

import jax
import jax.numpy as jnp

from arsenal.records import Box, Discrete, Env


def cartpole() -> Env:
    """Action 1 pushes the cart to the right, 0 to the left; every step is worth 1, an episode 500 at most.

    Observations [4]: the cart's place (m) and speed, the pole's angle (rad) and speed. An episode terminates beyond
    2.4 m or 12°, and is truncated after 500 steps. Gymnasium calls a mean return of 475 solved.

    >>> observation, state = cartpole().reset(jax.random.key(0))
    >>> _, _, reward, terminated, truncated, _ = cartpole().step(jax.random.key(1), state, 1)
    >>> float(reward), bool(terminated), bool(truncated)
    (1.0, False, False)
    """

    def reset(key):
        state = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return state, (state, jnp.zeros((), jnp.int32))

    def step(key, world, action):
        (x, v, angle, spin), time = world
        force = jnp.where(action == 1, 10.0, -10.0)
        push = (force + 0.05 * spin**2 * jnp.sin(angle)) / 1.1
        turn = (9.8 * jnp.sin(angle) - jnp.cos(angle) * push) / (0.5 * (4 / 3 - 0.1 * jnp.cos(angle) ** 2 / 1.1))
        move = push - 0.05 * turn * jnp.cos(angle) / 1.1
        state = jnp.stack([x + 0.02 * v, v + 0.02 * move, angle + 0.02 * spin, spin + 0.02 * turn])
        terminated = (jnp.abs(state[0]) > 2.4) | (jnp.abs(state[2]) > 12 * math.pi / 180)
        return state, (state, time + 1), jnp.ones(()), terminated, time + 1 >= 500, {}

    return Env(reset, step, observation=Box((4,)), action=Discrete(2))
