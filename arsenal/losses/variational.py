"""Losses of variational autoencoders. Kingma & Welling 2014 (1312.6114)."""

import math
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from annotated_types import Ge

from arsenal.losses.outputs import check_parts
from arsenal.records import Loss


def elbo(
    beta: Annotated[float, Ge(0)] = 1.0,
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
    target: Literal["y", "x"] = "y",
) -> Loss:
    """`-log p(target | z) + beta KL(q(z) || N(0, 1))` in nats, summed over a row's numbers; `beta >= 0` is traced.

    Outputs are a dict: `mean` and `log_variance` [n, d] of q, and `reconstruction` [n, ...] from one draw of it, which
    holds logits of targets in 0..1 (`bernoulli`) or means of unit variance (`gaussian`). `target` says what is restored:
    the row's y, or the x that the model reads. With beta 1 this is the negative of the evidence's lower bound; other
    values are Higgins et al. 2017.

    Answers: `predict` [n, ...], probabilities or means; `embedding` [n, d], the mean of q. Also measures `kl` and
    `reconstruction`, the two terms.
    """
    names = ("mean", "log_variance", "reconstruction")

    def rebuild(outputs, rows):
        return -log_likelihood(outputs["reconstruction"], getattr(rows, target), likelihood)

    def value(outputs, rows, hp):
        kl = divergence(outputs["mean"], outputs["log_variance"])
        return rebuild(outputs, rows) + hp["beta"].astype(kl.dtype) * kl

    def check(outputs, rows):
        check_parts("elbo", outputs, *names)
        mean, log_variance, given = (outputs[name] for name in names)
        if mean.ndim != 2 or mean.shape != log_variance.shape:
            raise ValueError(
                f"`elbo` takes `mean` and `log_variance` of one shape [n, d]; "
                f"the model gives {mean.shape} and {log_variance.shape}."
            )
        wanted = getattr(rows, target)
        if not hasattr(wanted, "shape"):
            raise ValueError(f"`elbo` restores {target}, one array; got {type(wanted).__name__}. `target` may be x or y.")
        if wanted.shape != given.shape:
            raise ValueError(f"`elbo` takes a reconstruction of {target}'s shape {wanted.shape}; the model gives {given.shape}.")
        if likelihood == "bernoulli" and not isinstance(wanted, jax.ShapeDtypeStruct):
            wanted = np.asarray(wanted)[np.asarray(rows.weight) > 0]
            if wanted.size and not (wanted.min() >= 0 and wanted.max() <= 1):
                raise ValueError(f"Targets of `elbo` with `bernoulli` must be in 0..1; got {wanted.min()} to {wanted.max()}.")

    def predict(outputs):
        given = outputs["reconstruction"]
        return jax.nn.sigmoid(given) if likelihood == "bernoulli" else given

    if likelihood not in ("bernoulli", "gaussian"):
        raise ValueError(f"`likelihood` of `elbo` must be bernoulli or gaussian; got {likelihood}.")
    if target not in ("y", "x"):
        raise ValueError(f"`target` of `elbo` must be y or x; got {target}.")
    return Loss(
        value,
        readout={"predict": predict, "embedding": lambda outputs: outputs["mean"]},
        measures={"kl": lambda outputs, rows: divergence(outputs["mean"], outputs["log_variance"]), "reconstruction": rebuild},
        modes={"reconstruction": "min"},
        check=check,
        hp={"beta": beta},
    )


def log_likelihood(given: jax.Array, target: jax.Array, likelihood: Literal["bernoulli", "gaussian"]) -> jax.Array:
    """`log p(target)` [n] in nats, summed over a row's numbers: given [n, ...] are logits, or means of unit variance.

    >>> round(float(log_likelihood(jnp.zeros((1, 2)), jnp.ones((1, 2)), "bernoulli")[0]), 4)
    -1.3863
    """
    target = target.astype(given.dtype)
    if likelihood == "bernoulli":
        each = -optax.sigmoid_binary_cross_entropy(given, target)
    else:
        each = -jnp.square(target - given) / 2 - math.log(2 * math.pi) / 2
    return each.sum(tuple(range(1, each.ndim)))


def divergence(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """KL of N(mean, exp(log_variance)) [n, d] to N(0, 1), summed over d: `Σ (mean² + variance - 1 - log_variance) / 2`. [n].

    >>> float(divergence(jnp.array([[2.0, 0.0]]), jnp.zeros((1, 2)))[0])
    2.0
    """
    # expm1 keeps the digits where the variance is close to 1.
    return jnp.sum(jnp.square(mean) + jnp.expm1(log_variance) - log_variance, -1) / 2
