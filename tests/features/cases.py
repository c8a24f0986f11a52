"""What the laws are tried on in this room: a row for every public factory of a record."""

from rows import IMAGES, MIXED, ROWS
from table import law_test

from arsenal import features
from arsenal.testing import Case

CASES = {
    "arsenal.features.mixing.mixup": lambda: [Case(features.mixup(0.2, 3), IMAGES)],
    "arsenal.features.mixing.cutmix": lambda: [Case(features.cutmix(1.0, 3), IMAGES)],
    "arsenal.features.encoding.one_hot": lambda: [Case(features.one_hot([4, 3]), MIXED)],
    "arsenal.features.scaling.scale": lambda: [Case(features.scale(0.0625, 1.0), ROWS)],
    "arsenal.features.scaling.standardize": lambda: [Case(features.standardize(), ROWS)],
}

test_laws = law_test(CASES)
