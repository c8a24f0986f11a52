"""What the laws are tried on in this room: a row for every public factory of a record."""

import numpy as np
import pytest
from table import law_test

from arsenal import monitoring
from arsenal.testing import Case

DRAW = np.random.default_rng(0)
LEVELS = np.repeat([0.0, 3.0, -1.0], 400) + DRAW.normal(size=1200)
ERRORS = (DRAW.uniform(size=1200) < np.repeat([0.1, 0.4, 0.8], 400)).astype(float)

CASES = {f"arsenal.monitoring.detectors.{name}": make for name, make in {
    "adwin": lambda: [Case(monitoring.adwin(), LEVELS), Case(monitoring.adwin(clock=1, buckets=3), LEVELS)],
    "page_hinkley": lambda: [Case(monitoring.page_hinkley(), LEVELS), Case(monitoring.page_hinkley(10, side="down"), LEVELS)],
    "ddm": lambda: [Case(monitoring.ddm(), ERRORS)],
    "kswin": lambda: [Case(monitoring.kswin(), LEVELS)],
}.items()}  # fmt: skip

test_laws = pytest.mark.slow(law_test(CASES))
