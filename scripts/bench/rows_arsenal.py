"""Write the digits that every side trains on, as the learner sees them: x [n, 8, 8] in 0..1 and y [n]."""

import json
import sys

import numpy as np

from arsenal.experiment import prepare
from arsenal.road import build, compose

given = json.loads(sys.argv[1])
config = compose("digits_mlp")
experiment = build(config)
_, rows = prepare(experiment.parts, config.settings.seed, experiment.splits["train"])
np.savez(given["rows"], x=np.asarray(rows.x, np.float32), y=np.asarray(rows.y, np.int64))
print(json.dumps({"rows": len(rows.weight), "batch_size": config.settings.batch_size}))
