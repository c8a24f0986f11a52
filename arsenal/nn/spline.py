"""Layers whose every connection is a curve: Kolmogorov-Arnold networks. Liu et al. 2024 (2404.19756)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def spline_knots(pieces: int, degree: int, low: float, high: float) -> np.ndarray:
    """Evenly spaced knots of `pieces` between `low` and `high` and `degree` more on either side, [pieces + 2 degree + 1]."""
    step = (high - low) / pieces
    return low + step * np.arange(-degree, pieces + degree + 1)


def spline_basis(x: jax.Array, knots: np.ndarray, degree: int) -> jax.Array:
    """What each B-spline of a degree is at x [...]: [..., len(knots) - degree - 1]. de Boor, 1978, X (4), (5).

    Between the knots of the range they add up to 1; beyond the outermost knots all are 0.

    >>> spline_basis(jnp.array([0.5]), np.arange(4.0), 1).tolist()
    [[0.5, 0.0]]
    """
    t = np.asarray(knots, np.float64)
    at = x[..., None]
    found = ((at >= jnp.asarray(t[:-1], x.dtype)) & (at < jnp.asarray(t[1:], x.dtype))).astype(x.dtype)
    for order in range(1, degree + 1):
        rising = jnp.asarray(1 / (t[order:-1] - t[: -order - 1]), x.dtype) * (at - jnp.asarray(t[: -order - 1], x.dtype))
        falling = jnp.asarray(1 / (t[order + 1 :] - t[1:-order]), x.dtype) * (jnp.asarray(t[order + 1 :], x.dtype) - at)
        found = rising * found[..., :-1] + falling * found[..., 1:]
    return found


class SplineDense(nn.Module):
    """x [n, ..., in] to [n, ..., features]: the sum over inputs of `base silu(x) + curve(x)`, each connection with its own.

    A curve is a B-spline of `degree` on `pieces` even pieces between `low` and `high`; further out it falls to 0, and the rest of
    a connection is what `base` says. Curves begin as noise of `spread`.
    """

    features: int
    pieces: int = 5
    degree: int = 3
    low: float = -1.0
    high: float = 1.0
    spread: float = 0.1

    @nn.compact
    def __call__(self, x):
        """One product with the bases of all inputs side by side."""
        inputs = x.shape[-1]
        basis = spline_basis(x, spline_knots(self.pieces, self.degree, self.low, self.high), self.degree)
        count = basis.shape[-1]
        base = self.param("base", nn.initializers.lecun_normal(), (inputs, self.features), x.dtype)
        noise = nn.initializers.normal(self.spread / inputs**0.5)
        curves = self.param("curves", noise, (inputs * count, self.features), x.dtype)
        return jax.nn.silu(x) @ base + basis.reshape(*x.shape[:-1], inputs * count) @ curves
