"""Losses for numbers."""

import jax.numpy as jnp

from arsenal.records import Loss


def squared_error() -> Loss:
    """`(output - y)²`, averaged over all but the first axis; outputs and y have one shape, or [n, 1] and [n]."""

    def aligned(outputs, y):
        return outputs.reshape(outputs.shape[0]) if outputs.shape == (*y.shape, 1) else outputs

    def value(outputs, y, hp):
        difference = aligned(outputs, y) - y
        return jnp.mean(jnp.square(difference), axis=tuple(range(1, difference.ndim)))

    def check(outputs, rows):
        if outputs.shape not in (rows.y.shape, (*rows.y.shape, 1)):
            raise ValueError(f"`squared_error` takes outputs of the targets' shape {rows.y.shape}; got {outputs.shape}.")

    return Loss(
        value,
        readout={"predict": lambda outputs: outputs[:, 0] if outputs.shape[1:] == (1,) else outputs},
        measures={"absolute_error": lambda outputs, y: jnp.abs(aligned(outputs, y) - y).reshape(y.shape[0], -1).mean(-1)},
        check=check,
    )
