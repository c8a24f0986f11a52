"""How much memory there is on a device, and what a compiled program takes of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

ROOM = 0.8
"""The share of the memory that is there which lanes may take."""


def fit_lanes(wanted: int, devices: int, there: float, compiled: Callable[[int], Any]) -> int:
    """How many lanes of those that are wanted fit into so many bytes on each device, in multiples of the devices.

    `compiled(size)` is the program of so many lanes; one lane on each device is never refused.
    """
    size = wanted
    while size > devices and (taken := program_bytes(compiled(size))) > there:
        size = shrink(size - devices, devices, size / devices * there / taken)
    return size


def shrink(size: int, devices: int, each: float) -> int:
    """At most so many lanes, and at most `each` on every device; at least one on each."""
    return devices * max(1, min(size // devices, int(each)))


def program_bytes(compiled: Any) -> int:
    """Bytes that a compiled program takes on each device."""
    memory = compiled.memory_analysis()
    sizes = (getattr(memory, f"{name}_size_in_bytes") for name in ("argument", "output", "temp"))
    return sum(sizes) - memory.alias_size_in_bytes


def free_memory() -> float:
    """Bytes of memory that are free on each of this process's devices."""
    devices = jax.local_devices()
    told = devices[0].memory_stats()
    if told and "bytes_limit" in told:
        return told["bytes_limit"] - told.get("bytes_in_use", 0)
    free = [float("inf")]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free += [1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        free += [] if limit == "max" else [float(limit) - float(used)]
    except OSError:
        pass
    return min(free) / len(devices)
