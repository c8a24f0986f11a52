"""arsenal's side of the transformer's training step: the compiled chunk of a run, its metrics read every 50 steps."""

import itertools
import json
import sys
import time
from importlib.metadata import version

import jax

from arsenal.experiment import prepare_data
from arsenal.records import compute
from arsenal.road import build, compose
from arsenal.training.driver import advance, drive, start

LOG = 50


def main(given: dict) -> dict:
    """Drive through the warm-up and the windows in one go."""
    config = compose("text_gpt", ["model.layers=4", "model.heads=4", "model.width=128", "data.context=64", "batch_size=12"])
    experiment = build(config)
    learner = experiment.parts.learner
    _, _, source = prepare_data(experiment.parts, config.settings, experiment.splits["train"])
    warm, window, marks, losses = given["warm"], given["window"], [], []

    def log(step, means):
        losses.append(float(compute(jax.device_get(means))["loss"]))
        if step >= warm and (step - warm) % window == 0:
            marks.append(time.perf_counter())

    stop = warm + window * given["windows"]
    drive(advance(learner, source), source, start(learner, source, 0), stop, log=log, log_every=LOG)
    return {
        "rates": [window / (after - before) for before, after in itertools.pairwise(marks)],
        "loss": losses[-1],
        "setting": f"chunks of {LOG} steps",
        "versions": {name: version(name) for name in ("jax", "flax", "optax")},
    }


print(json.dumps(main(json.loads(sys.argv[1]))))
