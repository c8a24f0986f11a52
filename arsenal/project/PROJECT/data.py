"""The data: replace `wave` by a function that reads yours."""

from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt


def wave(rows: Annotated[int, Gt(0)] = 600, noise: Annotated[float, Ge(0)] = 0.1, seed: int = 0) -> dict[str, np.ndarray]:
    """Points of a wave: x [rows, 1] in -1..1, y [rows] = sin(6 x) + 0.5 x with noise."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(-1, 1, (rows, 1))
    y = np.sin(6 * x[:, 0]) + 0.5 * x[:, 0] + noise * draw.normal(size=rows)
    return {"x": x, "y": y}
