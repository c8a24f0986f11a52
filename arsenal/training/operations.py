"""How much of the machine training uses: floating-point operations by formula against what the chip can do.

Chowdhery et al., 2022 (2204.02311), appendix B: model FLOPs utilisation is the throughput that was seen over the one
that the peak would allow, with the operations of the model's formula, not those that were carried out.
"""

from typing import Any

import jax

from arsenal.records import Learner

# Dense bfloat16 operations a second, from the vendors' data sheets; CPUs have no such figure.
PEAKS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
}


def peak_rate(kind: str) -> float | None:
    """The dense bfloat16 peak of a device, operations a second, by what JAX calls it; None where it is not known.

    >>> peak_rate("NVIDIA H100 80GB HBM3"), peak_rate("cpu")
    (989000000000000.0, None)
    """
    return next((value for name, value in PEAKS.items() if kind.startswith(name)), None)


def operations_per_step(learner: Learner, state: Any, batch: Any) -> float | None:
    """Operations of one step by the model's formula; None where it has none."""
    if learner.flops is None:
        return None
    shapes = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), (state, batch))
    return float(learner.flops(*shapes))
