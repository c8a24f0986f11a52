"""Proximal policy optimisation. Schulman et al. 2017 (1707.06347), with advantages of Schulman et al. 2016 (1506.02438)."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Interval
from jax import lax
from jax.random import fold_in, split

from arsenal.nn import as_model
from arsenal.nn.linen import outputs_alone
from arsenal.optim import as_optimizer
from arsenal.records import Discrete, Env, Learner, Mean, Training

PositiveInt = Annotated[int, Gt(0)]


class Agent(NamedTuple):
    """Both networks, the optimizer's state, and the environments with what is seen of them and earned in them so far."""

    variables: dict
    optimizer: Any
    worlds: Any
    observations: Any
    returns: Any


class Experience(NamedTuple):
    """What was lived through, each [..., envs]; `value` and `log_p` are those of the policy that acted."""

    observation: Any
    action: Any
    log_p: Any
    value: Any
    reward: Any
    after: Any
    terminated: Any
    truncated: Any


def ppo(
    env: Env,
    policy: Any,
    value: Any,
    optimizer: Any,
    envs: PositiveInt = 16,
    horizon: PositiveInt = 128,
    epochs: PositiveInt = 4,
    minibatches: PositiveInt = 4,
    discount: Annotated[float, Interval(ge=0, le=1)] = 0.99,
    trace: Annotated[float, Interval(ge=0, le=1)] = 0.95,
    clip: Annotated[float, Gt(0)] = 0.2,
    value_weight: Annotated[float, Ge(0)] = 0.5,
    entropy_weight: Annotated[float, Ge(0)] = 0.01,
) -> Learner:
    """Act in `envs` environments for `horizon` moves, then `epochs` passes over what was seen in `minibatches` parts.

    `policy` turns observations [n, ...] into logits [n, actions], `value` into [n] or [n, 1]; either is a `Model` or a
    Flax linen module. Of a batch only x [n], whole numbers, is read, and only to evaluate: each is the seed of an
    episode, whose mean under the likeliest action is `return`. Floats are traced; `trace` is the paper's lambda, 0 for
    one step's advantage. The loss of a part of the experience is the mean of `-min(ratio A, clip(ratio) A) +
    value_weight (V - R)² / 2 - entropy_weight entropy` with A scaled to mean 0 and variance 1.

    Answers: `predict` [n] int32, the likeliest action for observations, and `predict_proba` [n, actions].
    """
    optimizer = as_optimizer(optimizer)
    models = {"policy": as_model(policy), "value": as_model(value)}
    if not isinstance(env.action, Discrete):
        raise ValueError(f"`ppo` chooses among Discrete actions; the world takes {env.action}.")
    if envs * horizon % minibatches:
        raise ValueError(f"`minibatches` of `ppo` must divide `envs` * `horizon`, {envs * horizon}; got {minibatches}.")

    def logits(variables, x, training=None):
        return outputs_alone("ppo", models["policy"].apply(variables, x, training))

    def worth(variables, x, training=None):
        return outputs_alone("ppo", models["value"].apply(variables, x, training)).reshape(x.shape[0])

    def init(key, rows, hp):
        observations, worlds = jax.vmap(env.reset)(split(fold_in(key, 0), envs))
        variables = {name: model.init(fold_in(key, 1 + i), observations) for i, (name, model) in enumerate(models.items())}
        for name, own in variables.items():
            if set(own) != {"params"}:
                raise ValueError(f"`{name}` of `ppo` must have params only; got {', '.join(sorted(own))}.")
        return Agent(variables, optimizer.init(variables, hp["optimizer"]), worlds, observations, jnp.zeros(envs))

    def play(agent, key):
        act, move, again = split(key, 3)
        scores = logits(agent.variables["policy"], agent.observations)
        action = jax.random.categorical(act, scores).astype(jnp.int32)
        after, worlds, reward, dead, late, _ = jax.vmap(env.step)(split(move, envs), agent.worlds, action)
        fresh, new = jax.vmap(env.reset)(split(again, envs))
        returns, done = agent.returns + reward, dead | late
        seen = Experience(
            agent.observations, action, log_probability(scores, action), worth(agent.variables["value"], agent.observations),
            reward, after, dead, late,
        )  # fmt: skip

        def pick(a, b):
            return jnp.where(done.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

        agent = agent._replace(
            worlds=jax.tree.map(pick, new, worlds), observations=pick(fresh, after), returns=jnp.where(done, 0.0, returns)
        )
        return agent, (seen, Mean(jnp.where(done, returns, 0.0).sum(), done.sum().astype(returns.dtype)))

    def loss(variables, part, training, hp):
        seen, gain, goal = part
        scores = logits(variables["policy"], seen.observation, training["policy"])
        log_p = jax.nn.log_softmax(scores)
        entropy = -(jnp.exp(log_p) * log_p).sum(-1).mean()
        ratio = jnp.exp(log_probability(scores, seen.action) - seen.log_p)
        gain = (gain - gain.mean()) / (gain.std() + 1e-8)
        acted = -jnp.minimum(ratio * gain, jnp.clip(ratio, 1 - hp["clip"], 1 + hp["clip"]) * gain).mean()
        judged = jnp.square(worth(variables["value"], seen.observation, training["value"]) - goal).mean() / 2
        total = acted + hp["value_weight"] * judged - hp["entropy_weight"] * entropy
        return total, {"policy_loss": acted, "value_loss": judged, "entropy": entropy}

    def step(key, agent, rows, hp):
        agent, (seen, earned) = lax.scan(play, agent, split(fold_in(key, 0), horizon))
        after = worth(agent.variables["value"], merge_time(seen.after)).reshape(horizon, envs)
        gain = advantages(seen, after, hp["discount"], hp["trace"])
        whole = jax.tree.map(merge_time, (seen, gain, gain + seen.value))
        size = envs * horizon // minibatches

        def learn(carry, key):
            variables, state = carry
            at, key = key
            part = jax.tree.map(lambda v: v[at], whole)
            training = {
                name: Training(fold_in(key, i), jnp.ones(size), jnp.arange(size), hp[name]) for i, name in enumerate(models)
            }
            (value, parts), slope = jax.value_and_grad(loss, has_aux=True)(variables, part, training, hp)
            state, variables = optimizer.update(state, variables, slope, hp["optimizer"], value)
            return (variables, state), parts

        orders = jax.vmap(lambda k: jax.random.permutation(k, envs * horizon))(split(fold_in(key, 1), epochs))
        turns = orders.reshape(epochs * minibatches, size), split(fold_in(key, 2), epochs * minibatches)
        (variables, state), parts = lax.scan(learn, (agent.variables, agent.optimizer), turns)
        means = {name: Mean(value.mean(), jnp.ones(())) for name, value in parts.items()}
        return agent._replace(variables=variables, optimizer=state), means | {"return": jax.tree.map(jnp.sum, earned)}

    def episodes(variables, seeds):
        keys = jax.vmap(jax.random.key)(seeds)
        observations, worlds = jax.vmap(env.reset)(keys)

        def move(carry):
            worlds, observations, returns, alive, time = carry
            action = jnp.argmax(logits(variables, observations), -1).astype(jnp.int32)
            moves = jax.vmap(lambda key: fold_in(key, time))(keys)
            observations, worlds, reward, dead, late, _ = jax.vmap(env.step)(moves, worlds, action)
            return worlds, observations, jnp.where(alive, returns + reward, returns), alive & ~(dead | late), time + 1

        n = seeds.shape[0]
        begin = worlds, observations, jnp.zeros(n), jnp.ones(n, bool), jnp.zeros((), jnp.int32)
        return lax.while_loop(lambda carry: carry[3].any(), move, begin)[2]

    def evaluate(key, variables, rows, hp):
        return {"return": Mean(jnp.vdot(rows.weight, episodes(variables, rows.x)), rows.weight.sum())}

    def adopt(agent, variables, hp):
        variables = agent.variables | {"policy": variables}
        return agent._replace(variables=variables, optimizer=optimizer.init(variables, hp["optimizer"]))

    def check(rows):
        dtype, shape = getattr(rows.x, "dtype", type(rows.x).__name__), np.shape(rows.x)
        if len(shape) != 1 or not jnp.issubdtype(dtype, jnp.integer):
            raise ValueError(f"`ppo` takes x [n] of whole numbers, seeds of episodes (arsenal.data.seeds); got {dtype} {shape}.")
        seen = jax.eval_shape(first_observations, rows)
        logit = f"a logit for each of {env.action.n} actions"
        for name, what, allowed in (("policy", logit, [(env.action.n,)]), ("value", "one number", [(), (1,)])):
            model = models[name]
            made = jax.eval_shape(lambda x, model=model: model.apply(model.init(jax.random.key(0), x), x)[0], seen).shape
            if made[1:] not in allowed:
                raise ValueError(f"`{name}` of `ppo` must give {what} for an observation; got shape {list(made[1:])}.")

    def first_observations(rows):
        return jax.vmap(lambda seed: env.reset(jax.random.key(seed))[0])(jnp.asarray(rows.x))

    return Learner(
        init, step,
        params=lambda agent: agent.variables["policy"],
        apply={
            "predict": lambda variables, x: jnp.argmax(logits(variables, x), -1).astype(jnp.int32),
            "predict_proba": lambda variables, x: jax.nn.softmax(logits(variables, x)),
        },
        evaluate=evaluate,
        modes={"return": "max"},
        axis=("environment steps", envs * horizon),
        inputs=dict.fromkeys(("predict", "predict_proba"), first_observations),
        check=check,
        adopt=adopt,
        hp={
            "policy": models["policy"].hp, "value": models["value"].hp, "optimizer": optimizer.hp, "discount": discount,
            "trace": trace, "clip": clip, "value_weight": value_weight, "entropy_weight": entropy_weight,
        },
        exempt={"batch-coupled": "it draws its own experience: rows are for evaluation only"},
    )  # fmt: skip


def advantages(seen: Experience, after: jax.Array, discount: Any, trace: Any) -> jax.Array:
    """`Σ_l (discount trace)^l δ_{t+l}` [t, envs] to the end of an episode, `δ = reward + discount V(after) - V`.

    `after` [t, envs] is the value of where a move led: nothing where the episode terminated, and what it says where it
    was merely cut. Schulman et al. 2016, eq. 16.
    """
    delta = seen.reward + discount * jnp.where(seen.terminated, 0.0, after) - seen.value

    def back(gain, now):
        delta, done = now
        gain = delta + discount * trace * jnp.where(done, 0.0, gain)
        return gain, gain

    return lax.scan(back, jnp.zeros_like(delta[0]), (delta, seen.terminated | seen.truncated), reverse=True)[1]


def log_probability(logits: jax.Array, action: jax.Array) -> jax.Array:
    """The log-probability [n] of actions [n] under logits [n, actions]."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], -1)[:, 0]


def merge_time(value: jax.Array) -> jax.Array:
    """[t, envs, ...] as [t * envs, ...]."""
    return value.reshape(-1, *value.shape[2:])
