"""A sweep of the digits MLP by `arsenal tune`, from the start of the process to the report and the best run's folder."""

import csv
import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

SPACE = "space={optimizer.learning_rate: {log: [1e-4, 1e-1]}, seed: {seed: 64}}"


def swept(root: str, trials: int, steps: int, cache: str) -> tuple[float, dict]:
    """Seconds of one sweep, and its best trial as the table has it."""
    import os

    words = ["+experiment=digits_mlp", SPACE, f"sweep.trials={trials}", f"length={steps}", f"run.root={root}"]
    began = time.perf_counter()
    env = os.environ | {"XDG_CACHE_HOME": cache}
    done = subprocess.run([sys.executable, "-m", "arsenal.tune", *words], capture_output=True, text=True, env=env)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    with next(Path(root).glob("*/sweeps/*/report/trials.csv")).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == trials and all(row["state"] == "complete" for row in rows)
    assert len(list(Path(root).glob("digits_mlp/*/status.json"))) == 1, "The best trial is a run folder."
    return seconds, min(rows, key=lambda row: float(row["loss"]))


def main(given: dict) -> dict:
    """One sweep, its programs compiled anew or found in a cache of its own."""
    with tempfile.TemporaryDirectory() as root:
        if given["warm"]:
            swept(f"{root}/first", given["trials"], given["steps"], f"{root}/cache")
        seconds, best = swept(f"{root}/timed", given["trials"], given["steps"], f"{root}/cache")
    return {
        "rates": [given["trials"] * given["steps"] / seconds],
        "loss": float(best["loss"]),
        "setting": f"{given['trials']} trials as lanes of one program in {seconds:.1f} s, start to report, compile cache "
        + ("warm" if given["warm"] else "empty"),
        "versions": {name: version(name) for name in ("jax", "flax", "optax")},
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
