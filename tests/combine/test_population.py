"""Members of a population are told apart by their seeds."""

import pytest

from arsenal import losses, models, optim, training
from arsenal.combine import population


@pytest.mark.parametrize(
    ("seeds", "said"),
    [([0, 0], "distinct and at least one; got"), ([], "distinct and at least one"), ([0, 2**32], r"in 0\.\.4294967295; got"), ([-1], r"in 0\.\.")],
)  # fmt: skip
def test_seeds_that_cannot_tell_members_apart_are_refused(seeds, said):
    learner = training.supervised(models.perceptron(2, (4,)), losses.cross_entropy(), optim.sgd(0.1))
    with pytest.raises(ValueError, match=f"`seeds` of `population` must be {said}"):
        population(learner, seeds)
