"""A run as one fit is the run that the driver would have trained."""

import jax
import numpy as np
from rows import CLASSES

from arsenal import losses, models, optim
from arsenal.data import arrays
from arsenal.records import hyperparameters
from arsenal.training import supervised
from arsenal.training.driver import advance, start
from arsenal.training.fitting import as_estimator

LEARNER = supervised(models.perceptron((4,), (3,)), losses.cross_entropy(), optim.sgd(0.1))


def test_a_fit_is_the_drivers_run():
    source, hp = arrays(CLASSES, 4), hyperparameters(LEARNER.hp)
    train = start(LEARNER, source, seed=7)
    train, _, _ = advance(LEARNER, source)(train, source.block(0, 5), np.int32(5))
    params, info = jax.jit(as_estimator(LEARNER, 5, 4).fit)(jax.random.key(7), CLASSES, hp)
    for mine, its in zip(jax.tree.leaves(params), jax.tree.leaves(LEARNER.params(train.state)), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-5, atol=1e-6)
    assert bool(info.converged) and int(info.iterations) == 5


def test_rows_that_are_not_there_count_for_nothing():
    there = np.arange(len(CLASSES.weight)) % 3 != 0
    hp, fit = hyperparameters(LEARNER.hp), as_estimator(LEARNER, 3).fit
    weighed, _ = fit(jax.random.key(0), CLASSES._replace(weight=np.asarray(CLASSES.weight) * there), hp)
    few, _ = fit(jax.random.key(0), jax.tree.map(lambda leaf: np.asarray(leaf)[there], CLASSES), hp)
    for one, other in zip(jax.tree.leaves(weighed), jax.tree.leaves(few), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
