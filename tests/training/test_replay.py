"""The replay of a step names the operation that gave NaN first and the line that asked for it, whatever the operation is."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from arsenal.data import nothing
from arsenal.records import Learner
from arsenal.training.driver import start
from arsenal.training.replay import replay

HERE = Path(__file__)


def direct(x):
    return jnp.log(x - 2)  # here


def in_a_program_that_jax_keeps(x):
    return jax.nn.log_softmax(x * jnp.inf)  # here


def in_one_that_was_used_before(x):
    fine = jax.nn.log_softmax(x)
    return fine + jax.nn.log_softmax(x / 0)  # here


def in_optax(x):
    return optax.losses.l2_loss(jnp.float32(jnp.inf) * x, jnp.inf * x)  # here


def in_a_scan(x):
    def body(carry, i):
        return carry + jnp.sqrt(1.5 - i), None  # here

    return lax.scan(body, x, jnp.arange(4.0))[0]


def in_a_loop(x):
    def body(carry):
        return carry[0] + 1, carry[1] * jnp.log(2.5 - carry[0])  # here

    return lax.while_loop(lambda carry: carry[0] < 5, body, (jnp.float32(0), x))[1]


def in_a_branch(x):
    def wrong(x):
        return x - jnp.sqrt(-x)  # here

    return lax.cond(x.sum() > 0, wrong, lambda x: x, x)


def backwards(x):
    return jax.grad(lambda x: jnp.sqrt(x - 1).sum() * 0)(x)  # here


def in_a_function_with_a_slope_of_its_own(x):
    @jax.custom_jvp
    def f(x):
        return jnp.arccos(x * 3)  # here

    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0]))
    return jax.grad(lambda x: f(x).sum())(x) + f(x)


def within_a_checkpoint(x):
    return jax.checkpoint(lambda x: jnp.log(x - 9))(x)  # here


KINDS = (
    direct, in_a_program_that_jax_keeps, in_one_that_was_used_before, in_optax, in_a_scan, in_a_loop, in_a_branch, backwards,
    in_a_function_with_a_slope_of_its_own, within_a_checkpoint,
)  # fmt: skip


@pytest.mark.parametrize("f", KINDS, ids=lambda f: f.__name__)
def test_the_place_is_named(f):
    learner = Learner(lambda key, rows, hp: jnp.ones(3), lambda key, state, rows, hp: (f(state), {}), lambda state: state, {})
    said = replay(learner, nothing(), start(learner, nothing(), 0), nothing().block(0, 1))
    found = re.fullmatch(r"`\w+` gives NaN at (.*):(\d+), in \S+", said)
    assert found and Path(found[1]) == HERE, said
    line = HERE.read_text().splitlines()[int(found[2]) - 1]
    assert line.endswith("# here") and int(found[2]) >= f.__code__.co_firstlineno, (said, line)


def test_what_is_finite_or_only_infinite_has_no_place():
    for f in (lambda x: x, lambda x: x / 0):
        learner = Learner(lambda key, rows, hp: jnp.ones(3), lambda key, state, rows, hp, f=f: (f(state), {}), np.asarray, {})
        assert replay(learner, nothing(), start(learner, nothing(), 0), nothing().block(0, 1)) == ""
