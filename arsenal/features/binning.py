"""One number as several: the bin that it lies in, a basis of splines, products of powers."""

import itertools
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt

from arsenal.features.arrays import as_table, divide, formula, join, keep_names, rename
from arsenal.features.scaling import zeros_for_gaps
from arsenal.numerics.weighted import known_extremes, weighted_quantile
from arsenal.records import Transform

Spacing = Literal["quantile", "uniform"]


def bins(n: Annotated[int, Gt(1)] = 5, by: Spacing = "quantile", to: Literal["one_hot", "ordinal"] = "one_hot") -> Transform:
    """The bin that a value lies in, as one of `n` columns for each (`one_hot`) or as its number 0..n-1 (`ordinal`).

    x [n, d] to [n, d * n] or [n, d]. Edges are the training rows' quantiles, by weight, or evenly spaced (`uniform`); a
    bin holds its lower edge, the last its upper one too, and the outermost all that lies beyond. Where quantiles are equal
    the bins between them stay empty. A missing value is in no bin: zeros, or NaN.

    >>> from arsenal.records import batch
    >>> bins(2, to="ordinal").fit(None, batch(x=[[1.0], [2.0], [3.0], [40.0]]), {})[1].x[:, 0].tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    check_word("by", "bins", by, "quantile", "uniform")
    check_word("to", "bins", to, "one_hot", "ordinal")

    def fit(key, rows, hp):
        x = as_table("bins", rows.x)
        state = edges(x, rows.weight, n + 1, by)[1:-1]
        return state, rows._replace(x=apply(state, x))

    def apply(state, x):
        x = as_table("bins", x)
        number = jax.vmap(lambda edge, column: jnp.searchsorted(edge, column, side="right"), 1, 1)(state, x)
        missing = jnp.isnan(x)
        if to == "ordinal":
            return jnp.where(missing, jnp.nan, number.astype(x.dtype))
        return jax.nn.one_hot(jnp.where(missing, -1, number), n, dtype=x.dtype).reshape(x.shape[0], -1)

    names = keep_names if to == "ordinal" else rename(*(f".bin{i}" for i in range(n)))
    return Transform(fit, apply, names=names)


def splines(knots: Annotated[int, Gt(1)] = 5, degree: Annotated[int, Ge(0)] = 3, by: Spacing = "uniform") -> Transform:
    """A basis of B-splines of each feature, so that what is linear in it bends; x [n, d] to [n, d * (knots + degree - 1)].

    Eilers & Marx, Statistical Science 11 (1996). `knots` lie evenly spaced over the range of the training rows, or at their
    quantiles by weight; `degree` 3 is cubic. The columns of a feature sum to 1; beyond the outermost knots they stay as they are
    there. A missing value is zeros.

    >>> from arsenal.records import batch
    >>> splines(3, 1).fit(None, batch(x=[[0.0], [1.0], [4.0]]), {})[1].x.tolist()
    [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """
    check_word("by", "splines", by, "quantile", "uniform")

    def fit(key, rows, hp):
        x = as_table("splines", rows.x)
        state = edges(x, rows.weight, knots, by)
        return state, rows._replace(x=apply(state, x))

    def apply(state, x):
        x = as_table("splines", x)
        made = jax.vmap(spline_basis, (1, 1, None), 1)(state, x, degree)
        return jnp.where(jnp.isnan(x)[:, :, None], 0, made).reshape(x.shape[0], -1)

    return Transform(fit, apply, names=rename(*(f".spline{i}" for i in range(knots + degree - 1))))


def spline_basis(knot: jax.Array, x: jax.Array, degree: int) -> jax.Array:
    """The B-splines of a column [n] over increasing knots [m], by the recursion of Cox and de Boor; [n, m + degree - 1]."""
    steps = jnp.arange(1, degree + 1, dtype=x.dtype)
    before, after = knot[0] - steps[::-1] * (knot[1] - knot[0]), knot[-1] + steps * (knot[-1] - knot[-2])
    at = jnp.concatenate([before, knot, after])
    x = jnp.clip(x, knot[0], knot[-1])
    # The interval of x: the last one holds its end, so that the basis sums to 1 there too.
    inside = jnp.clip(jnp.searchsorted(knot, x, side="right") - 1, 0, last_interval(knot)) + degree
    basis = jax.nn.one_hot(inside, len(at) - 1, dtype=x.dtype)
    x = x[:, None]
    for order in range(1, degree + 1):
        rising = divide(x - at[: -order - 1], at[order:-1] - at[: -order - 1])
        falling = divide(at[order + 1 :] - x, at[order + 1 :] - at[1:-order])
        basis = rising * basis[:, :-1] + falling * basis[:, 1:]
    return basis


def last_interval(knot: jax.Array) -> jax.Array:
    """The number of the last interval between knots [m] that is not empty; the last one where all are."""
    wide = knot[1:] > knot[:-1]
    return jnp.where(wide.any(), len(knot) - 2 - jnp.argmax(wide[::-1]), len(knot) - 2).astype(jnp.int32)


def edges(x: jax.Array, weight: jax.Array, count: int, by: str) -> jax.Array:
    """So many places [count, d] from the least to the greatest value of each feature, at its quantiles or evenly spaced."""
    shares = jnp.linspace(0, 1, count, dtype=x.dtype)
    if by == "quantile":
        return zeros_for_gaps(weighted_quantile(x, weight, shares))
    low, high = known_extremes(x, weight)
    return low + shares[:, None] * (high - low)


def check_word(name: str, factory: str, got: str, *allowed: str) -> None:
    """Raise ValueError where an argument is none of the words."""
    if got not in allowed:
        raise ValueError(f"`{name}` of `{factory}` must be one of {', '.join(allowed)}; got {got!r}.")


def polynomial(degree: Annotated[int, Gt(0)] = 2, interactions: bool = False) -> Transform:
    """The features of x [n, d] and all products of up to `degree` of them, in scikit-learn's order; nothing is learned.

    With `interactions` only products of different features. There is no column of ones: an intercept is the learner's. What
    a missing value is a factor of is missing.

    >>> from arsenal.records import batch
    >>> made = polynomial()
    >>> made.apply((), jnp.array([[2.0, 3.0]])).tolist(), made.names({"x": ["a", "b"]})["x"]
    ([[2.0, 3.0, 4.0, 6.0, 9.0]], ['a', 'b', 'a^2', 'a*b', 'b^2'])
    """
    choose = itertools.combinations if interactions else itertools.combinations_with_replacement

    def products(count: int) -> list[tuple[int, ...]]:
        return [chosen for order in range(1, degree + 1) for chosen in choose(range(count), order)]

    def apply(state, x):
        x = as_table("polynomial", x)
        made: dict[tuple[int, ...], Any] = {(i,): x[:, i] for i in range(x.shape[1])}
        for chosen in products(x.shape[1]):
            if len(chosen) > 1:
                made[chosen] = made[chosen[:-1]] * x[:, chosen[-1]]
        return join([jnp.stack(list(made.values()), 1)]) if made else x

    def power_name(names, chosen):
        powers = ((names[i], chosen.count(i)) for i in dict.fromkeys(chosen))
        return "*".join(name if times == 1 else f"{name}^{times}" for name, times in powers)

    def names(given):
        return {"x": [power_name(given["x"], chosen) for chosen in products(len(given["x"]))]}

    return formula(apply, names=names)
