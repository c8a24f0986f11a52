"""PPO: its advantages are the paper's sum, its evaluation plays whole episodes, and it learns to balance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arsenal import data, models, optim
from arsenal.records import Box, Discrete, Env, batch, compute, hyperparameters
from arsenal.rl import cartpole, ppo
from arsenal.rl.ppo import Experience, advantages
from arsenal.training import advance, start


def agent(env=None, **more):
    return ppo(env or cartpole(), models.perceptron(2, (16,), "tanh"), models.perceptron(1, (16,), "tanh"), optim.adam(3e-3), **more)


def test_advantages_are_the_papers_sum():
    rng, t, discount, trace = np.random.default_rng(0), 12, 0.9, 0.7
    reward, value, after = rng.normal(size=(3, t, 2)).astype(np.float32)
    terminated, truncated = np.zeros((2, t, 2), bool)
    terminated[4, 0], truncated[7, 0], terminated[11, 1] = True, True, True
    seen = Experience(None, None, None, value, reward, None, terminated, truncated)
    found = jax.jit(advantages)(seen, after, discount, trace)
    delta = reward + discount * after * ~terminated - value
    for env in range(2):
        for begin in range(t):
            wanted, factor = 0.0, 1.0
            for now in range(begin, t):
                wanted += factor * delta[now, env]
                factor *= discount * trace
                if terminated[now, env] or truncated[now, env]:
                    break
            assert float(found[begin, env]) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.slow
def test_an_evaluation_is_the_return_of_whole_episodes():
    """A world that lasts as long as its seed's draw says, and pays 2 a step for action 1 and nothing for 0."""

    def reset(key):
        left = jax.random.randint(key, (), 1, 9)
        return jnp.ones(1), left

    def step(key, left, action):
        return jnp.ones(1), left - 1, jnp.where(action == 1, 2.0, 0.0), left <= 1, jnp.array(False), {}

    learner = agent(Env(reset, step, Box((1,)), Discrete(2)))
    seeds = np.arange(6, dtype=np.uint32)
    lengths = np.array([int(reset(jax.random.key(seed))[1]) for seed in seeds])
    variables = learner.params(learner.init(jax.random.key(0), batch(x=seeds), learner.hp))
    last = variables["params"]["Dense_1"]
    for action, paid in ((0, 0.0), (1, 2.0)):
        last["bias"] = jnp.array([0.0, 1e3]) if action else jnp.array([1e3, 0.0])
        rows = batch(x=seeds, weight=[1, 0, 2, 1, 0, 1])
        found = compute(learner.evaluate(jax.random.key(0), variables, rows, hyperparameters(learner.hp)))["return"]
        assert float(found) == pytest.approx(paid * np.average(lengths, weights=rows.weight))


@pytest.mark.slow
def test_it_learns_to_balance():
    learner, source = agent(envs=8, horizon=64), data.arrays(batch(x=np.arange(64, dtype=np.uint32)), 64)
    run, block = advance(learner, source), source.block(0, 1)
    train, early, _ = run(start(learner, source, 0), block, jnp.int32(5))
    train, *_ = run(train, block, jnp.int32(100))
    train, late, _ = run(train, block, jnp.int32(110))
    before, after = (float(compute(means)["return"]) for means in (early, late))
    assert before < 60 and after > 200, f"The mean return went from {before:.1f} to {after:.1f}."


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match=r"`minibatches` of `ppo` must divide `envs` \* `horizon`, 2048; got 3"):
        agent(minibatches=3)
    with pytest.raises(ValueError, match=r"takes x \[n\] of whole numbers, seeds of episodes .*; got float32 \(2, 1\)"):
        agent().check(batch(x=[[1.0], [2.0]]))
    with pytest.raises(ValueError, match="`policy` of `ppo` must have params only; got batch_stats, params"):
        from flax import linen

        ppo(cartpole(), linen.BatchNorm(False), linen.Dense(1), optim.adam()).init(jax.random.key(0), None, {"optimizer": {}})


@pytest.mark.parametrize(
    ("policy", "value", "said"),
    [(3, 1, r"`policy` of `ppo` must give a logit for each of 2 actions for an observation; got shape \[3\]"),
     (2, 2, r"`value` of `ppo` must give one number for an observation; got shape \[2\]")],
)  # fmt: skip
def test_networks_that_do_not_fit_the_world_are_refused(policy, value, said):
    learner = ppo(cartpole(), models.perceptron(policy, (4,)), models.perceptron(value, (4,)), optim.sgd(0.1))
    with pytest.raises(ValueError, match=said):
        learner.check(batch(x=np.arange(3, dtype=np.uint32)))


def test_actions_that_are_no_choice_are_refused():
    with pytest.raises(ValueError, match="`ppo` chooses among Discrete actions; the world takes Box"):
        agent(cartpole()._replace(action=Box((1,), -1.0, 1.0)))
