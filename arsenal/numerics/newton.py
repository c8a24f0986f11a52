"""Newton's method with halved steps for a smooth convex function of a vector, inside the program."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve

HALVINGS = 12
"""A step is tried at 1, 1/2, ..., until it betters the value."""
ROUNDING = 64
"""So many units in the last place of one a gradient of order one may keep: no step betters its function any more."""


class Lowest(NamedTuple):
    """Where a search ended: the point [d], and how it went."""

    point: Any
    converged: Any
    """[] bool: no coordinate of the gradient exceeds the tolerance, or what the type's rounding leaves of it."""
    iterations: Any


def newton(
    objective: Callable, start: jax.Array, tolerance: Any, most: int, hessian: Callable | None = None
) -> Lowest:
    """The lowest point of `objective(w) -> []` from `start` [d]; `hessian(w)` [d, d] is derived unless given.

    It ends when no coordinate of the gradient exceeds `tolerance`, when no step betters the value, or after `most` steps.
    Boyd & Vandenberghe, Convex Optimization (2004), 9.5.

    >>> found = newton(lambda w: ((w - 3) ** 4).sum() + (w**2).sum(), jnp.zeros(2), 1e-3, 50)
    >>> bool(found.converged), round(float(found.point[0]), 2)
    (True, 2.0)
    """
    look = jax.value_and_grad(objective)
    curve = hessian or jax.hessian(objective)

    def is_unfinished(carry):
        _, _, slope, iteration, better = carry
        return (jnp.abs(slope).max() > tolerance) & (iteration < most) & better

    def step(carry):
        w, value, slope, iteration, _ = carry
        curvature = curve(w)
        ridge = jnp.finfo(w.dtype).eps * (1 + jnp.trace(curvature))
        move = cho_solve(cho_factor(curvature + ridge * jnp.eye(w.size, dtype=w.dtype)), slope)
        searches = is_unfinished(carry)  # a lane that is done goes on under `vmap` as long as others do, and would halve in vain

        def is_worse(tried):
            halvings, _, there, _ = tried
            return ~(there < value) & (halvings < HALVINGS) & searches  # NaN is worse too

        def halve(tried):
            halvings = tried[0] + 1
            at = w - move * 0.5 ** halvings.astype(w.dtype)
            return halvings, at, *look(at)

        # Nearly always the whole step is taken: so one look, with its slope, is all that an iteration costs.
        _, at, there, steep = lax.while_loop(is_worse, halve, (jnp.zeros((), jnp.int32), w - move, *look(w - move)))
        better = there < value
        choose = lambda new, old: jnp.where(better, new, old)  # noqa: E731
        return choose(at, w), choose(there, value), choose(steep, slope), iteration + 1, better

    carry = (start, *look(start), jnp.zeros((), jnp.int32), jnp.array(True))
    w, _, slope, iterations, _ = lax.while_loop(is_unfinished, step, carry)
    enough = jnp.maximum(tolerance, ROUNDING * jnp.finfo(w.dtype).eps).astype(w.dtype)
    return Lowest(w, jnp.abs(slope).max() <= enough, iterations)
