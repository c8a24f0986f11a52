"""What the driver costs: windows of steps under it, with its log, against the same steps in a loop written by hand.

Both take the same learner and batches: the loop by hand is one compiled program for a window, or a compiled step that
Python calls, whichever is faster. The two sides alternate within one process, so that the machine's speed cancels.
"""

import functools
import json
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import jax
from jax import lax

from arsenal.experiment import prepare_data
from arsenal.records import compute
from arsenal.road import build, compose
from arsenal.runs.events import events
from arsenal.runs.journal import Journal
from arsenal.runs.tensorboard import tensorboard
from arsenal.training.driver import advance, drive, start, step_of

LAYERS = ["model.layers=4", "model.heads=4", "model.width=128", "data.context=64", "batch_size=12"]


def main(given: dict) -> dict:
    """Pairs of windows, after one of each to compile."""
    config = compose("text_gpt", LAYERS)
    experiment = build(config)
    learner = experiment.parts.learner
    _, _, source = prepare_data(experiment.parts, config.settings, experiment.splits["train"])
    window, block = given["window"], source.block(0, 1)

    def step(train):
        state, means = step_of(learner, source, train, block)
        return train._replace(state=state, step=train.step + 1), means

    @functools.partial(jax.jit, donate_argnums=0)
    def whole(train):
        return lax.fori_loop(0, window, lambda i, train: step(train)[0], train)

    single = jax.jit(step, donate_argnums=0)

    def by_calls(train):
        for _ in range(window):
            train, means = single(train)
        jax.device_get(means)
        return train

    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(events(Path(folder)), tensorboard(Path(folder), 0, config.values))
        go = advance(learner, source)

        def log(at, means):
            journal.measure("train", at, compute(means))

        def driven(train):
            return drive(go, source, train, int(train.step) + window, log=log, log_every=given["log"])

        def timed(run, train):
            began = time.perf_counter()
            train = jax.block_until_ready(run(train))
            return time.perf_counter() - began, train

        ways = {"one program": whole, "a call for each step": by_calls}
        trains = {name: timed(way, start(learner, source, 0))[1] for name, way in ways.items()}
        ours = timed(driven, start(learner, source, 0))[1]
        pairs, chosen = [], []
        for _ in range(given["pairs"]):
            taken, ours = timed(driven, ours)
            by_hand = {}
            for name, way in ways.items():
                by_hand[name], trains[name] = timed(way, trains[name])
            chosen.append(min(by_hand, key=by_hand.get))
            pairs.append((taken, min(by_hand.values())))
        journal.close()
    assert int(ours.step) == int(trains["one program"].step)
    return {
        "value": statistics.median(a / b for a, b in pairs),
        "all": [round(a / b, 4) for a, b in pairs],
        "setting": f"{window} steps a window, logged every {given['log']}; by hand: {', '.join(sorted(set(chosen)))}; "
        f"{1000 * statistics.median(b for _, b in pairs) / window:.1f} ms a step",
        "versions": {name: version(name) for name in ("jax", "flax", "optax")},
    }


print(json.dumps(main(json.loads(sys.argv[1]))))
