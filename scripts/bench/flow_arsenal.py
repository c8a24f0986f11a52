"""Flows: a process that finds 200 steps done already, or what a step costs beside its own ten milliseconds."""

import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS = """import time


def add(i, before=0):
    return i + before


def rest(i, seconds):
    time.sleep(seconds)
    return i
"""


def chains(steps: int) -> str:
    """Steps in chains of ten, as YAML."""
    lines = ["steps:"]
    for i in range(steps):
        before = f", before: '${{s{i - 1}.value}}'" if i % 10 else ""
        lines.append(f"  s{i}: {{_target_: bench_steps.add, with: {{i: {i}{before}}}, outputs: [value]}}")
    return "\n".join(lines) + "\n"


def cached(given: dict) -> dict:
    """Steps a second of a process in which all of them are done already."""
    command = [sys.executable, "-m", "arsenal", "flow", "run", "bench.yaml"]
    Path("bench.yaml").write_text(chains(given["steps"]))
    rates = []
    for number in range(given["windows"] + 2):
        began = time.perf_counter()
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        taken = time.perf_counter() - began
        expected = f"{given['steps']} steps: {given['steps']} {'as they were' if number else 'done'};"
        assert expected in said, said[-500:]
        rates.append(given["steps"] / taken)
    setting = f"`arsenal flow run` of {given['steps']} steps in chains of ten, the whole process"
    seconds = [given["steps"] / one for one in rates[2:]]
    return {"rates": rates[2:], "setting": setting, "value": statistics.median(seconds), "all": seconds}


def overhead(given: dict) -> dict:
    """Steps a second of what is spent beside their own sleep, in this process."""
    from arsenal.pipelines import flow, run_flow

    rates = []
    for number in range(given["windows"] + 1):
        what = {"_target_": "bench_steps.rest", "outputs": ["value"]}
        steps = {f"s{i}": what | {"with": {"i": i + 1000 * number, "seconds": given["seconds"]}} for i in range(given["steps"])}
        made = flow("bench", steps)
        began = time.perf_counter()
        assert run_flow(made).complete
        rates.append(given["steps"] / (time.perf_counter() - began - slept(given)))
    setting = f"{given['steps']} steps of {given['seconds'] * 1000:g} ms, one after another, results on disk"
    return {"rates": rates[1:], "setting": setting}


def slept(given: dict) -> float:
    """What the sleeps themselves take here."""
    began = time.perf_counter()
    for _ in range(given["steps"]):
        time.sleep(given["seconds"])
    return time.perf_counter() - began


def main(given: dict) -> dict:
    """What was asked for, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        Path("bench_steps.py").write_text(STEPS)
        said = {"cached": cached, "overhead": overhead}[given["ask"]](given)
        os.chdir("/")
    return said | {"versions": {"ml-arsenal": importlib.metadata.version("ml-arsenal")}}


print(json.dumps(main(json.loads(sys.argv[1]))))
