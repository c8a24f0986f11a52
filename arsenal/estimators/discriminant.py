"""Gaussian classes: linear and quadratic discriminants."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt, Interval

from arsenal.combine.reduction import classes_of
from arsenal.estimators.linear import Linear, check_labels
from arsenal.records import Converged, Estimator

DONE = Converged(True, 1)


class Gaussians(NamedTuple):
    """Of every class: the log of its share [k], its mean [k, d], what whitens it [k, d, d], and half its log determinant [k]."""

    share: Any
    mean: Any
    whiten: Any
    volume: Any


def class_answers(scores: Any) -> dict:
    """`predict` [n], `predict_proba` and `decision_function` [n, classes] of `(params, x) -> log posterior` [n, classes]."""
    return {
        "predict": lambda params, x: jnp.argmax(scores(params, x), -1).astype(jnp.int32),
        "predict_proba": lambda params, x: jax.nn.softmax(scores(params, x)),
        "decision_function": scores,
    }


def moments(rows: Any, classes: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of every class the weight [k], the mean [k, d], and the summed products of what is left [k, d, d]."""
    x, weight = rows.x, rows.weight.astype(rows.x.dtype)
    mine = jax.nn.one_hot(rows.y, classes, dtype=x.dtype) * weight[:, None]
    count = mine.sum(0)
    mean = mine.T @ x / jnp.maximum(count, jnp.finfo(x.dtype).tiny)[:, None]
    scatter = jax.vmap(lambda own, center: ((x - center).T * own) @ (x - center), in_axes=(1, 0))(mine, mean)
    return count, mean, scatter


def lda(
    shrinkage: Annotated[float, Interval(ge=0, le=1)] = 0.0, classes: Annotated[int, Gt(1)] | None = None, schema: Any = None
) -> Estimator:
    """One covariance for all classes, moved by `shrinkage`, which is traced, to a multiple of the identity.

    Hastie, Tibshirani & Friedman (2009), 4.3. x [n, d], y [n] in 0..classes-1 -> slope [d, classes], intercept [classes]. Classes
    have the shares that their weights have. Answers: `predict`, `predict_proba`, `decision_function` [n, classes], log posteriors
    up to a constant. Equal to scikit-learn's LinearDiscriminantAnalysis(solver="lsqr").
    """
    k = classes_of(classes, schema)

    def fit(key, rows, hp):
        count, mean, scatter = moments(rows, k)
        total = jnp.maximum(count.sum(), jnp.finfo(rows.x.dtype).tiny)
        size = rows.x.shape[1]
        covariance = scatter.sum(0) / total
        level = jnp.trace(covariance) / size
        covariance = (1 - hp["shrinkage"]) * covariance + hp["shrinkage"] * level * jnp.eye(size, dtype=covariance.dtype)
        slope = jnp.linalg.lstsq(covariance, mean.T)[0]
        intercept = jnp.log(count / total) - (mean.T * slope).sum(0) / 2
        return Linear(slope, intercept), DONE

    scores = lambda fitted, x: x @ fitted.slope + fitted.intercept  # noqa: E731
    return Estimator(fit, class_answers(scores), check=lambda rows: check_labels("lda", rows, k), hp={"shrinkage": shrinkage})


def qda(
    regularization: Annotated[float, Interval(ge=0, le=1)] = 0.0, classes: Annotated[int, Gt(1)] | None = None, schema: Any = None
) -> Estimator:
    """A covariance for every class, its variances along the axes moved by `regularization`, which is traced, to one.

    Hastie, Tibshirani & Friedman (2009), 4.3. x [n, d], y [n] in 0..classes-1 -> `Gaussians`. Answers: `predict`,
    `predict_proba`, `decision_function` [n, classes], log posteriors up to a constant. Equal to scikit-learn's
    QuadraticDiscriminantAnalysis.
    """
    k = classes_of(classes, schema)

    def fit(key, rows, hp):
        count, mean, scatter = moments(rows, k)
        variance, axes = jnp.linalg.eigh(scatter / jnp.maximum(count, jnp.finfo(rows.x.dtype).tiny)[:, None, None])
        variance = (1 - hp["regularization"]) * jnp.maximum(variance, 0) + hp["regularization"]
        whiten = axes / jnp.sqrt(variance)[:, None, :]
        return Gaussians(jnp.log(count / count.sum()), mean, whiten, jnp.log(variance).sum(-1) / 2), DONE

    def scores(fitted, x):
        off = jnp.einsum("nkd,kde->nke", x[:, None] - fitted.mean, fitted.whiten)
        return fitted.share - fitted.volume - (off**2).sum(-1) / 2

    check = lambda rows: check_labels("qda", rows, k)  # noqa: E731
    return Estimator(fit, class_answers(scores), check=check, hp={"regularization": regularization})
