"""Kernels: similarities of pairs of rows that are inner products of features nobody computes."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

Kernel = Literal["linear", "polynomial", "rbf"]
KERNELS = ("linear", "polynomial", "rbf")


class KernelScale(NamedTuple):
    """The floats of a kernel: `gamma` and `coef0`, read as far as the kernel has them."""

    gamma: Any
    coef0: Any


def check_kernel(name: str, kernel: str) -> None:
    """Raise ValueError for an unknown kernel."""
    if kernel not in KERNELS:
        raise ValueError(f"`kernel` of `{name}` must be one of {', '.join(KERNELS)}; got {kernel!r}.")


def kernel_floats(kernel: Kernel, gamma: float | None, coef0: float) -> dict[str, float]:
    """Those floats that a kernel reads and that are given, as `hp`."""
    floats = {"gamma": gamma} if gamma is not None and kernel != "linear" else {}
    return floats | ({"coef0": coef0} if kernel == "polynomial" else {})


def kernel_scale(hp: Any, gamma: Any, dtype: Any) -> KernelScale:
    """The floats as arrays; `gamma` where `hp` has none."""
    return KernelScale(jnp.asarray(hp.get("gamma", gamma), dtype), jnp.asarray(hp.get("coef0", 0.0), dtype))


def kernel_matrix(kernel: Kernel, x: jax.Array, z: jax.Array, scale: KernelScale, degree: int = 3) -> jax.Array:
    """The kernel [n, m] of rows x [n, d] and z [m, d]: `x·z`, `(gamma x·z + coef0)^degree` or `exp(-gamma |x - z|²)`.

    >>> scale = KernelScale(jnp.float32(0.5), jnp.float32(1.0))
    >>> float(kernel_matrix("polynomial", jnp.array([[2.0]]), jnp.array([[3.0]]), scale, 2)[0, 0])
    16.0
    """
    if kernel == "rbf":
        return jnp.exp(-scale.gamma * squared_distances(x, z))
    product = jnp.matmul(x, z.T, precision="highest")
    return product if kernel == "linear" else (scale.gamma * product + scale.coef0) ** degree


def squared_distances(x: jax.Array, z: jax.Array) -> jax.Array:
    """Squared Euclidean distances [n, m] of rows x [n, d] and z [m, d], by one matrix product.

    Distances are differences of squares: the shorter the vectors, the more digits are left, so both are moved to the mean of z.
    """
    mean = z.mean(0)
    x, z = x - mean, z - mean
    product = jnp.matmul(x, z.T, precision="highest")
    return jnp.maximum(jnp.square(x).sum(1)[:, None] + jnp.square(z).sum(1) - 2 * product, 0)
