"""Linear regression whose penalties are those that make y most likely: Bayesian ridge and automatic relevance."""

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from annotated_types import Ge, Gt
from jax import lax

from arsenal.estimators.linear import check_number, linear_predict
from arsenal.numerics.weighted import weighted_gram, weighted_mean
from arsenal.records import Converged, Estimator


class SlopePosterior(NamedTuple):
    """A hyperplane with the covariance [d, d] of its slopes about the mean [d] of x, and the precisions of noise and slopes."""

    slope: Any
    intercept: Any
    mean: Any
    covariance: Any
    noise_precision: Any
    slope_precision: Any


class Evidence(NamedTuple):
    """Where the search for the precisions is."""

    slope: Any
    noise_precision: Any
    precision: Any
    """[d], of the slopes."""
    there: Any
    """[d] bool: the slopes that were not dropped."""
    iterations: Any
    moved: Any
    """[]: by how much the slopes have moved, summed."""


def bayesian_ridge(
    alpha_1: Annotated[float, Ge(0)] = 1e-6, alpha_2: Annotated[float, Ge(0)] = 1e-6, lambda_1: Annotated[float, Ge(0)] = 1e-6,
    lambda_2: Annotated[float, Ge(0)] = 1e-6, tolerance: Annotated[float, Gt(0)] = 1e-3,
    max_iterations: Annotated[int, Gt(0)] = 300,
) -> Estimator:  # fmt: skip
    """Ridge whose penalty and noise are found by the evidence. MacKay, Neural Computation 4 (1992); floats are traced.

    x [n, d], y [n] -> `SlopePosterior`. The precision of the noise has a gamma prior of shape `alpha_1` and rate `alpha_2`, that
    of the slopes one of `lambda_1` and `lambda_2`. It ends when the slopes move by less than `tolerance`, summed. Answers:
    `predict` and `predict_deviation` [n], that of a new y. Equal to scikit-learn's BayesianRidge.
    """

    floats = {"alpha_1": alpha_1, "alpha_2": alpha_2, "lambda_1": lambda_1, "lambda_2": lambda_2, "tolerance": tolerance}
    return by_evidence("bayesian_ridge", floats, max_iterations)


def ard(
    alpha_1: Annotated[float, Ge(0)] = 1e-6, alpha_2: Annotated[float, Ge(0)] = 1e-6, lambda_1: Annotated[float, Ge(0)] = 1e-6,
    lambda_2: Annotated[float, Ge(0)] = 1e-6, threshold_lambda: Annotated[float, Gt(0)] = 1e4,
    tolerance: Annotated[float, Gt(0)] = 1e-3, max_iterations: Annotated[int, Gt(0)] = 300,
) -> Estimator:  # fmt: skip
    """A penalty for every slope, found by the evidence: slopes of a precision of `threshold_lambda` or more are 0 from then on.

    Automatic relevance determination; Neal (1996), MacKay (1994). Otherwise as `bayesian_ridge`. Equal to scikit-learn's
    ARDRegression, which takes no weights.
    """

    floats = {"alpha_1": alpha_1, "alpha_2": alpha_2, "lambda_1": lambda_1, "lambda_2": lambda_2, "tolerance": tolerance}
    return by_evidence("ard", floats | {"threshold_lambda": threshold_lambda}, max_iterations)


def by_evidence(name: str, floats: dict[str, float], most: int):
    """The estimator of one precision for all slopes or, where there is a `threshold_lambda`, one for each."""
    each = "threshold_lambda" in floats

    def fit(key, rows, hp):
        weight, y = rows.weight.astype(rows.x.dtype), rows.y.astype(rows.x.dtype)
        total, mean, middle = weight.sum(), weighted_mean(rows.x, weight), weighted_mean(y, weight)
        x, y = rows.x - mean, y - middle
        gram, moment = weighted_gram(x, weight), x.T @ (weight * y)
        eps = jnp.finfo(x.dtype).eps

        def posterior(noise, precision, there):
            """The covariance of the slopes, 0 for those that are dropped, and the slopes."""
            both = there[:, None] & there
            covariance = jnp.linalg.inv(jnp.where(both, noise * gram, 0) + jnp.diag(jnp.where(there, precision, 1)))
            covariance = jnp.where(both, covariance, 0)
            return covariance, noise * covariance @ moment

        def step(state):
            there = state.there
            covariance, slope = posterior(state.noise_precision, state.precision, there)
            left = weight @ jnp.square(y - x @ slope)
            # Of each slope how far the rows say it, from 0 to 1 but for rounding.
            free = jnp.where(there, jnp.maximum(1 - state.precision * jnp.diagonal(covariance), 0), 0)
            of = (lambda parts: parts) if each else jnp.sum
            found = (of(free) + 2 * hp["lambda_1"]) / (of(slope**2) + 2 * hp["lambda_2"])
            precision = jnp.where(there, found, state.precision)
            noise = (total - free.sum() + 2 * hp["alpha_1"]) / (left + 2 * hp["alpha_2"])
            if each:
                there = precision < hp["threshold_lambda"]
                slope = jnp.where(there, slope, 0)
            moved = jnp.where(state.iterations > 0, jnp.abs(state.slope - slope).sum(), jnp.inf)
            return Evidence(slope, noise, precision, there, state.iterations + 1, moved)

        def is_unfinished(state):
            return (state.moved >= hp["tolerance"]) & (state.iterations < most) & state.there.any()

        first = 1 / (weighted_mean(y**2, weight) + eps)
        ones = jnp.ones_like(moment)
        begin = Evidence(0 * ones, first, ones, ones > 0, jnp.zeros((), jnp.int32), jnp.asarray(jnp.inf, x.dtype))
        end = lax.while_loop(is_unfinished, step, begin)
        covariance, slope = posterior(end.noise_precision, end.precision, end.there)
        found = SlopePosterior(slope, middle - mean @ slope, mean, covariance, end.noise_precision, end.precision)
        return found, Converged((end.moved < hp["tolerance"]) | ~end.there.any(), end.iterations)

    def predict_deviation(fitted, x):
        off = x - fitted.mean
        return jnp.sqrt(((off @ fitted.covariance) * off).sum(1) + 1 / fitted.noise_precision)

    return Estimator(
        fit, {"predict": linear_predict, "predict_deviation": predict_deviation}, check=lambda rows: check_number(name, rows),
        hp=floats,
    )  # fmt: skip
