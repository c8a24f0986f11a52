"""arsenal's side of COCO's mean average precision: the same boxes of 1,000 images, a hundred images a batch."""

import json
import sys
import time
from importlib.metadata import version

import jax
import numpy as np
from coco_peer import IMAGES, drawn

from arsenal.metrics import mean_average_precision
from arsenal.records import Batch

BATCH = 100


def main(given: dict) -> dict:
    """Images a second from batches of boxes to the twelve numbers."""
    true, said = drawn()
    metric, rates, found = mean_average_precision(), [], {}
    for _ in range(given["times"]):
        begun = time.perf_counter()
        acc = metric.empty()
        for at in range(0, IMAGES, BATCH):
            outputs, y = jax.tree.map(lambda v, at=at: v[at : at + BATCH], (said, true))
            acc = metric.update(acc, outputs, Batch(None, y, np.ones(BATCH), np.arange(at, at + BATCH)))
        found = metric.compute(acc)
        rates.append(IMAGES / (time.perf_counter() - begun))
    setting = " ".join(f"{v:.6f}" for v in found.values())
    return {"rates": rates, "setting": setting, "versions": {name: version(name) for name in ("jax", "numpy")}}


print(json.dumps(main(json.loads(sys.argv[1]))))
