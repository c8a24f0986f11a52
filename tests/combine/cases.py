"""What the laws are tried on in this room: a row for every public factory of a record."""

import jax.numpy as jnp
import pytest
import worlds
from rows import CLASSES, LABELS, ROWS, classifier
from table import law_test

from arsenal import combine, estimators, features
from arsenal.testing import Case
from arsenal.testing.laws import one_batch


def two():
    """A classifier of two classes that is fast to fit."""
    return estimators.gaussian_bayes(0.1)


def three():
    """And one of three."""
    return estimators.gaussian_bayes(0.1, classes=3)


CASES = {
    "arsenal.combine.accumulate.learner": lambda: [Case(combine.learner(worlds.mean_by_gradient(), parts=2), ROWS)],
    "arsenal.combine.boost.ada_boost": lambda: [Case(combine.ada_boost(three(), 3, classes=3), CLASSES, double=True)],
    "arsenal.combine.boost.gradient_boosting": lambda: [
        Case(combine.gradient_boosting(estimators.ridge(), 3, classes=3), CLASSES, double=True)
    ],
    "arsenal.combine.calibration.calibrated": lambda: [Case(combine.calibrated(two(), folds=2), LABELS, double=True)],
    "arsenal.combine.calibration.threshold": lambda: [
        Case(combine.threshold(two(), [[0.0, 1.0], [5.0, 0.0]], folds=2), LABELS, double=True)
    ],
    "arsenal.combine.conformal.conformal": lambda: [
        Case(combine.conformal(three(), 0.5, folds=2, by_class=True), CLASSES, double=True)
    ],
    "arsenal.combine.folds.crossfit": lambda: [
        Case(combine.crossfit(estimators.ridge(), 3), ROWS, double=True),
    ],
    "arsenal.combine.chain.chain": lambda: [
        Case(features.standardize(), ROWS),
        Case(combine.chain(features.scale(2.0), features.standardize()), ROWS),
        Case(combine.chain(), ROWS),
    ],
    "arsenal.combine.chain.after": lambda: [Case(combine.after(features.standardize(), estimators.ridge()), ROWS, double=True)],
    "arsenal.combine.chain.as_transform": lambda: [Case(combine.as_transform(estimators.kmeans(2, restarts=1)), ROWS, double=True)],
    "arsenal.combine.ema.ema": lambda: [Case(combine.ema(classifier(), 0.9), CLASSES)],
    "arsenal.combine.skipping.skipping": lambda: [Case(combine.skipping(classifier()), CLASSES)],
    "arsenal.combine.whole.whole": lambda: [Case(combine.whole(estimators.ridge()), ROWS, one_batch, double=True)],
    "arsenal.combine.reduction.classifier_chain": lambda: [
        Case(combine.classifier_chain(two(), [1, 0]), LABELS._replace(y=jnp.stack([LABELS.y, 1 - LABELS.y[::-1]], 1)), double=True)
    ],
    "arsenal.combine.reduction.multi_output": lambda: [
        Case(combine.multi_output(estimators.ridge()), ROWS._replace(y=ROWS.x[:, :2]), double=True)
    ],
    "arsenal.combine.reduction.one_vs_one": lambda: [Case(combine.one_vs_one(two(), 3), CLASSES, double=True)],
    "arsenal.combine.reduction.one_vs_rest": lambda: [Case(combine.one_vs_rest(two(), 3), CLASSES, double=True)],
    "arsenal.combine.stacking.stacking": lambda: [
        Case(combine.stacking({"bayes": three()}, three(), 2, passthrough=True), CLASSES, double=True),
        Case(combine.stacking([two()], two(), 2, blend=True), LABELS, double=True),
    ],
    "arsenal.combine.voting.bagging": lambda: [Case(combine.bagging(estimators.ridge(), 3), ROWS, double=True)],
    "arsenal.combine.voting.voting": lambda: [
        Case(combine.voting([three(), three()], weights=[1.0, 2.0]), CLASSES, double=True),
        Case(combine.voting([estimators.ridge()], "mean"), ROWS, double=True),
    ],
    "arsenal.combine.imbalance.class_weight": lambda: [
        Case(combine.class_weight(two()), LABELS, double=True),
        Case(combine.class_weight(combine.whole(two()), [1.0, 2.0]), LABELS, one_batch, double=True),
    ],
    "arsenal.combine.imbalance.smote": lambda: [Case(combine.smote(two(), 2, 3), LABELS, double=True)],
    "arsenal.combine.population.population": lambda: [Case(combine.population(classifier(), (0, 5)), CLASSES)],
    "arsenal.combine.population.ensemble": lambda: [Case(combine.ensemble(classifier(), 2), CLASSES)],
}

DEAR = {
    "arsenal.combine.calibration.calibrated": "a fit on each fold and on all rows, and a curve of what they say",
    "arsenal.combine.stacking.stacking": "two stacks of fits on each fold and on all rows, below another fit",
    "arsenal.combine.ema.ema": "a learner with all its programs, and an average of its state",
}

test_laws = pytest.mark.slow(law_test(CASES, DEAR))
