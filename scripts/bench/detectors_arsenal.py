"""Values a second that a detector of change takes, all of them in one block."""

import json
import sys
import time
from importlib.metadata import version

import numpy as np

from arsenal import monitoring


def main(given: dict) -> dict:
    """Rates of the windows after the first."""
    values = np.repeat([0.0, 1.0, 0.5, 0.5], given["values"] // 4) + 0.1 * np.random.default_rng(0).normal(size=given["values"])
    detector = getattr(monitoring, given["what"])()
    rates = []
    for _ in range(1 + given["windows"]):
        began = time.perf_counter()
        _, alarms = detector.update(detector.init(), values)
        rates.append(len(values) / (time.perf_counter() - began))
    setting = f"changes at {np.flatnonzero(alarms.drift).tolist()[:6]}"
    return {"rates": rates[1:], "setting": setting, "versions": {name: version(name) for name in ("numpy", "scipy")}}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
