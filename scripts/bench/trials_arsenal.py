"""Bookkeeping of a sweep with 10,000 finished trials: to read it back so that it could go on, and to write its report."""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from arsenal.config import compose
from arsenal.search.space import space
from arsenal.search.sweep import Sweep
from arsenal.search.tuning import build_search, report

SPACE = "space={optimizer.learning_rate: {log: [1e-4, 1e-1]}, optimizer.weight_decay: {log: [1e-5, 1e-1]}, seed: {seed: 64}}"
REPORTS, LANES = 9, 64


def filled(path: Path, trials: int, config, dimensions, search) -> None:
    """A sweep's folder as it is after so many trials, nine evaluations each."""
    sweep, rng = Sweep(path, "min", 1, "go_on"), np.random.default_rng(0)
    ids, candidates, state = search.ask(jax.random.key(0), search.init(jax.random.key(0)), trials)
    for at, i in enumerate(ids):
        sweep.add_trial(int(i), dimensions.values(candidates, at))
    for first in range(0, trials, LANES):
        some = [int(i) for i in ids[first : first + LANES]]
        sweep.say("chunk", trials=some, lanes=LANES)
        for step in range(1, REPORTS + 1):
            values = {name: rng.random(len(some)).tolist() for name in ("loss", "accuracy", "log_loss", "calibration_error")}
            for kind in ("train", "validation"):
                sweep.log_values(kind, 50 * step, some, values)
        for i, value in zip(some, values["loss"], strict=True):
            sweep.end_trial(i, "complete", 50 * REPORTS, value)
    done = np.array([[sweep.trials[int(i)].value] for i in ids])
    sweep.save(search.tell(state, ids, done, np.ones(trials, bool)), (), trials, -(-trials // LANES))
    sweep.close()


def main(given: dict) -> dict:
    """The median of a few times."""
    config = compose("digits_mlp", [SPACE, f"sweep.trials={given['trials']}"], name="tune")
    dimensions, taken = space(config.settings.space), []
    search, _ = build_search(config.settings, dimensions)
    with tempfile.TemporaryDirectory() as root:
        path = Path(root)
        filled(path, given["trials"], config, dimensions, search)
        for _ in range(given["times"]):
            began = time.perf_counter()
            sweep = Sweep(path, "min", 1, "go_on")
            state, _, told, _ = sweep.restore(search.init(jax.random.key(0)), ())
            best = sweep.best()
            assert told == given["trials"] and best[0].state == "complete"
            search.ask(jax.random.key(0), state, 64)  # it could go on
            if given["what"] == "report":
                began = time.perf_counter()
                report(sweep, config, dimensions, {}, {})
            taken.append(time.perf_counter() - began)
            sweep.close()
        size = (path / "trials.jsonl").stat().st_size
    return {
        "value": statistics.median(taken),
        "all": [round(seconds, 2) for seconds in taken],
        "setting": f"{given['trials']:,} trials, {REPORTS} evaluations each, a log of {size / 2**20:.0f} MB",
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
