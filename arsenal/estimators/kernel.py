"""Regression in the features of a kernel: ridge and Gaussian processes."""

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from jax.scipy.linalg import cho_solve, solve_triangular

from arsenal.estimators.cluster import flatten_rows
from arsenal.estimators.linear import check_number
from arsenal.numerics.kernels import (
    Kernel,
    check_kernel,
    kernel_floats,
    kernel_matrix,
    kernel_scale,
    squared_distances,
)
from arsenal.numerics.newton import newton
from arsenal.numerics.weighted import weighted_mean
from arsenal.records import Converged, Estimator

LOWEST, HIGHEST = 1e-5, 1e5
"""Between these the parameters of a Gaussian process are looked for, as scikit-learn does."""


class Dual(NamedTuple):
    """A sum of kernels at the training rows x [n, d]: their factors [n, ...], what is added, and the kernel's floats."""

    x: Any
    factor: Any
    intercept: Any
    scale: Any


class Process(NamedTuple):
    """A Gaussian process after the rows x [n, d] were seen."""

    x: Any
    factor: Any
    """[n]: what the kernels at the rows are multiplied by in the mean."""
    whiten: Any
    """[n, n]: the squared length of its product with the kernels at the rows is the variance that they explain."""
    length_scale: Any
    variance: Any
    noise: Any
    shift: Any
    """[]: the mean of y, and behind it its deviation, where y was normalised."""
    stretch: Any


class Likely(NamedTuple):
    """How a Gaussian process was found: `likelihood` is the log marginal likelihood of y."""

    converged: Any
    iterations: Any
    likelihood: Any


def kernel_ridge(
    alpha: Annotated[float, Gt(0)] = 1.0, kernel: Kernel = "rbf", gamma: Annotated[float, Gt(0)] | None = None,
    degree: Annotated[int, Gt(0)] = 3, coef0: float = 1.0,
) -> Estimator:  # fmt: skip
    """Least squares with the penalty `alpha * |slope|²` in the features of a kernel, without an intercept; floats are traced.

    Saunders et al., ICML 1998. x [n, d] (further axes are flattened), y [n]; one Cholesky factor of [n, n], so for some thousand
    rows, which are the parameters. `kernel`: `linear`, `polynomial` `(gamma x·z + coef0)^degree`, `rbf` `exp(-gamma |x - z|²)`;
    `gamma` is 1 over the number of columns unless given. Answers: `predict` [n]. Equal to scikit-learn's KernelRidge, whose own
    default is the linear kernel.
    """
    check_kernel("kernel_ridge", kernel)

    def fit(key, rows, hp):
        x = flatten_rows(rows.x)
        root, y = jnp.sqrt(rows.weight.astype(x.dtype)), rows.y.astype(x.dtype)
        scale = kernel_scale(hp, 1 / x.shape[1], x.dtype)
        gram = kernel_matrix(kernel, x, x, scale, degree) * root * root[:, None]
        lower = jnp.linalg.cholesky(gram + hp["alpha"] * jnp.eye(len(x), dtype=x.dtype))
        factor = root * cho_solve((lower, True), root * y)
        return Dual(x, factor, jnp.zeros((), x.dtype), scale), Converged(jnp.isfinite(factor).all(), jnp.array(1))

    def predict(fitted, x):
        return kernel_matrix(kernel, flatten_rows(x), fitted.x, fitted.scale, degree) @ fitted.factor + fitted.intercept

    check = lambda rows: check_number("kernel_ridge", rows)  # noqa: E731
    return Estimator(fit, {"predict": predict}, check=check, hp={"alpha": alpha} | kernel_floats(kernel, gamma, coef0))


