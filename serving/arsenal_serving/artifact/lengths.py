"""Lengths that vary, rounded up to powers of two, so that few programs serve all and unequal lengths share a run.

Only dimensions whose padding an export proved to change no answer: see `Tensor(pad=...)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from arsenal_serving.artifact.program import BATCH
from arsenal_serving.refused import Refused

BOUND = re.compile(r"([A-Za-z_][A-Za-z0-9_]*) *(<=|>=) *([0-9]{1,9})")


class Shaped(Protocol):
    """An input or output: what it is called, its dimensions, and what its lengths are filled up with."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def shape(self) -> tuple[int | str, ...]: ...  # noqa: D102

    @property
    def pad(self) -> float | None: ...  # noqa: D102


def buckets(inputs: Sequence[Shaped], constraints: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The sizes of each dimension that is rounded up: powers of two within its bounds, and the upper one.

    Raises `Refused` for a dimension that is padded in some inputs only, that has no upper bound, or that stands in
    other constraints.
    """
    found: dict[str, tuple[int, ...]] = {}
    for port in inputs:
        varying = [dim for dim in port.shape if isinstance(dim, str) and dim != BATCH]
        if port.pad is not None and not varying:
            raise Refused(f"input {port.name!r} has a `pad` and no dimension beyond the batch that varies.")
        for dim in varying if port.pad is not None else ():
            if any(other.pad is None for other in inputs if dim in other.shape):
                raise Refused(f"every input with the dimension {dim!r} must have a `pad`, or none.")
            low, high = 1, 0
            for rule in constraints:
                bound = BOUND.fullmatch(rule.strip())
                if bound and bound[1] == dim:
                    low, high = (low, int(bound[3])) if bound[2] == "<=" else (max(low, int(bound[3])), high)
                elif re.search(rf"\b{dim}\b", rule):
                    raise Refused(f"{dim!r} is padded, so constraints on it must be <= or >= a number; got {rule!r}.")
            if high < low:
                raise Refused(f"{dim!r} is padded, so a constraint must bound it, like '{dim} <= 512'.")
            powers = {1 << k for k in range(high.bit_length()) if low <= 1 << k < high}
            found[dim] = tuple(sorted({*powers, high}))
    return found


def can_fill(pad: float, dtype: np.dtype) -> bool:
    """Whether a value can stand in an array of a type: a whole number in integers, nothing that overflows."""
    with np.errstate(all="ignore"):
        filled = np.asarray(pad).astype(dtype).astype(np.float64)
    return bool(np.isfinite(filled)) and (dtype.kind not in "iub" or bool(filled == pad))


def sizes(inputs: Sequence[Shaped], arrays: Sequence[np.ndarray], sizes_of: Mapping[str, Any]) -> dict[str, int]:
    """The size of each padded dimension in the arrays."""
    return {
        dim: size
        for port, array in zip(inputs, arrays, strict=True)
        for dim, size in zip(port.shape, array.shape, strict=True)
        if isinstance(dim, str) and dim in sizes_of
    }


def widen(inputs: Sequence[Shaped], arrays: Sequence[np.ndarray], to: Mapping[str, int]) -> list[np.ndarray]:
    """The arrays with these dimensions filled up to a size, each with its input's `pad`."""
    made = []
    for port, array in zip(inputs, arrays, strict=True):
        shape = [to.get(dim, size) for dim, size in zip(port.shape, array.shape, strict=True)]  # type: ignore[arg-type]
        if shape != list(array.shape):
            wide = np.full(shape, port.pad, array.dtype)
            wide[tuple(map(slice, array.shape))] = array
            array = wide
        made.append(array)
    return made


def cut(outputs: Sequence[Shaped], answers: Sequence[np.ndarray], to: Mapping[str, int]) -> list[np.ndarray]:
    """The answers with these dimensions cut back to a size."""
    made = []
    for port, answer in zip(outputs, answers, strict=True):
        within = tuple(slice(to.get(dim)) for dim in port.shape)  # type: ignore[arg-type]
        made.append(answer[within])
    return made
