"""What the laws are tried on in this room: a row for every public factory of a record."""

import jax
import jax.numpy as jnp
import worlds
from rows import ROWS, away
from table import law_test

from arsenal import data
from arsenal.data import codec
from arsenal.testing import Case

KEY = jax.random.key(0)

CASES = {
    "arsenal.data.codec.category": lambda: [Case(codec.category(), ["b", "a", "b", "ç", ""])],
    "arsenal.data.codec.date": lambda: [Case(codec.date(), ["1970-01-01", "2026-02-28", "1969-12-31"])],
    "arsenal.data.source.arrays": lambda: [
        Case(data.arrays(ROWS, 4)),
        Case(data.arrays(ROWS, None)),
        Case(data.arrays(ROWS, 6, shuffle=False)),
    ],
    "arsenal.data.source.nothing": lambda: [Case(data.nothing())],
    "arsenal.data.source.feed": lambda: [Case(data.feed(ROWS, 4, KEY)), Case(data.feed(away(), 4, KEY))],
    "arsenal.data.source.reading": lambda: [
        Case(data.reading(away(), 4, KEY)),
        Case(data.reading(away(), 4, KEY, window=3)),
        Case(data.reading(away([0, 2, 6]), 2, KEY, window=3)),
    ],
    "arsenal.data.source.through": lambda: [
        Case(data.through(data.arrays(ROWS, 4), lambda state, x: x * state, jnp.float32(2))),
        Case(data.through(data.reading(away(), 4, KEY), lambda state, x: x * state, jnp.float32(2))),
    ],
    "arsenal.data.source.stream": lambda: [Case(worlds.ticks())],
}

test_laws = law_test(CASES)
