"""What both sides of the bootstrap's figure resample, and what both sides of the A/A figure simulate."""

import numpy as np

LOOKS, UNITS, DEVIATION, ALPHA = 20, 10_000, 1.0, 0.05
"""Of an experiment without an effect: looks, units in either arm."""


def scores(rows: int):
    """Labels [n] and scores [n] without ties."""
    draw = np.random.default_rng(0)
    y = (draw.random(rows) < 0.3).astype(np.int32)
    return y, draw.normal(size=rows) + y
