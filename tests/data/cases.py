"""What the laws are tried on in this room: a row for every public factory of a record."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worlds
from rows import LABELS, ROWS, away
from sklearn.model_selection import KFold
from table import law_test

from arsenal import data
from arsenal.data import codec, folds
from arsenal.testing import Case

KEY = jax.random.key(0)
AUX = {"group": np.array([3, 3, 1, 1, 2, 2], np.int32), "time": np.array([5, 1, 4, 2, 6, 3], np.int32)}
SIDED = (jax.tree.map(np.asarray, LABELS)._replace(aux={"side": np.array([0, 0, 1, 0, 0, 1], np.int32)}), data.Schema())
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
    "arsenal.data.splits.by_column": lambda: [Case(data.by_column("side", 0.3), SIDED)],
    "arsenal.data.splits.by_position": lambda: [Case(data.by_position(0.2, 0.2, gap=1), TABLE)],
    "arsenal.data.splits.without_validation": lambda: [Case(data.without_validation(data.by_row()), TABLE)],
    "arsenal.data.splits.stratified": lambda: [Case(data.stratified(0.3, 0.3), TABLE)],
    "arsenal.data.splits.by_group": lambda: [Case(data.by_group("group", 0.3, 0.3), TABLE)],
    "arsenal.data.splits.by_time": lambda: [Case(data.by_time("time", 0.2, 0.2), TABLE)],
    "arsenal.data.folds.by_splitter": lambda: [Case(folds.by_splitter("own", lambda y, groups: KFold(2)), TABLE)],
    "arsenal.data.folds.k_fold": lambda: [Case(data.k_fold(2, repeats=2), TABLE), Case(data.k_fold(2, shuffle=False), TABLE)],
    "arsenal.data.folds.stratified_k_fold": lambda: [Case(data.stratified_k_fold(2), TABLE)],
    "arsenal.data.folds.group_k_fold": lambda: [Case(data.group_k_fold("group", 2), TABLE)],
    "arsenal.data.folds.stratified_group_k_fold": lambda: [Case(data.stratified_group_k_fold("group", 2), TABLE)],
    "arsenal.data.folds.leave_one_out": lambda: [Case(data.leave_one_out(), TABLE)],
    "arsenal.data.folds.leave_one_group_out": lambda: [Case(data.leave_one_group_out("group"), TABLE)],
    "arsenal.data.folds.shuffle_split": lambda: [
        Case(data.shuffle_split(3, 0.4), TABLE), Case(data.shuffle_split(3, 0.4, group="group"), TABLE)
    ],
    "arsenal.data.folds.by_fold": lambda: [Case(data.by_fold("group"), TABLE)],
    "arsenal.data.folds.time_series": lambda: [Case(data.time_series(2), TABLE), Case(data.time_series(2, "time"), TABLE)],
    "arsenal.data.folds.combinatorial_purged": lambda: [Case(data.combinatorial_purged("time", 3, 1, horizon=1), TABLE)],
    "arsenal.data.folds.purged_k_fold": lambda: [Case(data.purged_k_fold("time", 2, horizon=1), TABLE)],
    "arsenal.data.splits.as_split": lambda: [
        Case(data.as_split(lambda row: {"train": row > 3, "validation": row < 2, "test": row == 2}), TABLE)
    ],
    "arsenal.data.source.stream": lambda: [Case(worlds.ticks())],
}

test_laws = pytest.mark.slow(law_test(CASES))
