"""What a sweep searches by."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from arsenal.records import Scheduler, Search
from arsenal.search.space import Space


class Searching(NamedTuple):
    """Where to look, who suggests, and who goes on."""

    space: Space
    search: Search
    scheduler: Scheduler | None
    key: jax.Array


def clip_to_bounds(space: Space, candidates: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Candidates whose floats are within their bounds also after rounding to float32 and back."""
    bounds = {name: one for name, one in space.dimensions.items() if one.size is None}
    return {
        name: np.clip(np.asarray(value, float), bounds[name].low, bounds[name].high) if name in bounds else np.asarray(value)
        for name, value in candidates.items()
    }
