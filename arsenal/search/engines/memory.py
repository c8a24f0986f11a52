"""How many lanes of a sweep fit into the memory that there is."""

from collections.abc import Callable
from typing import Any

import jax

from arsenal.config import ConfigError
from arsenal.storage import memory

COPIES = 3
"""What a step takes in copies of the state, about: a first guess, until the compiled program tells."""


def fit_lanes(wanted: int, devices: int, state: Any, compiled: Callable[[int], Any]) -> tuple[int, float]:
    """How many of the lanes that are wanted fit, in multiples of the devices, and the bytes that each device has for them.

    `state` are the shapes of one lane on each device; `compiled(size)` is the program that takes a step of so many. A
    `ConfigError` where the state of one alone is too large.
    """
    there = memory.ROOM * memory.free_memory()
    one = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) / devices
    if one * COPIES > there:
        need, free = COPIES * one / 2**30, there / 2**30
        raise ConfigError(f"A trial needs about {need:.1f} GB of memory for its state; there are {free:.1f} GB.")
    size = memory.shrink(wanted, devices, there / max(1, COPIES * one))
    return memory.fit_lanes(size, devices, there, compiled), there
