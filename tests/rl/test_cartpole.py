"""The cart is Gymnasium's, step for step."""

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.rl import cartpole


def test_every_step_is_gymnasiums():
    import gymnasium

    theirs, env = gymnasium.make("CartPole-v1").unwrapped, cartpole()
    with jax.enable_x64(True):
        step, rng, ended = jax.jit(env.step), np.random.default_rng(0), 0
        for episode in range(20):
            theirs.reset(seed=episode)
            world = jnp.asarray(theirs.state), jnp.zeros((), jnp.int32)
            for _ in range(500):
                action = int(rng.integers(2))
                _, reward, terminated, _, _ = theirs.step(action)
                seen, world, ours, dead, late, _ = step(jax.random.key(0), world, action)
                np.testing.assert_allclose(seen, theirs.state, atol=1e-12)
                assert float(ours) == reward and bool(dead) == terminated and not late
                if terminated:
                    ended += 1
                    break
        assert ended == 20


def test_it_begins_as_gymnasiums_and_ends_after_500_steps():
    env = cartpole()
    first = jax.vmap(lambda key: env.reset(key)[0])(jax.random.split(jax.random.key(0), 2000))
    assert first.shape == (2000, 4) and np.abs(first).max() <= 0.05 and np.abs(first.mean(0)).max() < 3e-3
    still = jnp.zeros(4)
    for time, late in ((498, False), (499, True)):
        *_, terminated, truncated, _ = env.step(jax.random.key(0), (still, jnp.int32(time)), 0)
        assert not terminated and bool(truncated) == late
