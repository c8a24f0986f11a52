"""Losses of embeddings: what belongs together is near, what does not is far."""

from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Ge

from arsenal.losses.parts import check_parts
from arsenal.records import Loss


def triplet(margin: Annotated[float, Ge(0)] = 1.0) -> Loss:
    """`max(|anchor - positive| - |anchor - negative| + margin, 0)` of three embeddings [n, d] in a dict; y is not read.

    `margin >= 0` is traced. Answers: `predict` [n, d], the anchor's embedding. Also measures `accuracy`, the share of
    rows whose positive is nearer than the negative. Weinberger & Saul, JMLR 10 (2009); Schroff et al. 2015 (1503.03832)
    take squared lengths, here they are plain.
    """
    names = ("anchor", "positive", "negative")

    def value(outputs, rows, hp):
        near, far = (distance(outputs["anchor"], outputs[name]) for name in ("positive", "negative"))
        return jnp.maximum(near - far + hp["margin"].astype(near.dtype), 0)

    def nearer(outputs, rows):
        near, far = (distance(outputs["anchor"], outputs[name]) for name in ("positive", "negative"))
        return (near < far).astype(near.dtype)

    def check(outputs, rows):
        check_parts("triplet", outputs, *names)
        shapes = [outputs[name].shape for name in names]
        if len(shapes[0]) != 2 or len(set(shapes)) != 1:
            raise ValueError(f"`triplet` takes three embeddings of one shape [n, d]; the model gives {shapes}.")

    return Loss(
        value,
        readout={"predict": lambda outputs: outputs["anchor"]},
        measures={"accuracy": nearer},
        check=check,
        hp={"margin": margin},
    )


def distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """The length of `a - b + 1e-6`, [n]: never 0, where a length has no slope."""
    return jnp.sqrt(jnp.sum(jnp.square(a - b + 1e-6), -1))
