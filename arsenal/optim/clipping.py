"""Gradients that are cut down to a length before they are followed."""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Gt

from arsenal.optim.gradient import as_optimizer
from arsenal.records import Optimizer


def clipped(optimizer: Any, norm: Annotated[float, Gt(0)]) -> Optimizer:
    """The optimizer with the whole gradient scaled down to the Euclidean norm `norm` where it is longer.

    Pascanu et al., ICML 2013 (1211.5063), section 3.2. `hp` is {"optimizer": ..., "norm": ...}; an infinite norm
    never clips. The norm counts every parameter that the optimizer is given: inside `grouped` each group clips its
    own gradient, around it the norm is that of all, frozen parameters included.

    >>> from arsenal.optim.gradient import sgd
    >>> optimizer, x = clipped(sgd(1.0), 1.0), jnp.zeros(2)
    >>> _, x = optimizer.update(optimizer.init(x, optimizer.hp), x, jnp.array([0.0, 4.0]), optimizer.hp, None)
    >>> x.tolist()
    [0.0, -1.0]
    """
    optimizer = as_optimizer(optimizer)

    def init(params, hp):
        return optimizer.init(params, hp["optimizer"])

    def update(state, params, gradient, hp, value):
        # Squares are summed in full precision, whatever the parameters are kept in.
        length = jnp.sqrt(sum(jnp.sum(jnp.square(g.astype(float))) for g in jax.tree.leaves(gradient)))

        def cut(g):
            return jnp.where(length < hp["norm"], g, (g.astype(float) / length * hp["norm"]).astype(g.dtype))

        return optimizer.update(state, params, jax.tree.map(cut, gradient), hp["optimizer"], value)

    return Optimizer(init, update, {"optimizer": optimizer.hp, "norm": norm})
