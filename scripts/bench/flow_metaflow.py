"""The same with Metaflow, which has no cache: `resume` of a run whose steps are all done, which clones them."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FLOW = """from metaflow import FlowSpec, step

class Bench(FlowSpec):
    @step
    def start(self):
        self.rows = list(range(STEPS))
        self.next(self.add, foreach="rows")

    @step
    def add(self):
        self.value = self.input
        self.next(self.join)

    @step
    def join(self, inputs):
        self.total = sum(one.value for one in inputs)
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    Bench()
"""


def main(given: dict) -> dict:
    """Steps a second of a process that resumes a run at its last step."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ |= {"METAFLOW_HOME": folder, "USERNAME": "bench", "METAFLOW_DATASTORE_SYSROOT_LOCAL": folder}
        Path("bench_flow.py").write_text(FLOW.replace("STEPS", str(given["steps"])))
        command = [sys.executable, "bench_flow.py", "--no-pylint"]
        most = ["--max-workers", "2", "--max-num-splits", str(given["steps"])]
        subprocess.run([*command, "run", *most], capture_output=True, text=True, check=True)
        rates = []
        for _ in range(given["windows"]):
            began = time.perf_counter()
            said = subprocess.run([*command, "resume", "end", *most], capture_output=True, text=True, check=True).stdout
            rates.append(given["steps"] / (time.perf_counter() - began))
        assert "Done!" in said, said[-1000:]
        os.chdir("/")
    setting = f"`resume end` of {given['steps']} tasks of a foreach, the whole process"
    return {"rates": rates, "setting": setting, "versions": {"metaflow": importlib.metadata.version("metaflow")}}


print(json.dumps(main(json.loads(sys.argv[1]))))
