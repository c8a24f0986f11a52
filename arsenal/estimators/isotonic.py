"""Isotonic regression: of one feature, steps that never fall."""

import jax
import jax.numpy as jnp
import numpy as np

from arsenal.estimators.linear import check_number
from arsenal.numerics.isotonic import Steps, fit_steps, read_steps
from arsenal.records import Converged, Estimator


def isotonic(increasing: bool = True) -> Estimator:
    """Least squares by a function of one feature that never falls, or never rises unless `increasing`.

    Barlow et al., Statistical Inference under Order Restrictions (1972). x [n, 1], y [n] -> `Steps` of n knots. Answers:
    `predict` [n], straight between knots and level beyond them. Equal to scikit-learn's IsotonicRegression(out_of_bounds="clip").
    """
    sign = 1 if increasing else -1

    def fit(key, rows, hp):
        steps = fit_steps(rows.x[:, 0], sign * rows.y.astype(rows.x.dtype), rows.weight)
        return Steps(steps.x, sign * steps.y), Converged(jnp.array(True), jnp.array(1))

    def predict(steps: Steps, x: jax.Array) -> jax.Array:
        return read_steps(steps, x[:, 0])

    def check(rows):
        check_number("isotonic", rows)
        if np.ndim(rows.x) != 2 or rows.x.shape[1] != 1:
            raise ValueError(f"`isotonic` takes one feature, x [n, 1]; got shape {np.shape(rows.x)}.")

    return Estimator(fit, {"predict": predict}, check=check)
