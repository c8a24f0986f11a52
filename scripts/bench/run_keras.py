"""Keras's side of the multilayer perceptron, on JAX, with its log and bar off and no callbacks.

It tries `steps_per_execution` with two ways to feed the rows and is timed with the fastest of them.
"""

import json
import sys
import time
from importlib.metadata import version

import keras
import numpy as np

BATCH = 128
SWEEP = [("arrays", n) for n in (1, 10)] + [("a generator", n) for n in (1, 10, 50, 100, 500)]
"""An epoch of arrays ends an execution; a generator may run through many epochs."""


def shuffled(x, y):
    """Batches without end, shuffled anew every epoch, the ragged last one of each included."""
    draw = np.random.default_rng(0)
    while True:
        order = draw.permutation(len(y))
        for i in range(0, len(y), BATCH):
            yield x[order[i : i + BATCH]], y[order[i : i + BATCH]]


def compiled(steps_per_execution):
    """64-128-128-10 with relu."""
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((8, 8)), layers.Flatten(), layers.Dense(128, "relu"), layers.Dense(128, "relu"), layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, steps_per_execution=steps_per_execution)
    return model


def rates(x, y, feed, steps_per_execution, warm, window, windows):
    """Steps per second of every window, and what was trained; a window is one call of `fit`."""
    model, per_epoch, batches = compiled(steps_per_execution), -(-len(y) // BATCH), shuffled(x, y)

    def train(steps):
        before = int(model.optimizer.iterations)
        if feed == "arrays":
            model.fit(x, y, BATCH, epochs=-(-steps // per_epoch), shuffle=True, verbose=0)
        else:
            model.fit(batches, epochs=1, steps_per_epoch=steps, verbose=0)
        return int(model.optimizer.iterations) - before  # whole executions: it may be more than was asked for

    measured = []
    train(warm)
    train(warm)  # the second call finds everything compiled
    for _ in range(windows):
        began = time.perf_counter()
        steps = train(window)
        measured.append(steps / (time.perf_counter() - began))
    return measured, model


def main(given: dict) -> dict:
    """Choose, then measure."""
    keras.utils.set_random_seed(0)
    held = np.load(given["rows"])
    x, y = held["x"], held["y"].astype(np.int32)
    tried = {(feed, n): max(rates(x, y, feed, n, given["trial"], given["trial"], 2)[0]) for feed, n in SWEEP}
    feed, n = max(tried, key=tried.get)
    measured, model = rates(x, y, feed, n, given["warm"], given["window"], given["windows"])
    outputs = model.predict(x, verbose=0)
    return {
        "rates": measured,
        "loss": float(model.evaluate(x, y, verbose=0)),
        "accuracy": float((outputs.argmax(-1) == y).mean()),
        "setting": f"{feed}, steps_per_execution={n}",
        "tried": {f"{feed}, {n}": round(rate) for (feed, n), rate in tried.items()},
        "versions": {name: version(name) for name in ("keras", "jax")},
    }


print(json.dumps(main(json.loads(sys.argv[1]))))
