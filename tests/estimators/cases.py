"""What the laws are tried on in this room: a row for every public factory of a record."""

from rows import LABELS, ROWS
from table import law_test

from arsenal import estimators
from arsenal.testing import Case

CASES = {
    "arsenal.estimators.cluster.kmeans": lambda: [Case(estimators.kmeans(2, restarts=3), ROWS, double=True)],
    "arsenal.estimators.linear.ridge": lambda: [Case(estimators.ridge(), ROWS, double=True)],
    "arsenal.estimators.linear.logistic": lambda: [Case(estimators.logistic(alpha=0.3, tolerance=1e-9), LABELS, double=True)],
}

test_laws = law_test(CASES)
