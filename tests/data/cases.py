"""What the laws are tried on in this room: a row for every public factory of a record."""

import jax
import jax.numpy as jnp
import numpy as np
import worlds
from rows import LABELS, ROWS, away
from table import law_test

from arsenal import data
from arsenal.data import codec
from arsenal.testing import Case

KEY = jax.random.key(0)
AUX = {"group": np.array([3, 3, 1, 1, 2, 2], np.int32), "time": np.array([5, 1, 4, 2, 6, 3], np.int32)}
TABLE = (jax.tree.map(np.asarray, LABELS)._replace(aux=AUX), data.Schema())

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
    "arsenal.data.splits.by_row": lambda: [Case(data.by_row(), TABLE)],
    "arsenal.data.splits.by_position": lambda: [Case(data.by_position(0.2, 0.2, gap=1), TABLE)],
    "arsenal.data.splits.stratified": lambda: [Case(data.stratified(0.3, 0.3), TABLE)],
    "arsenal.data.splits.by_group": lambda: [Case(data.by_group("group", 0.3, 0.3), TABLE)],
    "arsenal.data.splits.by_time": lambda: [Case(data.by_time("time", 0.2, 0.2), TABLE)],
    "arsenal.data.splits.as_split": lambda: [
        Case(data.as_split(lambda row: {"train": row > 3, "validation": row < 2, "test": row == 2}), TABLE)
    ],
    "arsenal.data.source.stream": lambda: [Case(worlds.ticks())],
}

test_laws = law_test(CASES)
