"""Least squares that say how sure they are, and the quantiles of a target."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Interval
from jax import lax
from jax.scipy.special import betainc

from arsenal.estimators.linear import Linear, check_number, linear_predict
from arsenal.numerics.weighted import weighted_mean
from arsenal.records import Converged, Estimator


class LeastSquares(NamedTuple):
    """A hyperplane with the standard errors of its numbers."""

    slope: Any
    intercept: Any
    slope_error: Any
    intercept_error: Any
    deviation: Any
    """[]: the standard deviation of y about the hyperplane, unbiased."""
    mean: Any
    """[d], of x."""
    whiten: Any
    """[d, d]: (x - mean) times it has the squared length that the slopes' errors add to the variance of a mean at x."""
    count: Any
    """[]: the rows, by weight."""
    quantile: Any
    """[]: Student's t that an interval reaches to."""


def least_squares(level: Annotated[float, Interval(gt=0, lt=1)] = 0.95) -> Estimator:
    """The hyperplane of least squares, its standard errors, and intervals that hold a new y with probability `level`, traced.

    Seber & Lee (2003), 3.3 and 5.3. x [n, d], y [n] -> `LeastSquares`; a weight counts rows. Of columns that depend on each other
    the shortest slope. Intervals and errors are exact where y is normal about the hyperplane with one variance. Answers:
    `predict` [n], `interval` [n, 2]. Equal to scikit-learn's LinearRegression.

    >>> from arsenal.records import batch
    >>> made = least_squares()
    >>> fitted, _ = made.fit(None, batch(x=[[0.0], [1.0], [2.0], [3.0]], y=[0.0, 1.0, 1.0, 2.0]), {"level": 0.95})
    >>> round(float(fitted.slope[0]), 4), round(float(fitted.slope_error[0]), 4)
    (0.6, 0.1414)
    """

    def fit(key, rows, hp):
        weight, y = rows.weight.astype(rows.x.dtype), rows.y.astype(rows.x.dtype)
        count, mean, middle = weight.sum(), weighted_mean(rows.x, weight), weighted_mean(y, weight)
        x, y, root = rows.x - mean, y - middle, jnp.sqrt(weight)
        left, size, right = jnp.linalg.svd(x * root[:, None], full_matrices=False)
        real = size > size.max(initial=0) * max(x.shape) * jnp.finfo(x.dtype).eps
        whiten = right.T * jnp.where(real, 1 / jnp.where(real, size, 1), 0)
        slope = whiten @ (left.T @ (root * y))
        freedom = count - 1 - real.sum().astype(x.dtype)
        deviation = jnp.sqrt(weight @ jnp.square(y - x @ slope) / freedom)
        found = LeastSquares(
            slope, middle - mean @ slope, deviation * jnp.sqrt(jnp.square(whiten).sum(1)),
            deviation * jnp.sqrt(1 / count + jnp.square(mean @ whiten).sum()), deviation, mean, whiten, count,
            student_quantile(jnp.asarray(hp["level"], x.dtype), freedom),
        )  # fmt: skip
        return found, Converged(jnp.isfinite(slope).all(), jnp.array(1))

    def interval(fitted, x):
        spread = jnp.sqrt(1 + 1 / fitted.count + jnp.square((x - fitted.mean) @ fitted.whiten).sum(1))
        reach = fitted.quantile * fitted.deviation * spread
        middle = linear_predict(fitted, x)
        return jnp.stack([middle - reach, middle + reach], 1)

    def check(rows):
        check_number("least_squares", rows)
        total, needed = float(np.asarray(rows.weight).sum()), rows.x.shape[1] + 1
        if total <= needed:
            raise ValueError(
                f"`least_squares` needs more rows than slopes and intercept, {needed}, to tell errors; got {total:g}."
            )

    return Estimator(fit, {"predict": linear_predict, "interval": interval}, check=check, hp={"level": level})


def student_quantile(level: jax.Array, freedom: jax.Array) -> jax.Array:
    """The t that the absolute value of Student's t of so many degrees of `freedom` stays below with probability `level`.

    Its distribution is an incomplete beta function (Abramowitz & Stegun 1964, 26.7.1), inverted by halving in the logarithm.

    >>> round(float(student_quantile(jnp.float32(0.95), jnp.float32(10.0))), 3)
    2.228
    """

    def halve(_, bounds):
        low, high = bounds
        t = jnp.exp((low + high) / 2)
        half, inside, outside = jnp.full_like(t, 0.5), t**2 / (freedom + t**2), freedom / (freedom + t**2)
        # Of the middle and the tails the one whose argument is small, which no rounding next to 1 spoils.
        middle = betainc(half, freedom / 2, inside) < level
        below = jnp.where(inside < outside, middle, betainc(freedom / 2, half, outside) > 1 - level)
        return jnp.where(below, (low + high) / 2, low), jnp.where(below, high, (low + high) / 2)

    low, high = lax.fori_loop(0, 60, halve, (jnp.full_like(level, -20), jnp.full_like(level, 20)))
    return jnp.exp((low + high) / 2)


def quantile_regression(
    quantile: Annotated[float, Interval(gt=0, lt=1)] = 0.5, alpha: Annotated[float, Ge(0)] = 1.0,
    max_iterations: Annotated[int, Gt(0)] = 100_000,
) -> Estimator:  # fmt: skip
    """The hyperplane that the share `quantile` of y lies below: the mean pinball loss plus `alpha * |slope|₁`.

    Koenker & Bassett, Econometrica 46 (1978). x [n, d], y [n] -> slope [d], intercept []. A linear program that HiGHS solves
    exactly through scikit-learn's QuantileRegressor, on the host; smooth methods come near it only. The default of
    `alpha` is scikit-learn's, which leaves of many a set no slope but 0; 0 is the plain quantile. Answers: `predict` [n].
    """

    def fit(key, rows, hp):
        from sklearn.linear_model import QuantileRegressor

        there = rows.weight > 0
        settings = {"maxiter": max_iterations, "presolve": True}
        peer = QuantileRegressor(quantile=float(hp["quantile"]), alpha=float(hp["alpha"]), solver_options=settings)
        peer.fit(np.asarray(rows.x, float)[there], np.asarray(rows.y, float)[there], rows.weight[there])
        return Linear(peer.coef_, peer.intercept_), Converged(np.array(True), np.sum(peer.n_iter_))

    def shapes(rows, hp):
        line = Linear(jax.ShapeDtypeStruct(rows.x.shape[1:], rows.x.dtype), jax.ShapeDtypeStruct((), rows.x.dtype))
        return line, Converged(jax.ShapeDtypeStruct((), np.bool_), jax.ShapeDtypeStruct((), np.int32))

    return Estimator(
        fit, {"predict": linear_predict}, check=lambda rows: check_number("quantile_regression", rows), shapes=shapes,
        hp={"quantile": quantile, "alpha": alpha}, exempt={"host": "HiGHS solves the linear program"},
    )  # fmt: skip
