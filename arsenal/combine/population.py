"""Many members as lanes of one program: sweeps, seeds, bagging and folds are the same vmap."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.random import fold_in

from arsenal.combine.pool import pool
from arsenal.records import Batch, Learner


def lanes(hp: Any, members: int) -> Any:
    """The tree of floats repeated, [members, ...]: what a population's `hp` looks like."""
    return jax.tree.map(lambda v: jnp.broadcast_to(jnp.asarray(v, dtype=float), (members, *jnp.shape(v))), hp)


def everything(seed: jax.Array, rows: Batch) -> Batch:
    """Every member sees every row."""
    return rows


def population(learner: Learner, seeds: Sequence[int], weigh: Callable = everything) -> Learner:
    """One learner whose state, hyperparameters, metrics and answers carry a leading axis of `len(seeds)` members.

    `weigh(seed, batch) -> batch` gives each member its rows: folds, bags and clients are weights. A member
    equals the learner run alone with `fold_in(key, seed)`, up to the order of float operations.
    """
    if len(set(seeds)) != len(seeds) or not seeds:
        raise ValueError(f"`seeds` of `population` must be distinct and at least one; got {list(seeds)}.")
    if not all(0 <= seed < 2**32 for seed in seeds):
        raise ValueError(f"`seeds` of `population` must be in 0..{2**32 - 1}; got {list(seeds)}.")
    numbers = np.asarray(seeds, dtype=np.uint32)

    def init(key, batch, hp):
        return jax.vmap(lambda s, h: learner.init(fold_in(key, s), weigh(s, batch), h))(numbers, hp)

    def step(key, states, batch, hp):
        def one(seed, state, h):
            return learner.step(fold_in(key, seed), state, weigh(seed, batch), h)

        return jax.vmap(one)(numbers, states, hp)

    def evaluate(key, params, batch, hp):
        return jax.vmap(lambda s, p, h: learner.evaluate(fold_in(key, s), p, batch, h))(numbers, params, hp)

    def read(f):
        return jax.vmap(f, (0, None))

    def flops(states, batch):
        # Shapes are all that the formula reads.
        member = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), states)
        return len(seeds) * learner.flops(member, batch)

    return learner._replace(
        init=init, step=step, evaluate=evaluate, params=jax.vmap(learner.params),
        apply={name: read(f) for name, f in learner.apply.items()},
        adopt=learner.adopt and jax.vmap(learner.adopt),
        views={name: jax.vmap(view) for name, view in learner.views.items()},
        flops=learner.flops and flops,
        hp=lanes(learner.hp, len(seeds)),
    )  # fmt: skip


def ensemble(learner: Learner, members: int) -> Learner:
    """A population of seeds 0..members-1 that answers as one.

    Floats are averaged over members; whole numbers (labels) are those of the mean `predict_proba` where there
    is one, otherwise the vote of the majority. Lakshminarayanan et al., NeurIPS 2017 (1612.01474).
    """
    many = population(learner, range(members))

    return many._replace(apply={name: pool(name, many.apply) for name in many.apply})
