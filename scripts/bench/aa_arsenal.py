"""A/A simulations of a group-sequential test a second: lanes of one program, of blocks of units rather than units."""

import json
import sys
import time
from importlib.metadata import version

import jax
import numpy as np
from statistics_data import ALPHA, DEVIATION, LOOKS, UNITS

from arsenal.evaluation import ab


def main(given: dict) -> dict:
    """Rates of the windows after the first, which compiles."""
    decide = ab.beyond_boundaries(ab.group_sequential(np.arange(1, LOOKS + 1) / LOOKS, ALPHA))
    draw = ab.normal_outcomes(DEVIATION)

    def once(i):
        began = time.perf_counter()
        found = ab.simulate(jax.random.key(i), decide, draw, UNITS, LOOKS, experiments=given["experiments"])
        return given["experiments"] / (time.perf_counter() - began), found

    first, found = once(0)
    rates = [once(i)[0] for i in range(1, 1 + given["windows"])]
    rate = f"false findings {found.rate:.4f} ({found.low:.4f} to {found.high:.4f})"
    setting = f"{rate}; first call {given['experiments'] / first:.2f} s"
    return {"rates": rates, "setting": setting, "versions": {name: version(name) for name in ("jax", "numpy")}}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
