"""What in an input moved an answer: the gradient of the score that the answer has, by input.

The gradient of a class's score with respect to the input is the saliency map of Simonyan, Vedaldi and Zisserman (2013,
arXiv:1312.6034, section 3); times the input it is the attribution of Shrikumar et al. (2016, arXiv:1605.01713), which
sums to the score where the function is linear without an intercept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from arsenal_serving.refused import Refused


def gradient(
    fn: Callable[[Any, Any], Any], *, output: str | None = None, times_input: bool = False
) -> Callable[..., Any]:
    """`fn(params, inputs) -> explanation`: for each row the gradient of its largest score by the inputs.

    fn: scores [batch] or [batch, ..., classes], best before a softmax, which saturates; a dict of them with `output`
    as the name of one. The explanation has the structure and shapes of the inputs, which must be floats.
    times_input: each gradient times its input. Where rows influence each other, a row's explanation is that of the
    scores of all rows.

    >>> explain = gradient(lambda w, x: x @ w, times_input=True)
    >>> explain(jnp.array([[1.0, 0.0], [2.0, 3.0]]), jnp.array([[1.0, 2.0], [5.0, 0.5]])).tolist()
    [[0.0, 6.0], [5.0, 1.0]]
    """

    def explain(params: Any, inputs: Any) -> Any:
        for leaf in jax.tree.leaves(inputs):
            if not jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating):
                raise Refused(f"only float inputs have a gradient; one of these is {jnp.asarray(leaf).dtype.name}.")

        def total(inputs: Any) -> jax.Array:
            scores = fn(params, inputs)
            if output is not None:
                scores = scores[output]
            if not isinstance(scores, jax.Array) or not jnp.issubdtype(scores.dtype, jnp.floating):
                raise Refused("what is explained must be one array of float scores; name one of several by `output`.")
            if scores.ndim > 1:
                scores = scores.reshape(scores.shape[0], -1)
                # Of equal scores the first, where the gradient of a maximum would be the mean of both.
                scores = jnp.take_along_axis(scores, scores.argmax(axis=1, keepdims=True), axis=1)
            return scores.sum()

        moved = jax.grad(total)(inputs)
        return jax.tree.map(jnp.multiply, moved, inputs) if times_input else moved

    return explain
