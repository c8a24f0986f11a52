"""The same with Kedro, whose cache is that an output is there: `kedro run --only-missing-outputs` of a small project."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FILES = {
    "pyproject.toml": """[project]
name = "bench"
version = "0"
[tool.kedro]
package_name = "bench"
project_name = "bench"
kedro_init_version = "VERSION"
source_dir = "src"
""",
    "src/bench/__init__.py": "",
    "src/bench/settings.py": "",
    "src/bench/pipeline_registry.py": """from kedro.pipeline import node, pipeline


def add(i):
    def one(*before):
        return i + sum(before)

    one.__name__ = f"add{i}"
    return one


def register_pipelines():
    nodes = [node(add(i), [f"v{i - 1}"] if i % 10 else [], f"v{i}", name=f"s{i}") for i in range(STEPS)]
    return {"__default__": pipeline(nodes)}
""",
    "conf/base/parameters.yml": "",
    "conf/local/.keep": "",
}


def main(given: dict) -> dict:
    """Steps a second of a process in which all outputs are there."""
    version = importlib.metadata.version("kedro")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        catalog = "".join(f"v{i}:\n  type: json.JSONDataset\n  filepath: data/v{i}.json\n" for i in range(given["steps"]))
        for name, text in (FILES | {"conf/base/catalog.yml": catalog}).items():
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("STEPS", str(given["steps"])).replace("VERSION", version))
        rates, stamps = [], []
        command = [sys.executable, "-m", "kedro", "run", "--only-missing-outputs"]
        for _ in range(given["windows"] + 2):
            began = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"DO_NOT_TRACK": "1"})
            assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
            rates.append(given["steps"] / (time.perf_counter() - began))
            stamps.append({path.name: path.stat().st_mtime_ns for path in Path("data").iterdir()})
            assert len(stamps[-1]) == given["steps"] and stamps[-1] == stamps[0], "something was done again"
        os.chdir("/")
    setting = f"`kedro run --only-missing-outputs` of {given['steps']} nodes, the whole process"
    return {"rates": rates[2:], "setting": setting, "versions": {"kedro": version}}


print(json.dumps(main(json.loads(sys.argv[1]))))
