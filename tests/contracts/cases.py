"""Records that only the tests need: what no shipped algorithm asks of the records yet."""

import jax
import jax.numpy as jnp
import pytest
import worlds
from rows import ROWS, TOKENS, away
from table import law_test

from arsenal import combine, data
from arsenal.testing import Case

CASES = {
    "mean_by_gradient": lambda: [Case(worlds.mean_by_gradient(), ROWS)],
    "columns that are read": lambda: [
        Case(combine.learner(worlds.mean_by_gradient()), ROWS, lambda rows: data.reading(away(), 4, jax.random.key(0), window=2)),
    ],
    "a stream": lambda: [Case(combine.learner(worlds.mean_by_gradient()), ROWS, lambda rows: worlds.ticks())],
    "target_encode": lambda: [
        Case(worlds.target_encode(3), ROWS._replace(x=jnp.array([[0, 1], [1, 1], [2, 0], [0, 0], [1, 2], [0, 1]])))
    ],
    "gpt": lambda: [Case(worlds.gpt(), TOKENS)],
    "autoregression": lambda: [Case(worlds.autoregression(), ROWS, double=True)],
    "dbscan": lambda: [Case(worlds.dbscan(1.5, 2.0), ROWS)],
}

test_laws = pytest.mark.slow(law_test(CASES))
