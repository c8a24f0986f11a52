"""Linear models with a penalty that makes slopes exactly zero: lasso and elastic net."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt, Interval
from jax import lax

from arsenal.estimators.linear import Linear, check_number, linear_predict, with_target
from arsenal.numerics.weighted import weighted_scatter
from arsenal.records import Estimator


class Certified(NamedTuple):
    """How a fit ended: the duality gap bounds how far the objective is above its least value, in units of mean(y²)."""

    converged: Any
    iterations: Any
    gap: Any


def elastic_net(
    alpha: Annotated[float, Gt(0)] = 1.0,
    l1_ratio: Annotated[float, Interval(gt=0, le=1)] = 0.5,
    tolerance: Annotated[float, Gt(0)] = 1e-6,
    max_iterations: Annotated[int, Gt(0)] = 1000,
) -> Estimator:
    """Half the mean squared error plus `alpha * (l1_ratio * |slope|₁ + (1 - l1_ratio) / 2 * |slope|²)`, free intercept.

    Zou & Hastie, JRSS B 67 (2005); with `l1_ratio` 1 the lasso. All but `max_iterations` are traced. x [n, d], y [n] ->
    slope [d], intercept []. Coordinate descent on the Gram matrix (Friedman et al., JSS 33, 2010), a sweep over all
    coordinates an iteration, until the duality gap is at most `tolerance` times the mean of centred y². `alpha` and `l1_ratio`
    are scikit-learn's. Answers: `predict` [n].
    """

    def fit(key, rows, hp):
        weight = rows.weight.astype(rows.x.dtype)
        total = jnp.maximum(weight.sum(), jnp.finfo(weight.dtype).tiny)
        mean, scatter = weighted_scatter(with_target(rows), weight)
        gram, moment, power = (part / total for part in (scatter[:-1, :-1], scatter[:-1, -1], scatter[-1, -1]))
        l1, l2 = hp["alpha"] * hp["l1_ratio"], hp["alpha"] * (1 - hp["l1_ratio"])
        w, gap, sweeps = descend(gram, moment, power, l1, l2, hp["tolerance"], max_iterations)
        return Linear(w, mean[-1] - mean[:-1] @ w), Certified(gap <= hp["tolerance"], sweeps, gap)

    return Estimator(
        fit, {"predict": linear_predict}, check=lambda rows: check_number("elastic_net", rows),
        hp={"alpha": alpha, "l1_ratio": l1_ratio, "tolerance": tolerance},
    )  # fmt: skip


def lasso(
    alpha: Annotated[float, Gt(0)] = 1.0,
    tolerance: Annotated[float, Gt(0)] = 1e-6,
    max_iterations: Annotated[int, Gt(0)] = 1000,
) -> Estimator:
    """Half the mean squared error plus `alpha * |slope|₁`: `elastic_net` of that penalty alone. Tibshirani, JRSS B 58 (1996)."""
    net = elastic_net(alpha, 1.0, tolerance, max_iterations)

    def fit(key, rows, hp):
        return net.fit(key, rows, hp | {"l1_ratio": jnp.ones((), rows.x.dtype)})

    return net._replace(fit=fit, hp={name: net.hp[name] for name in ("alpha", "tolerance")},
                        check=lambda rows: check_number("lasso", rows))  # fmt: skip


def descend(
    gram: jax.Array, moment: jax.Array, power: jax.Array, l1: Any, l2: Any, tolerance: Any, most: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The w [d] with the least `w'Gw/2 - m'w + l1 |w|₁ + l2/2 |w|²`, its relative duality gap, and how many sweeps it took."""
    tiny = jnp.finfo(gram.dtype).tiny

    def one(j, w):
        rest = moment[j] - gram[j] @ w + gram[j, j] * w[j]
        size = gram[j, j] + l2
        return w.at[j].set(jnp.where(size > tiny, soften(rest, l1) / jnp.maximum(size, tiny), 0))

    def sweep(carry):
        w, _, count = carry
        w = lax.fori_loop(0, w.size, one, w)
        return w, duality_gap(w, gram, moment, power, l1, l2), count + 1

    start = jnp.zeros_like(moment)
    first = duality_gap(start, gram, moment, power, l1, l2)
    return lax.while_loop(lambda c: (c[1] > tolerance) & (c[2] < most), sweep, (start, first, jnp.zeros((), jnp.int32)))


def soften(value: jax.Array, by: Any) -> jax.Array:
    """The value moved towards zero, at most to it."""
    return jnp.sign(value) * jnp.maximum(jnp.abs(value) - by, 0)


def duality_gap(w: jax.Array, gram: jax.Array, moment: jax.Array, power: jax.Array, l1: Any, l2: Any) -> jax.Array:
    """How far the objective may be above its least value, over mean(y²); the elastic net is a lasso with d more rows of zeros.

    The residual, scaled until the dual allows it, is the dual point; Kim et al., IEEE J-STSP 1 (2007).
    """
    tiny = jnp.finfo(gram.dtype).tiny
    quadratic = w @ gram @ w + l2 * w @ w
    residual = jnp.maximum(power - 2 * moment @ w + quadratic, 0)  # mean squared, of the grown rows
    slope = moment - gram @ w - l2 * w
    scale = jnp.minimum(1, l1 / jnp.maximum(jnp.abs(slope).max(), tiny))
    primal = residual / 2 + l1 * jnp.abs(w).sum()
    # The dual of the point `scale * residual`: its product with y is power - moment'w.
    dual = scale * (power - moment @ w) - scale**2 * residual / 2
    return (primal - dual) / jnp.maximum(power, tiny)
