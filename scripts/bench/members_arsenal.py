"""Eight convolutional nets: as one population, or one after another with the same compiled program."""

import json
import sys
import time
from importlib.metadata import version

import jax
import numpy as np

from arsenal.combine import population
from arsenal.data import arrays
from arsenal.evaluation.answers import scorer
from arsenal.experiment import prepare
from arsenal.records import compute
from arsenal.road import build, compose
from arsenal.training.driver import advance, drive, start, streams

SEEDS = range(8)


def main(given: dict) -> dict:
    """Take all members through rounds of as many steps; the first one is the warm-up."""
    config = compose("digits_cnn")
    experiment = build(config)
    _, rows = prepare(experiment.parts, config.settings.seed, experiment.splits["train"])
    source = arrays(rows, config.settings.batch_size)
    learner = experiment.parts.learner
    if given["together"]:
        learner = population(learner, SEEDS)
        states = [start(learner, source, config.settings.seed)]
    else:
        states = [start(learner, source, seed) for seed in SEEDS]
    go, window, measured = advance(learner, source), given["window"], []

    def log(step, means):
        compute(jax.device_get(means))

    for i in range(given["windows"] + 1):
        began = time.perf_counter()
        states = [drive(go, source, state, window * (i + 1), log=log, log_every=100) for state in states]
        jax.block_until_ready(states)
        measured.append(window * len(SEEDS) / (time.perf_counter() - began))
    judge = scorer(learner, {}, rows, source.batch_size)
    own = [judge(streams(s.key)["evaluate"], learner.params(s.state), s.hp) for s in states]
    return {
        "rates": measured[1:],
        "loss": float(np.max([values["loss"] for values in own])),
        "accuracy": float(np.min([values["accuracy"] for values in own])),
        "setting": "one program of 8 lanes" if given["together"] else "one program, 8 times",
        "versions": {name: version(name) for name in ("jax", "flax", "optax")},
    }


print(json.dumps(main(json.loads(sys.argv[1]))))
