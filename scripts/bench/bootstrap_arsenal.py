"""BCa resamples of the area under the ROC curve a second: sorted once, a resample is a vector of weights."""

import json
import sys
import time
from importlib.metadata import version

import jax
import numpy as np
from statistics_data import scores

from arsenal.evaluation.bootstrap import bootstrap, roc_auc_by_weight


def main(given: dict) -> dict:
    """Rates of the windows after the first; of the first alone where it is asked for cold."""
    y, score = scores(given["size"])
    area, weight = roc_auc_by_weight(y, score), np.ones(len(y))

    def once(i):
        began = time.perf_counter()
        found = bootstrap(jax.random.key(i), area, weight, samples=given["samples"], method="bca")
        return given["samples"] / (time.perf_counter() - began), found

    first, found = once(0)
    rates = [first] if given.get("cold") else [once(i)[0] for i in range(1, 1 + given["windows"])]
    setting = f"{found.low:.4f} to {found.high:.4f}; first call {given['samples'] / first:.2f} s"
    return {"rates": rates, "setting": setting, "versions": {name: version(name) for name in ("jax", "numpy")}}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
