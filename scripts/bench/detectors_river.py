"""The same by river, a value at a time, which is how it takes them."""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
from river import drift


def main(given: dict) -> dict:
    """Rates of the windows."""
    values = np.repeat([0.0, 1.0, 0.5, 0.5], given["values"] // 4) + 0.1 * np.random.default_rng(0).normal(size=given["values"])
    values, rates = values.tolist(), []
    for _ in range(given["windows"]):
        detector, changes = {"adwin": drift.ADWIN, "page_hinkley": drift.PageHinkley}[given["what"]](), []
        began = time.perf_counter()
        for at, value in enumerate(values):
            detector.update(value)
            if detector.drift_detected:
                changes.append(at)
        rates.append(len(values) / (time.perf_counter() - began))
    return {"rates": rates, "setting": f"changes at {changes[:6]}", "versions": {"river": version("river")}}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
