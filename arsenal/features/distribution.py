"""The distribution of a feature made even or normal. A missing value (NaN) counts for nothing and stays one."""

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt

from arsenal.features.arrays import as_table, divide, keep_names
from arsenal.features.scaling import zeros_for_gaps
from arsenal.numerics.weighted import known_extremes, known_mean, weighted_quantile
from arsenal.records import Transform


class Power(NamedTuple):
    """The exponent of each feature."""

    exponent: Any


def quantile(output: Literal["uniform", "normal"] = "uniform", knots: Annotated[int, Gt(1)] = 1000) -> Transform:
    """Every value as the share of the training rows' weight below it, or as the normal deviate of this share; x [n, d].

    The share is read off `knots` quantiles, evenly spaced, with straight lines between them; a value counts half of its own
    weight, as in a mean rank. What lies outside the range of training is as its end. The state is [knots, d].

    >>> from arsenal.records import batch
    >>> made = quantile().fit(None, batch(x=[[1.0], [100.0], [3.0], [2.0]]), {})[1].x
    >>> [round(share, 3) for share in made[:, 0].tolist()]
    [0.125, 0.875, 0.625, 0.375]
    """
    if output not in ("uniform", "normal"):
        raise ValueError(f"`output` of `quantile` must be uniform or normal; got {output!r}.")

    def fit(key, rows, hp):
        x = as_table("quantile", rows.x)
        state = zeros_for_gaps(weighted_quantile(x, rows.weight, jnp.linspace(0, 1, knots)))
        return state, rows._replace(x=apply(state, x))

    def share(knot, x):
        at = jnp.linspace(0, 1, knots, dtype=x.dtype)
        x = jnp.clip(x, knot[0], knot[-1])
        # Equal knots are a step: its end read from the left, its beginning from the right, and the middle of both is meant.
        return (jnp.interp(x, knot, at) - jnp.interp(-x, -knot[::-1], -at[::-1])) / 2

    def apply(state, x):
        x = as_table("quantile", x)
        made = jnp.where(jnp.isnan(x), jnp.nan, jax.vmap(share, 1, 1)(state, x))
        # One knot's distance from 0 and 1 is what the knots can tell.
        return jax.scipy.special.ndtri(jnp.clip(made, 0.5 / knots, 1 - 0.5 / knots)) if output == "normal" else made

    def inverse(state, x):
        made = jax.scipy.special.ndtr(x) if output == "normal" else x
        at = jnp.linspace(0, 1, knots, dtype=x.dtype)
        return jax.vmap(lambda knot, share: jnp.interp(share, at, knot), 1, 1)(state, made)

    return Transform(fit, apply, inverse, names=keep_names)


def power() -> Transform:
    """The power of each feature of x [n, d] that makes it most normal, by likelihood; Yeo & Johnson, Biometrika 87 (2000).

    The exponent lies within 9 of 1, and nearer where the powers of large values would overflow; a constant feature keeps its
    values. `standardize` behind it gives zero mean and unit variance.

    >>> from arsenal.records import batch
    >>> x = jnp.exp(jnp.linspace(-2.0, 2.0, 101))[:, None] - 1
    >>> state, _ = power().fit(None, batch(x=x), {})
    >>> bool(abs(state.exponent[0]) < 0.7)
    True
    """

    def fit(key, rows, hp):
        x = as_table("power", rows.x)
        state = Power(jax.vmap(likeliest_exponent, (1, None))(x, rows.weight))
        return state, rows._replace(x=apply(state, x))

    def apply(state, x):
        return to_power(as_table("power", x), state.exponent)[0]

    def inverse(state, x):
        exponent = jnp.where(x >= 0, state.exponent, 2 - state.exponent)
        flat = exponent == 0
        # u in expm1(exponent * u) / exponent = |x|
        logarithm = jnp.where(flat, jnp.abs(x), jnp.log1p(exponent * jnp.abs(x)) / jnp.where(flat, 1, exponent))
        return jnp.sign(x) * jnp.expm1(logarithm)

    return Transform(fit, apply, inverse, names=keep_names)


def to_power(x: jax.Array, exponent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x to the power in the sense of Yeo & Johnson, and the derivative of that by the exponent.

    With u = log(1 + |x|) and m the exponent, of negative x 2 minus it: sign(x) u g(mu) and u² g'(mu), g(z) = expm1(z) / z.
    """
    u, z = jnp.log1p(jnp.abs(x)), jnp.where(x >= 0, exponent, 2 - exponent) * jnp.log1p(jnp.abs(x))
    near = jnp.abs(z) < 0.3
    far = jnp.where(near, 1, z)
    value = jnp.where(z == 0, 1, jnp.expm1(z) / jnp.where(z == 0, 1, z))
    # g'(z) = (e^z - g(z)) / z loses all digits near 0, where its series is sum of z^k (k + 1) / (k + 2)!
    series = jnp.polyval(jnp.array([1 / 5760, 1 / 840, 1 / 144, 1 / 30, 1 / 8, 1 / 3, 1 / 2], x.dtype), jnp.where(near, z, 0))
    slope = jnp.where(near, series, (jnp.exp(far) - jnp.expm1(far) / far) / far)
    return jnp.sign(x) * u * value, u * u * slope


def likeliest_exponent(column: jax.Array, weight: jax.Array) -> jax.Array:
    """The exponent at which the slope of the profile likelihood of a column [n] is 0, by bisection."""
    low, high = known_extremes(column[:, None], weight)
    low, high = low[0], high[0]
    # The power of the largest value stays below e^40, so that its square is a float32; of negative ones it is 2 - exponent.
    most, least = (jnp.clip(divide(40, jnp.log1p(jnp.maximum(end, 0))), 1, 10) for end in (high, -low))
    most, least = jnp.where(high > 0, most, 10), jnp.where(low < 0, least, 10)
    drift = known_mean(jnp.sign(column) * jnp.log1p(jnp.abs(column)), weight)

    def slope(exponent):
        value, by = to_power(column, exponent)
        of_value, of_by = known_largest(value, weight), known_largest(by, weight)
        value, by = value / of_value, by / of_by
        value, by = value - known_mean(value, weight), by - known_mean(by, weight)
        return drift - known_mean(value * by, weight) / known_mean(value * value, weight) * (of_by / of_value)

    def halve(_, ends):
        left, right = ends
        middle = (left + right) / 2
        rises = slope(middle) > 0
        return jnp.where(rises, middle, left), jnp.where(rises, right, middle)

    left, right = jax.lax.fori_loop(0, 40, halve, (2 - least, most))
    return jnp.where(high > low, (left + right) / 2, 1)


def known_largest(x: jax.Array, weight: jax.Array) -> jax.Array:
    """The largest absolute value of x [n] that is known, at least the smallest normal float."""
    return jnp.maximum(jnp.where((weight > 0) & ~jnp.isnan(x), jnp.abs(x), 0).max(), jnp.finfo(x.dtype).tiny)
