"""Prototypes and criticisms: the few rows that stand for all, and those that these do not stand for.

Kim, Khanna & Koyejo, "Examples are not enough, learn to criticize!", NeurIPS 2016: greedy on the maximum mean discrepancy.
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt
from jax import lax

from arsenal.records import Batch, mask_dead_rows


class Prototypes(NamedTuple):
    """Rows by their positions, the most telling first."""

    prototypes: Any
    """[count] int32"""
    criticisms: Any
    """[criticisms] int32: where the density of the rows and that of the prototypes differ most, far from one another."""
    discrepancy: Any
    """[]: the squared maximum mean discrepancy between all rows and the prototypes."""


def prototypes(
    rows: Batch, count: Annotated[int, Ge(1)] = 5, criticisms: Annotated[int, Ge(0)] = 3,
    width: Annotated[float, Gt(0)] | None = None,
) -> Prototypes:  # fmt: skip
    """Greedy prototypes of x [n, d], columns or a model's representation, by the kernel `exp(-|a - b|² / (2 width²))`.

    `width` is the square root of half the columns unless told: of standardised columns the mean distance is twice it. A row
    counts by its weight, one of weight 0 is never chosen. Raises ValueError for more than there are rows that are there.
    """
    if np.ndim(rows.x) != 2:
        raise ValueError(f"`prototypes` takes x [n, d]; got shape {np.shape(rows.x)}.")
    there = int((np.asarray(rows.weight) > 0).sum()) if not isinstance(rows.weight, jax.core.Tracer) else len(rows.weight)
    if not 1 <= count <= there or not 0 <= criticisms <= there - count:
        allowed = f"must be >= 1, >= 0 and together <= {there}"
        raise ValueError(f"`count` and `criticisms` of `prototypes` {allowed}; got {count} and {criticisms}.")
    rows = mask_dead_rows(rows)
    x, n = rows.x, len(rows.weight)
    weight = rows.weight.astype(x.dtype) / rows.weight.sum().astype(x.dtype)
    scale = 2 * jnp.asarray(np.sqrt(x.shape[1] / 2) if width is None else width, x.dtype) ** 2
    square = jnp.square(x).sum(1)
    kernel = jnp.exp(-jnp.maximum(square[:, None] + square - 2 * jnp.matmul(x, x.T, precision="highest"), 0) / scale)
    near = kernel @ weight
    dead = weight <= 0

    def pick(i, state):
        taken, inside, chosen = state  # inside [n]: the kernel's sum to those that are taken
        size = (i + 1).astype(x.dtype)
        # MMD² of the prototypes with each row: what changes with the row.
        value = -2 * (near @ taken + near) / size + (taken @ inside + 2 * inside + jnp.diagonal(kernel)) / size**2
        best = jnp.where((taken > 0) | dead, jnp.inf, value).argmin().astype(jnp.int32)
        return taken.at[best].set(1), inside + kernel[best], chosen.at[i].set(best)

    begin = jnp.zeros(n, x.dtype), jnp.zeros(n, x.dtype), jnp.zeros(count, jnp.int32)
    taken, inside, chosen = lax.fori_loop(0, count, pick, begin)
    left = weight @ near - 2 * (near @ taken) / count + taken @ inside / count**2
    witness = jnp.abs(near - inside / count)

    def criticise(i, state):
        closest, found = state
        # Far from other criticisms: one beside another says little more.
        value = jnp.where((taken > 0) | dead, -1, witness * (1 - closest))
        best = value.argmax().astype(jnp.int32)
        return jnp.maximum(closest, kernel[best]), found.at[i].set(best)

    _, others = lax.fori_loop(0, criticisms, criticise, (jnp.zeros(n, x.dtype), jnp.zeros(criticisms, jnp.int32)))
    return Prototypes(chosen, others, left)
