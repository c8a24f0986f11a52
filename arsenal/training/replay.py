"""A step that went wrong, again with every operation checked: which one gave NaN, and where in the code it stands."""

import re
from typing import Any

import jax
from jax.experimental import checkify

from arsenal.records import Learner, Source
from arsenal.training.driver import TrainState, step_of

LIBRARIES = re.compile(r"[\\/](jax|jaxlib|flax|optax|chex)[\\/]|arsenal[\\/]nn[\\/]linen\.py$")
"""Whose lines are not what anybody looks for; what stands around every Flax module is one of them."""


def replay(learner: Learner, source: Source, train: TrainState, block: Any) -> str:
    """The operation that gives NaN first in the step that `train` stands before, and its place; empty if none does.

    >>> from arsenal.data import nothing
    >>> from arsenal.training.driver import start
    >>> def step(key, state, rows, hp):
    ...     return jax.numpy.log(state - 1), {}
    >>> wrong = Learner(lambda key, rows, hp: jax.numpy.zeros(()), step, lambda state: state, {})
    >>> replay(wrong, nothing(), start(wrong, nothing(), 0), nothing().block(0, 1)).partition(" at ")[0]
    '`log` gives NaN'
    """
    checked = checkify.checkify(lambda train, block: step_of(learner, source, train, block), errors=checkify.float_checks)
    error, _ = jax.jit(checked)(train, block)
    found = error.get_exception()
    if found is None:
        return ""
    operation = getattr(found, "prim", None) or str(found)
    frames = getattr(found.traceback_info, "frames", [])
    ours = [frame for frame in frames if not LIBRARIES.search(frame.file_name)]
    where = f" at {ours[0].file_name}:{ours[0].line_num}, in {ours[0].function_name.rpartition('.')[2]}" if ours else ""
    return f"`{operation}` gives NaN{where}"
