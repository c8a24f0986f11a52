"""Densities that are sums of normal ones, by expectation maximisation. Dempster, Laird & Rubin, JRSS B 39 (1977)."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt
from jax import lax

from arsenal.estimators.cluster import best_of, first_centres, flatten_rows, lloyd, nearest_centre
from arsenal.numerics.weighted import weighted_mean
from arsenal.records import Estimator

Covariance = Literal["full", "tied", "diag", "spherical"]


class Densities(NamedTuple):
    """Of every normal density: its share, its mean, and what makes a row white, a root of its precision."""

    weights: Any
    """[k], of sum 1."""
    means: Any
    """[k, d]"""
    roots: Any
    """[k, d, d] of `full`, [d, d] of `tied`, upper: `root @ root.T` is the precision; [k, d] of `diag`, [k] of `spherical`."""


class MixtureFit(NamedTuple):
    """How the fit went: `log_likelihood` [] is the mean of a row before the last step."""

    converged: Any
    iterations: Any
    log_likelihood: Any


def gaussian_mixture(
    components: Annotated[int, Gt(0)] = 1, covariance: Covariance = "full", restarts: Annotated[int, Gt(0)] = 1,
    tolerance: Annotated[float, Ge(0)] = 1e-3, regularization: Annotated[float, Ge(0)] = 1e-6,
    max_iterations: Annotated[int, Gt(0)] = 100,
) -> Estimator:  # fmt: skip
    """`components` normal densities whose sum makes rows x [n, d] likeliest, the best of `restarts` fits; y is not read.

    A fit begins at the clusters of one k-means and ends when the mean log-likelihood changes by less than `tolerance`; every
    variance grows by `regularization`; both are traced. Further axes of x are flattened. Answers: `cluster` [n] int32, the
    likeliest density (no `predict`: it says nothing of y), `cluster_proba` [n, components], and `score_samples` [n], the
    log-likelihood. Equal to scikit-learn's GaussianMixture from the same start. In float32 columns should be of one scale
    (`standardize`).
    """
    check_covariance("gaussian_mixture", covariance)

    def one(x, weight, share, hp):
        first = maximize(x, weight, share, covariance, hp["regularization"])
        return climb(x, weight, first, covariance, hp["tolerance"], hp["regularization"], max_iterations)

    fit = lambda key, rows, hp: best_start(one, key, rows, hp, components, restarts)  # noqa: E731
    answers = mixture_answers(lambda mixture, x: log_joint(mixture, x, covariance))
    check = lambda rows: check_rows("gaussian_mixture", rows, components)  # noqa: E731
    return Estimator(fit, answers, check=check, hp={"tolerance": tolerance, "regularization": regularization})


def best_start(
    one: Callable[..., tuple[Any, MixtureFit]], key: jax.Array, rows: Any, hp: Any, components: int, restarts: int
) -> tuple[Any, MixtureFit]:
    """The likeliest of the mixtures that `one(x, weight, share, hp)` makes of the clusters of so many k-means."""
    x = flatten_rows(rows.x)
    weight = rows.weight.astype(x.dtype)
    middle = weighted_mean(x, weight)
    x = x - middle  # some of the variances are differences of squares: the shorter the rows, the more digits are left

    def start(key):
        centres, _ = lloyd(x, weight, first_centres(key, x, weight, components), 1e-4, 300)
        return one(x, weight, jax.nn.one_hot(nearest_centre(x, centres), components, dtype=x.dtype), hp)

    mixture, info = best_of(start, key, restarts, lambda info: info.log_likelihood)
    return mixture._replace(means=mixture.means + middle), info


def mixture_answers(joint: Callable[[Any, jax.Array], jax.Array]) -> dict[str, Callable]:
    """The answers of a log joint `(mixture, x [n, d]) -> [n, k]`."""
    return {
        "cluster": lambda mixture, x: jnp.argmax(joint(mixture, flatten_rows(x)), 1).astype(jnp.int32),
        "cluster_proba": lambda mixture, x: jax.nn.softmax(joint(mixture, flatten_rows(x))),
        "score_samples": lambda mixture, x: jax.nn.logsumexp(joint(mixture, flatten_rows(x)), 1),
    }


def check_covariance(name: str, covariance: str) -> None:
    """Raise ValueError for a kind of covariance that there is not."""
    kinds = ("full", "tied", "diag", "spherical")
    if covariance not in kinds:
        raise ValueError(f"`covariance` of `{name}` must be one of {', '.join(kinds)}; got {covariance!r}.")


def climb(
    x: jax.Array, weight: jax.Array, mixture: Densities, covariance: Covariance, tolerance: Any, regularization: Any,
    max_iterations: int,
) -> tuple[Densities, MixtureFit]:  # fmt: skip
    """The mixture after steps of expectation and maximisation from the given one, and how they went."""

    def step(carry):
        mixture, before, _, iteration = carry
        joint = log_joint(mixture, x, covariance)
        likely = weighted_mean(jax.nn.logsumexp(joint, 1), weight)
        mixture = maximize(x, weight, jax.nn.softmax(joint), covariance, regularization)
        return mixture, likely, jnp.abs(likely - before), iteration + 1

    def unfinished(carry):
        # A mixture that is not finite stays so, and is none that has converged.
        return (carry[2] >= tolerance) & (carry[3] < max_iterations) & ~jnp.isnan(carry[1])

    far = jnp.full((), jnp.inf, x.dtype)
    mixture, likely, change, iterations = lax.while_loop(unfinished, step, (mixture, -far, far, jnp.zeros((), jnp.int32)))
    return mixture, MixtureFit(change < tolerance, iterations, likely)


def maximize(x: jax.Array, weight: jax.Array, share: jax.Array, covariance: Covariance, regularization: Any) -> Densities:
    """The mixture that is likeliest for rows x [n, d] that belong to its densities by `share` [n, k]."""
    count, means, spread = measure_shares(x, weight, share, covariance, regularization)
    return Densities(count / count.sum(), means, roots_of(spread, covariance))


def measure_shares(
    x: jax.Array, weight: jax.Array, share: jax.Array, covariance: Covariance, regularization: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of every density its weight [k], its mean [k, d], and its covariance in the shape that `covariance` says."""
    mine, eye = share * weight[:, None], jnp.eye(x.shape[1], dtype=x.dtype)
    count = mine.sum(0) + 10 * jnp.finfo(x.dtype).eps
    means = mine.T @ x / count[:, None]
    if covariance == "full":
        scatter = jax.vmap(lambda own, mean: ((x - mean).T * own) @ (x - mean), (1, 0))(mine, means)
        return count, means, scatter / count[:, None, None] + regularization * eye
    if covariance == "tied":
        # What all rows scatter about the middle, less what the means do.
        scatter = (x * weight[:, None]).T @ x - (count * means.T) @ means
        return count, means, scatter / count.sum() + regularization * eye
    variance = mine.T @ x**2 / count[:, None] - means**2 + regularization
    return count, means, variance if covariance == "diag" else variance.mean(1)


