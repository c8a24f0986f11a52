"""Mixtures that find by themselves how many densities they need: variational Bayes with a Dirichlet process of shares."""

import math
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt
from jax import lax
from jax.scipy.special import betaln, digamma, gammaln

from arsenal.estimators.mixture import (
    Covariance,
    MixtureFit,
    best_start,
    check_covariance,
    check_rows,
    log_normal,
    log_volume,
    measure_shares,
    mixture_answers,
    roots_of,
)
from arsenal.numerics.weighted import weighted_mean
from arsenal.records import Estimator


class Posterior(NamedTuple):
    """Of every density, what is believed of its share, mean and covariance."""

    taken: Any
    """[k]: with `rest` the beta distribution of the share that it takes of what those before it left."""
    rest: Any
    means: Any
    """[k, d]"""
    certainty: Any
    """[k]: how many rows the mean is known by."""
    freedom: Any
    """[k], or [] of `tied`: by how many the covariance is."""
    roots: Any
    """As in `Densities`."""


class Prior(NamedTuple):
    """What is believed before any row is seen."""

    concentration: Any
    mean: Any
    certainty: Any
    freedom: Any
    spread: Any


def bayesian_mixture(
    components: Annotated[int, Gt(0)] = 1, covariance: Covariance = "full", restarts: Annotated[int, Gt(0)] = 1,
    concentration: Annotated[float, Gt(0)] | None = None, certainty: Annotated[float, Gt(0)] = 1.0,
    tolerance: Annotated[float, Ge(0)] = 1e-3, regularization: Annotated[float, Ge(0)] = 1e-6,
    max_iterations: Annotated[int, Gt(0)] = 100,
) -> Estimator:  # fmt: skip
    """At most `components` normal densities, of which those that rows do not need are left next to nothing.

    Blei & Jordan, Bayesian Analysis 1 (2006). The less the `concentration`, 1 / components unless given, the fewer are used;
    `certainty` is how many rows the belief is worth that a mean is that of all. These, `tolerance`, of the bound of the evidence
    of all rows, and `regularization` are traced. Inputs, start and answers as in `gaussian_mixture`; `log_likelihood` of the fit
    is the bound but for a constant. Equal to scikit-learn's BayesianGaussianMixture from the same start.
    """
    check_covariance("bayesian_mixture", covariance)

    def one(x, weight, share, hp):
        prior = prior_of(x, weight, covariance, hp)
        begin = believe(x, weight, share, prior, covariance, hp["regularization"])
        return settle(x, weight, begin, prior, covariance, hp["tolerance"], hp["regularization"], max_iterations)

    hp = {
        "concentration": 1 / components if concentration is None else concentration,
        "certainty": certainty, "tolerance": tolerance, "regularization": regularization,
    }  # fmt: skip
    fit = lambda key, rows, hp: best_start(one, key, rows, hp, components, restarts)  # noqa: E731
    answers = mixture_answers(lambda posterior, x: log_expected(posterior, x, covariance))
    return Estimator(fit, answers, check=lambda rows: check_rows("bayesian_mixture", rows, max(components, 2)), hp=hp)


def prior_of(x: jax.Array, weight: jax.Array, covariance: Covariance, hp: Any) -> Prior:
    """The prior whose mean and covariance are those of all rows x [n, d]."""
    mean = weighted_mean(x, weight)
    spread = ((x - mean) * weight[:, None]).T @ (x - mean) / jnp.maximum(weight.sum() - 1, jnp.finfo(x.dtype).tiny)
    if covariance in ("diag", "spherical"):
        spread = jnp.diag(spread) if covariance == "diag" else jnp.diag(spread).mean()
    return Prior(hp["concentration"], mean, hp["certainty"], float(x.shape[1]), spread)


