"""What the laws are tried on in this room: a row for every public factory of a record."""

import pytest
from rows import ROWS, away
from table import law_test

from arsenal.evaluation.answers import sequential_source
from arsenal.testing import Case

CASES = {
    "arsenal.evaluation.answers.sequential_source": lambda: [Case(sequential_source(rows, 4, None)) for rows in (ROWS, away())],
}

test_laws = pytest.mark.slow(law_test(CASES))