def roots_of(spread: jax.Array, covariance: Covariance) -> jax.Array:
    """The roots of the precisions of covariances in the shape that `covariance` says."""
    return whiten(spread) if covariance in ("full", "tied") else 1 / jnp.sqrt(spread)


def whiten(covariance: jax.Array) -> jax.Array:
    """The upper root [..., d, d] of the inverse of a covariance [..., d, d]; NaN where it is not positive."""
    lower = jnp.linalg.cholesky(covariance)
    eye = jnp.broadcast_to(jnp.eye(lower.shape[-1], dtype=lower.dtype), lower.shape)
    return jnp.swapaxes(jax.scipy.linalg.solve_triangular(lower, eye, lower=True), -1, -2)


def log_joint(mixture: Densities, x: jax.Array, covariance: Covariance) -> jax.Array:
    """The log of every density's share times its value at rows x [n, d]: [n, k]."""
    return jnp.log(mixture.weights) + log_normal(mixture.means, mixture.roots, x, covariance)


def log_normal(means: jax.Array, roots: jax.Array, x: jax.Array, covariance: Covariance) -> jax.Array:
    """The log of every normal density's value at rows x [n, d]: [n, k]."""
    d = x.shape[1]
    if covariance in ("full", "tied"):
        axes = (0, 0) if covariance == "full" else (0, None)
        far = jax.vmap(lambda mean, root: jnp.square((x - mean) @ root).sum(1), axes, 1)(means, roots)
    else:
        precision = jnp.broadcast_to(jnp.square(roots if covariance == "diag" else roots[:, None]), means.shape)
        # Squares of differences as differences of squares are matrix products, of short rows exact enough.
        middle = means.mean(0)
        x, means = x - middle, means - middle
        far = (precision @ jnp.square(x).T - 2 * (means * precision) @ x.T).T + (jnp.square(means) * precision).sum(1)
    return log_volume(roots, d, covariance) - (d * math.log(2 * math.pi) + far) / 2


def log_volume(roots: jax.Array, d: int, covariance: Covariance) -> jax.Array:
    """The log of the determinants of the roots, [k] or [] of `tied`."""
    if covariance in ("full", "tied"):
        return jnp.log(jnp.diagonal(roots, axis1=-2, axis2=-1)).sum(-1)
    return jnp.log(roots).sum(1) if covariance == "diag" else d * jnp.log(roots)


def check_rows(name: str, rows: Any, least: int, missing: bool = False) -> None:
    """Raise ValueError for rows that are no finite floats (NaN may be where `missing`), or fewer than `least`."""
    if not isinstance(rows.x, jax.Array | np.ndarray | jax.ShapeDtypeStruct) or not jnp.issubdtype(rows.x.dtype, jnp.floating):
        said = ", ".join(rows.x) if isinstance(rows.x, dict) else rows.x.dtype
        raise ValueError(f"`{name}` takes x of floats [n, d]; got {said}.")
    there = np.asarray(rows.weight) > 0
    if there.sum() < least:
        raise ValueError(f"`{name}` needs at least {least} rows; got {there.sum()}.")
    if isinstance(rows.x, jax.ShapeDtypeStruct):
        return
    x = np.asarray(rows.x)[there]
    if not (np.isfinite(x) | (np.isnan(x) & missing)).all():
        raise ValueError(f"`{name}` takes numbers only; got {x[~np.isfinite(x)][0]}. `impute` fills gaps.")
