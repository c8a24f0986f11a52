"""How XLA orders the operations of a program on CPUs."""

from __future__ import annotations

import os

import jax

FLAG = "xla_cpu_enable_concurrency_optimized_scheduler"
KNOWN = ((0, 10), (0, 11))
"""From which version of JAX to below which the flag is known to be there: of an unknown one XLA ends the process."""


def run_in_order() -> None:
    """Let programs for CPUs run independent operations one after another, unless `XLA_FLAGS` say otherwise.

    Side by side, batches of LAPACK's calls (`solve`, `eigh`, `cholesky`) each hold a thread of the pool and wait for
    others: as many of them as there are threads wait for ever, without a word. Call before any array exists.
    """
    given = os.environ.get("XLA_FLAGS", "")
    if FLAG not in given and KNOWN[0] <= jax.__version_info__ < KNOWN[1]:
        os.environ["XLA_FLAGS"] = f"{given} --{FLAG}=false".strip()
