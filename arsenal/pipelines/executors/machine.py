"""What this machine has for steps."""

import os
from pathlib import Path

from arsenal.pipelines.step import Resources


def machine() -> Resources:
    """The processors, GPUs and memory that this process may use."""
    return Resources(float(cpus()), len(gpus()), memory())


def cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES has."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [one for one in told.split(",") if one.strip() not in ("", "-1", "none", "void")]
    return [str(i) for i, _ in enumerate(sorted(Path("/dev").glob("nvidia[0-9]*")))]


def memory() -> int:
    """Bytes of memory, of the container where that has less."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        found += [] if limit == "max" else [int(limit)]
    except (OSError, ValueError):
        pass
    return min(found)
