"""arsenal's side of the multilayer perceptron: a whole run with all that a run does.

It logs and writes TensorBoard every 100 steps, evaluates every 1000, draws its progress bar and saves one
checkpoint in each window, which is more often than the default of one a minute.
"""

import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
from importlib.metadata import version

WARM = 2000
"""Steps of the first run, and again of the run that goes on from it, before the first window."""


def main(given: dict) -> dict:
    """Train once to compile, then extend the run and time its windows from one evaluation to another."""
    os.environ |= {"FORCE_COLOR": "1", "TERM": "xterm"}  # the bar is drawn although nobody looks
    from arsenal.road import compose, fit
    from arsenal.runs.terminal import terminal

    window, marks = given["window"], []
    with tempfile.TemporaryDirectory() as root, open(os.devnull, "w") as nowhere:

        def train(length, listener):
            every = ["every.log=100 steps", "every.evaluate=1000 steps", f"every.save={window} steps"]
            overrides = [f"length={length}", f"run.root={root}", *every]
            return fit(compose("digits_mlp", ["optimizer=adam", *overrides]), listener=listener)

        with contextlib.redirect_stdout(nowhere), terminal(progress=True) as shown:

            def listen(kind, step, values):
                shown(kind, step, values)
                if kind == "validation" and step >= 2 * WARM and (step - 2 * WARM) % window == 0:
                    marks.append(time.perf_counter())

            train(WARM, shown)
            run = train(2 * WARM + window * given["windows"], listen)
        own = run.score(run.experiment.splits["train"])[1]
    return {
        "rates": [window / (after - before) for before, after in itertools.pairwise(marks)],
        "loss": own["loss"],
        "accuracy": own["accuracy"],
        "setting": f"a checkpoint every {window} steps",
        "versions": {name: version(name) for name in ("jax", "flax", "optax", "orbax-checkpoint")},
    }


print(json.dumps(main(json.loads(sys.argv[1]))))
