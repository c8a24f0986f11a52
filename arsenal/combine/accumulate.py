"""Gradient accumulation: an `Additive` becomes a `Learner`; what happens in the middle of a step happens here."""

import jax
import jax.numpy as jnp
from jax import lax

from arsenal.numerics.weighted import over_rows
from arsenal.records import Additive, Learner


def learner(additive: Additive, parts: int = 1) -> Learner:
    """The learner whose step measures `parts` pieces of the batch one after another and adds the sums, those of all devices.

    The result is that of the whole batch, up to the order of summation, unless the measure couples rows (batch
    normalisation). A batch that `parts` does not divide is filled up with rows of weight 0.
    """
    if parts < 1:
        raise ValueError(f"`parts` of `learner` must be >= 1; got {parts}.")

    def step(key, state, batch, hp):
        if parts == 1:
            return additive.update(key, state, over_rows(additive.measure(key, state, batch, hp)), hp)
        lacking = -batch.weight.shape[0] % parts

        def cut(value):
            # Every parts-th row: where rows lie on many devices, each device has its share of every piece.
            filled = jnp.pad(value, ((0, lacking), *((0, 0),) * (value.ndim - 1)))
            return jnp.moveaxis(filled.reshape(-1, parts, *value.shape[1:]), 1, 0)

        pieces = jax.tree.map(cut, batch)

        def one(piece):
            return additive.measure(key, state, piece, hp)

        first = jax.tree.map(lambda v: v[0], pieces)
        empty = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(one, first))
        sums, _ = lax.scan(lambda acc, piece: (jax.tree.map(jnp.add, acc, one(piece)), None), empty, pieces)
        return additive.update(key, state, over_rows(sums), hp)

    passed_on = {name: getattr(additive, name) for name in additive._fields if name in Learner._fields}
    return Learner(step=step, sums=True, **passed_on)
