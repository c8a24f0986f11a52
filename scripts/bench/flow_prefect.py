"""The same with Prefect: tasks with results and a cache by inputs, with the server that it starts for a process."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CACHED = """from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE

@task(cache_policy=INPUTS + TASK_SOURCE, persist_result=True)
def add(i, before=0):
    return i + before

@flow
def bench(steps):
    value, last = 0, 0
    for i in range(steps):
        last = value = add(i, value if i % 10 else 0)
    return last

if __name__ == "__main__":
    import sys
    print("LAST", bench(int(sys.argv[1])))
"""


def cached(given: dict) -> dict:
    """Steps a second of a process in which all of them are cached."""
    Path("bench_flow.py").write_text(CACHED)
    rates = []
    for _ in range(given["windows"] + 2):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "bench_flow.py", str(given["steps"])], capture_output=True, text=True, check=True)
        taken = time.perf_counter() - began
        rates.append(given["steps"] / taken)
    states = done.stdout + done.stderr
    assert states.count("Cached") >= given["steps"], states[-1000:]
    setting = f"a flow of {given['steps']} tasks that are cached by inputs and source, the whole process"
    return {"rates": rates[2:], "setting": setting}


def overhead(given: dict) -> dict:
    """Steps a second of what is spent beside their own sleep, in this process."""
    from prefect import flow, task

    @task(persist_result=given["kept"])
    def rest(i, seconds):
        time.sleep(seconds)
        return i

    @flow
    def bench(steps, seconds):
        began = time.perf_counter()
        for i in range(steps):
            rest(i, seconds)
        return time.perf_counter() - began

    rates = []
    for _ in range(given["windows"] + 1):
        rates.append(given["steps"] / (bench(given["steps"], given["seconds"]) - slept(given)))
    kept = "results on disk" if given["kept"] else "results in memory"
    return {"rates": rates[1:], "setting": f"{given['steps']} tasks of {given['seconds'] * 1000:g} ms, one after another, {kept}"}


def slept(given: dict) -> float:
    """What the sleeps themselves take here."""
    began = time.perf_counter()
    for _ in range(given["steps"]):
        time.sleep(given["seconds"])
    return time.perf_counter() - began


def main(given: dict) -> dict:
    """What was asked for, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "PREFECT_HOME": folder, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true"
        }  # fmt: skip
        os.chdir(folder)
        said = {"cached": cached, "overhead": overhead}[given["ask"]](given)
        os.chdir("/")
        return said | {"versions": {"prefect": importlib.metadata.version("prefect")}}


print(json.dumps(main({"kept": True} | json.loads(sys.argv[1]))))
