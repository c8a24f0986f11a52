"""Influence of training rows: what an answer would have been without one of them, to first order, without training again.

Cook & Weisberg (1982); Koh & Liang, ICML 2017 (1703.04730).
"""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse.linalg import cg

from arsenal.records import Batch, mask_dead_rows


def influence(
    losses: Callable, penalty: Callable, answer: Callable, params: Any, training: Batch, x: Any,
    damping: Annotated[float, Ge(0)] = 0.0, tolerance: Annotated[float, Gt(0)] = 1e-6, steps: Annotated[int, Ge(1)] = 1000,
) -> jax.Array:  # fmt: skip
    """[m, n]: how much the answer about each row of x would change if each training row had not been there.

    `losses(params, rows) -> [n]` and `penalty(params) -> []` are what training made the least, summed by weight, at `params`;
    `answer(params, x) -> [m]` is what is asked. It is `∇answer · H⁻¹ ∇loss` by conjugate gradients on products with the
    Hessian H of the sum, `damping` added to its diagonal: of a learner whose sum is not convex that must make it so. Exact to
    first order in a row's share of the whole. Raises ValueError for answers that are not one number for each row.
    """
    shape = jax.eval_shape(answer, params, x)
    if getattr(shape, "ndim", None) != 1:
        raise ValueError(f"`answer` of `influence` must give one number for each row, [m]; got {getattr(shape, 'shape', shape)}.")
    training = mask_dead_rows(training)
    point, back = ravel_pytree(params)
    bend = hessian_product(losses, penalty, params, training)

    def product(v):
        return bend(v) + damping * v

    asked = jax.jacrev(lambda flat: answer(back(flat), x))(point)  # [m, parameters]
    solved = jax.vmap(lambda slope: cg(product, slope, tol=tolerance, maxiter=steps)[0])(asked)

    def along(v):  # of one direction the slope of every row's loss, forwards
        return jax.jvp(lambda flat: losses(back(flat), training), (point,), (v,))[1]

    slopes = jax.vmap(along)(solved)
    weight = training.weight.astype(slopes.dtype)
    return jnp.where(weight > 0, slopes, 0) * weight


def hessian_product(losses: Callable, penalty: Callable, params: Any, training: Batch) -> Callable:
    """`v [parameters] -> H v`, of the sum of losses by weight and the penalty, at the parameters."""
    point, back = ravel_pytree(params)

    def total(flat):
        values = losses(back(flat), training)
        weight = training.weight.astype(values.dtype)
        return jnp.vdot(jnp.where(weight > 0, values, 0), weight) + penalty(back(flat))

    return lambda v: jax.jvp(jax.grad(total), (point,), (v,))[1]


def curvature(
    key: jax.Array, losses: Callable, penalty: Callable, params: Any, training: Batch, steps: Annotated[int, Ge(1)] = 50
) -> tuple[jax.Array, jax.Array]:
    """The least and the largest eigenvalue [] of the Hessian that `influence` inverts, nearly: Lanczos, from a random start.

    Below 0 the sum is not convex at `params`, and a `damping` of more than as much makes it so. As many steps as there are
    parameters make them exact. Golub & Van Loan, Matrix Computations, section 10.1.
    """
    product = hessian_product(losses, penalty, params, mask_dead_rows(training))
    start = jax.random.normal(key, ravel_pytree(params)[0].shape, ravel_pytree(params)[0].dtype)
    count = min(steps, start.size)

    def step(i, state):
        basis, middle, beside, v = state
        basis = basis.at[i].set(v)
        moved = product(v)
        middle = middle.at[i].set(jnp.vdot(v, moved))
        for _ in range(2):  # once leaves what rounding brought back
            moved = moved - basis.T @ (basis @ moved)
        size = jnp.linalg.norm(moved)
        return basis, middle, beside.at[i].set(size), moved / jnp.maximum(size, jnp.finfo(v.dtype).tiny)

    none = jnp.zeros(count, start.dtype)
    begin = jnp.zeros((count, start.size), start.dtype), none, none, start / jnp.linalg.norm(start)
    _, middle, beside, _ = lax.fori_loop(0, count, step, begin)
    found = jnp.linalg.eigvalsh(jnp.diag(middle) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1))
    return found[0], found[-1]
