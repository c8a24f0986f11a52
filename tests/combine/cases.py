"""What the laws are tried on in this room: a row for every public factory of a record."""

import worlds
from rows import CLASSES, ROWS, classifier
from table import law_test

from arsenal import combine, estimators, features
from arsenal.testing import Case
from arsenal.testing.laws import one_batch

CASES = {
    "arsenal.combine.accumulate.learner": lambda: [Case(combine.learner(worlds.mean_by_gradient(), parts=2), ROWS)],
    "arsenal.combine.chain.chain": lambda: [
        Case(features.standardize(), ROWS),
        Case(combine.chain(features.scale(2.0), features.standardize()), ROWS),
        Case(combine.chain(), ROWS),
    ],
    "arsenal.combine.chain.after": lambda: [Case(combine.after(features.standardize(), estimators.ridge()), ROWS, double=True)],
    "arsenal.combine.ema.ema": lambda: [Case(combine.ema(classifier(), 0.9), CLASSES)],
    "arsenal.combine.skipping.skipping": lambda: [Case(combine.skipping(classifier()), CLASSES)],
    "arsenal.combine.whole.whole": lambda: [Case(combine.whole(estimators.ridge()), ROWS, one_batch, double=True)],
    "arsenal.combine.population.population": lambda: [Case(combine.population(classifier(), (0, 5)), CLASSES)],
    "arsenal.combine.population.ensemble": lambda: [Case(combine.ensemble(classifier(), 2), CLASSES)],
}

test_laws = law_test(CASES)
