"""What the laws are tried on in this room: a row for every public factory of a record."""

import flax.linen
import pytest
from rows import ROWS
from table import law_test

from arsenal import nn
from arsenal.testing import Case

CASES = {
    "arsenal.nn.linen.linen": lambda: [Case(nn.linen(flax.linen.Dense(2)), ROWS)],
    "arsenal.nn.linen.as_model": lambda: [Case(nn.as_model(flax.linen.Dense(2)), ROWS)],
}

test_laws = pytest.mark.slow(law_test(CASES))
