"""Listing runs: `arsenal runs list` over ten thousand run folders, the whole process, with the index cold and warm.

The folders hold what a run's folder holds: a config of fifty lines, a status, a log of forty events, metrics.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXPERIMENTS = 20
EVENTS = 40
METRICS = ("accuracy", "loss", "log_loss", "calibration_error", "f1_macro")


def main(given: dict) -> dict:
    """Make `runs` folders and list them with a filter: once cold, then `times` times warm; seconds."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "experiments"
        expected = made(root, given["runs"])
        words = [f"root={root}", "name=digits_mlp_1*", "state=complete", "sort=-test/accuracy"]
        words.append("where=test/accuracy>0.97 and config.optimizer.learning_rate<1e-3")
        command = [sys.executable, "-m", "arsenal", "runs", "list", *words]
        cold, *warm = (listed(command, expected) for _ in range(given["times"] + 1))
    return {
        "value": statistics.median(warm),
        "all": warm,
        "setting": f"{given['runs']:,} runs, {expected} listed; {cold:.2f} s with the index cold",
    }


def made(root: Path, runs: int) -> int:
    """Write the folders; how many of them the filter must find."""
    from arsenal import config

    plain = config.compose("digits_mlp")
    draw, expected = random.Random(0), 0
    text = config.as_yaml(plain)
    for number in range(runs):
        name = f"digits_mlp_{number % EXPERIMENTS}"
        folder = root / name / f"{draw.getrandbits(48):012x}"
        (folder / "report").mkdir(parents=True)
        rate, accuracy = 10 ** draw.uniform(-5, -1), draw.uniform(0.9, 1)
        state = "complete" if draw.random() < 0.9 else "interrupted"
        expected += name.startswith("digits_mlp_1") and state == "complete" and accuracy > 0.97 and rate < 1e-3
        own = text.replace("learning_rate: 0.001", f"learning_rate: {rate!r}").replace("name: digits_mlp", f"name: {name}")
        (folder / "config.yaml").write_text(own)
        (folder / "overrides.txt").write_text(f"+experiment=digits_mlp\noptimizer.learning_rate={rate!r}\n")
        (folder / "identity.json").write_text(json.dumps({"mathematics": plain.values["learner"], "sources": {}}))
        status = {"state": state, "step": 500, "length": 500, "time": 1.7e9 + number, "process": 1, "host": "elsewhere"}
        (folder / "status.json").write_text(json.dumps(status))
        values = {metric: draw.random() for metric in METRICS}
        lines = [{"time": 1.7e9, "kind": "start", "step": 0, "length": 500}]
        for step in range(EVENTS):
            kind = "validation" if step % 10 == 9 else "train"
            lines.append({"time": 1.7e9 + step, "kind": kind, "step": 10 * step, "values": values})
        (folder / "events.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        metrics = {f"{split}/{metric}": value for split in ("validation", "test") for metric, value in values.items()}
        (folder / "report" / "metrics.json").write_text(json.dumps(metrics | {"test/accuracy": accuracy}))
    return expected


def listed(command: list[str], expected: int) -> float:
    """Seconds from the start of the process to its end; it must list the runs that fit, and no other."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"ARSENAL_TRACEBACK": "1"})
    taken = time.perf_counter() - began
    if done.returncode != 0 or len(done.stdout.splitlines()) != expected + 1:
        raise SystemExit(f"listed {len(done.stdout.splitlines()) - 1} runs, not {expected}: {done.stderr[-2000:]}")
    return taken


if __name__ == "__main__":
    print(json.dumps(main({"runs": 10_000, "times": 5} | json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}"))))
