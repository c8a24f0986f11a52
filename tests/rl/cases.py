"""What the laws are tried on in this room: a row for every public factory of a record."""

import jax.numpy as jnp
import numpy as np
import pytest
from table import law_test

from arsenal import models, optim, rl
from arsenal.records import Learner, batch
from arsenal.testing import Case


def agent() -> Learner:
    """PPO of the smallest size."""
    policy, value = models.perceptron(2, (4,), dropout=0.1), models.perceptron(1, (4,))
    return rl.ppo(rl.cartpole(), policy, value, optim.sgd(0.1), envs=4, horizon=8, epochs=2, minibatches=2)


CASES = {
    "arsenal.rl.cartpole.cartpole": lambda: [Case(rl.cartpole(), jnp.array(1))],
    "arsenal.rl.ppo.ppo": lambda: [Case(agent(), batch(x=np.arange(4, dtype=np.uint32)), tolerance=1e-4)],
}

test_laws = pytest.mark.slow(law_test(CASES))
