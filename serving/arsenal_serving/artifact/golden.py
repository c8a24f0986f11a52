"""Golden answers: what an artifact answered when it was made, and how far another machine's answer may lie.

A float output is compared on the scale of that output, `|got - golden| <= atol + rtol * max|golden|`, because a
number that cancelled to nearly zero carries the rounding of the numbers it came from. Integers and booleans
must be equal.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

# Float32 rounding differs between processors and compiler versions.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
# Tensor cores and TPUs round the inputs of a matrix product to 10 or 8 bits; a CPU does not.
OTHER_PLATFORM = 100.0
ROWS = 8
SMALL = 4096  # elements


def same_bits(got: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether two arrays agree in shape, dtype and every bit (NaN equals the same NaN, 0.0 differs from -0.0)."""
    return got.shape == wanted.shape and got.dtype == wanted.dtype and got.tobytes() == wanted.tobytes()


def difference(got: np.ndarray, wanted: np.ndarray) -> float:
    """The largest absolute difference; infinite where NaN or infinity stands in one only, or shape or dtype differ.

    >>> difference(np.array([1.0, np.nan]), np.array([1.5, np.nan]))
    0.5
    """
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return float("inf")
    if not wanted.size:
        return 0.0
    floating = _floating(wanted)
    same = (got == wanted) | (np.isnan(got) & np.isnan(wanted)) if floating else got == wanted
    with np.errstate(invalid="ignore"):
        apart = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
    if not floating:
        apart = np.maximum(apart, 1.0)  # large integers that differ may be one float64
    return float(np.where(same, 0.0, np.where(np.isfinite(apart), apart, np.inf)).max())


def is_finite(array: np.ndarray) -> bool:
    """Whether an array holds neither NaN nor infinity."""
    if array.size <= SMALL and array.dtype.char in "fd":
        return b"\0" not in np.isfinite(array).tobytes()  # a third of what a reduction takes to begin
    return not _floating(array) or bool(np.isfinite(array).all())


def count_differing(got: np.ndarray, wanted: np.ndarray) -> int:
    """How many elements of two arrays of one shape and type differ; NaN equals NaN."""
    both = np.isnan(got) & np.isnan(wanted) if _floating(wanted) else False
    return int(((got != wanted) & ~np.asarray(both)).sum())


def tolerate(wanted: np.ndarray, rtol: float, atol: float) -> float:
    """The largest difference from `wanted` that passes."""
    if not _floating(wanted):
        return 0.0
    # Half precision rounds more coarsely than any tolerance that is meant for float32.
    rounding = 4 * float(jnp.finfo(wanted.dtype).eps) if wanted.dtype.itemsize < 4 else 0.0
    known = np.abs(wanted[np.isfinite(wanted)].astype(np.float64))
    return atol + max(rtol, rounding) * float(known.max(initial=0.0))


def is_near(got: np.ndarray, wanted: np.ndarray, rtol: float, atol: float) -> bool:
    """Whether an answer passes for a golden one."""
    return difference(got, wanted) <= tolerate(wanted, rtol, atol)


def _floating(array: np.ndarray) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating)  # of bfloat16 numpy itself does not know it
