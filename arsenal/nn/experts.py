"""A mixture of experts in the place of an MLP: a router sends each token to a few of many.

Shazeer et al., ICLR 2017 (1701.06538); the loss of balance: Fedus et al., JMLR 23 (2101.03961), equations 4 to 6; that of the
router's logits: Zoph et al. 2022 (2202.08906), equation 5.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from arsenal.nn.dense import Dense
from arsenal.numerics.weighted import over_rows


class Experts(nn.Module):
    """Gated or plain MLPs without biases, all of one shape, each for its own rows."""

    count: int
    hidden: int
    activation: Callable
    gated: bool
    kernel_init: Callable
    down_init: Callable

    @nn.compact
    def __call__(self, x):
        """[count or 1, m, width] to [count, m, width]; a single x is every expert's."""
        width = x.shape[-1]

        def kernel(name, init, shape):
            # Each expert begins as it would alone: an initialiser would take their number for a part of the size.
            begin = lambda key: jax.vmap(lambda k: init(k, shape, x.dtype))(jax.random.split(key, self.count))  # noqa: E731
            return self.param(name, begin)

        up = jnp.matmul(x, kernel("up", self.kernel_init, (width, self.hidden)))
        gate = jnp.matmul(x, kernel("gate", self.kernel_init, (width, self.hidden))) if self.gated else None
        y = self.activation(up) if gate is None else self.activation(gate) * up
        return jnp.matmul(y, kernel("down", self.down_init, (self.hidden, width)))


class MixtureOfExperts(nn.Module):
    """Of `count` experts the `chosen` likeliest by the router read a token, and their answers are added by its probabilities.

    With `normalized` the probabilities of those that are chosen sum to 1. `capacity` None: every expert has room for all tokens,
    so none is left out, and each reads all of them. A number c: in training an expert has room for c times its equal share, first
    choices before second ones; what finds no room is left out, and the cost is that of c times `chosen` experts.

    In training it sows into `losses`, each times its factor: `balance`, `count` times the sum over the experts of their share of
    the tokens and their mean probability, which is `chosen` at best, and `router_z`, the mean of `logsumexp(logits)²`; both over
    the tokens of all rows, by weight. `factors` are {"balance", "router_z"}, numbers.
    """

    count: int
    chosen: int
    hidden: int
    activation: Callable
    gated: bool
    kernel_init: Callable
    down_init: Callable
    normalized: bool = True
    capacity: float | None = None
    factors: Any = None

    @nn.compact
    def __call__(self, x, training=None):
        """[n, t, width] to the same."""
        n, t, width = x.shape
        flat = x.reshape(-1, width)
        logits = Dense(self.count, False, kernel_init=self.kernel_init, name="router")(flat)
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        share, expert = jax.lax.top_k(jax.nn.softmax(logits), self.chosen)
        if self.normalized:
            share = share / share.sum(-1, keepdims=True)
        there = jnp.ones(n * t, bool)
        if training is not None:
            weight = jnp.repeat(training.weight.astype(logits.dtype), t)
            there = weight > 0
            for name, value in routing_losses(logits, expert, weight).items():
                self.sow("losses", name, self.factors[name] * value)
        experts = Experts(
            self.count, self.hidden, self.activation, self.gated, self.kernel_init, self.down_init, name="experts"
        )
        if training is None or self.capacity is None:
            of = jnp.zeros(logits.shape, share.dtype).at[jnp.arange(n * t)[:, None], expert].add(share)
            return jnp.einsum("emw,me->mw", experts(flat[None]), of.astype(x.dtype)).reshape(x.shape)
        room = min(n * t, math.ceil(self.capacity * self.chosen * n * t / self.count))
        # Rows that are not there make no room, whose size is that of the program.
        limit = jnp.ceil(self.capacity * self.chosen / self.count * there.sum(dtype=jnp.float32)).astype(jnp.int32)
        place = places(expert, there, self.count)
        place = jnp.where(place < limit, place, room)
        token = jnp.broadcast_to(jnp.arange(n * t)[:, None], expert.shape)
        # Places without a token read a row of zeros; tokens without a place are dropped by the address that does not exist.
        slots = jnp.full((self.count, room), n * t).at[expert, place].set(token, mode="drop")
        y = experts(jnp.concatenate([flat, jnp.zeros_like(flat[:1])])[slots])
        found = y.at[expert, place].get(mode="fill", fill_value=0)
        return jnp.einsum("mkw,mk->mw", found, share.astype(x.dtype)).reshape(x.shape)


def places(expert: jax.Array, there: jax.Array, count: int) -> jax.Array:
    """The place of each choice [m, k] in its expert's queue: first choices before second ones, tokens in order.

    Those of tokens that are not `there` [m] stand behind every queue.

    >>> places(jnp.array([[0], [0], [1], [0]]), jnp.array([True, False, True, True]), 2).ravel().tolist()
    [0, 4, 0, 1]
    """
    m, k = expert.shape
    mine = jax.nn.one_hot(expert.T.reshape(-1), count, dtype=jnp.int32) * jnp.tile(there, k)[:, None].astype(jnp.int32)
    place = ((jnp.cumsum(mine, 0) - 1) * mine).sum(-1)
    return jnp.where(there[:, None], place.reshape(k, m).T, m * k)


def routing_losses(logits: jax.Array, expert: jax.Array, weight: jax.Array) -> dict[str, jax.Array]:
    """`balance` [] and `router_z` [] of logits [m, count], of which `expert` [m, k] were chosen, by weight [m].

    >>> found = routing_losses(jnp.zeros((4, 2)), jnp.array([[0], [1], [0], [1]]), jnp.ones(4))
    >>> round(float(found["balance"]), 4), round(float(found["router_z"]), 4)
    (1.0, 0.4805)
    """
    count = logits.shape[-1]
    total = jnp.maximum(over_rows(weight.sum()), jnp.finfo(weight.dtype).tiny)
    picked = jax.nn.one_hot(expert, count, dtype=logits.dtype).sum(1)
    tokens, probability = (over_rows(weight @ each) / total for each in (picked, jax.nn.softmax(logits)))
    square = jnp.square(jax.nn.logsumexp(logits, -1))
    return {"balance": count * jnp.vdot(tokens, probability), "router_z": over_rows(jnp.vdot(weight, square)) / total}
