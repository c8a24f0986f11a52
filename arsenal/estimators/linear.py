"""Linear models: ridge and logistic regression."""

import functools
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt

from arsenal.numerics.newton import newton
from arsenal.numerics.weighted import weighted_gram, weighted_scatter
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
        mean, scatter = weighted_scatter(with_target(rows), rows.weight.astype(rows.x.dtype))
        gram, moment = scatter[:-1, :-1], scatter[:-1, -1]
        slope = jnp.linalg.solve(gram + hp["alpha"] * jnp.eye(len(gram), dtype=gram.dtype), moment)
        return Linear(slope, mean[-1] - mean[:-1] @ slope), Converged(jnp.isfinite(slope).all(), jnp.array(1))

    return Estimator(fit, {"predict": linear_predict}, check=lambda rows: check_number("ridge", rows), hp={"alpha": alpha})


def linear_predict(fitted: Linear, x: jax.Array) -> jax.Array:
    """`x @ slope + intercept`, [n]."""
    return x @ fitted.slope + fitted.intercept


def check_number(name: str, rows: Any) -> None:
    """Raise ValueError unless there is one number to learn for each row."""
    if np.ndim(rows.y) != 1:
        raise ValueError(f"`{name}` takes one number for each row, y [n]; got shape {np.shape(rows.y)}.")


def logistic(
    alpha: Annotated[float, Ge(0)] = 1.0,
    classes: Annotated[int, Gt(1)] | None = None,
    tolerance: Annotated[float, Gt(0)] = 1e-6,
    max_iterations: Annotated[int, Gt(0)] = 100,
    schema: Any = None,
) -> Estimator:
    """Log loss plus `alpha / 2 * |slope|²`, free intercepts; `alpha` and `tolerance` are traced.

    x [n, d], y [n] in 0..classes-1, weight [n] -> slope [d], intercept []; of more than two classes slope [d, classes],
    intercept [classes]. `classes` are two unless given or known by the labels of the data's `schema`. Newton's method with
    halved steps (Hastie, Tibshirani & Friedman 2009, 4.4.1); it ends when no coordinate of the gradient, per unit of weight,
    exceeds `tolerance`. Answers: `predict` [n] int32, `predict_proba` [n, classes], `decision_function` [n] or
    [n, classes]. `alpha` is scikit-learn's `1 / C`.
    """
    classes = classes or (len(schema.target.columns or ()) if schema is not None else 0) or 2
    fit = fit_two if classes == 2 else functools.partial(fit_many, classes)

    def decision_function(fitted, x):
        return x @ fitted.slope + fitted.intercept

    def predict(fitted, x):
        z = decision_function(fitted, x)
        return (z > 0 if classes == 2 else jnp.argmax(z, -1)).astype(jnp.int32)

    def predict_proba(fitted, x):
        z = decision_function(fitted, x)
        return jax.nn.softmax(jnp.stack([jnp.zeros_like(z), z], -1) if classes == 2 else z)

    answers = {"predict": predict, "predict_proba": predict_proba, "decision_function": decision_function}
    return Estimator(
        lambda key, rows, hp: fit(rows, hp, max_iterations), answers, check=lambda rows: check_labels("logistic", rows, classes),
        hp={"alpha": alpha, "tolerance": tolerance},
    )  # fmt: skip


def fit_two(rows: Any, hp: Any, most: int) -> tuple[Linear, Converged]:
    """Logistic regression of two classes."""
    x, weight = rows.x, rows.weight.astype(rows.x.dtype)
    y = rows.y.astype(x.dtype)
    design = with_ones(x)
    penalty = jnp.append(jnp.full(x.shape[1], hp["alpha"], x.dtype), jnp.zeros(1, x.dtype))
    total = jnp.maximum(weight.sum(), jnp.finfo(x.dtype).tiny)

    def objective(w):
        z = design @ w
        return (jnp.vdot(weight, jnp.logaddexp(jnp.zeros_like(z), z) - y * z) + jnp.vdot(penalty, w * w) / 2) / total

    def hessian(w):
        p = jax.nn.sigmoid(design @ w)
        return weighted_gram(design, weight * p * (1 - p) / total) + jnp.diag(penalty / total)

    found = newton(objective, jnp.zeros(x.shape[1] + 1, x.dtype), hp["tolerance"], most, hessian)
    return Linear(found.point[:-1], found.point[-1]), Converged(found.converged, found.iterations)


def fit_many(classes: int, rows: Any, hp: Any, most: int) -> tuple[Linear, Converged]:
    """Multinomial logistic regression, a slope for every class."""
    x, weight = rows.x, rows.weight.astype(rows.x.dtype)
    hot, design = jax.nn.one_hot(rows.y, classes, dtype=x.dtype), with_ones(x)
    size = design.shape[1]
    penalty = jnp.append(jnp.full(x.shape[1], hp["alpha"], x.dtype), jnp.zeros(1, x.dtype))
    total = jnp.maximum(weight.sum(), jnp.finfo(x.dtype).tiny)

    def objective(w):
        w = w.reshape(size, classes)
        z = design @ w
        loss = jax.nn.logsumexp(z, axis=1) - (hot * z).sum(1)
        return (jnp.vdot(weight, loss) + (penalty[:, None] * w * w).sum() / 2) / total

    def hessian(w):
        p = jax.nn.softmax(design @ w.reshape(size, classes))
        scaled = weight / total

        def block(i, j):  # [d, d] of two classes
            return weighted_gram(design, scaled * p[:, i] * ((i == j).astype(x.dtype) - p[:, j]))

        every = jnp.arange(classes)
        blocks = jax.vmap(lambda i: jax.vmap(lambda j: block(i, j))(every))(every)
        whole = blocks.transpose(2, 0, 3, 1).reshape(size * classes, size * classes)
        return whole + jnp.diag(jnp.repeat(penalty / total, classes))

    found = newton(objective, jnp.zeros(size * classes, x.dtype), hp["tolerance"], most, hessian)
    w = found.point.reshape(size, classes)
    # A constant added to all intercepts changes nothing: they are told apart by their mean, which is 0.
    return Linear(w[:-1], w[-1] - w[-1].mean()), Converged(found.converged, found.iterations)


def with_target(rows: Any) -> jax.Array:
    """x [n, d] and y [n] as one more column, [n, d + 1]."""
    return jnp.concatenate([rows.x, rows.y.astype(rows.x.dtype)[:, None]], 1)


def with_ones(x: jax.Array) -> jax.Array:
    """x [n, d] and a column of ones, [n, d + 1]."""
    return jnp.concatenate([x, jnp.ones((x.shape[0], 1), x.dtype)], 1)


def check_labels(name: str, rows: Any, classes: int) -> None:
    """Raise ValueError unless the living rows hold every one of the labels 0 to classes - 1."""
    if isinstance(rows.y, jax.ShapeDtypeStruct):
        return
    labels = np.unique(np.asarray(rows.y)[np.asarray(rows.weight) > 0])
    if not np.array_equal(labels, np.arange(classes)):
        allowed = "0 and 1, both" if classes == 2 else f"0 to {classes - 1}, all"
        raise ValueError(f"`{name}` takes labels {allowed} present; got {labels[:10].tolist()}.")
