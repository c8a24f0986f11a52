"""Many members' answers as one: floats are averaged, labels are those of the mean probabilities or the vote."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from arsenal.records import Estimator


def pool_answers(estimator: Estimator) -> dict[str, Callable[..., Any]]:
    """The answers of many members, `(params [members, ...], x) -> answer`: each of the estimator's that reads x."""
    many = {name: jax.vmap(f, (0, None)) for name, f in estimator.apply.items() if name not in estimator.inputs}
    return {name: pool(name, many) for name in many}


def pool(name: str, many: dict[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The answer of that name of many: `(params, x) -> [n, ...]`."""

    def read(params, x):
        given = many[name](params, x)
        if name == "predict" and "predict_proba" in many and jnp.issubdtype(given.dtype, jnp.integer):
            return jnp.argmax(many["predict_proba"](params, x).mean(0), -1).astype(given.dtype)
        return vote(given) if jnp.issubdtype(given.dtype, jnp.integer) else given.mean(0)

    return read


def vote(labels: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """The most frequent value along the first axis, by weight [members]; the smallest one where two are equally frequent.

    >>> vote(jnp.array([[3, 1], [3, 2], [0, 1]])).tolist()
    [3, 1]
    >>> vote(jnp.array([[3, 1], [3, 2], [0, 1]]), jnp.array([1.0, 1.0, 3.0])).tolist()
    [0, 1]
    """
    same = labels[:, None] == labels[None]  # [members, members, ...]
    counts = same.sum(1) if weight is None else jnp.tensordot(weight, same.astype(weight.dtype), (0, 1))
    most = counts == counts.max(0)
    return jnp.where(most, labels, jnp.iinfo(labels.dtype).max).min(0)
