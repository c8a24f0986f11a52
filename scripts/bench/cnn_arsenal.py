"""arsenal's side of the convolutional net: the compiled chunk of a run, its metrics read every 100 steps."""

import itertools
import json
import sys
import time
from importlib.metadata import version

import jax

from arsenal.data import arrays
from arsenal.evaluation.answers import scorer
from arsenal.experiment import prepare
from arsenal.records import compute
from arsenal.road import build, compose
from arsenal.training.driver import advance, drive, start, streams

LOG = 100


def main(given: dict) -> dict:
    """Drive through the warm-up and the windows in one go."""
    config = compose("digits_cnn")
    experiment = build(config)
    learner, seed = experiment.parts.learner, config.settings.seed
    _, rows = prepare(experiment.parts, seed, experiment.splits["train"])
    source = arrays(rows, config.settings.batch_size)
    warm, window, marks = given["warm"], given["window"], []

    def log(step, means):
        compute(jax.device_get(means))
        if step >= warm and (step - warm) % window == 0:
            marks.append(time.perf_counter())

    stop = warm + window * given["windows"]
    train = drive(advance(learner, source), source, start(learner, source, seed), stop, log=log, log_every=LOG)
    judge = scorer(learner, {}, rows, source.batch_size)
    own = judge(streams(train.key)["evaluate"], learner.params(train.state), train.hp)
    return {
        "rates": [window / (after - before) for before, after in itertools.pairwise(marks)],
        "loss": float(own["loss"]),
        "accuracy": float(own["accuracy"]),
        "setting": f"chunks of {LOG} steps",
        "versions": {name: version(name) for name in ("jax", "flax", "optax")},
    }


print(json.dumps(main(json.loads(sys.argv[1]))))
