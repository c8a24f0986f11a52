"""Linear models: ridge and logistic regression."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt
from jax import lax

from arsenal.numerics.weighted import weighted_mean
from arsenal.records import Converged, Estimator


class Linear(NamedTuple):
    """One hyperplane."""

    slope: Any
    intercept: Any


def ridge(alpha: Annotated[float, Ge(0)] = 1.0) -> Estimator:
    """Least squares with an L2 penalty `alpha * |slope|²` and a free intercept; `alpha` is traced.

    Hoerl & Kennard, Technometrics 12 (1970). x [n, d], y [n], weight [n] -> slope [d], intercept []. Answers:
    `predict` [n]. With `alpha` 0 the columns of x must be independent, or the answers are not finite.

    >>> from arsenal.records import batch
    >>> fitted, _ = ridge().fit(None, batch(x=[[0.0], [1.0], [2.0]], y=[1.0, 3.0, 5.0]), {"alpha": 0.0})
    >>> float(fitted.slope[0])
    2.0
    """

    def fit(key, rows, hp):
        weight, y = rows.weight.astype(rows.x.dtype), rows.y.astype(rows.x.dtype)
        mean_x, mean_y = weighted_mean(rows.x, weight), weighted_mean(y, weight)
        x, y = rows.x - mean_x, y - mean_y
        gram = (x.T * weight) @ x
        slope = jnp.linalg.solve(gram + hp["alpha"] * jnp.eye(x.shape[1], dtype=x.dtype), x.T @ (weight * y))
        return Linear(slope, mean_y - mean_x @ slope), Converged(jnp.isfinite(slope).all(), jnp.array(1))

    def predict(fitted, x):
        return x @ fitted.slope + fitted.intercept

    def check(rows):
        if np.ndim(rows.y) != 1:
            raise ValueError(f"`ridge` takes one number for each row, y [n]; got shape {np.shape(rows.y)}.")

    return Estimator(fit, {"predict": predict}, check=check, hp={"alpha": alpha})


def logistic(
    alpha: Annotated[float, Ge(0)] = 1.0,
    tolerance: Annotated[float, Gt(0)] = 1e-6,
    max_iterations: Annotated[int, Gt(0)] = 100,
) -> Estimator:
    """Two classes, log loss plus `alpha / 2 * |slope|²`, free intercept; `alpha` and `tolerance` are traced.

    x [n, d], y [n] in {0, 1}, weight [n] -> slope [d], intercept []. Newton's method with halved steps
    (Hastie, Tibshirani & Friedman 2009, 4.4.1); it ends when no coordinate of the gradient, per unit of
    weight, exceeds `tolerance`. Answers: `predict` [n] int32, `predict_proba` [n, 2], `decision_function` [n].
    `alpha` is scikit-learn's `1 / C`.
    """

    def fit(key, rows, hp):
        x, weight = rows.x, rows.weight.astype(rows.x.dtype)
        y = rows.y.astype(x.dtype)
        design = jnp.concatenate([x, jnp.ones((x.shape[0], 1), x.dtype)], 1)
        penalty = jnp.append(jnp.full(x.shape[1], hp["alpha"], x.dtype), jnp.zeros(1, x.dtype))
        total = jnp.maximum(weight.sum(), jnp.finfo(x.dtype).tiny)

        def objective(w):
            z = design @ w
            return (jnp.vdot(weight, jnp.logaddexp(jnp.zeros_like(z), z) - y * z) + jnp.vdot(penalty, w * w) / 2) / total

        gradient = jax.grad(objective)

        def newton(carry):
            w, value, slope, iteration, _ = carry
            p = jax.nn.sigmoid(design @ w)
            curvature = (design.T * (weight * p * (1 - p) / total)) @ design + jnp.diag(penalty / total)
            ridge = jnp.finfo(x.dtype).eps * (1 + jnp.trace(curvature))
            move = jnp.linalg.solve(curvature + ridge * jnp.eye(w.size, dtype=w.dtype), slope)
            sizes = 0.5 ** jnp.arange(12, dtype=w.dtype)
            values = jax.vmap(lambda size: objective(w - size * move))(sizes)
            best = jnp.argmin(values)
            better = values[best] < value
            w = jnp.where(better, w - sizes[best] * move, w)
            return w, jnp.where(better, values[best], value), gradient(w), iteration + 1, better

        def unfinished(carry):
            _, _, slope, iteration, better = carry
            return (jnp.abs(slope).max() > hp["tolerance"]) & (iteration < max_iterations) & better

        start = jnp.zeros(x.shape[1] + 1, x.dtype)
        carry = (start, objective(start), gradient(start), jnp.zeros((), jnp.int32), jnp.array(True))
        w, _, slope, iterations, _ = lax.while_loop(unfinished, newton, carry)
        return Linear(w[:-1], w[-1]), Converged(jnp.abs(slope).max() <= hp["tolerance"], iterations)

    def decision_function(fitted, x):
        return x @ fitted.slope + fitted.intercept

    def predict(fitted, x):
        return (decision_function(fitted, x) > 0).astype(jnp.int32)

    def predict_proba(fitted, x):
        z = decision_function(fitted, x)
        return jax.nn.softmax(jnp.stack([jnp.zeros_like(z), z], -1))

    def check(rows):
        labels = np.unique(np.asarray(rows.y)[np.asarray(rows.weight) > 0])
        if not np.array_equal(labels, [0, 1]):
            raise ValueError(f"`logistic` takes labels 0 and 1, both present; got {labels[:10].tolist()}.")

    answers = {"predict": predict, "predict_proba": predict_proba, "decision_function": decision_function}
    return Estimator(fit, answers, check=check, hp={"alpha": alpha, "tolerance": tolerance})