def settle(
    x: jax.Array, weight: jax.Array, posterior: Posterior, prior: Prior, covariance: Covariance, tolerance: Any,
    regularization: Any, max_iterations: int,
) -> tuple[Posterior, MixtureFit]:  # fmt: skip
    """The posterior after steps from the given one, until the bound of the evidence changes by less than `tolerance`."""

    def step(carry):
        posterior, before, _, iteration = carry
        joint = log_expected(posterior, x, covariance)
        share, log_share = jax.nn.softmax(joint), jax.nn.log_softmax(joint)
        posterior = believe(x, weight, share, prior, covariance, regularization)
        bound = bound_of(posterior, x.shape[1], covariance) - weight @ (share * log_share).sum(1)
        return posterior, bound, jnp.abs(bound - before), iteration + 1

    def unfinished(carry):
        return (carry[2] >= tolerance) & (carry[3] < max_iterations) & ~jnp.isnan(carry[1])

    far = jnp.full((), jnp.inf, x.dtype)
    begin = posterior, -far, far, jnp.zeros((), jnp.int32)
    posterior, bound, change, iterations = lax.while_loop(unfinished, step, begin)
    return posterior, MixtureFit(change < tolerance, iterations, bound)


def believe(
    x: jax.Array, weight: jax.Array, share: jax.Array, prior: Prior, covariance: Covariance, regularization: Any
) -> Posterior:
    """The posterior where rows x [n, d] belong to the densities by `share` [n, k]."""
    count, means, spread = measure_shares(x, weight, share, covariance, regularization)
    behind = jnp.cumsum(count[::-1])[::-1] - count
    certainty = prior.certainty + count
    off, pull = means - prior.mean, prior.certainty / certainty
    k = len(count)
    if covariance == "full":
        apart = jax.vmap(jnp.outer)(off, off)
        total = prior.spread + count[:, None, None] * (spread + pull[:, None, None] * apart)
    elif covariance == "tied":
        total = prior.spread + (spread * count.sum() + ((count * pull) * off.T) @ off) / k
    elif covariance == "diag":
        total = prior.spread + count[:, None] * (spread + pull[:, None] * off**2)
    else:
        total = prior.spread + count * (spread + pull * (off**2).mean(1))
    freedom = prior.freedom + (count.sum() / k if covariance == "tied" else count)
    roots = roots_of(total / freedom.reshape(-1, *(1,) * (total.ndim - 1)) if freedom.ndim else total / freedom, covariance)
    means = (prior.certainty * prior.mean + count[:, None] * means) / certainty[:, None]
    return Posterior(1 + count, prior.concentration + behind, means, certainty, freedom, roots)


def log_expected(posterior: Posterior, x: jax.Array, covariance: Covariance) -> jax.Array:
    """The expected log of every density's share times its value at rows x [n, d]: [n, k]."""
    both, d = digamma(posterior.taken + posterior.rest), x.shape[1]
    left = jnp.cumsum(digamma(posterior.rest) - both)
    share = digamma(posterior.taken) - both + jnp.concatenate([jnp.zeros_like(left[:1]), left[:-1]])
    parts = (posterior.freedom[..., None] - jnp.arange(d, dtype=x.dtype)) / 2
    spread = d * math.log(2) + digamma(parts).sum(-1) - d * jnp.log(posterior.freedom) - d / posterior.certainty
    return share + log_normal(posterior.means, posterior.roots, x, covariance) + spread / 2


def bound_of(posterior: Posterior, d: int, covariance: Covariance) -> jax.Array:
    """The bound of the evidence but for a constant and the entropy of the shares of rows."""
    freedom, k = posterior.freedom, len(posterior.taken)
    volume = log_volume(posterior.roots, d, covariance) - d * jnp.log(freedom) / 2
    parts = (freedom[..., None] - jnp.arange(d, dtype=freedom.dtype)) / 2
    wishart = freedom * volume + freedom * d * math.log(2) / 2 + gammaln(parts).sum(-1)
    wishart = wishart * k if covariance == "tied" else wishart.sum()
    return wishart + betaln(posterior.taken, posterior.rest).sum() - d * jnp.log(posterior.certainty).sum() / 2
