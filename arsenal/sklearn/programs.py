"""Compiled functions of a record, kept for every set of static arguments: a second fit of the same shapes does not trace."""

import collections
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from arsenal.records import Estimator, Transform

MOST = 256
"""Sets of static arguments that are kept."""


class Compiled(NamedTuple):
    """What a record does, compiled."""

    fit: Callable[..., Any]
    """`(key, rows, hp) -> (params, what else)`."""
    apply: dict[str, Callable[..., Any]]
    """Answers by name, `(params, x) -> answer`."""


KEPT: collections.OrderedDict[Any, Compiled] = collections.OrderedDict()
LOCK = threading.Lock()


def programs(factory: Callable, arguments: dict, record: Estimator | Transform) -> Compiled:
    """The programs of a record that a factory made of arguments; those that are traced make no other program."""
    traced = record.hp if isinstance(record.hp, dict) else {}
    key = factory, freeze({name: value for name, value in arguments.items() if name not in traced}), tuple(traced)
    with LOCK:
        if key not in KEPT:
            KEPT[key] = compiled_functions(record)
        KEPT.move_to_end(key)
        while len(KEPT) > MOST:
            KEPT.popitem(last=False)
        return KEPT[key]


def compiled_functions(record: Estimator | Transform) -> Compiled:
    """The functions of a record under jit; a fit on the host stays there."""
    if isinstance(record, Transform):
        both: dict[str, Callable] = {"transform": jax.jit(record.apply)}
        if record.inverse is not None:
            both["inverse_transform"] = jax.jit(record.inverse)
        return Compiled(jax.jit(record.fit), both)
    fit = record.fit if "host" in record.exempt else jax.jit(record.fit)
    apply: dict[str, Callable] = {name: jax.jit(answer) for name, answer in record.apply.items()}
    return Compiled(fit, apply)


def freeze(value: Any) -> Any:
    """What can be hashed and says the same, type included: 1 is not True."""
    if isinstance(value, dict):
        return tuple((name, freeze(one)) for name, one in value.items())
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return type(value).__name__, freeze(value._asdict())
    if isinstance(value, list | tuple):
        return tuple(freeze(one) for one in value)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return type(value).__name__, value
