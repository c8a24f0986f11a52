"""32 learning rates and seeds of the digits MLP, 420 steps each: one population in one process, or a process for each.

The population pays for its start and for all of its compilation, with no cache to help; the processes find every program
in a warm one, and run one at a time or two at a time on the same cores, whichever is faster.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

MEMBERS, STEPS = 32, 420
RATES = [10 ** (-4 + 2 * i / (MEMBERS - 1)) for i in range(MEMBERS)]

TOGETHER = f"""
import jax
from arsenal.combine import lanes, population
from arsenal.data import arrays
from arsenal.evaluation.answers import scorer
from arsenal.records import hyperparameters
from arsenal.experiment import prepare, seen
from arsenal.road import build, compose
from arsenal.training.driver import advance, start, streams
import jax.numpy as jnp
config = compose("digits_mlp")
experiment = build(config)
fitted, rows = prepare(experiment.parts, 0, experiment.splits["train"])
source = arrays(rows, config.values["batch_size"])
many = population(experiment.parts.learner, range({MEMBERS}))
hp = hyperparameters(many.hp)
hp["optimizer"]["learning_rate"] = jnp.array({RATES})
train, *_ = advance(many, source)(start(many, source, 0, hp), source.block(0, 1), jnp.int32({STEPS}))
judge = scorer(many, {{}}, seen(experiment.parts, fitted, experiment.splits["validation"]), 128)
print(json.dumps(judge(streams(train.key)["evaluate"], many.params(train.state))["accuracy"].tolist()))
"""


def alone(number: int, root: str) -> list[str]:
    """The command that trains one member."""
    words = ["+experiment=digits_mlp", f"length={STEPS}", f"optimizer.learning_rate={RATES[number]!r}", f"seed={number}"]
    quiet = ["run.progress=false", "every.log=420", "every.evaluate=420"]
    return [sys.executable, "-m", "arsenal.train", *words, *quiet, f"run.root={root}"]


def timed(commands: list[list[str]], at_once: int, cache: str) -> tuple[float, list[str]]:
    """Seconds for all the commands, so many at a time, and what they printed."""
    env = os.environ | {"XDG_CACHE_HOME": cache}

    def run(command):
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        return done.stdout

    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        said = list(pool.map(run, commands))
    return time.perf_counter() - began, said


def main(given: dict) -> dict:
    """Both sides in turn; the ratio of each pair."""
    pairs, members = [], given["members"]
    with tempfile.TemporaryDirectory() as root:
        warm = f"{root}/warm"
        timed([alone(0, f"{root}/first")], 1, warm)
        for i in range(given["pairs"]):
            one, said = timed([[sys.executable, "-c", f"import json{TOGETHER}"]], 1, f"{root}/cold{i}")
            each = {
                n: timed([alone(k, f"{root}/{i}/{n}") for k in range(members)], n, warm)[0] * MEMBERS / members
                for n in range(1, given["threads"] + 1)
            }
            pairs.append((one, each))
            print(f"population {one:.1f} s, processes {each}", file=sys.stderr)
        best = json.loads(said[0].splitlines()[-1])
    ratios = [min(each.values()) / one for one, each in pairs]
    return {
        "value": statistics.median(ratios),
        "all": [round(ratio, 1) for ratio in ratios],
        "setting": f"one population {statistics.median(one for one, _ in pairs):.1f} s; 32 processes "
        + ", ".join(f"{statistics.median(each[n] for _, each in pairs):.0f} s {n} at a time" for n in pairs[0][1])
        + (f" ({members} of them timed, and scaled)" if members < MEMBERS else "")
        + f"; validation accuracy {min(best):.3f} to {max(best):.3f}",
    }


print(json.dumps(main(json.loads(sys.argv[1]))))
