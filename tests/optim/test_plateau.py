"""The rule that waits for a plateau strikes when Optax's and PyTorch's do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arsenal.optim import clipped, cosine, grouped, plateau, scheduled, sgd
from arsenal.records import Optimizer, hyperparameters

LOSSES = [3.0, 2.0, 1.9999, 2.5, 1.99, 1.995, 1.99, 1.9, 1.91, 1.9, 1.9, 1.9, 1.2, 1.3, 1.19995, 1.3, 1.3, float("nan"), 1.3, 1.1]


def scales(optimizer, losses):
    """The factor of the learning rate at every step, read from the step along a gradient of 1."""
    hp, x = hyperparameters(optimizer.hp), jnp.array(0.0)
    state, update, found = optimizer.init(x, hp), jax.jit(optimizer.update), []
    for loss in losses:
        state, moved = update(state, x, jnp.array(-1.0), hp, jnp.float32(loss))
        found.append(float(moved))
    return found


@pytest.mark.parametrize(("patience", "window", "end"), [(2, 1, 0.0), (1, 1, 0.3), (1, 3, 0.0), (1, 4, 0.0)])
def test_it_is_optaxs(patience, window, end):
    theirs = optax.contrib.reduce_on_plateau(0.5, patience, 1e-3, accumulation_size=window, min_scale=end)
    x = jnp.array(0.0)
    state, wanted = theirs.init(x), []
    for loss in LOSSES:
        with jax.numpy_dtype_promotion("standard"):
            step, state = theirs.update(jnp.array(1.0), state, x, value=jnp.float32(loss))
        wanted.append(float(step))
    assert scales(plateau(sgd(1.0), 0.5, patience, 1e-3, window, end), LOSSES) == pytest.approx(wanted)
    assert min(wanted) < 1


# torch 2.13.0: the learning rate after each `step(loss)` of ReduceLROnPlateau(SGD(lr=1), factor=0.5, patience=1,
# threshold=1e-3) over LOSSES; a patience of 1 there is one of 2 here.
TORCH = [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625, 0.0625, 2**-5, 2**-5, 2**-6, 2**-6, 2**-7, 2**-7]


def test_it_is_pytorchs():
    assert scales(plateau(sgd(1.0), 0.5, 2, 1e-3, window=1), LOSSES) == TORCH


def test_it_composes_and_finds_the_rate_inside():
    losses = [1.0] * 6
    inside = scales(plateau(grouped([{"pattern": ".*"}], clipped(sgd(1.0), 9.0)), 0.5, 2, window=1), losses)
    assert inside == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    both = scales(scheduled(plateau(sgd(1.0), 0.5, 2, window=1), cosine(12)), losses)
    wanted = [0.5 * (1 + np.cos(np.pi * step / 12)) * scale for step, scale in enumerate(inside)]
    assert both == pytest.approx(wanted)


def test_what_has_no_rate_is_told():
    still = Optimizer(lambda params, hp: (), lambda state, params, gradient, hp, value: (state, params), {"pace": 1.0})
    with pytest.raises(ValueError, match=r"`optimizer` of `plateau` must have a `learning_rate` in its hp; its hp has `pace`\."):
        plateau(still)
