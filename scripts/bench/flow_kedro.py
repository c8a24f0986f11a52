"""The same with Kedro, whose cache is that an output is there: a runner told to make missing outputs only."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PIPELINE = """import sys
from kedro.io import DataCatalog
from kedro.pipeline import node, pipeline
from kedro.runner import SequentialRunner
from kedro_datasets.json import JSONDataset

def add(i):
    def one(*before):
        return i + sum(before)
    one.__name__ = f"add{i}"
    return one

steps = int(sys.argv[1])
nodes = [node(add(i), [f"v{i - 1}"] if i % 10 else [], f"v{i}", name=f"s{i}") for i in range(steps)]
catalog = DataCatalog({f"v{i}": JSONDataset(filepath=f"data/v{i}.json") for i in range(steps)})
runner = SequentialRunner()
if hasattr(runner, "run_only_missing"):
    runner.run_only_missing(pipeline(nodes), catalog)
else:
    runner.run(pipeline(nodes), catalog, only_missing_outputs=True)
print("STEPS", steps)
"""


def main(given: dict) -> dict:
    """Steps a second of a process in which all outputs are there."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("bench_pipeline.py").write_text(PIPELINE)
        rates, stamps = [], []
        for _ in range(given["windows"] + 2):
            began = time.perf_counter()
            done = subprocess.run([sys.executable, "bench_pipeline.py", str(given["steps"])], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-2000:]
            rates.append(given["steps"] / (time.perf_counter() - began))
            stamps.append({path.name: path.stat().st_mtime_ns for path in Path("data").iterdir()})
            assert len(stamps[-1]) == given["steps"] and stamps[-1] == stamps[0], "something was done again"
        os.chdir("/")
    setting = f"a SequentialRunner of {given['steps']} nodes, only missing outputs, the whole process"
    return {"rates": rates[2:], "setting": setting, "versions": {"kedro": importlib.metadata.version("kedro")}}


print(json.dumps(main(json.loads(sys.argv[1]))))
