"""The same batches on one device and shared by eight simulated ones, in one process, a few steps of each in turn."""

import json
import os
import statistics
import sys
import time
from importlib.metadata import version

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["NPROC"] = "32"  # threads for collectives to wait in, see arsenal.runs.processes

import jax
import jax.numpy as jnp

from arsenal.experiment import initial_state, prepare_data, shardings_of
from arsenal.road import build, compose
from arsenal.training import parallel
from arsenal.training.driver import advance
from arsenal.training.parallel import place

WAYS = {"jit": parallel.jit(), "sharded": parallel.sharded(), "pmap": parallel.pmap()}


def main(given: dict) -> dict:
    """Seconds a step of each way; the ratio to one device of each round."""
    config = compose("text_gpt", [f"batch_size={given['batch']}", "model.layers=4"])
    experiment = build(config)
    runs = {}
    for name, choose in WAYS.items():
        rows = experiment.splits["train"]
        how = choose(experiment.parts.learner, given["batch"])
        fitted, _, source = prepare_data(experiment.parts, config.settings, rows, how.source)
        made = experiment.parts._replace(learner=how.learner(experiment.parts.learner))
        begun = initial_state(made, config.settings, fitted, source)
        train = jax.block_until_ready(place(begun, shardings_of(made, how, begun))["train"])
        runs[name] = [advance(made.learner, source), train, source.block(0, 1)]
    took: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(given["rounds"] + 1):
        for name, (run, train, block) in runs.items():
            began = time.perf_counter()
            train, means, _ = run(train, block, jnp.int32((turn + 1) * given["steps"]))
            jax.block_until_ready((train, means))
            runs[name][1] = train
            if turn:  # the first one compiles
                took[name].append((time.perf_counter() - began) / given["steps"])
    ratios = {name: [a / b for a, b in zip(took[name], took["jit"], strict=True)] for name in ("sharded", "pmap")}
    middle = {name: statistics.median(values) for name, values in took.items()}
    return {
        "value": max(statistics.median(values) for values in ratios.values()),
        "all": [round(ratio, 2) for values in ratios.values() for ratio in values],
        "setting": "; ".join(
            [f"one device {middle['jit'] * 1e3:.0f} ms a step"]
            + [f"{name} {middle[name] * 1e3:.0f} ms, {statistics.median(ratios[name]):.2f} times" for name in ratios]
        ),
        "versions": {"jax": version("jax")},
    }


print(json.dumps(main(json.loads(sys.argv[1]))))
