"""The same trials as Ray Tune runs them: a function that trains one, in a process for each, the compile cache warm.

Some are timed and scaled to all: they are alike. What runs before the first one is not scaled.
"""

import json
import math
import os
import random
import sys
import tempfile
import time
from importlib.metadata import version

os.environ |= {"RAY_CHDIR_TO_TRIAL_DIR": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def train(given: dict) -> None:
    """One trial."""
    os.environ["NPROC"] = "1"
    from ray import tune

    from arsenal.road import compose, fit

    rate, seed, steps, root = (given[name] for name in ("rate", "seed", "steps", "root"))
    words = [f"length={steps}", f"optimizer.learning_rate={rate!r}", f"seed={seed}", f"run.root={root}", "run.tensorboard=false"]

    def listen(kind, step, values):
        if kind == "validation":
            tune.report({"loss": values["loss"], "step": step})

    fit(compose("digits_mlp", words), listen)


def main(given: dict) -> dict:
    """A few trials to warm the cache, then those that are timed."""
    began = time.perf_counter()
    import ray
    from ray import tune

    ray.init(num_cpus=given["threads"], include_dashboard=False, logging_level="error", log_to_driver=False)
    started = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as root:

        def swept(name, trials):
            draw = random.Random(0)
            rates = [math.exp(draw.uniform(math.log(1e-4), math.log(1e-1))) for _ in range(trials)]
            same = {"steps": given["steps"], "root": f"{root}/{name}"}
            points = [{"rate": rate, "seed": i} | same for i, rate in enumerate(rates)]
            tuner = tune.Tuner(
                tune.with_resources(train, {"cpu": 1}), param_space=tune.grid_search(points),
                run_config=tune.RunConfig(storage_path=f"{root}/ray", name=name, verbose=0),
            )  # fmt: skip
            found = tuner.fit()
            assert not found.errors and len(found) == trials, found.errors
            return min(one.metrics["loss"] for one in found)

        swept("warm", given["threads"])
        began = time.perf_counter()
        best = swept("timed", given["timed"])
        seconds = time.perf_counter() - began
    ray.shutdown()
    whole = started + seconds * given["trials"] / given["timed"]
    return {
        "rates": [given["trials"] * given["steps"] / whole],
        "loss": best,
        "setting": f"{given['trials']} processes, {given['threads']} at a time, in {whole:.0f} s "
        f"({given['timed']} of them timed in {seconds:.0f} s, and scaled), compile cache warm",
        "versions": {name: version(name) for name in ("ray", "jax")},
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
