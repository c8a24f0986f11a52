"""A registry asked: the best of 30,000 runs and of 3,000 versions by a metric, and the history of an alias.

The folders are made up; the ledger is made of them by `arsenal registry rebuild`'s function. `ask` says what is measured: `top`,
the whole process of `arsenal registry list`; `history`, from opening the registry to the last event, in a process that is up;
`both`, how often a second a process that is up has the 50 best runs with their metrics and the 50 best versions.
"""

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from runs_arsenal import METRICS, made

MODELS, MOVES, BEST = 30, 2000, 50


def main(given: dict) -> dict:
    """Make the folders and the ledger, ask `times` times; seconds, or questions a second."""
    from arsenal.runs.registry import open_registry
    from arsenal.runs.registry.ledger import open_ledger, rebuild

    with contextlib.ExitStack() as stack:
        kept = given.get("rows")  # of all figures of one measurement, what is made is made once
        root = Path(kept).parent / "registry" if kept else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not (root / "made.json").exists():
            made(root / "experiments", given["runs"])
            registry = fill(root, given["versions"], given["moves"])
            began = time.perf_counter()
            counted = rebuild(registry.store, [root / "experiments"])
            (root / "made.json").write_text(json.dumps(counted | {"seconds": time.perf_counter() - began}))
        counted = json.loads((root / "made.json").read_text())
        if (counted["run"], counted["version"]) != (given["runs"], given["versions"]):
            raise SystemExit(f"the ledger has {counted}")

        def top() -> float:
            words = [f"registry={root / 'registry'}", "sort=-test/accuracy", f"limit={BEST}"]
            command = [sys.executable, "-m", "arsenal", "registry", "list", *words]
            began = time.perf_counter()
            for of in ("run", "version"):
                done = subprocess.run([*command, f"of={of}"], capture_output=True, text=True)
                if len(done.stdout.splitlines()) != BEST + 1:
                    raise SystemExit(f"listed {done.stdout[:500]}: {done.stderr[-2000:]}")
            return (time.perf_counter() - began) / 2

        def history() -> float:
            began = time.perf_counter()
            with open_ledger(open_registry(str(root / "registry")).store, "model0") as ledger:
                events = ledger.history("model0", "champion")
            taken = time.perf_counter() - began
            if len(events) != given["moves"]:
                raise SystemExit(f"the history has {len(events)} moves")
            return taken

        def both() -> float:
            began = time.perf_counter()
            for _ in range(given["each"]):
                with open_ledger(open_registry(str(root / "registry")).store) as ledger:
                    for kind in ("run", "version"):
                        nodes = ledger.select(kind, sort="-test/accuracy", limit=BEST)
                        cells = ledger.column(kind, "test/accuracy", nodes)
                        accuracy = [cells[node][0] for node in nodes]
                        ledger.column(kind, "config.optimizer.learning_rate", nodes)
                        if accuracy != sorted(accuracy, reverse=True) or len(accuracy) != BEST:
                            raise SystemExit("these are not the best")
            return given["each"] / (time.perf_counter() - began)

        taken = [{"top": top, "history": history, "both": both}[given["ask"]]() for _ in range(given["times"])]
    said = f"{given['runs']:,} runs, {given['versions']:,} versions, {given['moves']:,} moves"
    said += f"; the ledger made in {counted['seconds']:.0f} s"
    about = {"setting": said, "versions": {"ml-arsenal": version("ml-arsenal")}}
    return about | ({"rates": taken} if given["ask"] == "both" else {"value": statistics.median(taken), "all": taken})


def fill(root: Path, versions: int, moves: int):
    """A registry of models with versions that runs made, and one alias that moved."""
    from arsenal.runs.index import as_mapping
    from arsenal.runs.registry import open_registry
    from arsenal.runs.registry.events import append
    from arsenal.runs.registry.versions import at, begin, end

    registry, draw = open_registry(str(root / "registry")), random.Random(1)
    registry.store.create("registry.json", b'{"format": 1}\n')
    runs = sorted((root / "experiments").glob("*/*"))
    config = as_mapping((runs[0] / "config.yaml").read_text(), True)
    for number in range(versions):
        name, run = f"model{number % MODELS}", runs[number % len(runs)]
        told = {
            **{key: f"{draw.getrandbits(256):064x}" for key in ("digest", "content")}, "config": config,
            "run": {"folder": str(run), "host": "here", "name": run.parent.name, "hash": run.name, "step": 500},
            "metrics": {f"{split}/{name}": draw.random() for split in ("validation", "test") for name in METRICS},
        }  # fmt: skip
        event, _ = append(registry.store, at(name), "upload", lambda state, told=told: begin(state, told["content"]))
        told["version"] = event["version"]
        append(registry.store, at(name), "registered", lambda state, told=told: end(state, told["version"], told))
    for move in range(moves):
        registry.set_alias("model0", "champion", 1 + move % min(100, versions // MODELS))
    return registry


if __name__ == "__main__":
    os.environ.pop("ARSENAL_LEDGER", None)
    usual = {"runs": 30_000, "versions": 3000, "moves": MOVES, "times": 5, "each": 20, "ask": "top"}
    print(json.dumps(main(usual | json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}"))))
