"""Rows as sums of parts: parts that are at least 0, sources that are independent, factors behind noise."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt
from jax import lax

from arsenal.features.arrays import divide
from arsenal.features.decomposition import check_numbers, flat, flatten, gram, number, sign_of, top_axes
from arsenal.numerics.weighted import weighted_mean
from arsenal.records import Transform


class Addends(NamedTuple):
    """What rows are sums of, [k, ...], at least 0."""

    components: Any


class Sources(NamedTuple):
    """The mean [...] of a row, what tells sources from rows [k, ...], and what makes rows of sources [k, ...]."""

    mean: Any
    components: Any
    mixing: Any


class Factors(NamedTuple):
    """The mean [...] of a row, loadings [k, ...], the variance [...] of the noise, and what tells factors from rows [k, ...]."""

    mean: Any
    components: Any
    noise: Any
    posterior: Any


def nmf(
    components: Annotated[int, Gt(0)], tolerance: Annotated[float, Ge(0)] = 1e-4, max_iterations: Annotated[int, Gt(0)] = 200
) -> Transform:
    """How much of each of `components` parts, learned and at least 0, is in a row: x ≈ parts @ state, by squared error.

    Lee & Seung, Nature 401 (1999); by coordinate descent as in Cichocki & Phan, IEICE 92-A (2009), from the start of Boutsidis &
    Gallopoulos (2008). x [n, ...] at least 0, to [n, components]. The fit ends when what the steps still change is `tolerance`,
    traced, of what the first changed. `inverse` gives the sums. Equal to scikit-learn's NMF, but that a row is taken apart to
    the last digit whether it was there in training or not.
    """

    def fit(key, rows, hp):
        x, weight = flatten("nmf", rows.x, components), rows.weight
        parts, start = first_parts(x, weight.astype(x.dtype), components)
        made, _ = alternate(x, weight.astype(x.dtype), parts, start, hp["tolerance"], max_iterations)
        state = Addends(made.reshape(-1, *rows.x.shape[1:]))
        return state, rows._replace(x=apply(state, rows.x))

    def apply(state, x):
        part = flat(state.components)
        return jax.vmap(lambda right: least_parts(part @ part.T, right))(flat(x) @ part.T)

    def inverse(state, x):
        return (x @ flat(state.components)).reshape(-1, *state.components.shape[1:])

    check = lambda rows: check_numbers("nmf", rows, components, 0.0)  # noqa: E731
    return Transform(fit, apply, inverse, check, hp={"tolerance": tolerance}, names=number("part", components))


def sparse_pca(
    components: Annotated[int, Gt(0)], alpha: Annotated[float, Gt(0)] = 1.0, ridge: Annotated[float, Gt(0)] = 0.01,
    tolerance: Annotated[float, Gt(0)] = 1e-6, max_iterations: Annotated[int, Gt(0)] = 1000,
) -> Transform:  # fmt: skip
    """`components` directions most of whose parts are 0, so that they say which columns they are made of.

    Zou, Hastie & Tibshirani, JCGS 15 (2006), as a dictionary of Mairal et al., ICML 2009: half the squared error of all rows
    plus `alpha` times the sum of the parts' sizes, from the principal axes, until it falls by less than the share `tolerance`.
    x [n, ...] to [n, components], how much of each direction is in a row by ridge regression with the penalty `ridge`, since
    directions overlap. Floats are traced. The largest part of a direction is positive. Equal to scikit-learn's
    SparsePCA(method="cd").
    """

    def fit(key, rows, hp):
        x, weight = flatten("sparse_pca", rows.x, components), rows.weight.astype(flat(rows.x).dtype)
        mean = weighted_mean(x, weight)
        directions, _ = sparsify(x - mean, weight, components, hp["alpha"], hp["tolerance"], max_iterations)
        length = jnp.linalg.norm(directions, axis=1, keepdims=True)
        directions = divide(directions, length) * sign_of(directions)[:, None]
        # What tells how much of each is in a row.
        reader = jnp.linalg.solve(directions @ directions.T + hp["ridge"] * jnp.eye(components, dtype=x.dtype), directions)
        shape = -1, *rows.x.shape[1:]
        state = Sources(mean.reshape(shape[1:]), reader.reshape(shape), directions.reshape(shape))
        return state, rows._replace(x=apply(state, rows.x))

    def apply(state, x):
        return (flat(x) - state.mean.ravel()) @ flat(state.components).T

    check = lambda rows: check_numbers("sparse_pca", rows, components)  # noqa: E731
    hp = {"alpha": alpha, "ridge": ridge, "tolerance": tolerance}
    return Transform(fit, apply, check=check, hp=hp, names=number("sparse_pc", components))


def fast_ica(
    components: Annotated[int, Gt(0)] | None = None, tolerance: Annotated[float, Ge(0)] = 1e-4,
    max_iterations: Annotated[int, Gt(0)] = 200,
) -> Transform:  # fmt: skip
    """The `components` directions whose values are most independent, each of variance 1; without a number as many as columns.

    Hyvärinen, IEEE TNN 10 (1999), with log cosh, all directions at once. x [n, ...] to [n, components]; the order of the sources
    comes from the key, and the largest part of a direction is positive. It ends when no direction turns by more than `tolerance`,
    traced. `inverse` mixes them again. Equal to scikit-learn's FastICA but for order and sign.
    """

    def fit(key, rows, hp):
        x, weight = flatten("fast_ica", rows.x, components), rows.weight.astype(flat(rows.x).dtype)
        mean = weighted_mean(x, weight)
        variance, axes = top_axes(gram(x - mean, weight) / weight.sum(), components)
        deviation = jnp.sqrt(jnp.maximum(variance, jnp.finfo(x.dtype).eps * variance[0]))[:, None]
        start = jax.random.normal(key, (len(axes), len(axes)), x.dtype)
        turn, _ = separate((x - mean) @ (axes / deviation).T, weight, start, hp["tolerance"], max_iterations)
        apart = turn @ (axes / deviation)
        sign = sign_of(apart)[:, None]
        shape = -1, *rows.x.shape[1:]
        state = Sources(mean.reshape(shape[1:]), (apart * sign).reshape(shape), (turn @ (axes * deviation) * sign).reshape(shape))
        return state, rows._replace(x=apply(state, rows.x))

    def apply(state, x):
        return (flat(x) - state.mean.ravel()) @ flat(state.components).T

    def inverse(state, x):
        return (x @ flat(state.mixing)).reshape(-1, *state.mean.shape) + state.mean

    check = lambda rows: check_numbers("fast_ica", rows, components)  # noqa: E731
    return Transform(fit, apply, inverse, check, hp={"tolerance": tolerance}, names=number("source", components))


def factor_analysis(
    components: Annotated[int, Gt(0)] | None = None, tolerance: Annotated[float, Ge(0)] = 1e-2,
    max_iterations: Annotated[int, Gt(0)] = 1000,
) -> Transform:  # fmt: skip
    """The mean of `components` normal factors given a row, where every column has noise of its own variance.

    Barber (2012), 21.2, by singular values. x [n, ...] to [n, components]; without a number as many as columns. The largest part
    of a factor's loadings is positive. It ends when the log-likelihood of all rows grows by less than `tolerance`, traced. Equal
    to scikit-learn's FactorAnalysis(svd_method="lapack").
    """

    def fit(key, rows, hp):
        x, weight = flatten("factor_analysis", rows.x, components), rows.weight.astype(flat(rows.x).dtype)
        mean, total = weighted_mean(x, weight), weight.sum()
        covariance = gram(x - mean, weight) / total
        loadings, noise, _ = load_factors(covariance, total, components, hp["tolerance"], max_iterations)
        scaled = loadings / noise
        posterior = jnp.linalg.solve(jnp.eye(len(loadings), dtype=x.dtype) + scaled @ loadings.T, scaled)
        sign, shape = sign_of(loadings)[:, None], (-1, *rows.x.shape[1:])
        state = Factors(
            mean.reshape(shape[1:]), (loadings * sign).reshape(shape), noise.reshape(shape[1:]), (posterior * sign).reshape(shape)
        )
        return state, rows._replace(x=apply(state, rows.x))

    def apply(state, x):
        return (flat(x) - state.mean.ravel()) @ flat(state.posterior).T

    check = lambda rows: check_numbers("factor_analysis", rows, components)  # noqa: E731
    return Transform(fit, apply, check=check, hp={"tolerance": tolerance}, names=number("factor", components))


def first_parts(x: jax.Array, weight: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """How much is in each row [n, k], and the parts [k, d]: singular vectors of one sign, with the mean of x where they are 0."""
    squares, right = top_axes(gram(x, weight), k)
    value = jnp.sqrt(squares)
    left = (x @ right.T) / jnp.where(value > 0, value, 1)

    def one(left, right, value, first):
        def half(sign):
            u, v = jnp.maximum(sign * left, 0), jnp.maximum(sign * right, 0)
            u_size, v_size = jnp.sqrt(weight @ u**2), jnp.sqrt(v @ v)
            return u / jnp.where(u_size > 0, u_size, 1), v / jnp.where(v_size > 0, v_size, 1), u_size * v_size

        plus, minus = half(1), half(-1)
        u, v, size = jax.tree.map(lambda a, b: jnp.where(plus[2] > minus[2], a, b), plus, minus)
        u, v, size = (jnp.where(first, a, b) for a, b in zip((jnp.abs(left), jnp.abs(right), 1.0), (u, v, size), strict=True))
        scale = jnp.sqrt(value * size).astype(x.dtype)
        return scale * u, scale * v

    rows, parts = jax.vmap(one, (1, 0, 0, 0), (1, 0))(left, right, value, jnp.arange(k) == 0)
    mean = weighted_mean(x, weight).mean()
    return jnp.where(rows < 1e-6, mean, rows), jnp.where(parts < 1e-6, mean, parts)


def alternate(
    x: jax.Array, weight: jax.Array, rows: jax.Array, parts: jax.Array, tolerance: Any, max_iterations: int
) -> tuple[jax.Array, Any]:
    """The parts [k, d] after steps of coordinate descent for x [n, d] from `rows` [n, k] and `parts`, and how many steps."""

    def descend(w, gram, right, count):
        """Every column of w [m, k] in turn to its best value, and what the gradients were, by `count` [m]."""

        def column(t, carry):
            w, moved = carry
            slope = w @ gram[t] - right[:, t]
            moved += count @ jnp.abs(jnp.where(w[:, t] == 0, jnp.minimum(slope, 0), slope))
            best = jnp.maximum(w[:, t] - slope / jnp.where(gram[t, t] > 0, gram[t, t], 1), 0)
            return w.at[:, t].set(jnp.where(gram[t, t] > 0, best, w[:, t])), moved

        return lax.fori_loop(0, w.shape[1], column, (w, jnp.zeros((), x.dtype)))

    def step(carry):
        rows, parts, iteration, _, first = carry
        rows, one = descend(rows, parts @ parts.T, x @ parts.T, weight)
        counted = rows * weight[:, None]
        other, two = descend(parts.T, counted.T @ rows, x.T @ counted, jnp.ones(x.shape[1], x.dtype))
        moved = one + two
        return rows, other.T, iteration + 1, moved, jnp.where(iteration == 0, moved, first)

    def unfinished(carry):
        return (carry[2] < max_iterations) & ((carry[2] == 0) | (carry[3] > tolerance * carry[4]))

    zero = jnp.zeros((), x.dtype)
    _, parts, iterations, *_ = lax.while_loop(unfinished, step, (rows, parts, jnp.zeros((), jnp.int32), zero, zero))
    return parts, iterations


def sparsify(
    x: jax.Array, weight: jax.Array, k: int, alpha: Any, tolerance: Any, max_iterations: int
) -> tuple[jax.Array, Any]:
    """Directions [k, d] of which rows x [n, d] are sums, most of their parts 0, and how many steps it took.

    In turn: the directions by the lasso, given how much of each is in a row, [n, k]; then that by least squares, within the unit
    ball over all rows.
    """
    start = top_axes(gram(x, weight), k)[1]
    tiny = jnp.finfo(x.dtype).tiny

    def soft(value):
        return jnp.sign(value) * jnp.maximum(jnp.abs(value) - alpha, 0)

    def lasso(among, with_x, v):
        def part(t, v):
            rest = with_x[t] - among[t] @ v + among[t, t] * v[t]
            return v.at[t].set(soft(rest) / jnp.where(among[t, t] > tiny, among[t, t], jnp.inf))

        def sweep(carry):
            new = lax.fori_loop(0, k, part, carry[0])
            return new, jnp.abs(new - carry[0]).max() > 4 * jnp.finfo(x.dtype).eps * jnp.abs(new).max(), carry[2] + 1

        begin = v, jnp.array(True), jnp.zeros((), jnp.int32)
        return lax.while_loop(lambda carry: carry[1] & (carry[2] < 1000), sweep, begin)[0]

    def amounts(u, v):
        among, with_x = v @ v.T, x @ v.T

        def column(t, u):
            by = jnp.where(among[t, t] > tiny, among[t, t], jnp.inf)
            new = u[:, t] + (with_x[:, t] - u @ among[t]) / by
            return u.at[:, t].set(new / jnp.maximum(jnp.sqrt(weight @ new**2), 1))

        return lax.fori_loop(0, k, column, u)

    def step(carry):
        u, v, cost, _, iteration = carry
        counted = u * weight[:, None]
        v = lasso(counted.T @ u, counted.T @ x, v)
        u = amounts(u, v)
        new = weight @ jnp.square(x - u @ v).sum(1) / 2 + alpha * jnp.abs(v).sum()
        return u, v, new, cost - new, iteration + 1

    def unfinished(carry):
        return (carry[4] < max_iterations) & ((carry[4] < 2) | (carry[3] >= tolerance * carry[2]))

    zero = jnp.zeros((), x.dtype)
    begin = x @ start.T, start, zero, zero, jnp.zeros((), jnp.int32)
    _, directions, _, _, iterations = lax.while_loop(unfinished, step, begin)
    return directions, iterations


def least_parts(gram: jax.Array, right: jax.Array) -> jax.Array:
    """The w [k] >= 0 at which `w gram w / 2 - w right` is least, by coordinate descent until no digit changes."""
    k = len(right)

    def coordinate(t, w):
        best = jnp.maximum(w[t] - (gram[t] @ w - right[t]) / jnp.where(gram[t, t] > 0, gram[t, t], 1), 0)
        return w.at[t].set(jnp.where(gram[t, t] > 0, best, 0))

    def step(carry):
        w, _, iteration = carry
        new = lax.fori_loop(0, k, coordinate, w)
        return new, jnp.abs(new - w).max() > 4 * jnp.finfo(w.dtype).eps * new.max(), iteration + 1

    start = jnp.zeros_like(right), jnp.array(True), jnp.zeros((), jnp.int32)
    return lax.while_loop(lambda carry: carry[1] & (carry[2] < 1000), step, start)[0]


def separate(x: jax.Array, weight: jax.Array, start: jax.Array, tolerance: Any, max_iterations: int) -> tuple[jax.Array, Any]:
    """The rotation [k, k] of white rows x [n, k] to independent columns, from `start` [k, k], and how many steps it took."""

    def decorrelate(w):
        value, vector = jnp.linalg.eigh(w @ w.T)
        return (vector / jnp.sqrt(jnp.maximum(value, jnp.finfo(w.dtype).tiny))) @ vector.T @ w

    def step(carry):
        w, iteration, _ = carry
        value = jnp.tanh(x @ w.T)
        push = (value * weight[:, None]).T @ x / weight.sum()
        new = decorrelate(push - weighted_mean(1 - value**2, weight)[:, None] * w)
        turned = jnp.abs(jnp.abs((new * w).sum(1)) - 1).max()
        return new, iteration + 1, turned

    def unfinished(carry):
        return (carry[2] >= tolerance) & (carry[1] < max_iterations)

    begin = decorrelate(start), jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, x.dtype)
    turn, iterations, _ = lax.while_loop(unfinished, step, begin)
    return turn, iterations


def load_factors(
    covariance: jax.Array, total: jax.Array, components: int | None, tolerance: Any, max_iterations: int
) -> tuple[jax.Array, jax.Array, Any]:
    """Loadings [k, d] and noise [d] under which rows of this covariance [d, d] are likeliest, and how many steps it took."""
    variance, least = jnp.diag(covariance), 1e-12
    k = components or len(variance)

    def load(noise):
        """Loadings given the noise, and the log-likelihood but for a constant."""
        scale = jnp.sqrt(noise) + least
        scaled = covariance / scale / scale[:, None]
        value, axes = top_axes(scaled, k)
        rest = jnp.maximum(jnp.trace(scaled) - value.sum(), 0)
        likely = jnp.log(jnp.maximum(value, jnp.finfo(value.dtype).tiny)).sum() + rest + jnp.log(noise).sum()
        return jnp.sqrt(jnp.maximum(value - 1, 0))[:, None] * axes * scale, -total / 2 * likely

    def step(carry):
        loadings, noise, likely, _, iteration = carry
        noise = jnp.maximum(variance - (loadings**2).sum(0), least)
        loadings, new = load(noise)
        return loadings, noise, new, new - likely, iteration + 1

    def unfinished(carry):
        return (carry[3] >= tolerance) & (carry[4] < max_iterations)

    noise = jnp.ones_like(variance)
    loadings, likely = load(noise)
    begin = loadings, noise, likely, jnp.full_like(likely, jnp.inf), jnp.ones((), jnp.int32)
    loadings, noise, *_, iterations = lax.while_loop(unfinished, step, begin)
    return loadings, noise, iterations
