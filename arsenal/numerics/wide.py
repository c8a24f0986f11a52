"""What adds small increments is kept in 32 bits or more: a bfloat16 of 1 does not see an increment of 1/256, nor of less.

So averages, moments, running statistics and sums are wide whatever the numbers are that they are of.
"""

from typing import Any

import jax
import jax.numpy as jnp

HALF = (jnp.bfloat16, jnp.float16)


def widen(tree: Any) -> Any:
    """The tree with its floats of 16 bits as float32; everything else as it is."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype in HALF else leaf, tree)


def as_types(tree: Any, like: Any) -> Any:
    """The tree in the types of another one of its structure."""
    return jax.tree.map(lambda leaf, other: leaf.astype(other.dtype), tree, like)


def move_average(average: Any, new: Any, decay: Any) -> Any:
    """`decay * average + (1 - decay) * new` of two trees in the average's types; what is no float is the new one's.

    >>> average = move_average(widen(jnp.ones((), jnp.bfloat16)), jnp.zeros((), jnp.bfloat16), jnp.float32(0.999))
    >>> round(float(average), 4)
    0.999
    """

    def one(old, new):
        if not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        # In this form what never changes is its own average to the bit, however many steps.
        return old + (1 - jnp.asarray(decay).astype(old.dtype)) * (new.astype(old.dtype) - old)

    return jax.tree.map(one, average, new)
