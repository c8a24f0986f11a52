"""What the laws are tried on in this room: a row for every public factory of a record."""

import optax
import pytest
from rows import PARAMS
from table import law_test

from arsenal import optim
from arsenal.testing import Case

SCHEDULES = (
    optim.constant(),
    optim.warmup(optim.linear(4, 0.1), 2),
    optim.cosine(4),
    optim.one_cycle(4),
    optim.inverse_square_root(2),
    optim.piecewise([1, 3], [0.5, 0.1]),
)
GROUPS = [{"pattern": "b", "weight_decay": 0.0}, {"pattern": ".*", "learning_rate": 0.5}]
FROZEN = [{"pattern": "b", "freeze": True}, {"pattern": "w"}]

CASES = {f"arsenal.optim.{name}": make for name, make in {
    "gradient.adam": lambda: [Case(optim.adam(0.01), PARAMS)],
    "gradient.adamw": lambda: [Case(optim.adamw(0.01), PARAMS)],
    "gradient.sgd": lambda: [Case(optim.sgd(0.01, 0.9), PARAMS)],
    "gradient.from_optax": lambda: [Case(optim.from_optax(optax.lion, learning_rate=0.01), PARAMS)],
    "gradient.as_optimizer": lambda: [Case(optim.as_optimizer(optax.chain(optax.clip(1.0), optax.sgd(0.01))), PARAMS)],
    "gradient.lamb": lambda: [Case(optim.lamb(0.01, weight_decay=0.1), PARAMS)],
    "gradient.lion": lambda: [Case(optim.lion(0.01), PARAMS)],
    "gradient.rmsprop": lambda: [Case(optim.rmsprop(0.01, momentum=0.5), PARAMS)],
    "schedule.scheduled": lambda: [Case(optim.scheduled(optim.adam(0.1), schedule), PARAMS) for schedule in SCHEDULES],
    "plateau.plateau": lambda: [
        Case(optim.plateau(optim.clipped(optim.adam(0.1), 1.0), 0.5, 1.0, 0.5, window=1.0), PARAMS)
    ],
    "clipping.clipped": lambda: [Case(optim.clipped(optim.sgd(0.1, 0.9), 1.0), PARAMS)],
    "groups.grouped": lambda: [
        Case(optim.grouped(GROUPS, optim.adamw(0.1)), PARAMS),
        Case(optim.grouped(FROZEN, optim.clipped(optim.sgd(0.1), 1.0)), PARAMS),
    ],
}.items()}  # fmt: skip

test_laws = pytest.mark.slow(law_test(CASES))
