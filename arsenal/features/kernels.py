"""Features whose products approximate a kernel, so that a linear learner of many rows draws the kernel's borders."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt

from arsenal.features.arrays import Names, as_table, divide
from arsenal.features.decomposition import sign_of, top_axes
from arsenal.numerics.kernels import Kernel, check_kernel, kernel_floats, kernel_matrix, kernel_scale
from arsenal.records import Transform


class Landmarks(NamedTuple):
    """Rows [m, d] whose kernels are the features, what makes their products the kernel [m, m], and the kernel's floats."""

    x: Any
    whiten: Any
    scale: Any


class Waves(NamedTuple):
    """Directions [d, m] and phases [m] of the cosines that are the features."""

    direction: Any
    phase: Any


class KernelAxes(NamedTuple):
    """The training rows [n, d], their shares of the weight [n], what each counts on every axis [n, k], and the kernel's floats.

    `mean` [n] is the mean kernel of each with all, which centring takes away.
    """

    x: Any
    share: Any
    mean: Any
    axes: Any
    scale: Any


def kernel_pca(
    components: Annotated[int, Gt(0)], kernel: Kernel = "rbf", gamma: Annotated[float, Gt(0)] | None = None,
    degree: Annotated[int, Gt(0)] = 3, coef0: float = 1.0,
) -> Transform:  # fmt: skip
    """The `components` directions of most variance among the features of a kernel: `pca` of what nobody computes.

    Schölkopf, Smola & Müller, Neural Computation 10 (1998). x [n, d] to [n, components]; kernels and floats as of `nystroem`.
    The largest part of a direction is positive, and one along which nothing varies is 0. The training rows are the state, and
    all pairs of them are held at once: this is for some thousand, `nystroem` before `pca` for more. Equal to scikit-learn's
    KernelPCA.
    """
    check_kernel("kernel_pca", kernel)

    def fit(key, rows, hp):
        x = as_table("kernel_pca", rows.x)
        weight = rows.weight.astype(x.dtype)
        scale, share = kernel_scale(hp, 1 / x.shape[1], x.dtype), weight / weight.sum()
        inner = kernel_matrix(kernel, x, x, scale, degree)
        mean, root = inner @ share, jnp.sqrt(weight)
        variance, axes = top_axes((inner - mean - mean[:, None] + mean @ share) * root * root[:, None], components)
        noise = len(x) * jnp.finfo(x.dtype).eps * variance[0]
        size = jnp.where(variance > noise, jnp.sqrt(variance), jnp.inf)
        sign = sign_of(divide(axes, root))
        axes = axes.T * root[:, None] / size * sign
        axes = jnp.pad(axes, ((0, 0), (0, components - axes.shape[1])))  # no more directions than rows
        state = KernelAxes(x, share, mean, axes, scale)
        return state, rows._replace(x=apply(state, x))

    def apply(state, x):
        inner = kernel_matrix(kernel, as_table("kernel_pca", x), state.x, state.scale, degree)
        centred = inner - state.mean - (inner @ state.share)[:, None] + state.mean @ state.share
        return jnp.matmul(centred, state.axes, precision="highest")

    return Transform(fit, apply, hp=kernel_floats(kernel, gamma, coef0), names=number_names("kernel_pc", components))


def nystroem(
    components: Annotated[int, Gt(0)] = 100, kernel: Kernel = "rbf", gamma: Annotated[float, Gt(0)] | None = None,
    degree: Annotated[int, Gt(0)] = 3, coef0: float = 1.0,
) -> Transform:  # fmt: skip
    """x [n, d] to [n, components], whose products are the kernel's best approximation from that many training rows.

    Williams & Seeger, NIPS 13 (2001). The rows are drawn by weight, none twice where there are enough. `kernel`: `linear`,
    `polynomial` `(gamma x·z + coef0)^degree`, `rbf` `exp(-gamma |x - z|²)`; `gamma`, 1 over the number of columns unless given,
    and `coef0` are traced. Columns should be of one scale (`standardize`). scikit-learn's Nystroem of the same rows.
    """
    check_kernel("nystroem", kernel)

    def fit(key, rows, hp):
        x = as_table("nystroem", rows.x)
        scale = kernel_scale(hp, 1 / x.shape[1], x.dtype)
        picked = x[draw_apart(key, rows.weight.astype(x.dtype), components)]
        values, vectors = jnp.linalg.eigh(kernel_matrix(kernel, picked, picked, scale, degree))
        # Rows that are alike add nothing; what is left of them is rounding, which a division would blow up.
        real = values > values.max() * components * jnp.finfo(x.dtype).eps
        whiten = vectors * jnp.where(real, 1 / jnp.sqrt(jnp.where(real, values, 1)), 0) @ vectors.T
        state = Landmarks(picked, whiten, scale)
        return state, rows._replace(x=apply(state, x))

    def apply(state, x):
        return kernel_matrix(kernel, as_table("nystroem", x), state.x, state.scale, degree) @ state.whiten

    return Transform(fit, apply, hp=kernel_floats(kernel, gamma, coef0), names=number_names("landmark", components))


def random_fourier(components: Annotated[int, Gt(0)] = 100, gamma: Annotated[float, Gt(0)] = 1.0) -> Transform:
    """x [n, d] to [n, components] cosines whose products approximate `exp(-gamma |x - z|²)`; `gamma` is traced.

    Rahimi & Recht, NIPS 20 (2007): the error falls as 1 over the root of `components`. Nothing but the number of columns is read
    from the rows. Columns should be of one scale (`standardize`). scikit-learn's RBFSampler.
    """

    def fit(key, rows, hp):
        x = as_table("random_fourier", rows.x)
        first, second = jax.random.split(key)
        direction = jax.random.normal(first, (x.shape[1], components), x.dtype) * jnp.sqrt(2 * hp["gamma"]).astype(x.dtype)
        state = Waves(direction, jax.random.uniform(second, (components,), x.dtype, maxval=2 * jnp.pi))
        return state, rows._replace(x=apply(state, x))

    def apply(state, x):
        angle = jnp.matmul(as_table("random_fourier", x), state.direction, precision="highest") + state.phase
        return jnp.cos(angle) * jnp.sqrt(jnp.asarray(2 / components, angle.dtype))

    return Transform(fit, apply, hp={"gamma": gamma}, names=number_names("wave", components))


def draw_apart(key: jax.Array, weight: jax.Array, k: int) -> jax.Array:
    """Positions [k] of rows, each with probability proportional to weight [n], at equal steps through its sum from one draw.

    So no row is drawn twice that has less than 1/k of the weight; dead rows and rows repeated change nothing, as in `draw`.
    Madow, Annals of Mathematical Statistics 20 (1949).
    """
    total = jnp.cumsum(weight)
    steps = (jnp.arange(k, dtype=total.dtype) + jax.random.uniform(key, (), total.dtype)) / k
    return jnp.clip(jnp.searchsorted(total, steps * total[-1], side="right"), 0, weight.shape[0] - 1)


def number_names(word: str, count: int) -> Any:
    """Names of columns that are no one column's: `word0` and so on."""

    def names(given: Names) -> Names:
        return {"x": [f"{word}{i}" for i in range(count)]}

    return names