def gaussian_process(
    length_scale: Annotated[float, Gt(0)] = 1.0, variance: Annotated[float, Gt(0)] = 1.0, noise: Annotated[float, Gt(0)] = 1.0,
    kernel: Literal["rbf", "matern"] = "rbf", nu: float = 1.5, optimize: bool = True, normalize_y: bool = True,
    tolerance: Annotated[float, Gt(0)] = 1e-4, max_iterations: Annotated[int, Gt(0)] = 100,
) -> Estimator:  # fmt: skip
    """A Gaussian process of `variance` times a kernel of `length_scale`, seen through `noise`, a variance; floats are traced.

    Rasmussen & Williams (2006), algorithm 2.1. x [n, d] (further axes are flattened), y [n]; by factors of [n, n] matrices, so
    for some thousand rows, which are the parameters. `kernel`: `rbf` `exp(-|x - z|² / 2 length²)`, or `matern` of smoothness
    `nu`. With `optimize` the three floats are where the search for the greatest marginal likelihood begins, by Fisher scoring
    between 1e-5 and 1e5 until no coordinate of the gradient in their logarithms, per unit of weight, exceeds `tolerance`; it
    finds the optimum nearest to them. They are those of y less its mean over its deviation, unless `normalize_y` is false: 32
    bits see little of a y that is far from 0. Answers: `predict` and `predict_deviation` [n], that of a new y with its noise.
    Equal to scikit-learn's GaussianProcessRegressor(ConstantKernel() * RBF() + WhiteKernel(), normalize_y=True).
    """
    if kernel not in ("rbf", "matern"):
        raise ValueError(f"`kernel` of `gaussian_process` must be rbf or matern; got {kernel!r}.")
    if nu not in (0.5, 1.5, 2.5):
        raise ValueError(f"`nu` of `gaussian_process` must be 0.5, 1.5 or 2.5; got {nu!r}.")
    names = ("length_scale", "variance", "noise")

    def similarity(squares, length):
        """1 at distance 0."""
        if kernel == "rbf":
            return jnp.exp(-squares / (2 * length**2))
        far = squares > 0  # the root has no slope at 0
        way = jnp.where(far, jnp.sqrt(2 * nu * jnp.where(far, squares, 1)), 0) / length
        more = {0.5: 0 * way, 1.5: way, 2.5: way + way**2 / 3}[nu]
        return (1 + more) * jnp.exp(-way)

    def fit(key, rows, hp):
        x = flatten_rows(rows.x)
        weight, y = rows.weight.astype(x.dtype), rows.y.astype(x.dtype)
        total = jnp.maximum(weight.sum(), jnp.finfo(x.dtype).tiny)
        shift, stretch = jnp.zeros((), x.dtype), jnp.ones((), x.dtype)
        if normalize_y:
            shift = weighted_mean(y, weight)
            stretch = jnp.sqrt(weighted_mean((y - shift) ** 2, weight))
            stretch = jnp.where(stretch > 0, stretch, 1)
        y, root = (y - shift) / stretch, jnp.sqrt(weight)
        squares, eye = squared_distances(x, x), jnp.eye(len(x), dtype=x.dtype)

        def covariance(logs):
            """Of `root * y`: a row of weight 2 is seen through half the noise, one of weight 0 not at all."""
            length, size, noise = jnp.exp(jnp.clip(logs, np.log(LOWEST), np.log(HIGHEST)))
            return size * similarity(squares, length) * root * root[:, None] + noise * eye

        def surprise(logs):
            lower = jnp.linalg.cholesky(covariance(logs))
            off = solve_triangular(lower, root * y, lower=True)
            level = jnp.clip(logs[2], np.log(LOWEST), np.log(HIGHEST))
            # Of w equal rows the density is that of their mean, of noise / w, times that of w - 1 differences of 0.
            return (off @ off + total * jnp.log(2 * jnp.pi) + (total - len(x)) * level) / 2 + jnp.log(jnp.diagonal(lower)).sum()

        def information(logs):
            """Fisher's, tr(C⁻¹ ∂C C⁻¹ ∂C) / 2: never indefinite, unlike the second derivatives."""
            lower = jnp.linalg.cholesky(covariance(logs))
            slopes = jnp.moveaxis(jax.jacfwd(covariance)(logs), -1, 0)
            parts = jax.vmap(lambda slope: cho_solve((lower, True), slope))(slopes)
            return (jnp.einsum("aij,bji->ab", parts, parts).at[2, 2].add(total - len(x))) / 2

        logs = jnp.log(jnp.stack([jnp.asarray(hp[name], x.dtype) for name in names]))
        done, steps = jnp.array(True), jnp.array(1, jnp.int32)
        if optimize:
            mean = lambda at: surprise(at) / total  # noqa: E731

            def curvature(at):
                # A step is at most 2: one far beyond the bounds may be better than the start, and is where all is level.
                slope = jnp.linalg.norm(jax.grad(mean)(at))
                return information(at) / total + slope / 2 * jnp.eye(3, dtype=x.dtype)

            logs, done, steps = newton(mean, logs, hp["tolerance"], max_iterations, curvature)
        logs = jnp.clip(logs, np.log(LOWEST), np.log(HIGHEST))
        lower = jnp.linalg.cholesky(covariance(logs))
        whiten = solve_triangular(lower, jnp.diag(root), lower=True)
        length, size, noise = jnp.exp(logs)
        found = Process(x, whiten.T @ (whiten @ y), whiten, length, size, noise, shift, stretch)
        likelihood = -surprise(logs) - total * jnp.log(stretch)
        return found, Likely(done & jnp.isfinite(likelihood), steps, likelihood)

    def between(fitted, x):
        return fitted.variance * similarity(squared_distances(flatten_rows(x), fitted.x), fitted.length_scale)

    def predict(fitted, x):
        return between(fitted, x) @ fitted.factor * fitted.stretch + fitted.shift

    def predict_deviation(fitted, x):
        explained = jnp.square(between(fitted, x) @ fitted.whiten.T).sum(1)
        return jnp.sqrt(jnp.maximum(fitted.variance - explained, 0) + fitted.noise) * fitted.stretch

    hp = dict(zip(names, (length_scale, variance, noise), strict=True)) | ({"tolerance": tolerance} if optimize else {})
    return Estimator(
        fit, {"predict": predict, "predict_deviation": predict_deviation},
        check=lambda rows: check_number("gaussian_process", rows), hp=hp,
    )  # fmt: skip
