"""Generalised linear models of positive targets and counts, and linear models that outliers do not move."""

from typing import Annotated, Literal

import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Interval

from arsenal.estimators.linear import Linear, check_number, linear_predict, with_ones
from arsenal.numerics.newton import newton
from arsenal.numerics.weighted import weighted_mean
from arsenal.records import Converged, Estimator

LEAST = {"poisson": "at least 0", "gamma": "above 0", "tweedie": "at least 0"}
"""What a target of each family must be."""


def glm(
    family: Literal["poisson", "gamma", "tweedie"] = "poisson",
    alpha: Annotated[float, Ge(0)] = 1.0,
    power: Annotated[float, Interval(gt=1, lt=2)] = 1.5,
    tolerance: Annotated[float, Gt(0)] = 1e-6,
    max_iterations: Annotated[int, Gt(0)] = 100,
) -> Estimator:
    """A mean `exp(x @ slope + intercept)`: half the mean deviance plus `alpha / 2 * |slope|²`; all floats are traced.

    McCullagh & Nelder (1989). x [n, d], y [n] as the family asks, weight [n] -> slope [d], intercept []. `power` is that of the
    variance of `tweedie`, of sums of gamma amounts in Poisson numbers. Newton's method until no coordinate of the gradient
    exceeds `tolerance`. Answers: `predict` [n]. Equal to scikit-learn's PoissonRegressor, GammaRegressor and TweedieRegressor.
    """

    def deviance(z, y, hp):  # half of it, up to what depends on y alone
        if family == "poisson":
            return jnp.exp(z) - y * z
        if family == "gamma":
            return z + y * jnp.exp(-z)
        p = hp["power"]
        return jnp.exp((2 - p) * z) / (2 - p) - y * jnp.exp((1 - p) * z) / (1 - p)

    def fit(key, rows, hp):
        x, weight = rows.x, rows.weight.astype(rows.x.dtype)
        y, design = rows.y.astype(x.dtype), with_ones(x)
        total = jnp.maximum(weight.sum(), jnp.finfo(x.dtype).tiny)

        def objective(w):
            z = design @ w
            return jnp.vdot(weight, deviance(z, y, hp)) / total + hp["alpha"] / 2 * jnp.vdot(w[:-1], w[:-1])

        tiny = jnp.finfo(x.dtype).tiny
        start = jnp.zeros(design.shape[1], x.dtype).at[-1].set(jnp.log(jnp.maximum(weighted_mean(y, weight), tiny)))
        found = newton(objective, start, hp["tolerance"], max_iterations)
        return Linear(found.point[:-1], found.point[-1]), Converged(found.converged, found.iterations)

    def check(rows):
        check_number("glm", rows)
        y = np.asarray(rows.y)[np.asarray(rows.weight) > 0]
        if (y < 0).any() or (family == "gamma" and (y <= 0).any()):
            at = int(np.argmin(y))
            raise ValueError(f"`glm` of family {family} takes y {LEAST[family]}; got {y[at]:g} in row {at + 1}.")

    hp = {"alpha": alpha, "tolerance": tolerance} | ({"power": power} if family == "tweedie" else {})
    return Estimator(fit, {"predict": lambda fitted, x: jnp.exp(linear_predict(fitted, x))}, check=check, hp=hp)


def huber(
    epsilon: Annotated[float, Gt(1)] = 1.35,
    alpha: Annotated[float, Ge(0)] = 0.0001,
    tolerance: Annotated[float, Gt(0)] = 1e-5,
    max_iterations: Annotated[int, Gt(0)] = 200,
) -> Estimator:
    """Squares near, absolute values beyond `epsilon` of a scale that is fitted too, plus `alpha * |slope|²`; floats are traced.

    Huber & Ronchetti, Robust Statistics (2009), 7.10; Owen, Contemporary Mathematics 443 (2007). x [n, d], y [n] -> slope [d],
    intercept []. Newton's method until no coordinate of the gradient, per unit of weight, exceeds `tolerance`. Answers: `predict`
    [n]. Equal to scikit-learn's HuberRegressor.
    """

    def fit(key, rows, hp):
        x, weight = rows.x, rows.weight.astype(rows.x.dtype)
        y, design = rows.y.astype(x.dtype), with_ones(x)
        total = jnp.maximum(weight.sum(), jnp.finfo(x.dtype).tiny)

        def objective(parts):
            w, scale = parts[:-1], parts[-1]
            off = jnp.abs(y - design @ w) / scale
            each = jnp.where(off <= hp["epsilon"], off**2, 2 * hp["epsilon"] * off - hp["epsilon"] ** 2)
            value = jnp.vdot(weight, scale + each * scale) / total + hp["alpha"] * jnp.vdot(w[:-1], w[:-1]) / total
            return jnp.where(scale > 0, value, jnp.inf)

        middle = weighted_mean(y, weight)
        spread = jnp.sqrt(weighted_mean((y - middle) ** 2, weight)) + jnp.finfo(x.dtype).eps
        start = jnp.zeros(design.shape[1] + 1, x.dtype).at[-2:].set(jnp.stack([middle, spread]))
        found = newton(objective, start, hp["tolerance"], max_iterations)
        return Linear(found.point[:-2], found.point[-2]), Converged(found.converged, found.iterations)

    return Estimator(
        fit, {"predict": linear_predict}, check=lambda rows: check_number("huber", rows),
        hp={"epsilon": epsilon, "alpha": alpha, "tolerance": tolerance},
    )  # fmt: skip
