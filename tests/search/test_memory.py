"""Only as many lanes train at once as fit into memory."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from arsenal.config import ConfigError
from arsenal.search.engines import memory
from arsenal.storage import memory as devices

STATE = jax.ShapeDtypeStruct((250,), np.float32)


def program(per_lane: int):
    """Programs of this many bytes for each lane, and the sizes that were compiled."""
    tried: list[int] = []

    def compiled(size: int):
        tried.append(size)
        sizes = SimpleNamespace(
            argument_size_in_bytes=1000 * size, output_size_in_bytes=1000 * size, temp_size_in_bytes=per_lane * size,
            alias_size_in_bytes=2000 * size,
        )  # fmt: skip
        return SimpleNamespace(memory_analysis=lambda: sizes)

    return compiled, tried


@pytest.mark.parametrize(("free", "per_lane", "size"), [(1e9, 10, 64), (100_000, 10, 26), (1e5, 8000, 10), (4000, 9000, 1)])
def test_what_fits_is_found_by_the_state_and_then_by_the_program(monkeypatch, free, per_lane, size):
    monkeypatch.setattr(devices, "free_memory", lambda: float(free))
    compiled, tried = program(per_lane)
    found, there = memory.fit_lanes(64, 1, STATE, compiled)
    assert (found, there) == (size, 0.8 * free)
    assert 1 not in tried, "One lane is tried without asking."


def test_lanes_come_in_multiples_of_the_devices(monkeypatch):
    monkeypatch.setattr(devices, "free_memory", lambda: 1e5)
    assert memory.fit_lanes(64, 8, STATE, program(30_000)[0])[0] == 8


def test_a_state_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(devices, "free_memory", lambda: 3000.0)
    with pytest.raises(ConfigError, match="needs about 0.0 GB of memory for its state"):
        memory.fit_lanes(4, 1, STATE, program(1)[0])
